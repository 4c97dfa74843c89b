"""Prefixes: scored as if they were responses, in pools and rollouts; what they foretell, as baseline and as credit."""
import math

import h5py
import numpy as np
import pytest
from tokenizers import Tokenizer

from conftest import assert_same_contents, metrics
from training import Loop, check_invariants, final, rollouts, train

EVERY, LENGTH = 3, 8
CUTS = (3, 6)


def reward_of(text):
    """The toy reward program, rounded as rewards are."""
    value = (text.count("e") + 0.5 * text.count("a") - 0.1 * len(text)) / 10
    return np.float32(round(value / 1e-5) * 1e-5)


@pytest.fixture(scope="module")
def prefixed(toy):
    """The toy with a pool whose prefixes are scored."""
    (toy.folder / "pool.h5").unlink()
    toy.run("pool", "-c", "toy.yaml", "--quiet", "-s", f"pool.prefix_every={EVERY}")
    return toy


@pytest.fixture(scope="module")
def pool(prefixed):
    with h5py.File(prefixed.folder / "pool.h5") as file:
        assert file.attrs["prefix_every"] == EVERY
        return {name: file[name][()] for name in ("sample/tokens", "sample/length", "sample/logp_reference", "prefix/reward",
                                                  "prefix/logp_reference", "reward/main/value", "prompt/id")}


def test_pool_scores_every_beginning(prefixed, pool):
    tokenizer = Tokenizer.from_file(str(prefixed.folder / "reference/tokenizer.json"))
    length, scored = pool["sample/length"], 0
    assert pool["prefix/reward"].shape == (*length.shape, len(CUTS)) == pool["prefix/logp_reference"].shape
    for at in np.ndindex(length.shape):
        for c, cut in enumerate(CUTS):
            reward, logp = pool["prefix/reward"][at][c], pool["prefix/logp_reference"][at][c]
            if length[at] <= cut:
                assert math.isnan(reward) and math.isnan(logp)
                continue
            scored += 1
            text = tokenizer.decode(pool["sample/tokens"][at][:cut].tolist(), skip_special_tokens=True)
            assert abs(reward - reward_of(text)) < 2e-5
            assert pool["sample/logp_reference"][at] < logp < (0 if c == 0 else pool["prefix/logp_reference"][at][c - 1])
    assert scored > 300


def test_any_ranks_and_parts_give_the_same_pool(prefixed):
    common = ["-c", "toy.yaml", "--quiet", "-s", f"pool.prefix_every={EVERY}", "-s", "pool.chunk_prompts=1",
              "-s", "pool.path=shards.h5"]
    for shard in ("0/2", "1/2"):
        prefixed.run("pool", *common, "--shard", shard)
    prefixed.run("pool", *common, "--merge")
    prefixed.run("pool", *common, "-s", "pool.path=ranks.h5", ranks=3)
    assert_same_contents(prefixed.folder / "shards.h5", prefixed.folder / "ranks.h5")
    with h5py.File(prefixed.folder / "shards.h5") as a, h5py.File(prefixed.folder / "pool.h5") as b:
        np.testing.assert_array_equal(a["prefix/reward"][()], b["prefix/reward"][()])


def score(rewards, reward, own=False):
    """log w_4 of a reward against a table, or against the others of it."""
    rewards = np.sort(rewards)
    return 3 * Loop().score(np.delete(rewards, np.searchsorted(rewards, reward)) if own else rewards, reward)[0]


@pytest.fixture(scope="module")
def foretold(pool):
    """Mean of log w and the lines of each cut, by NumPy's least squares."""
    rewards, length = pool["reward/main/value"], pool["sample/length"]
    whole = np.array([[score(row, r, own=True) for r in row] for row in rewards])
    lines = []
    for c, cut in enumerate(CUTS):
        going_on = length > cut
        now = np.array([[score(rewards[p], r) if going_on[p, m] else np.nan for m, r in enumerate(row)]
                        for p, row in enumerate(pool["prefix/reward"][..., c])])
        slope, intercept = np.polyfit(now[going_on], whole[going_on], 1)
        assert 0 < slope < 1, "a beginning tells something, but not all"
        lines.append((slope, intercept))
    return whole.mean(), lines


