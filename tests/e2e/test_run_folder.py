"""Run folders that are finished, foreign, damaged or somebody else's: refused or taken over, and nothing of them lost."""
import json
import os
import shutil
import signal

import pytest

from conftest import kill_all, metrics, settings, sha256, snapshot, wait_until

TRAIN = ["train", "-c", "toy.yaml", "--quiet"]


@pytest.fixture(scope="module")
def short(toy):
    toy.run(*TRAIN, *settings("run.dir=short", "train.steps=1", "train.warm_start=0", "eval.every=0"))
    return settings("run.dir=short", "train.steps=1", "train.warm_start=0", "eval.every=0")


def test_a_finished_run(toy, short):
    toy.refused(*TRAIN, *short, words=["short", "finished"])
    toy.refused(*TRAIN, *short, ranks=2, words=["short", "finished"])
    toy.refused(*TRAIN, *short, "-s", "vbon.N=8", words=["short", "finished"])


@pytest.mark.parametrize("files", [["thesis.tex"], ["metrics.jsonl"], ["checkpoints/step-00000002/policy/model.safetensors"]])
def test_a_foreign_folder(fresh, files):
    for name in files:
        path = fresh.folder / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("years of work")
    fresh.refused(*TRAIN, words=["'run'", "no run of this program"])


def test_a_file_in_place_of_the_run_folder(fresh):
    (fresh.folder / "run").write_text("years of work")
    fresh.refused(*TRAIN, words=["'run'", "no folder"])


@pytest.mark.parametrize("change", ["vbon.N=8", "run.seed=4", "optimizer.learning_rate=2e-3", "train.steps=8", "sampling.slots=8"])
def test_a_run_with_other_settings(fresh, change):
    process = fresh.start(*TRAIN, environment={"TOY_REWARD_SLEEP": "0.006"})
    wait_until(lambda: (fresh.folder / "run/metrics.jsonl").exists() and metrics(fresh.folder / "run"), process)
    kill_all(process)
    fresh.refused(*TRAIN, "-s", change, words=["'run'", "another configuration", change.split("=")[0]])


def test_a_run_that_another_process_works_on(fresh):
    process = fresh.start(*TRAIN, environment={"TOY_REWARD_SLEEP": "0.006"})
    lock = fresh.folder / "run/lock"
    wait_until(lambda: lock.exists() and lock.read_text().endswith("\n"), process)
    os.kill(process.pid, signal.SIGSTOP)
    held = json.loads(lock.read_text())
    assert held["pid"] == process.pid and held["host"] == os.uname().nodename
    for ranks in (1, 2):
        done = fresh.run(*TRAIN, ranks=ranks, expect=2)
        assert "'run' is locked" in done.stderr and str(process.pid) in done.stderr and "run/lock" in done.stderr
    os.kill(process.pid, signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert (fresh.folder / "run/finished").exists() and not lock.exists()
    assert len((fresh.folder / "run/attempts.jsonl").read_text().splitlines()) == 1


def test_an_evaluation_that_another_process_works_on(fresh):
    evaluate = ["eval", "-c", "toy.yaml", "-s", "eval.checkpoint=reference"]
    process = fresh.start(*evaluate, environment={"TOY_REWARD_SLEEP": "0.02"})
    lock = fresh.folder / "run/eval/reference/lock"
    wait_until(lambda: lock.exists() and lock.read_text().endswith("\n"), process)
    os.kill(process.pid, signal.SIGSTOP)
    refusal = fresh.run(*evaluate, expect=2).stderr
    assert "'run/eval/reference' is locked" in refusal and str(process.pid) in refusal
    os.kill(process.pid, signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0 and not lock.exists(), err


def test_a_lock_left_behind_is_taken_over(fresh):
    process = fresh.start(*TRAIN, environment={"TOY_REWARD_SLEEP": "0.006"})
    wait_until(lambda: (fresh.folder / "run/metrics.jsonl").exists() and metrics(fresh.folder / "run"), process)
    kill_all(process)
    assert (fresh.folder / "run/lock").exists()
    done = fresh.run("train", "-c", "toy.yaml")
    assert "taking over the lock" in done.stderr and str(process.pid) in done.stderr
    assert (fresh.folder / "run/finished").exists() and not (fresh.folder / "run/lock").exists()


def test_unknown_files_in_a_run_folder_stay(fresh):
    process = fresh.start(*TRAIN, environment={"TOY_REWARD_SLEEP": "0.006"})
    wait_until(lambda: (fresh.folder / "run/metrics.jsonl").exists() and metrics(fresh.folder / "run"), process)
    kill_all(process)
    notes = [fresh.folder / "run" / name for name in ("notes.txt", "rollouts/mine.h5", "checkpoints/mine/model.safetensors",
                                                      "rollouts/step-00000000.chunk-00000.mine.h5", "checkpoints/step-1/a")]
    for path in notes:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    before = {path: sha256(path) for path in notes}
    done = fresh.run("train", "-c", "toy.yaml", *settings("checkpoint.keep=last 1"))
    assert "notes.txt" in done.stderr
    assert {path: sha256(path) for path in notes} == before
    assert snapshot(fresh.folder / "run")["finished"]


def test_evaluating_a_damaged_checkpoint(toy, short):
    shutil.copytree(toy.folder / "short", toy.folder / "damaged")
    weights = toy.folder / "damaged/checkpoints/step-00000001/policy/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    toy.refused("eval", "-c", "toy.yaml", *settings("run.dir=damaged"), words=["model.safetensors", "no valid checkpoint"])
    toy.refused("eval", "-c", "toy.yaml", *settings("run.dir=damaged", f"eval.checkpoint={weights.parent.parent}"),
                words=["model.safetensors", "manifest"])
