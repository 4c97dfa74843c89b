"""A user's reward program that misbehaves: the run ends in seconds, says whose fault it is, and leaves no process."""
import os
import pathlib
import sys
import time

import pytest

from conftest import is_running, metrics, sha256, snapshot, wait_until, write_jsonl

# What the program does with an answer; `count` is the number of requests so far, `reward` the right answer.
PROGRAM = """
import json, os, sys, time
def say(text):
    sys.stdout.write(text)
    sys.stdout.flush()
print("loading", file=sys.stderr)
open("program.pid", "w").write(str(os.getpid()))
BEFORE
for count, line in enumerate(sys.stdin, 1):
    request = json.loads(line)
    reward = len(request["response"]) / 10
    if count >= FROM:
        DO
    else:
        say(json.dumps({"reward": reward}) + "\\n")
"""

POOL = ["pool", "-c", "toy.yaml", "--quiet", "--split", "train", "-s", "pool.path=new.h5"]


def program(vbon, do, start=1, before=""):
    """Writes a program that behaves until a request and then does something else; the settings that name it."""
    (vbon.folder / "mine.py").write_text(PROGRAM.replace("BEFORE", before).replace("DO", do).replace("FROM", str(start)))
    return ["-s", f"reward.command=[{sys.executable}, mine.py]", "-s", "reward.id=mine"]


def assert_gone(folder: pathlib.Path):
    path = folder / "program.pid"
    if not path.exists():
        return
    pid, deadline = int(path.read_text()), time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline, "the program outlives the run"
        time.sleep(0.02)
    path.unlink()


RIGHT = 'say(json.dumps({"reward": reward}) + "\\n")'
WRONG = [
    ("nan", 'say(json.dumps({"reward": float("nan")}) + "\\n")', ["NaN", "no rewards"]),
    ("infinite", 'say(json.dumps({"reward": float("inf")}) + "\\n")', ["Infinity"]),
    ("too_large", 'say(\'{"reward": 1e300}\\n\')', ["1e300", "finite"]),
    ("text", 'say(\'{"reward": "good"}\\n\')', ["good", "no number"]),
    ("another_key", 'say(\'{"score": 1}\\n\')', ['no "reward"']),
    ("no_object", "say('0.5\\n')", ["0.5", "no JSON object"]),
    ("no_json", "say('good film\\n')", ["good film", "not JSON", "standard error"]),
    ("too_many", RIGHT + "; " + RIGHT, ["more than it is asked"]),
    ("unasked", RIGHT, ["more than it is asked", "hello"]),
    ("dies", "print('my model is broken', file=sys.stderr); sys.exit(3)", ["exit status 3", "my model is broken"]),
    ("dies_at_once", RIGHT, ["exit status 1", "no_such_module"]),
    ("crashes", "os.kill(os.getpid(), 11)", ["signal 11"]),
    ("closes", "os.close(1); time.sleep(60)", ["closed its standard output"]),
    ("floods", "say('x' * 50_000_000); time.sleep(60)", ["more than", "bytes", "xxx"]),
]


@pytest.mark.parametrize("name, do, words", WRONG, ids=[case[0] for case in WRONG])
def test_wrong_from_the_start(fresh, name, do, words):
    before = {"unasked": "say('hello\\n')", "dies_at_once": "import no_such_module"}.get(name, "")
    folder = snapshot(fresh.folder)
    done = fresh.run(*POOL, *program(fresh, do, before=before), expect=2, timeout=20)
    for word in [sys.executable, *words]:
        assert word in done.stderr, done.stderr
    assert_gone(fresh.folder)
    after = snapshot(fresh.folder)
    assert folder.items() <= after.items(), "nothing of the user's is touched"
    assert not any("chunk-" in path for path in after), "no answer was kept"


def test_a_flood_of_messages_does_no_harm(fresh):
    """Standard error is the program's own: megabytes of it neither block nor enter the error."""
    loud = "print('log ' * 1000, file=sys.stderr); " + RIGHT
    fresh.run(*POOL, *program(fresh, loud), timeout=60)
    assert (fresh.folder / "new.h5").exists()
    assert_gone(fresh.folder)