def test_baseline_is_what_the_prefixes_foretell(prefixed, pool, foretold):
    run = train(prefixed, "baseline", "ppo.baseline=prefix", "ppo.lam=0.8")
    table = dict(zip(pool["prompt/id"].tolist(), np.sort(pool["reward/main/value"], axis=1)))
    start, lines = foretold
    for row in check_invariants(run):
        batch = rollouts(run, row["step"])
        for i, id in enumerate(batch["prompt_id"].tolist()):
            value = start / 3
            for t in range(batch["length"][i]):
                assert batch["value"][i, t] == pytest.approx(value, abs=1e-4)
                if t + 1 in CUTS and t + 1 < batch["length"][i]:
                    slope, intercept = lines[CUTS.index(t + 1)]
                    value = (intercept + slope * score(table[id], batch["prefix_reward"][i, t])) / 3
                else:
                    assert math.isnan(batch["prefix_reward"][i, t])
        formula = Loop(baseline="critic", lam=0.8).advantages(batch, table)
        np.testing.assert_allclose(batch["advantage"], formula, rtol=2e-3, atol=2e-3)
        assert "explained_variance" in row and "value_loss" not in row
    assert not (final(run) / "state/critic.safetensors").exists()


def test_three_ranks_draw_the_same_rollouts(prefixed):
    one, three = train(prefixed, "one", "ppo.baseline=prefix"), train(prefixed, "three", "ppo.baseline=prefix", ranks=3)
    a, b = rollouts(one, 0), rollouts(three, 0)
    for name in ("tokens", "reward", "prefix_reward"):
        np.testing.assert_array_equal(a[name], b[name])


def test_credit_by_prefixes_fits_log_w(prefixed):
    overrides = ["train.method=regression", "train.steps=40", "regression.batch=64", "optimizer.learning_rate=3e-3",
                 "regression.clip_residual=0"]
    for credit in ("prefix", "response"):
        run = train(prefixed, credit, f"regression.credit={credit}", *overrides)
        loss = [row["loss"] for row in metrics(run)]
        assert np.mean(loss[-4:]) < 0.8 * np.mean(loss[:4]), credit
        assert metrics(run)[0]["log_ratio"] == pytest.approx(0, abs=1e-4)


def test_prefixes_that_are_not_there_are_named(fresh):
    words = ["pool.prefix_every", "vbon pool"]
    common = ["-c", "toy.yaml", "-s", "train.warm_start=1"]
    fresh.refused("train", *common, "-s", "regression.credit=prefix", words=words)
    fresh.refused("train", *common, "-s", "ppo.baseline=prefix", words=words)
    fresh.refused("train", *common, "-s", "ppo.baseline=prefix", "-s", "train.method=ppo", words=["ppo.baseline"])
    fresh.refused("pool", "-c", "toy.yaml", "-s", "pool.prefix_every=2", words=["pool.prefix_every", "remove the file"])
    fresh.refused("pool", "-c", "toy.yaml", "-s", "pool.prefix_every=-2", words=["pool.prefix_every"])
    fresh.refused("train", "-c", "toy.yaml", "-s", "regression.batch=60", words=["regression.samples_per_prompt"])


def test_prefixes_of_the_first_samples_alone(fresh):
    pool = ["pool", "-c", "toy.yaml", "--split", "train", "-s", f"pool.prefix_every={EVERY}"]
    fresh.run(*pool, "--quiet", "-s", "pool.path=all.h5")
    fresh.run(*pool, "--quiet", "-s", "pool.path=some.h5", "-s", "pool.prefix_samples=12", ranks=2)
    with h5py.File(fresh.folder / "all.h5") as every, h5py.File(fresh.folder / "some.h5") as some:
        assert some.attrs["prefix_samples"] == 12 and some["prefix/reward"].shape[1] == 12
        for name in ("prefix/reward", "prefix/logp_reference"):
            np.testing.assert_array_equal(every[name][()][:, :12], some[name][()])
        np.testing.assert_array_equal(every["sample/tokens"][()], some["sample/tokens"][()])
    run = train(fresh, "half", "train.method=regression", "regression.credit=prefix", "pool.path=some.h5", "train.steps=30",
                "regression.batch=16", "regression.samples_per_prompt=4", "optimizer.learning_rate=3e-3")
    loss = [row["loss"] for row in metrics(run)]
    assert np.mean(loss[-4:]) < 0.9 * np.mean(loss[:4])
    fresh.run(*pool, "--quiet", "-s", "pool.path=some.h5", "-s", "pool.prefix_samples=8")  # has more than these
    fresh.refused(*pool, "-s", "pool.path=some.h5", words=["some.h5", "prefixes of 12 samples", "remove the file"])
    fresh.refused(*pool, "-s", "pool.prefix_samples=1000", words=["pool.prefix_samples", "pool.samples"])
