"""What else goes wrong while a run is under way: ranks that stall or fail alone, files that come late, damaged or not at
all, a clock that jumps, folders that are sealed, checkpoints that rot. The run ends soon, says why, and goes on from
there to the same end (docs/faults.md is the table)."""
import json
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest

from conftest import BUILD, MORE, ROOT, assert_same_contents, metrics, settings, snapshot, some, wait_until
from faults import SLOWLY, all_ranks, assert_nobody_left, assert_same_end, lines, send
from training import final

HOST = os.uname().nodename
SUPPORT = pathlib.Path(BUILD or ".") / "tests/support"
TRAIN = ["train", "-c", "toy.yaml", "--quiet", *settings("cluster.comm_checks=false")]
STEPS = 6


@pytest.fixture(scope="module")
def whole(toy):
    toy.run(*TRAIN, "-s", "run.dir=whole")
    return toy.folder / "whole"


def ended(process, seconds=20):
    """Exit code and messages of a run that has to end by itself, and soon."""
    start = time.monotonic()
    _, text = process.communicate(timeout=60)
    assert time.monotonic() - start < seconds, text
    return process.returncode, text


def resumed(vbon, whole, ranks, *more):
    done = vbon.run(*TRAIN, *more, ranks=ranks)
    assert_same_end(vbon.folder / "run", whole)
    return done


# Ranks.

@pytest.mark.parametrize("rank", some([0, 1, 2]))
def test_a_stalled_rank_is_named_whoever_waits_for_it(fresh, whole, rank):
    """Rollout worker, scorer, learner: the others wait for each other, and name the one that does not answer."""
    process = fresh.start(*TRAIN, *settings("cluster.timeout_s=2"), ranks=3, environment=SLOWLY)
    wait_until(lambda: lines(fresh.folder / "run") >= 2, process)
    send([all_ranks(process, 3)[rank]], signal.SIGSTOP)
    code, text = ended(process)
    assert code == 74 and f"no answer from rank {rank} on {HOST}:" in text, text
    assert all(f"no answer from rank {other}" not in text for other in {0, 1, 2} - {rank}), text
    assert_nobody_left(fresh.folder)
    resumed(fresh, whole, 3)


def test_a_reward_program_that_dies_on_one_of_two_scorers(fresh, whole):
    """Its rank is in the middle of a step, the others in their collectives: all end, and the cause is told."""
    program = (fresh.folder / "reward.py").read_text()
    (fresh.folder / "reward.py").write_text(
        program.replace("for line in sys.stdin:", "for count, line in enumerate(sys.stdin):\n"
                        "    if count == 20 and os.environ.get('OMPI_COMM_WORLD_RANK') == '2':\n"
                        "        print('my model is broken', file=sys.stderr); sys.exit(3)"))
    roles = settings("cluster.roles={rollout: 1, scorer: 2, learner: 1}")
    code, text = ended(fresh.start(*TRAIN, *roles, ranks=4))
    assert code == 2 and "exit status 3" in text and "my model is broken" in text and "[rank 2]" in text, text
    assert_nobody_left(fresh.folder)
    (fresh.folder / "reward.py").write_text(program)
    resumed(fresh, whole, 4, *roles)


ON_RANK_1 = 'if [ "$OMPI_COMM_WORLD_RANK" = 1 ]; then {}; fi; exec "$0" "$@"'


def test_a_reward_program_that_one_machine_lacks(fresh):
    """It is started before the ranks know each other: its rank tells the error itself."""
    folder = fresh.folder / "bin"
    folder.mkdir()
    (folder / "my-reward").write_text(f"#!/bin/sh\nexec {sys.executable} {fresh.folder}/reward.py\n")
    (folder / "my-reward").chmod(0o755)
    process = fresh.start(*TRAIN, *settings("reward.command=[my-reward]"), ranks=3,
                          environment={"PATH": f"{folder}:{os.environ['PATH']}"},
                          under=["sh", "-c", ON_RANK_1.format("PATH=/usr/bin:/bin")])
    code, text = ended(process)
    assert code == 2 and text.count("cannot start the reward program 'my-reward'") == 1, text
    assert f"rank 1 on {HOST}" in text, text
    assert_nobody_left(fresh.folder)
    assert not (fresh.folder / "run").exists()


