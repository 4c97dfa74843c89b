"""Training as a whole: any number of ranks, killed and resumed, told to stop, and refused when it must be."""
import json
import random
import shutil
import signal
import time

import h5py
import numpy as np
import pytest

from conftest import assert_same_contents, kill_all, metrics, metrics_without_time, sha256, wait_until

FINAL = "checkpoints/step-00000006"
LONGER = "checkpoints/step-00000016"


def rollouts(run):
    """Every dataset of every step's rollouts, but for the attempt that drew it."""
    tables = {}
    for path in sorted((run / "rollouts").glob("step-????????.h5")):
        with h5py.File(path) as file:
            tables[path.name] = {name: file[name][()] for name in file if name != "attempt"}
    return tables


def assert_same_rollouts(a, b):
    assert a.keys() == b.keys() and a
    for step in a:
        assert a[step].keys() == b[step].keys()
        for name in a[step]:
            np.testing.assert_array_equal(a[step][name], b[step][name], err_msg=f"{step} {name}")


@pytest.fixture(scope="module")
def uninterrupted(toy):
    toy.run("train", "-c", "toy.yaml", "-s", "run.dir=whole", "--quiet")
    return toy.folder / "whole"


def test_run_folder_holds_what_the_contract_names(uninterrupted):
    names = {p.name for p in uninterrupted.iterdir()}
    assert {"config.yaml", "log", "metrics.jsonl", "metrics.h5", "rollouts", "checkpoints", "eval", "finished"} <= names
    assert not list((uninterrupted / "rollouts").glob("*chunk*")), "chunks of finished steps are removed"
    assert len(list((uninterrupted / "rollouts").glob("step-*.h5"))) == 4
    assert {p.name for p in (uninterrupted / "checkpoints").iterdir()} >= {"step-00000006"}
    rows = metrics_without_time(uninterrupted / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(6))
    online = rows[2:]
    assert all(row["ratio_error"] < 1e-4 for row in online), "sampler and learner are the same forward"
    assert all(row["kl"] >= 0 for row in online)


def test_same_seed_same_bytes(toy, uninterrupted):
    toy.run("train", "-c", "toy.yaml", "-s", "run.dir=again", "--quiet")
    again = toy.folder / "again"
    for part in ("policy/model.safetensors", "state/optimizer.safetensors", "state/counters.json"):
        assert sha256(again / FINAL / part) == sha256(uninterrupted / FINAL / part)
    assert metrics_without_time(again / "metrics.jsonl") == metrics_without_time(uninterrupted / "metrics.jsonl")


@pytest.mark.parametrize("ranks", [2, 3, 4, 6])
def test_ranks_draw_the_same(toy, uninterrupted, ranks):
    """One learner: the same bits. Several: the first step's samples are the same, weights agree to rounding."""
    run = toy.folder / f"ranks{ranks}"
    toy.run("train", "-c", "toy.yaml", "-s", f"run.dir={run.name}", "--quiet", ranks=ranks)
    mine, whole = rollouts(run), rollouts(uninterrupted)
    if ranks <= 4:
        assert_same_rollouts(mine, whole)
        assert sha256(run / FINAL / "policy/model.safetensors") == sha256(uninterrupted / FINAL / "policy/model.safetensors")
    else:
        first = "step-00000002.h5"
        np.testing.assert_array_equal(mine[first]["tokens"][:8], whole[first]["tokens"][:8])


@pytest.mark.parametrize("ranks", [1, 3])
def test_progress_is_shown_whoever_learns(fresh, ranks):
    done = fresh.run("train", "-c", "toy.yaml", ranks=ranks)
    assert "train: 6 steps in" in done.stderr and "policy: run/checkpoints/step-00000006" in done.stderr
    assert done.stderr.count("train: 6 steps in") == 1


@pytest.fixture(scope="module")
def longer(toy):
    """Uninterrupted, and long enough to be killed five times."""
    toy.run("train", "-c", "toy.yaml", "-s", "run.dir=longer", "-s", "train.steps=16", "--quiet")
    return toy.folder / "longer"


