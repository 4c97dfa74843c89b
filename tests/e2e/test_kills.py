"""kill -9 of one rank, of all, or of mpirun, at random moments, for every method and number of ranks: the same command
started again ends with the same bits as a run that nobody stopped.

VBON_KILLS=51 makes 51 kills (each method, the online ones with cluster.lag 0 and 1, on 1, 2 and 4 ranks; 4 have two
learners), 102 each of them twice, the second time at other moments; without it 17, each once on one number of ranks, as
CI has time for. The kinds of kill and of moment go round, so that any number of kills meets all of them.
VBON_KILLS_TALLY names a file for what was counted.
"""
import collections
import dataclasses
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import tempfile
import time

import pytest

from conftest import Vbon, settings, some
from faults import all_ranks, assert_nobody_left, assert_same_end, lines, ranks_by_number, send

KILLS = int(os.environ.get("VBON_KILLS", "17"))
LONG = 60  # so many kills have met whatever is left to chance
STEPS = 8

ONLINE = {
    "vbon": ["train.warm_start=2"],
    "ppo": ["train.method=ppo", "ppo.baseline=critic_model", "ppo.adaptive_kl=true", "ppo.kl_target=0.01",
            "ppo.kl_horizon=100"],
    "jeffreys": ["train.method=jeffreys", "mixture.samples=1"],
    "bond": ["train.method=bond", "bond.quantile=anchor", "anchor.samples=4", "anchor.every=3", "anchor.rate=1"],
    "jbond": ["train.method=jbond", "anchor.rate=0.3"],
}
OFFLINE = {
    "regression": ["train.method=regression", "optimizer.schedule=cosine"],
    "bon_sft": ["train.method=bon_sft"],
    "dpo": ["train.method=dpo", "preference.labels=sampled", "preference.batch=8"],
    "ipo": ["train.method=ipo", "preference.batch=8"],
    "slic": ["train.method=slic", "preference.batch=8"],
    "infonca": ["train.method=infonca", "infonca.batch=16"],
    "bonbon": ["train.method=bonbon"],
}
# Name, further settings, methods: a line here is another way to run them that has to resume as exactly.
VARIANTS = [
    ("", [], [*ONLINE, *OFFLINE]),
    ("lag1", ["cluster.lag=1"], [*ONLINE]),
]
ROLES = {1: [], 2: [], 4: ["cluster.roles={rollout: 1, scorer: 1, learner: 2}"]}  # auto would have one learner
KINDS = ["one", "all", "mpirun"]
MOMENTS = ["step", "checkpoint", "start", "evaluation", "step", "end"]


@dataclasses.dataclass(frozen=True)
class Case:
    variant: str
    method: str
    ranks: int
    overrides: tuple

    @property
    def name(self):
        return "-".join(filter(None, [self.variant, self.method, str(self.ranks)]))


def cases():
    """Every method before any comes again; then the same on another number of ranks."""
    found = []
    for turn in range(len(ROLES)):
        for place, (variant, more, method) in enumerate(
                (name, more, method) for name, more, methods in VARIANTS for method in methods):
            ranks = list(ROLES)[(place + turn) % len(ROLES)]
            overrides = (*{**ONLINE, **OFFLINE}[method], *more, *ROLES[ranks])
            found.append(Case(variant, method, ranks, overrides))
    return found


WAYS = cases()
CASES = list(itertools.islice(itertools.cycle(WAYS), KILLS))
TALLY = collections.Counter()


@pytest.fixture(scope="module")
def place(inputs):
    """Inputs, and what killed ranks leave behind, in folders that go with the test: shared memory, MPI's sockets."""
    made = [tempfile.mkdtemp(prefix="vbon-test-", dir=parent) for parent in (None, "/dev/shm")]
    vbon = Vbon(pathlib.Path(shutil.copytree(inputs, pathlib.Path(made[0]) / "toy")))
    vbon.beside = {"TMPDIR": made[0], "OMPI_MCA_btl_vader_backing_directory": made[1]}
    vbon.whole, vbon.seconds = {}, {}
    yield vbon
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)
    if TALLY:
        print("\nkills:", ", ".join(f"{name} {count}" for name, count in sorted(TALLY.items())))
        if path := os.environ.get("VBON_KILLS_TALLY"):
            pathlib.Path(path).write_text(json.dumps(TALLY, indent=2, sort_keys=True) + "\n")


def command(case, run):
    return ["train", "-c", "toy.yaml", "--quiet",
            *settings("train.warm_start=0", f"train.steps={STEPS}", "eval.every=4", "checkpoint.every=2",
                      "cluster.comm_checks=false", *case.overrides, f"run.dir={run}")]


def whole(place, case):
    """The run that nobody stops, once for each way to run."""
    if case.name not in place.whole:
        name, start = f"whole-{case.name}", time.monotonic()
        place.run(*command(case, name), ranks=case.ranks, environment=place.beside)
        place.whole[case.name], place.seconds[case.name] = place.folder / name, time.monotonic() - start
    return place.whole[case.name]


