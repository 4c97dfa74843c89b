"""Methods that learn from the pool alone: what their first update reports, when the policy is still the reference, is
written out here in NumPy from the pool's rewards and log-probabilities; and they move where they should."""
import itertools
import math

import h5py
import numpy as np
import pytest

from conftest import metrics
from training import final, train

N = 4
WHOLE = ["bon_sft.batch=100000", "preference.batch=100000", "bonbon.batch=100000"]  # an update is an epoch


@pytest.fixture(scope="module")
def pool(inputs):
    with h5py.File(inputs / "pool.h5") as file:
        return file["reward/main/value"][()].astype(float), file["sample/logp_reference"][()].astype(float)


def best_of(rewards, n):
    """Probability of each sample to be the best of n, ties shared, by counting subsets."""
    weight = np.zeros(len(rewards))
    total = math.comb(len(rewards), n)
    for value in np.unique(rewards):
        tied, below = (rewards == value).sum(), (rewards < value).sum()
        weight[rewards == value] = (math.comb(below + tied, n) - math.comb(below, n)) / total / tied
    return weight


def run(toy, name, method, *overrides, **options):
    folder = train(toy, name, f"train.method={method}", "optimizer.schedule=constant", *WHOLE, *overrides, **options)
    assert (folder / "finished").exists() and not list((folder / "rollouts").glob("step-*")), "nothing is drawn"
    return metrics(folder)


def test_bon_sft_weighs_every_sample_by_its_chance_to_be_best(toy, pool):
    rows = run(toy, "bon_sft", "bon_sft", "train.steps=8", "optimizer.learning_rate=5e-3")
    want = np.mean([(best_of(r, N) * -logp).sum() for r, logp in zip(*pool)])
    assert rows[0]["loss"] == pytest.approx(want, rel=1e-4) and rows[0]["log_ratio"] == pytest.approx(0, abs=1e-4)
    assert rows[-1]["loss"] < want - 0.2 and rows[-1]["log_ratio"] > 0.2, "the best become likelier"


def test_bon_sft_on_drawn_samples(toy, pool):
    rows = run(toy, "bon_sft-drawn", "bon_sft", "bon_sft.best=drawn", "train.steps=40", "optimizer.learning_rate=1e-9")
    mean = np.mean([row["loss"] for row in rows])
    want = np.mean([(best_of(r, N) * -logp).sum() for r, logp in zip(*pool)])
    spread = np.std([row["loss"] for row in rows]) / math.sqrt(len(rows))
    assert spread > 0 and abs(mean - want) < 4 * spread, "another subset each epoch, right on average"


def pairs(pool, generations):
    for rewards, logp in zip(*pool):
        for a, b in itertools.combinations(range(generations), 2):
            if rewards[a] != rewards[b]:
                yield (a, b) if rewards[a] > rewards[b] else (b, a)


def test_methods_of_pairs_begin_at_a_margin_of_zero_and_widen_it(toy, pool):
    everything = ["preference.generations=12", "preference.pairs=0", "train.steps=12", "optimizer.learning_rate=5e-3"]
    rows = run(toy, "dpo", "dpo", *everything, "preference.beta=0.5")
    assert rows[0]["loss"] == pytest.approx(math.log(2), rel=1e-5) and rows[0]["margin"] == pytest.approx(0, abs=1e-4)
    assert rows[-1]["loss"] < 0.67 and rows[-1]["accuracy"] > 0.6
    rows = run(toy, "ipo", "ipo", *everything, "preference.beta=0.5")
    assert rows[0]["loss"] == pytest.approx(1, rel=1e-3)
    assert rows[-1]["loss"] < 0.95 and rows[-1]["margin"] > 0.1
    rows = run(toy, "slic", "slic", *everything, "preference.beta=0.5")
    assert rows[0]["loss"] == pytest.approx(1, rel=1e-3)
    assert rows[-1]["loss"] < 0.95 and rows[-1]["margin"] > 0.1
    smooth = run(toy, "dpo-smooth", "dpo", *everything, "preference.label_smoothing=0.3", "train.steps=1")
    assert smooth[0]["loss"] == pytest.approx(math.log(2), rel=1e-5)


def test_infonca_begins_at_the_divergence_of_equal_ones_and_closes_it(toy):
    everything = ["infonca.batch=256", "infonca.samples_per_prompt=32", "optimizer.learning_rate=5e-3"]
    rows = run(toy, "infonca", "infonca", *everything, "train.steps=12")
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"] and rows[-1]["accuracy"] > rows[0]["accuracy"]
    toy.refused("train", "-c", "toy.yaml", "-s", "train.method=infonca", "-s", "infonca.samples_per_prompt=1",
                words=["infonca.samples_per_prompt is 1"])


def test_pairs_are_those_of_the_rule(toy, pool):
    """With tiny updates the mean length over an epoch names the pairs that were taken."""
    with h5py.File(toy.folder / "pool.h5") as file:
        length = file["sample/length"][()]
    rows = run(toy, "dpo-pairs", "dpo", "preference.generations=6", "preference.pairs=0", "train.steps=1")
    taken = [(row, s) for row in range(len(length)) for a, b in itertools.combinations(range(6), 2)
             for s in (a, b) if pool[0][row][a] != pool[0][row][b]]
    assert rows[0]["length"] == pytest.approx(np.mean([length[row, s] for row, s in taken]), rel=1e-6)
    assert rows[0]["episodes"] == len(taken)


def test_bonbon_balances_its_terms_at_the_start(toy):
    rows = run(toy, "bonbon", "bonbon", "bonbon.pairs=0", "train.steps=12", "optimizer.learning_rate=5e-3")
    margin = (N - 1) * sum(1 / k for k in range(1, N))
    assert rows[0]["square"] == pytest.approx(margin ** 2, rel=1e-4)
    assert rows[0]["alpha"] * rows[0]["nll"] == pytest.approx((1 - rows[0]["alpha"]) * rows[0]["square"], rel=1e-4)
    assert rows[-1]["loss"] < rows[0]["loss"] and rows[-1]["margin"] > 0.2


@pytest.mark.parametrize("method", ["infonca", "bon_sft", "dpo", "bonbon"])
@pytest.mark.parametrize("ranks", [2, 4])
def test_learners_share_the_groups(toy, method, ranks):
    overrides = ["train.steps=3", "bonbon.pairs=0"]
    alone = run(toy, f"{method}-one", method, *overrides) if not (toy.folder / f"{method}-one").exists() \
        else metrics(toy.folder / f"{method}-one")
    shared = run(toy, f"{method}-{ranks}", method, *overrides, "cluster.roles=all", ranks=ranks)
    for a, b in zip(alone, shared):
        for name in ("loss", "grad_norm", "length"):
            assert a[name] == pytest.approx(b[name], rel=1e-4), name


def test_kept_trunks_serve_them_too(toy):
    toy.run("pool", "-c", "toy.yaml", "--quiet", "--split", "train", "-s", "pool.keep_trunk=true", "-s",
            "pool.path=kept-methods.h5")
    common = ["train.steps=3", "bonbon.pairs=0"]
    computed = run(toy, "bonbon-computed", "bonbon", *common)
    kept = run(toy, "bonbon-kept", "bonbon", *common, "pool.path=kept-methods.h5")
    for a, b in zip(computed, kept):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
    assert final(toy.folder / "bonbon-kept")