@pytest.mark.parametrize("ranks", [1, 3])
def test_killed_at_random_moments_it_ends_the_same(toy, longer, ranks):
    """One kill while it starts, four at a random moment of a step that an earlier attempt has not reached."""
    run = toy.folder / f"killed{ranks}"
    command = ["train", "-c", "toy.yaml", "-s", f"run.dir={run.name}", "-s", "train.steps=16", "--quiet"]
    moments = random.Random(ranks)

    def lines():
        path = run / "metrics.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    kills, seen = 0, 0
    # The reward takes its time, so that the run lasts however fast the machine is: a step takes 0.1 s and more.
    slowly = {"TOY_REWARD_SLEEP": "0.006"}
    for kill in range(5):
        process = toy.start(*command, ranks=ranks, environment=slowly)
        if kill == 0:
            time.sleep(moments.uniform(0.05, 0.3))
        else:
            wait_until(lambda target=seen + 1: lines() >= target, process)
            time.sleep(moments.uniform(0, 0.15))
        assert process.poll() is None, "the run ended before it was killed"
        kill_all(process)
        kills += 1
        seen = lines()
    assert kills == 5 and 4 <= seen < 16 and not (run / "finished").exists()
    toy.run(*command, ranks=ranks)
    attempts = (run / "attempts.jsonl").read_text().splitlines()
    assert len(attempts) in (5, 6), "the first may have died before it wrote anything"
    for part in ("policy/model.safetensors", "state/optimizer.safetensors", "state/counters.json"):
        assert sha256(run / LONGER / part) == sha256(longer / LONGER / part)
    assert_same_rollouts(rollouts(run), rollouts(longer))
    assert metrics_without_time(run / "metrics.jsonl") == metrics_without_time(longer / "metrics.jsonl")
    assert sorted(p.name for p in (run / "eval").iterdir()) == sorted(p.name for p in (longer / "eval").iterdir())
    for evaluation in (longer / "eval").glob("step-*.h5"):
        assert_same_contents(run / "eval" / evaluation.name, evaluation)


def test_killed_between_an_evaluation_and_its_checkpoint_it_remembers_the_best(toy):
    """The last evaluation is there, the checkpoint that counts it as the best is not: what is drawn again counts again."""
    whole, run = toy.folder / "evaluated-once", toy.folder / "between"
    command = ["train", "-c", "toy.yaml", "--quiet", "-s", "eval.every=6"]  # after the last step alone: it is the best
    toy.run(*command, "-s", "run.dir=evaluated-once")
    shutil.copytree(whole, run)
    assert json.loads((run / FINAL / "state/counters.json").read_text())["best_step"] == 6
    shutil.rmtree(run / FINAL)
    (run / "finished").unlink()
    toy.run(*command, "-s", "run.dir=between")
    for part in ("policy/model.safetensors", "state/counters.json"):
        assert sha256(run / FINAL / part) == sha256(whole / FINAL / part)
    for evaluation in (whole / "eval").glob("step-*.h5"):
        assert_same_contents(run / "eval" / evaluation.name, evaluation)


def test_the_best_checkpoint_stays_wherever_it_is(toy):
    """Evaluated at other steps than checkpoints are due at: the best so far is saved, and the last of those is kept."""
    done = []
    for seed in range(1, 9):
        run = toy.folder / f"best-{seed}"
        toy.run("train", "-c", "toy.yaml", "--quiet", "-s", f"run.dir={run.name}", "-s", f"run.seed={seed}", "-s", "eval.every=1",
                "-s", "checkpoint.every=4", "-s", "checkpoint.keep=last 1", "-s", "optimizer.learning_rate=0.02")
        win = {int(path.stem.split("-")[1]): json.loads(path.read_text())["rows"][1]["win"]
               for path in run.glob("eval/step-*.json")}
        best = max(range(1, 7), key=lambda step: (win[step], -step))
        assert json.loads((run / FINAL / "state/counters.json").read_text())["best_step"] == best
        kept = sorted(int(path.name.split("-")[1]) for path in (run / "checkpoints").iterdir())
        assert kept == sorted({best, 6})
        done.append(best)
        if best not in (4, 6):
            return
    pytest.fail(f"no seed whose best step is one without a checkpoint of its own: {done}")


def rates(run):
    """Of each step of metrics.jsonl: tokens a second, and what they should be."""
    before = 0
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        time = row["time"]
        yield time["tokens_per_s"][0], (row["tokens"] - before) / (time["total"][0] - time["evaluate"][0])
        before = row["tokens"]


def test_evaluations_are_timed(toy):
    toy.run("train", "-c", "toy.yaml", "--quiet", "-s", "run.dir=timed", "-s", "eval.every=2")
    steps = metrics(toy.folder / "timed")
    assert [row["time"]["evaluate"][0] > 0 for row in steps] == [False, True] * 3
    for got, want in rates(toy.folder / "timed"):
        assert got == pytest.approx(want, rel=0.02)