def test_a_reward_folder_that_one_machine_lacks(fresh):
    shutil.copytree(ROOT / "tests/golden/reward/classifier", fresh.folder / "judge")
    elsewhere = fresh.folder / "elsewhere"
    elsewhere.mkdir()
    (fresh.folder / "run").mkdir()
    for path in fresh.folder.iterdir():
        if path.name not in ("judge", "elsewhere"):
            (elsewhere / path.name).symlink_to(path)
    process = fresh.start(*TRAIN, *settings("reward={kind: classifier, path: judge, command: []}", "eval.every=0",
                                            "train.method=ppo", "train.warm_start=0", 'pool.path=""'),
                          ranks=3, under=["sh", "-c", ON_RANK_1.format("cd elsewhere")])
    code, text = ended(process)
    assert code == 2 and "judge" in text and f"rank 1 on {HOST}" in text, text
    assert_nobody_left(fresh.folder)
    assert not list((fresh.folder / "run").iterdir())


# The reward's program ends with its parent.

STUBBORN = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdin=subprocess.DEVNULL)
"""


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("way, code", [("end", 0), ("error", 2), ("USR1", 75), ("TERM", None), ("KILL", None)])
def test_a_stubborn_reward_program_ends_with_the_run(fresh, way, code, ranks):
    """It ignores signals and has a child that left its group; nobody is left, however the run ends."""
    program = (fresh.folder / "reward.py").read_text()
    if way == "error":
        program = program.replace("for line in sys.stdin:", "for count, line in enumerate(sys.stdin):\n"
                                  "    if count == 40: print('nonsense', flush=True)")
    (fresh.folder / "reward.py").write_text(STUBBORN + program)
    is_signal = way.isupper()
    process = fresh.start(*TRAIN, *settings("eval.every=0"), ranks=ranks, environment=SLOWLY if is_signal else {})
    if is_signal:
        wait_until(lambda: lines(fresh.folder / "run") >= 3, process)
        process.send_signal(getattr(signal, f"SIG{way}"))
    found, text = ended(process)
    assert found == code if code is not None else found != 0, text
    assert_nobody_left(fresh.folder)


# Files that come late, damaged, or not at all. The learner is stopped while a chunk is written that it has not read.

@pytest.fixture
def unread(fresh):
    """A run of two ranks whose learner sleeps, and a scored chunk that it will be told of."""
    started = []

    def start(*more):
        process = fresh.start(*TRAIN, *more, ranks=2, environment=SLOWLY)
        started.append(process)
        run = fresh.folder / "run"
        wait_until(lambda: lines(run) >= 3, process)
        learner = all_ranks(process, 2)[1]
        for _ in range(50):
            send([learner], signal.SIGSTOP)
            before = set(run.glob("rollouts/step-*.scored.h5"))
            deadline = time.monotonic() + 1.0
            while time.monotonic() < deadline:
                if new := set(run.glob("rollouts/step-*.scored.h5")) - before:
                    return process, learner, sorted(new)[0]
                time.sleep(0.005)
            send([learner], signal.SIGCONT)
            time.sleep(0.03)
        raise AssertionError("no chunk came while the learner slept")

    yield start
    for process in started:
        if process.poll() is None:
            send(all_ranks(process, 2).values(), signal.SIGKILL)
            process.communicate()


def test_a_chunk_that_is_shown_late_is_waited_for(fresh, whole, unread):
    """As on a network file system: the message is there before the file can be seen."""
    process, learner, chunk = unread()
    away = fresh.folder / "away.h5"
    chunk.rename(away)
    send([learner], signal.SIGCONT)
    time.sleep(1.0)
    assert process.poll() is None
    away.rename(chunk)
    code, text = ended(process)
    assert code == 0, text
    assert_same_end(fresh.folder / "run", whole)


@pytest.mark.parametrize("damage", some(["lost", "cut", "changed"]))
def test_a_chunk_that_never_comes_right_ends_the_run(fresh, whole, unread, damage):
    process, learner, chunk = unread("-s", "cluster.file_wait_s=0.5")
    content = chunk.read_bytes()
    if damage == "lost":
        chunk.unlink()
    else:
        middle = len(content) // 2
        chunk.write_bytes(content[:middle] if damage == "cut" else
                          content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1:])
    send([learner], signal.SIGCONT)
    code, text = ended(process)
    assert code == 74 and str(chunk.relative_to(fresh.folder)) in text and "cluster.file_wait_s" in text, text
    assert ("No such file" if damage == "lost" else "truncated or damaged") in text, text
    resumed(fresh, whole, 2)


def test_a_part_of_the_pool_that_is_shown_late(fresh, inputs):
    """The root sleeps while the other rank writes its part; then the part hides for a second."""
    pool = ["pool", "-c", "toy.yaml", "--quiet", "--split", "train", *settings("pool.path=late.h5", "pool.keep_parts=true")]
    process = fresh.start(*pool, ranks=2, environment=SLOWLY)
    parts = fresh.folder / "late.h5.parts"
    wait_until(lambda: parts.exists() and any(parts.glob("chunk-*.h5")), process)
    root = all_ranks(process, 2)[0]
    send([root], signal.SIGSTOP)
    wait_until(lambda: (parts / "chunk-000007.h5").exists(), process)
    (parts / "chunk-000007.h5").rename(fresh.folder / "away.h5")
    send([root], signal.SIGCONT)
    wait_until(lambda: len(list(parts.glob("chunk-*.h5"))) == 7, process)
    time.sleep(0.7)
    assert process.poll() is None and not (fresh.folder / "late.h5").exists()
    (fresh.folder / "away.h5").rename(parts / "chunk-000007.h5")
    code, text = ended(process)
    assert code == 0 and (fresh.folder / "late.h5").exists(), text
    # The merge of an array's shards, on a machine that is not shown the last of them yet.
    (fresh.folder / "late.h5").rename(fresh.folder / "whole.h5")
    (parts / "chunk-000007.h5").rename(fresh.folder / "away.h5")
    fresh.refused(*pool, "--merge", "-s", "cluster.file_wait_s=0.3", words=["lacks 1 of 8 chunks (7)"])
    process = fresh.start(*pool, "--merge")
    time.sleep(0.7)
    assert process.poll() is None and not (fresh.folder / "late.h5").exists()
    (fresh.folder / "away.h5").rename(parts / "chunk-000007.h5")
    code, text = ended(process)
    assert code == 0, text
    assert_same_contents(fresh.folder / "late.h5", fresh.folder / "whole.h5")


# A clock that jumps.

@pytest.mark.parametrize("ranks", [1, 3])
def test_a_wall_clock_that_jumps_by_days_changes_nothing(fresh, whole, ranks):
    fresh.run(*TRAIN, *settings("cluster.timeout_s=30", "cluster.init_timeout_s=30"), ranks=ranks,
              under=["env", f"LD_PRELOAD={SUPPORT}/libjumping_clock.so"])
    assert_same_end(fresh.folder / "run", whole)
    times = [path.read_text() for path in (fresh.folder / "run").glob("checkpoints/*/manifest.json")]
    days = {json.loads(text)["created_utc"][:10] for text in times}
    days.add(json.loads((fresh.folder / "run/finished").read_text())["finished_utc"][:10])
    assert len(days) > 1, "the clock did jump"


# Folders that are sealed in the middle.

def without_privilege():
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("runs as root, and needs setpriv (util-linux) to do without its privileges")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@pytest.mark.parametrize("place, ranks", [("rollouts", 3), ("checkpoints", 1), ("eval", 1)])
def test_a_folder_that_is_sealed_in_the_middle(fresh, whole, place, ranks):
    process = fresh.start(*TRAIN, ranks=ranks, environment=SLOWLY, under=without_privilege())
    run = fresh.folder / "run"
    wait_until(lambda: lines(run) >= 3, process)
    kept = sorted(run.glob("checkpoints/*/manifest.json"))
    mode = stat.S_IMODE((run / place).stat().st_mode)
    (run / place).chmod(0o555)
    try:
        code, text = ended(process)
    finally:
        (run / place).chmod(mode)
    assert code == 74 and f"run/{place}" in text and "Permission denied" in text and "writable" in text, text
    there = sorted(run.glob("checkpoints/*/manifest.json"))
    assert kept and there and there[-1] >= kept[-1], "newer ones may have taken the places of the older"
    assert_nobody_left(fresh.folder)
    resumed(fresh, whole, ranks)


# Checkpoints that rot.

def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-10])


# After steps 2, 4 and 6, and after 3, whose evaluation is the first and so the best.
DAMAGES = {
    "changed": ([6], "policy/model.safetensors", flip, ["step-00000006/policy/model", "changed or damaged", "step 4"]),
    "cut": ([6], "state/optimizer.safetensors", cut, ["step-00000006/state/optimizer", "truncated", "step 4"]),
    "half deleted": ([6], "policy/config.json", pathlib.Path.unlink, ["00006/policy/config.json", "missing", "step 4"]),
    "torn manifest": ([6], "manifest.json", cut, ["step-00000006/manifest.json", "step 4"]),
    "no manifest": ([6], "manifest.json", pathlib.Path.unlink, ["step 6", "never finished"]),
    "two": ([6, 4], "policy/model.safetensors", flip, ["step-00000006", "step-00000004", "step 3"]),
    "all": ([6, 4, 3, 2], "state/counters.json", flip, ["step-00000002", "from the beginning"]),
}


@pytest.fixture(scope="module")
def kept(toy):
    toy.run(*TRAIN, *settings("run.dir=kept", "checkpoint.keep=all"))
    return toy.folder / "kept"


def unfinished(fresh, kept):
    """The same run as if it had been killed after its last checkpoint."""
    run = fresh.folder / "run"
    shutil.copytree(kept, run)
    (run / "finished").unlink()
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("dir: kept", "dir: run"))
    return run


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(fresh, kept, name):
    """Also with room for two: the damaged ones push no sound one out, and are made again when their step comes."""
    steps, part, damage, words = DAMAGES[name]
    run = unfinished(fresh, kept)
    for step in steps:
        damage(run / f"checkpoints/step-{step:08}" / part)
    done = fresh.run("train", "-c", "toy.yaml", *settings("checkpoint.keep=last 2", "cluster.comm_checks=false"))
    assert all(word in done.stderr for word in words), done.stderr
    assert_same_end(run, kept)
    assert len((run / "attempts.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("part", ["manifest.json", "policy/model.safetensors"])
def test_a_checkpoint_that_the_disk_does_not_give_back_is_kept(fresh, kept, part):
    """It may be sound: nothing is done from an older one, and the run goes on from it when it can be read again."""
    run = unfinished(fresh, kept)
    before = snapshot(run / "checkpoints")
    done = fresh.run(*TRAIN, expect=74, under=[
        "env", f"LD_PRELOAD={SUPPORT}/libfailing_reads.so", f"FAILING_READS=step-00000006/{part}"])
    assert f"step-00000006/{part}" in done.stderr and "Input/output error" in done.stderr, done.stderr
    assert snapshot(run / "checkpoints") == before and not (run / "finished").exists()
    assert "resuming at step 6 of 6" in fresh.run("train", "-c", "toy.yaml").stderr
    assert_same_end(run, kept)


def test_resumed_with_other_threads(fresh, kept):
    """Sums of another order: it is said that the bits may differ."""
    unfinished(fresh, kept)
    assert "threads_per_rank was '1'" in fresh.run(*TRAIN, *settings("cluster.threads=2")).stderr


# Another number of ranks.

TWO_LEARNERS = ["cluster.roles={rollout: 1, scorer: 1, learner: 2}"]


def weights(run, step):
    from safetensors.numpy import load_file
    return load_file(run / f"checkpoints/step-{step:08}/policy/model.safetensors")


@pytest.mark.parametrize("before, after, more", [(1, 4, TWO_LEARNERS), (4, 1, []), (2, 4, TWO_LEARNERS),
                                                 (1, 2, ["cluster.roles=all"])])
def test_resumed_on_another_number_of_ranks(fresh, before, after, more):
    """It is said, and the first update is the same but for the order of sums."""
    every = settings("checkpoint.every=1", "checkpoint.keep=all", "train.warm_start=0", "eval.every=0", "ppo.epochs=1",
                     "optimizer.schedule=constant")
    roles = TWO_LEARNERS if before == 4 else []
    run, other = fresh.folder / "run", fresh.folder / "other"
    process = fresh.start(*TRAIN, *every, *settings(*roles), ranks=before, environment=SLOWLY)
    wait_until(lambda: lines(run) >= 3, process)
    process.send_signal(signal.SIGUSR1)
    code, text = ended(process)
    assert code == 75, text
    step = int(final(run).name.partition("-")[2])
    assert step < STEPS
    shutil.copytree(run, other)
    (other / "config.yaml").write_text((other / "config.yaml").read_text().replace("dir: run", "dir: other"))
    fresh.run(*TRAIN, *every, *settings(*roles), ranks=before)
    done = fresh.run(*TRAIN, *every, *settings(*more, "run.dir=other"), ranks=after)
    assert f"written by {before} ranks, there are {after} now" in done.stderr, done.stderr
    assert "written by" in (other / "log").read_text()
    start, same, changed = weights(run, step), weights(run, step + 1), weights(other, step + 1)
    size = np.sqrt(sum(float((w.astype(float) ** 2).sum()) for w in same.values()))
    apart = np.sqrt(sum(float(((same[k].astype(float) - changed[k]) ** 2).sum()) for k in same))
    moved = np.sqrt(sum(float(((same[k].astype(float) - start[k]) ** 2).sum()) for k in same))
    assert moved / size > 1e-4, "the update is no rounding error itself"
    assert apart / size < 1e-5, f"{apart / size:.1e} of the weights, {apart / moved:.1e} of the update"
    mine, others = metrics(run)[step], metrics(other)[step]
    for name in ("kl", "reward", "loss", "grad_norm"):
        if name in mine:
            assert others[name] == pytest.approx(mine[name], rel=1e-4, abs=1e-6), name
    assert len(metrics(other)) == STEPS and (other / "finished").exists()


# Nothing outside.

STRACE = shutil.which("strace")
CALLS = ("open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlink,"
         "symlinkat,truncate,chmod,fchmodat,mknod,mknodat")
CALL = re.compile(r"^(\w+)\((.*)\)\s+= (-?\d+)")
WRITES = re.compile(r"O_(WRONLY|RDWR|CREAT|TRUNC|APPEND)")
PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')  # with the folder that it is relative to
SHORT = settings("train.warm_start=0", "train.steps=2", "eval.every=0", "eval.samples=2", "checkpoint.every=0")
NGRAM = settings("reward.kind=ngram", "reward.command=[]", "reward.path=made", "reward.train.labels=labels.jsonl")
GRID = """
config: toy.yaml
dir: study
set: {train.warm_start: 0, train.steps: 2, eval.every: 0, eval.samples: 2, checkpoint.every: 0}
runs: [{product: {vbon.N: [2, 4]}}]
"""
# A reward that dies in the middle of a step.
MORTAL = """
import sys
for count, line in enumerate(sys.stdin):
    if count == 40: sys.exit(3)
    print('{"reward": 1}', flush=True)
