"""What tests of faults share: which process is which rank, who is still there, and whether two runs ended the same."""
import json
import os
import pathlib
import time

import numpy as np

from conftest import assert_same_contents, is_running, metrics_without_time, ranks_of, sha256, wait_until
from training import final, rollouts

# The reward takes its time, so that a run lasts long enough to be met in the middle.
SLOWLY = {"TOY_REWARD_SLEEP": "0.006"}


def lines(run: pathlib.Path) -> int:
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def ranks_by_number(process):
    """Process id of each rank that runs now; a process without a launcher is rank 0."""
    found = {}
    for pid in ranks_of(process):
        try:
            environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            name = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            continue
        if name == "vbon":
            number = [word.partition(b"=")[2] for word in environment if word.startswith(b"OMPI_COMM_WORLD_RANK=")]
            found[int(number[0]) if number else 0] = pid
    return found


def all_ranks(process, ranks):
    """The same, when all have started."""
    wait_until(lambda: len(ranks_by_number(process)) == ranks, process)
    return ranks_by_number(process)


def processes_in(folder: pathlib.Path):
    """Processes that work in the folder: ranks, launchers, reward programs and those that watch over them."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if entry.joinpath("cwd").readlink() == folder and is_running(int(entry.name)):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def assert_nobody_left(folder: pathlib.Path, seconds=20):
    """Also the reward's program ends with its rank, however that ended."""
    deadline = time.monotonic() + seconds
    while left := processes_in(folder):
        if time.monotonic() > deadline:
            names = {pid: pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ") for pid in left}
            raise AssertionError(f"still there after {seconds} s: {names}")
        time.sleep(0.01)


def send(pids, number):
    """A signal to all at one moment; one may have ended by itself."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def parts_of(run: pathlib.Path):
    """Name and SHA-256 of every part of the final checkpoint, read from the disk."""
    parts = json.loads((final(run) / "manifest.json").read_text())["parts"]
    return {part["name"]: sha256(final(run) / part["name"]) for part in parts}


def assert_same_end(run: pathlib.Path, whole: pathlib.Path):
    """Weights, optimiser and all other state, metrics without times, rollouts and evaluations; and no rests."""
    assert final(run).name == final(whole).name and parts_of(run) == parts_of(whole)
    assert metrics_without_time(run / "metrics.jsonl") == metrics_without_time(whole / "metrics.jsonl")
    names = sorted(path.relative_to(whole) for path in [*whole.glob("rollouts/*"), *whole.glob("eval/*")])
    assert names == sorted(path.relative_to(run) for path in [*run.glob("rollouts/*"), *run.glob("eval/*")])
    for name in names:
        if name.suffix != ".h5":
            assert sha256(run / name) == sha256(whole / name), name
        elif name.parts[0] == "eval":
            assert_same_contents(run / name, whole / name)
        else:
            mine, other = (rollouts(folder, int(name.stem.partition("-")[2])) for folder in (run, whole))
            assert mine.keys() == other.keys()
            for column in mine.keys() - {"attempt"}:
                np.testing.assert_array_equal(mine[column], other[column], err_msg=f"{name} {column}")
    rests = [path for path in run.rglob("*") if path.name.endswith(".tmp") or ".chunk-" in path.name]
    assert not rests and (run / "finished").exists() and not (run / "lock").exists()