def test_signal_checkpoints_and_asks_to_be_requeued(toy, uninterrupted):
    run = toy.folder / "signalled"
    process = toy.start("train", "-c", "toy.yaml", "-s", f"run.dir={run.name}", environment={"TOY_REWARD_SLEEP": "0.006"})
    wait_until(lambda: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text(), process)
    process.send_signal(signal.SIGUSR1)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    done = len((run / "metrics.jsonl").read_text().splitlines())
    assert 1 <= done < 6 and (run / f"checkpoints/step-{done:08}/manifest.json").exists(), "it stops where it is"
    assert not (run / "finished").exists() and not (run / "lock").exists()
    run = run.rename(toy.folder / "signalled-and-moved")
    toy.run("train", "-c", "toy.yaml", "-s", f"run.dir={run.name}", "--quiet")
    for got, want in rates(run):
        assert got == pytest.approx(want, rel=0.02)
    assert sha256(run / FINAL / "policy/model.safetensors") == sha256(uninterrupted / FINAL / "policy/model.safetensors")
    assert metrics_without_time(run / "metrics.jsonl") == metrics_without_time(uninterrupted / "metrics.jsonl")


@pytest.mark.parametrize("ranks", [1, 3])
def test_it_stops_before_its_allocation_ends(toy, uninterrupted, ranks):
    """A minute before the end; then with the end gone by already, one step at a time; then with time enough."""
    run = toy.folder / f"in-time{ranks}"
    command = ["train", "-c", "toy.yaml", "-s", f"run.dir={run.name}", "-s", "checkpoint.before_end=60"]

    def steps():
        return len((run / "metrics.jsonl").read_text().splitlines())

    def ends_in(seconds, expect=75):
        return toy.run(*command, ranks=ranks, expect=expect, environment={"VBON_END_TIME": str(time.time() + seconds)})

    for seconds in (59, -1000):
        before = steps() if run.exists() else 0
        done = ends_in(seconds)
        assert "stopped in time: the allocation ends in" in done.stderr and "checkpoint.before_end is 1m00s" in done.stderr
        assert done.stderr.count("stopped in time") == 1, "one rank says it"
        assert steps() == before + 1 and (run / f"checkpoints/step-{steps():08}/manifest.json").exists()
        assert not (run / "lock").exists()
    ends_in(3600, expect=0)
    assert sha256(run / FINAL / "policy/model.safetensors") == sha256(uninterrupted / FINAL / "policy/model.safetensors")
    assert metrics_without_time(run / "metrics.jsonl") == metrics_without_time(uninterrupted / "metrics.jsonl")


def test_before_end_can_be_switched_off_and_is_checked(toy):
    command = ["train", "-c", "toy.yaml", "-s", "run.dir=no-end", "--quiet"]
    toy.refused(*command, "-s", "checkpoint.before_end=-1", words=["checkpoint.before_end"])
    toy.refused(*command, words=["VBON_END_TIME", "date +%s"], environment={"VBON_END_TIME": "tomorrow"})
    toy.run(*command, "-s", "checkpoint.before_end=0", environment={"VBON_END_TIME": "1"})


def test_finished_foreign_and_changed_folders_are_refused(toy, uninterrupted):
    before = sha256(uninterrupted / "metrics.jsonl")
    done = toy.run("train", "-c", "toy.yaml", "-s", "run.dir=whole", expect=2)
    assert "finished" in done.stderr
    foreign = toy.folder / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    done = toy.run("train", "-c", "toy.yaml", "-s", "run.dir=foreign", expect=2)
    assert "foreign" in done.stderr and (foreign / "thesis.tex").read_text() == "years of work"
    assert [p.name for p in foreign.iterdir()] == ["thesis.tex"]
    changed = toy.folder / "changed"
    shutil.copytree(uninterrupted, changed)
    (changed / "finished").unlink()
    done = toy.run("train", "-c", "toy.yaml", "-s", "run.dir=changed", "-s", "optimizer.learning_rate=2e-3", expect=2)
    assert "optimizer.learning_rate" in done.stderr
    done = toy.run("train", "-c", "toy.yaml", "-s", "run.dir=changed", "-s", "cluster.lag=1", expect=2)
    assert "cluster.lag: 0 -> 1" in done.stderr
    assert sha256(uninterrupted / "metrics.jsonl") == before


def test_evaluating_the_reference_as_the_policy_is_the_null(toy):
    toy.run("eval", "-c", "toy.yaml", "-s", "eval.checkpoint=reference", "-s", "eval.samples=256", "-s", "run.dir=nullcheck", "--quiet")
    summary = json.loads((toy.folder / "nullcheck/eval/reference/summary.json").read_text())
    policy = next(row for row in summary["rows"] if row["name"] == "policy")
    # 4 prompts x 256 samples against 32: the standard error of the win rate is about 0.03.
    assert abs(policy["win"] - 0.5) < 0.12
    assert abs(policy["kl"]) < 1e-5