@pytest.mark.parametrize("ranks", [1, 2])
def test_wrong_after_a_while_keeps_what_is_committed(fresh, ranks):
    """A later chunk's reward is no number: the chunks before it stay, and the mended program goes on from there."""
    done = fresh.run(*POOL, *program(fresh, 'say(\'{"reward": null}\\n\')', start=140 // ranks), expect=2, timeout=40, ranks=ranks)
    assert "no number" in done.stderr and sys.executable in done.stderr
    kept = {path.name: sha256(path) for path in (fresh.folder / "new.h5.parts").glob("chunk-*.h5")}
    assert 3 <= len(kept) < 8
    assert_gone(fresh.folder)
    mended = program(fresh, RIGHT)
    fresh.run(*POOL, *mended, "-s", "pool.keep_parts=true", ranks=ranks)
    for name, hash in kept.items():
        assert sha256(fresh.folder / "new.h5.parts" / name) == hash, "what was committed is not drawn again"
    assert (fresh.folder / "new.h5").exists()


@pytest.mark.parametrize("start, code", [(1, 2), (40, 74)])
def test_a_stall_is_cut_by_timeout_s(fresh, start, code):
    """One that never answered is wrong; one that worked may work again."""
    stall = program(fresh, "time.sleep(300)", start=start)
    begin = time.monotonic()
    done = fresh.run(*POOL, *stall, *"-s reward.timeout_s=0.5 -s reward.startup_s=0.5".split(), expect=code, timeout=20)
    assert time.monotonic() - begin < 10
    assert "did not answer in time" in done.stderr and "reward.timeout_s" in done.stderr and "loading" in done.stderr
    assert_gone(fresh.folder)


def test_one_that_is_killed_after_it_worked_is_worth_another_try(fresh):
    done = fresh.run(*POOL, *program(fresh, "os.kill(os.getpid(), 9)", start=40), expect=74, timeout=20)
    assert "signal 9" in done.stderr
    fresh.run(*POOL, *program(fresh, RIGHT))
    assert (fresh.folder / "new.h5").exists()


@pytest.mark.parametrize("ranks", [1, 3])
def test_training_stops_and_goes_on_when_it_is_mended(fresh, ranks):
    """A reward that turns to NaN in the middle of a run: the last checkpoint stands, and the run can be resumed."""
    named = [*program(fresh, RIGHT), *"-s pool.path=mine.h5 -s pool.eval_path=mine-eval.h5".split()]
    fresh.run("pool", "-c", "toy.yaml", "--quiet", *named)
    train = ["train", "-c", "toy.yaml", "--quiet", *named, *"-s checkpoint.every=1 -s train.steps=10 -s eval.every=0".split()]
    fresh.run(*train, "-s", "run.dir=whole")
    program(fresh, 'say(\'{"reward": NaN}\\n\')', start=70)
    done = fresh.run(*train, expect=2, timeout=60, ranks=ranks)
    assert "NaN" in done.stderr and sys.executable in done.stderr
    assert_gone(fresh.folder)
    run = fresh.folder / "run"
    assert 3 <= len(metrics(run)) < 10 and not (run / "finished").exists()
    program(fresh, RIGHT)
    fresh.run(*train, ranks=ranks)
    part = "checkpoints/step-00000010/policy/model.safetensors"
    assert sha256(run / part) == sha256(fresh.folder / "whole" / part)


def test_it_does_not_outlive_a_killed_run(fresh):
    process = fresh.start(*POOL, *program(fresh, "time.sleep(300)", start=40))
    wait_until(lambda: (fresh.folder / "program.pid").exists() and (fresh.folder / "program.pid").read_text(), process)
    os.kill(process.pid, 9)
    process.communicate()
    assert_gone(fresh.folder)


def test_scores_of_one_pair_are_asked_for_once(fresh):
    """Each distinct (prompt, response) has one score in a run, also from a program that would answer differently."""
    drift = "import random; say(json.dumps({'reward': random.random()}) + chr(10))"
    write_jsonl(fresh.folder / "texts.jsonl", [{"prompt": "a", "response": text} for text in "bcb"])
    out = fresh.run("score", "-c", "toy.yaml", "--texts", "texts.jsonl", *program(fresh, drift)).stdout.splitlines()
    assert out[0] == out[2] and out[0] != out[1]