"""
DYING = f"reward.command=[{sys.executable}, mortal.py]"
# Exit code, ranks, command, and what the names of its outputs begin with.
COMMANDS = [
    (0, 1, ["pool", *settings("pool.path=new.h5", "pool.eval_path=new-eval.h5")], ["new.h5", "new-eval.h5"]),
    (0, 2, ["pool", *settings("pool.path=two.h5"), "--split", "train"], ["two.h5"]),
    (0, 1, ["amortise", *settings("amortised.path=head", "amortised.updates=20")], ["head"]),
    (0, 1, ["train", *settings("run.dir=one")], ["one"]),
    (0, 3, ["train", *settings("run.dir=three")], ["three"]),
    (2, 1, ["train", *settings("run.dir=failed", DYING)], ["failed"]),
    (2, 3, ["train", *settings("run.dir=three-failed", DYING)], ["three-failed"]),
    (0, 1, ["eval", *settings("run.dir=one")], ["one"]),
    (0, 2, ["eval", *settings("run.dir=three")], ["three"]),
    (0, 1, ["run", *SHORT, *settings("run.dir=whole", "pool.path=its.h5", "pool.eval_path=its-eval.h5")],
     ["whole", "its.h5", "its-eval.h5"]),
    (0, 1, ["sft", *settings("model.base=reference", "model.reference=tuned", "sft.text=texts.jsonl", "sft.max_texts=4")],
     ["tuned"]),
    (0, 1, ["reward", "--section", "reward", *NGRAM], ["made"]),
    (0, 1, ["score", "--texts", "texts.jsonl", "-o", "scores.jsonl"], ["scores.jsonl"]),
    (0, 1, ["sample", "-m", "reference", "--prompt", "the film", "-n", "2", "--best-of", "2", "--seed", "1"], []),
    (0, 1, ["sweep", "grid.yaml"], ["study"]),
    (0, 1, ["plan", "--ranks", "3"], []),
    (0, 1, ["doctor"], ["vbon-doctor-"]),  # it tries how folders take a file
]


def touched(trace: pathlib.Path, folder: pathlib.Path):
    """Paths that a traced process made, opened for writing, changed or removed."""
    for line in trace.read_text(errors="replace").splitlines():
        match = CALL.match(line)
        if not match or int(match[3]) < 0 or (match[1].startswith("open") and not WRITES.search(match[2])):
            continue
        paths = PATH.findall(match[2])
        for base, text in paths[-1:] if match[1].startswith("symlink") else paths:
            yield pathlib.Path(os.path.normpath(os.path.join(base or folder, text)))


@MORE
def test_nothing_is_written_but_what_the_configuration_names(fresh, tmp_path):
    """Seen in the folders where programs like to leave things, and, where strace may look, in every call. MPI's own
    files, below TMPDIR and /dev/shm, are gone when the command ends, also in an error."""
    (fresh.folder / "texts.jsonl").write_text('{"text": "a film"}\n' * 20)
    (fresh.folder / "labels.jsonl").write_text('{"text": "a good film", "label": 1}\n{"text": "bad", "label": 0}\n' * 4)
    (fresh.folder / "grid.yaml").write_text(GRID)
    (fresh.folder / "mortal.py").write_text(MORTAL)
    home, temporary, traces = (tmp_path / name for name in ("h", "t", "traces"))
    for folder in (home, temporary, traces):
        folder.mkdir()
    can_trace = STRACE and subprocess.run([STRACE, "-qq", "-o", "/dev/null", "true"], capture_output=True).returncode == 0
    passing = (f"{temporary}/vbon-mpi-", f"{temporary}/ompi.", f"{temporary}/.vbon-doctor-", "/dev/shm/")
    seen = 0
    for number, (code, ranks, arguments, outputs) in enumerate(COMMANDS):
        def is_output(path, outputs=outputs):
            if fresh.folder not in path.parents:
                return False
            name = path.relative_to(fresh.folder).parts[0].lstrip(".")  # a temporary begins with a dot
            return any(name.startswith(output) for output in outputs)

        config = [] if arguments[0] == "sweep" else ["-c", "toy.yaml"]  # its grid names the configuration
        line = fresh.command(arguments[0], *config, *arguments[1:], ranks=ranks)
        if can_trace:
            line = [STRACE, *"-f -ff --seccomp-bpf -qq -y -s 4096 -e".split(), f"trace={CALLS}", "-o", traces / f"{number}", *line]
        before = snapshot(fresh.folder)
        done = subprocess.run(line, cwd=fresh.folder, capture_output=True, text=True, timeout=180,
                              env=fresh.environment({"HOME": str(home), "TMPDIR": str(temporary)}))
        assert done.returncode == code, f"{arguments}: {done.stderr}"
        after = snapshot(fresh.folder)
        changed = {name for name in after | before if after.get(name) != before.get(name)}
        assert all(is_output(fresh.folder / name) for name in changed), f"{arguments} wrote {changed}"
        assert not list(home.rglob("*")) and not list(temporary.rglob("*")), f"{arguments} leaves something"
        for trace in traces.glob(f"{number}.*"):
            for path in touched(trace, fresh.folder):
                assert is_output(path) or str(path).startswith((*passing, "/dev/", "/proc/", "/sys/")), f"{arguments}: {path}"
                seen += is_output(path)
    if not can_trace:
        pytest.skip("the folders are clean; that nothing else was written needs strace")
    assert seen > 100, "the traces show what is written"