def half_checkpoints(run):
    return [path.name for path in run.glob("checkpoints/step-*") if not (path / "manifest.json").exists()]


def evaluates(run):
    """A step is evaluated before its line is written."""
    folder = run / "eval/chunks"
    return folder.exists() and any(folder.iterdir())


def await_moment(moment, run, process, chance):
    """Returns at a moment of this kind, or when the run has ended before."""
    def until(condition):
        while process.poll() is None and not condition():
            time.sleep(0.0005)

    if moment == "start":
        time.sleep(chance.uniform(0, 0.7))
    elif moment == "step":
        target = chance.randrange(1, STEPS)
        until(lambda: lines(run) >= target)
        time.sleep(chance.uniform(0, 0.1))
    elif moment == "checkpoint":
        after = chance.choice([1, 3, 5])  # checkpoints follow steps 2, 4, 6
        until(lambda: lines(run) > after and half_checkpoints(run))
        time.sleep(chance.uniform(0, 0.01))
    elif moment == "evaluation":
        until(lambda: lines(run) >= 3 and evaluates(run))
        time.sleep(chance.uniform(0, 0.03))
    else:  # the last evaluation, the last checkpoint, the last words
        until(lambda: lines(run) == STEPS or (lines(run) == STEPS - 1 and evaluates(run)))
        time.sleep(chance.uniform(0, 0.03))


def strike(kind, process, ranks, chance):
    pids = ranks_by_number(process)
    if kind == "mpirun" or ranks == 1:
        send([process.pid], signal.SIGKILL)
    elif kind == "one":
        send([pids[chance.choice(sorted(pids))]], signal.SIGKILL)
    else:
        send(pids.values(), signal.SIGKILL)


def acknowledged(run):
    """What a reader could have relied on: lines of the record, checkpoints with their manifest."""
    record = (run / "metrics.jsonl").read_bytes() if (run / "metrics.jsonl").exists() else b""
    manifests = {path.parent.name: path.read_bytes() for path in run.glob("checkpoints/step-*/manifest.json")}
    return record[:record.rfind(b"\n") + 1], manifests


def count(case, more):
    TALLY.update({"in all": 1, "with lag 1": int(case.variant == "lag1"), "with two learners": int(case.ranks == 4)})
    TALLY.update({name: int(is_so) for name, is_so in more.items()})


@pytest.mark.parametrize("number, case", some(enumerate(CASES), 2), ids=[f"{i}-{case.name}" for i, case in enumerate(CASES)])
def test_killed_it_ends_the_same(place, number, case):
    expected = whole(place, case)
    kind = KINDS[(number + number // len(KINDS)) % len(KINDS)]
    moment = MOMENTS[(number + number // len(WAYS)) % len(MOMENTS)]
    chance = random.Random(f"{number} {case.name}")
    # Ranks go on for a second or two without their mpirun: the run has to last longer than that.
    slowly = {"TOY_REWARD_SLEEP": "0.03" if kind == "mpirun" and case.ranks > 1 else "0.003"}
    for attempt in range(6):  # on a fast machine a run may be over before its moment has come
        run = place.folder / f"killed-{number}-{attempt}"
        process = place.start(*command(case, run.name), ranks=case.ranks,
                              environment={**place.beside, **slowly})
        all_ranks(process, case.ranks)
        await_moment(moment, run, process, chance)
        before = acknowledged(run)
        if process.poll() is None and not (run / "finished").exists():
            strike(kind, process, case.ranks, chance)
            process.communicate(timeout=60)
            assert_nobody_left(place.folder)
            if process.returncode != 0 and not (run / "finished").exists():
                break
            if case.ranks > 1 and kind == "mpirun" and process.returncode != 0 and not (run / "lock").exists():
                # mpirun was killed so late that they came to the end.
                assert_same_end(run, expected)
                count(case, {"of mpirun, too late to stop the ranks": True, "ended the same": True})
                return
        process.communicate(timeout=60)
        shutil.rmtree(run, ignore_errors=True)
    else:
        pytest.fail("no run could be met in time")
    count(case, {f"of {kind if case.ranks > 1 else 'the one rank'}": True,
                 "while a checkpoint was written": bool(half_checkpoints(run))})
    record, manifests = acknowledged(run)
    assert record.startswith(before[0]), "a line of the record is lost"
    for step, manifest in before[1].items():  # a newer one may have taken its place
        assert manifests.get(step) == manifest or max(manifests, default="") > step, "a checkpoint is lost"
    place.run(*command(case, run.name), ranks=case.ranks, environment=place.beside)
    assert_same_end(run, expected)
    assert len((run / "attempts.jsonl").read_text().splitlines()) in (1, 2), "one that was killed early wrote nothing"
    assert json.loads((run / "finished").read_text())["steps"] == STEPS
    TALLY["ended the same"] += 1
    shutil.rmtree(run)


def test_some_kill_met_a_checkpoint_being_written():
    if TALLY["in all"] < LONG:
        pytest.skip(f"left to chance: needs {LONG} kills (VBON_KILLS)")
    assert TALLY["while a checkpoint was written"] > 0, dict(TALLY)
