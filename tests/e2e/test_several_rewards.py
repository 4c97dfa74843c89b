"""Section rewards: the target is pi_ref times w_N of every reward, from a pool that has all their tables."""
import math
import sys

import h5py
import numpy as np
import pytest

from conftest import MORE, assert_same_contents, settings, sha256
from test_exact import kl, log_probabilities, normalised, responses, reward_function, run as run_study, study  # noqa: F401
from training import Loop, check_invariants, final, rollouts, train

SHORT = """
import json, sys
for line in sys.stdin:
    print(json.dumps({"reward": -len(json.loads(line)["response"]) / 10}), flush=True)
"""

TWO = """
include: toy.yaml
pool: {path: pool-two.h5, eval_path: pool-two-eval.h5}
rewards:
  short: {N: 3, kind: exec, command: [PYTHON, short.py], id: short-1}
"""


@pytest.fixture(scope="module")
def two(toy):
    (toy.folder / "short.py").write_text(SHORT)
    toy.run("pool", "-c", "toy.yaml", "--quiet")
    (toy.folder / "toy.yaml").rename(toy.folder / "base.yaml")
    (toy.folder / "toy.yaml").write_text(TWO.replace("toy.yaml", "base.yaml").replace("PYTHON", sys.executable))
    toy.run("pool", "-c", "toy.yaml", "--quiet")
    return toy


def tables(folder, reward):
    with h5py.File(folder / "pool-two.h5") as file:
        return dict(zip(file["prompt/id"][()].tolist(), file[f"logf/{reward}/sorted_reward"][()]))


def test_the_pool_has_a_table_of_each(two):
    with h5py.File(two.folder / "pool-two.h5") as file, h5py.File(two.folder / "pool.h5") as one:
        np.testing.assert_array_equal(file["sample/tokens"][()], one["sample/tokens"][()])
        np.testing.assert_array_equal(file["reward/main/value"][()], one["reward/main/value"][()])
        assert sorted(file["reward"]) == ["main", "short"]
        np.testing.assert_array_equal(file["logf/short/sorted_reward"][()], np.sort(file["reward/short/value"][()], axis=1))
        assert file.attrs["more_rewards"].startswith("short=")


