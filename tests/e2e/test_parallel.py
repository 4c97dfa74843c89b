"""Several learners, and learners beside workers: sums in a fixed order, sharded states, samples one step behind."""
import json
import signal

import numpy as np
import pytest

from conftest import metrics, metrics_without_time, sha256, wait_until
from training import final, rollouts, train

ALL = "cluster.roles=all"
METHODS = {
    "vbon": ["ppo.baseline=rloo", "train.minibatches=2"],
    "ppo": ["train.method=ppo", "ppo.baseline=critic_head", "train.warm_start=1", "train.steps=4"],
    "jbond": ["train.method=jbond"],
    "jeffreys": ["train.method=jeffreys"],
    "dpo": ["train.method=dpo"],
    "regression": ["train.method=regression"],
    "bon_sft": ["train.method=bon_sft"],
}


def parts(run, but=()):
    names = [part["name"] for part in json.loads((final(run) / "manifest.json").read_text())["parts"]]
    return {name: sha256(final(run) / name) for name in names if name not in but}


@pytest.mark.parametrize("method", METHODS)
def test_fixed_sums_make_any_number_of_learners_one(toy, method):
    """Weights, optimiser state and metrics, to the bit."""
    overrides = [*METHODS[method], "run.reduce=fixed", ALL]
    one = train(toy, f"fixed-{method}-1", *overrides)
    for ranks in (2, 4):
        several = train(toy, f"fixed-{method}-{ranks}", *overrides, ranks=ranks)
        assert parts(several) == parts(one)
        assert metrics_without_time(several / "metrics.jsonl") == metrics_without_time(one / "metrics.jsonl")
    by_rank = train(toy, f"by-rank-{method}", *METHODS[method], ALL)
    first, other = metrics(one)[0], metrics(by_rank)[0]
    # The policy is still the reference: the signs of margins (accuracy) are those of rounding errors.
    for name in first.keys() - {"time", "step", "ratio_error", "accuracy"}:
        np.testing.assert_allclose(first[name], other[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_fixed_sums_need_a_power_of_two(toy):
    toy.refused("train", "-c", "toy.yaml", "-s", "run.dir=never", "-s", "run.reduce=fixed", "-s", ALL, ranks=3,
                words=["run.reduce", "1, 2, 4 or 8"])


@pytest.mark.parametrize("method", METHODS)
def test_a_sharded_optimiser_changes_no_bit(toy, method):
    whole = train(toy, f"whole-{method}", *METHODS[method], ALL, ranks=2)
    sharded = train(toy, f"sharded-{method}", *METHODS[method], ALL, "cluster.shard_optimizer=true",
                    "cluster.bucket_mib=0.1", ranks=2)
    assert parts(sharded) == parts(whole)
    assert metrics_without_time(sharded / "metrics.jsonl") == metrics_without_time(whole / "metrics.jsonl")


def interrupted(toy, run, overrides, ranks, lines=1):
    """A run that is told to stop after some steps, and started again."""
    arguments = ["train.warm_start=0", "train.steps=6", "eval.every=0", "checkpoint.every=0", *overrides]
    process = toy.start("train", "-c", "toy.yaml", "--quiet", "-s", f"run.dir={run}",
                        *(word for text in arguments for word in ("-s", text)), ranks=ranks,
                        environment={"TOY_REWARD_SLEEP": "0.006"})
    path = toy.folder / run / "metrics.jsonl"
    wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") >= lines, process)
    process.send_signal(signal.SIGUSR1)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert not (toy.folder / run / "finished").exists()
    return train(toy, run, *arguments, ranks=ranks)


@pytest.mark.parametrize("method, overrides", [("vbon", ["train.layers=all"]), ("ppo", ["ppo.baseline=critic_model"]),
                                               ("regression", [])])
def test_recomputation_changes_no_bit(toy, method, overrides):
    arguments = [*METHODS[method], *overrides, ALL]
    kept = train(toy, f"kept-{method}", *arguments, ranks=2)
    again = train(toy, f"again-{method}", *arguments, "train.recompute=true", "cluster.bucket_mib=0.1", ranks=2)
    assert parts(again) == parts(kept)
    assert metrics_without_time(again / "metrics.jsonl") == metrics_without_time(kept / "metrics.jsonl")


@pytest.mark.parametrize("method", ["vbon", "ppo"])
def test_a_sharded_run_goes_on_where_it_stopped(toy, method):
    overrides = [*METHODS[method], "train.steps=6", ALL, "cluster.shard_optimizer=true"]
    whole = train(toy, f"unbroken-{method}", *overrides, ranks=2)
    run = interrupted(toy, f"stopped-{method}", overrides, 2, 2)
    assert parts(run) == parts(whole)


LAG = ["cluster.lag=1", "train.steps=6"]
ROLES = {1: [], 3: ["cluster.roles={rollout: 1, scorer: 1, learner: 1}"]}


@pytest.fixture(scope="module")
def behind(toy):
    return train(toy, "behind", *LAG)


def test_samples_are_one_step_behind(toy, behind):
    for step in range(6):
        assert (rollouts(behind, step)["weights_version"] == max(step - 1, 0)).all()
    assert [row["staleness"] for row in metrics(behind)] == [0, 1, 1, 1, 1, 1]
    rows = metrics(behind)
    assert rows[0]["ratio_error"] < 1e-4 < rows[2]["ratio_error"], "from the second step on the ratio starts off 1"
    assert not list((behind / "rollouts").glob("*chunk*"))
    on_policy = train(toy, "on-policy", "train.steps=6")
    a, b = (rollouts(run, 1) for run in (behind, on_policy))
    assert (a["tokens"] != b["tokens"]).any(), "other weights draw something else"
    for name in ("tokens", "logp_behavior"):
        np.testing.assert_array_equal(rollouts(behind, 0)[name], rollouts(on_policy, 0)[name])


@pytest.mark.parametrize("ranks", [3])
def test_whoever_does_what_the_samples_are_the_same(toy, behind, ranks):
    run = train(toy, f"behind-{ranks}", *LAG, *ROLES[ranks], ranks=ranks)
    assert parts(run) == parts(behind)
    for step in range(6):
        for name, values in rollouts(run, step).items():
            np.testing.assert_array_equal(values, rollouts(behind, step)[name], err_msg=name)


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("lines", [1, 4])
def test_what_was_in_flight_is_drawn_again(toy, behind, ranks, lines):
    run = interrupted(toy, f"in-flight-{ranks}-{lines}", [*LAG, *ROLES[ranks]], ranks, lines)
    assert parts(run) == parts(behind)
    assert metrics_without_time(run / "metrics.jsonl") == metrics_without_time(behind / "metrics.jsonl")


@pytest.mark.parametrize("method", ["jbond", "ppo"])
def test_behind_with_an_anchor_or_a_critic_goes_on_too(toy, method):
    overrides = [*METHODS[method], *LAG]
    whole = train(toy, f"behind-{method}", *overrides)
    run = interrupted(toy, f"in-flight-{method}", overrides, 1, 3)
    assert parts(run) == parts(whole)


STUTTER = """#!/bin/sh
# Starts a rank; the one that learns is stopped for a moment again and again.
"$@" &
pid=$!
if [ "$OMPI_COMM_WORLD_RANK" = 2 ]; then
  while kill -STOP $pid 2>/dev/null; do sleep 0.05; kill -CONT $pid; sleep 0.05; done
fi
wait $pid
"""


def test_a_learner_that_stutters_publishes_nothing_torn_or_late(toy, behind):
    """Workers wait for the version that is due, whenever it comes (its checksum and number are checked)."""
    script = toy.folder / "stutter.sh"
    script.write_text(STUTTER)
    script.chmod(0o755)
    run = train(toy, "stutter", *LAG, *ROLES[3], ranks=3, under=[str(script)])
    assert parts(run) == parts(behind)
