"""Several learners, and learners beside workers: sums in a fixed order, sharded states, samples one step behind."""
import json
import signal

import numpy as np
import pytest

from conftest import assert_same_contents, kill_all, metrics, metrics_without_time, settings, sha256, some, wait_until
from faults import SLOWLY, assert_same_end, lines
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


def assert_same_samples(run, other, steps):
    """Every column of every step: tokens and rewards, and the version of the weights that drew them."""
    for step in range(steps):
        mine, theirs = rollouts(run, step), rollouts(other, step)
        assert mine.keys() == theirs.keys()
        for name, values in mine.items():
            np.testing.assert_array_equal(values, theirs[name], err_msg=f"step {step}: {name}")


@pytest.mark.parametrize("method", some(METHODS))
def test_fixed_sums_make_any_number_of_learners_one(toy, method):
    """Weights, optimiser state, metrics and evaluations, to the bit."""
    overrides = [*METHODS[method], "run.reduce=fixed", ALL, "eval.every=3"]
    one = train(toy, f"fixed-{method}-1", *overrides)
    for ranks in (2, 4):
        several = train(toy, f"fixed-{method}-{ranks}", *overrides, ranks=ranks)
        assert parts(several) == parts(one)
        assert metrics_without_time(several / "metrics.jsonl") == metrics_without_time(one / "metrics.jsonl")
        for evaluation in (one / "eval").glob("step-*.h5"):
            assert_same_contents(several / "eval" / evaluation.name, evaluation)
    by_rank = train(toy, f"by-rank-{method}", *METHODS[method], ALL)
    first, other = metrics(one)[0], metrics(by_rank)[0]
    # The policy is still the reference: the signs of margins (accuracy) are those of rounding errors.
    for name in first.keys() - {"time", "step", "ratio_error", "accuracy"}:
        np.testing.assert_allclose(first[name], other[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_fixed_sums_need_a_power_of_two(toy):
    toy.refused("train", "-c", "toy.yaml", "-s", "run.dir=never", "-s", "run.reduce=fixed", "-s", ALL, ranks=3,
                words=["run.reduce", "1, 2, 4 or 8"])


@pytest.mark.parametrize("method", some(METHODS))
def test_a_sharded_optimiser_changes_no_bit(toy, method):
    whole = train(toy, f"whole-{method}", *METHODS[method], ALL, ranks=2)
    sharded = train(toy, f"sharded-{method}", *METHODS[method], ALL, "cluster.shard_optimizer=true",
                    "cluster.bucket_mib=0.1", ranks=2)
    assert parts(sharded) == parts(whole)
    assert metrics_without_time(sharded / "metrics.jsonl") == metrics_without_time(whole / "metrics.jsonl")


def interrupted(toy, run, overrides, ranks, steps=1, then=None, kill=False):
    """A run that is told to stop, or killed, after some steps, and started again: on as many ranks, or on `then`."""
    arguments = ["train.warm_start=0", "train.steps=6", "eval.every=0", "checkpoint.every=0", *overrides]
    process = toy.start("train", "-c", "toy.yaml", "--quiet", *settings(f"run.dir={run}", *arguments), ranks=ranks,
                        environment=SLOWLY)
    wait_until(lambda: lines(toy.folder / run) >= steps, process)
    if kill:
        kill_all(process)
    else:
        process.send_signal(signal.SIGUSR1)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 75, err
    assert not (toy.folder / run / "finished").exists()
    return train(toy, run, *arguments, ranks=then or ranks)


FIXED = ["train.steps=6", "run.reduce=fixed", ALL]


@pytest.fixture(scope="module")
def fixed(toy):
    """Runs on one rank that nobody stops, by method."""
    runs = {}

    def of(method):
        if method not in runs:
            runs[method] = train(toy, f"fixed-whole-{method}", *METHODS[method], *FIXED)
        return runs[method]

    return of


@pytest.mark.parametrize("method, before, after", some([("vbon", 4, 1), ("vbon", 1, 2), ("vbon", 2, 4), ("jbond", 1, 4),
                                                        ("ppo", 4, 2)]))
def test_fixed_sums_go_on_to_the_bit_on_another_number_of_ranks(toy, fixed, method, before, after):
    run = interrupted(toy, f"fixed-{method}-{before}-{after}", [*METHODS[method], *FIXED], before, 2, then=after)
    assert parts(run) == parts(fixed(method))
    assert metrics_without_time(run / "metrics.jsonl") == metrics_without_time(fixed(method) / "metrics.jsonl")
    assert (f"written by {before} ranks, there are {after} now: with run.reduce: fixed their number changes no bit"
            in (run / "log").read_text())


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
    assert_same_samples(run, behind, 6)


def test_the_next_batch_is_scored_while_this_one_is_learned(toy):
    """Scoring sleeps and learning computes: they overlap on a single core, too. A step of lag 0 takes at least as long
    as the two together; lag 1 hides most of the shorter behind the longer. Its first step draws two batches, its last
    one none."""
    hidden, shorter = {}, {}
    for lag in (0, 1):
        run = train(toy, f"overlap-{lag}", *ROLES[3], f"cluster.lag={lag}", "train.steps=5", "train.layers=all",
                    "train.micro_batch=1", "ppo.epochs=4", ranks=3, environment={"TOY_REWARD_SLEEP": "0.04"})
        times = [row["time"] for row in metrics(run)[1:-1]]
        scored, learned = (sum(time[phase][rank] for time in times for phase in phases)
                           for rank, phases in ((1, ["score"]), (2, ["prepare", "update"])))
        hidden[lag], shorter[lag] = scored + learned - sum(time["total"][2] for time in times), min(scored, learned)
    assert min(shorter.values()) > 0.2, "both take their time, or there is nothing to see"
    assert hidden[0] <= 0 and hidden[1] > 0.5 * shorter[1], (hidden, shorter)


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("steps", [1, 4])
def test_what_was_in_flight_is_drawn_again(toy, behind, ranks, steps):
    run = interrupted(toy, f"in-flight-{ranks}-{steps}", [*LAG, *ROLES[ranks]], ranks, steps)
    assert parts(run) == parts(behind)
    assert metrics_without_time(run / "metrics.jsonl") == metrics_without_time(behind / "metrics.jsonl")


EVALUATED = [*LAG, "eval.every=3", "checkpoint.every=2"]


@pytest.fixture(scope="module")
def evaluated(toy):
    return train(toy, "evaluated", *EVALUATED)


def test_evaluations_between_change_nothing_of_what_is_in_flight(behind, evaluated):
    """They sample from the weights of their step; the batch in flight stays that of the step before."""
    counters = ["state/counters.json"]  # these know the best evaluation
    assert parts(evaluated, counters) == parts(behind, counters)
    assert_same_samples(evaluated, behind, 6)


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("kill", some([True, False]))
@pytest.mark.parametrize("steps", [3, 4])
def test_what_was_in_flight_beside_evaluations_is_drawn_again(toy, evaluated, ranks, kill, steps):
    """Stopped, it goes on from the step where it is; killed, from the last periodic checkpoint, over evaluations that
    are there already."""
    name = f"evaluated-{ranks}-{'killed' if kill else 'stopped'}-{steps}"
    run = interrupted(toy, name, [*EVALUATED, *ROLES[ranks]], ranks, steps, kill=kill)
    assert_same_end(run, evaluated)


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
    assert_same_samples(run, behind, 6)