@pytest.mark.parametrize("objective, beta", [("exact", 1 / 5), ("L", 1 / 5)])
def test_the_objective_is_the_sum_in_nats(two, objective, beta):
    """N = 4 and N = 3: together N - 1 = 5."""
    run = train(two, f"two-{objective}", f"vbon.objective={objective}", "ppo.baseline=none", "ppo.whiten_advantages=false")
    rows = check_invariants(run)
    main, short = tables(two.folder, "main"), tables(two.folder, "short")
    batch = rollouts(run, 0)
    assert batch["more_reward"].shape == (16, 1)
    loops = [Loop(objective=objective, n=n, scale=beta) for n in (4, 3)]
    scores = [[loop.score(table[id], reward)[0] for id, reward in zip(batch["prompt_id"].tolist(), rewards.astype(float))]
              for loop, table, rewards in ((loops[0], main, batch["reward"]), (loops[1], short, batch["more_reward"][:, 0]))]
    inside = np.arange(8) < batch["length"][:, None]
    to_come = np.pad(np.where(inside, beta * batch["kl"], 0)[:, 1:], ((0, 0), (0, 1)))
    want = np.sum(scores, axis=0)[:, None] - np.cumsum(to_come[:, ::-1], axis=1)[:, ::-1]
    np.testing.assert_allclose(batch["advantage"][inside], want[inside], rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(rows[0]["objective"], np.sum(scores, axis=0).mean() - beta * rows[0]["kl"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rows[0]["reward.short"], batch["more_reward"].mean(), rtol=1e-5)
    beaten = [np.mean((table < r) + 0.5 * (table == r)) for table, r in ((short[id], r) for id, r in zip(batch["prompt_id"].tolist(), batch["more_reward"][:, 0]))]
    np.testing.assert_allclose(rows[0]["win.short"], np.mean(beaten), rtol=1e-6)
    assert "kl_to_bon" not in rows[0]


def test_any_ranks_give_the_same(two):
    alone = train(two, "two-1", "train.warm_start=1")
    apart = train(two, "two-3", "train.warm_start=1", ranks=3)
    assert sha256(final(alone) / "policy/model.safetensors") == sha256(final(apart) / "policy/model.safetensors")
    for step in (1, 2):
        assert_same_contents(alone / f"rollouts/step-{step:08}.h5", apart / f"rollouts/step-{step:08}.h5")


def test_the_evaluation_has_columns_of_each(two):
    run = train(two, "two-eval", "train.steps=1")
    table = two.run("eval", "-c", "toy.yaml", "--quiet", "-s", "run.dir=two-eval").stdout
    assert "short win" in table.splitlines()[0]
    with h5py.File(run / "eval/final-00000001/eval.h5") as file, h5py.File(two.folder / "pool-two-eval.h5") as pool:
        mine, reference = file["reward/short/value"][()], pool["reward/short/value"][()]
        win = ((mine[:, :, None] > reference[:, None, :]) + 0.5 * (mine[:, :, None] == reference[:, None, :])).mean()
        np.testing.assert_allclose(file["summary"].attrs["policy.win.short"], win, rtol=1e-6)
        np.testing.assert_allclose(file["summary"].attrs["policy.reward.short"], mine.mean(), rtol=1e-5)
        np.testing.assert_allclose(file["summary"].attrs["reference.reward.short"], reference.mean(), rtol=1e-5)


@pytest.mark.parametrize("overrides, words", [
    (["pool.path=pool.h5"], ["pool.h5", "rewards.short", "none"]),
    (["rewards.short.id=short-2"], ["pool-two.h5", "rewards.short"]),
    (["rewards.short.N=0.5"], ["rewards.short.N is 0.5", "from 1 on"]),
    (["rewards.main.kind=ngram"], ["rewards.main", "taken"]),
    (["train.method=ppo"], ["several rewards", "methods vbon, regression", "ppo"]),
    (["vbon.objective=L1"], ["L1", "one reward"]),
    (["ppo.baseline=prefix"], ["prefixes are scored by the main reward alone"]),
])
def test_what_is_wrong_is_said(two, overrides, words):
    two.refused("train", "-c", "toy.yaml", "--quiet", "-s", "run.dir=refused", *settings(*overrides), words=words)


OTHER = """
import json, sys
for line in sys.stdin:
    print(json.dumps({"reward": sum((i + 1) * (letter == "b") - 0.37 * (letter == "c") for i, letter in enumerate(json.loads(line)["response"]))}), flush=True)
"""


def other_reward(response):
    return sum((i + 1) * (letter == "b") - 0.37 * (letter == "c") for i, letter in enumerate(response))


@MORE
def test_the_optimum_is_the_product(study):  # noqa: F811
    """On the enumerable model, by every response: regression goes where the product of the weights says, and the
    distance that eval.exact reports is NumPy's."""
    (study.folder / "other.py").write_text(OTHER)
    more = [f"rewards.other.command=[{sys.executable}, other.py]", "rewards.other.kind=exec", "rewards.other.id=1", "rewards.other.N=2",
            "pool.path=runs/two.h5", "pool.eval_path=runs/two-eval.h5", "pool.samples=1024"]
    exact, policy = run_study(study, "two", "train.method=regression", "regression.importance=0.5", "train.steps=200", *more)
    reward, distance, before = reward_function(), 0, 0
    for prompt in ("ab", "ca", "bc", "ba"):
        log_pi, log_ref = log_probabilities(policy, prompt), log_probabilities(study.folder / "runs/enumerable/model", prompt)
        texts = ["".join("abc"[token - 1] for token in response if token) for response in responses()]
        log_w = np.zeros(len(texts))
        for n, values in ((4, [reward(prompt, text) for text in texts]), (2, [other_reward(text) for text in texts])):
            r = np.array([np.float32(round(value / 1e-5) * 1e-5) for value in values]).astype(float)
            ref = np.exp(log_ref)
            strict = np.array([ref[r < x].sum() for x in r])
            whole = strict + np.array([ref[r == x].sum() for x in r])
            log_w += np.log((whole ** n - strict ** n) / (whole - strict))
        distance += kl(log_pi, normalised(log_ref + log_w)) / 4
        before += kl(log_ref, normalised(log_ref + log_w)) / 4
    assert exact["kl_to_target"] == pytest.approx(distance, rel=1e-3, abs=1e-4)
    assert exact["kl_to_optimum"] == exact["kl_to_target"] < 0.15 * before and exact["win.other"] > 0.55
    assert math.isfinite(before)
