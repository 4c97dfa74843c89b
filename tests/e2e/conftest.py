"""The binary on toy models: what a user runs, checked from outside. Needs VBON_BUILD (ctest gives it)."""
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import types

import h5py
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = os.environ.get("VBON_BUILD")

# TOY_REWARD_SLEEP: seconds an answer takes, where a test has to act before the run is over.
REWARD = """
import json, os, sys, time
sleep = float(os.environ.get("TOY_REWARD_SLEEP", 0))
for line in sys.stdin:
    time.sleep(sleep)
    text = json.loads(line)["response"]
    print(json.dumps({"reward": (text.count("e") + 0.5 * text.count("a") - 0.1 * len(text)) / 10}), flush=True)
"""

CONFIG = """
run: {dir: run, seed: 3}
model: {reference: reference, start_token: 0}
reward: {kind: exec, command: [PYTHON, reward.py], id: v1}
prompts: {train: train.jsonl, eval: eval.jsonl}
sampling: {temperature: 1.0, max_new_tokens: 8, slots: 16}
pool: {path: pool.h5, eval_path: pool-eval.h5, samples: 32}
train: {method: vbon, layers: last 2, steps: 6, prompts_per_step: 4, samples_per_prompt: 4, warm_start: 2, chunk_prompts: 1}
vbon: {N: 4}
ppo: {baseline: rloo, kl_form: exact, epochs: 2}
optimizer: {learning_rate: 1e-3}
eval: {every: 3, samples: 8, bon_n: [2, 4]}
checkpoint: {every: 2}
cluster: {threads: 1, comm_checks: true}
"""

TRAIN = ["the film is", "a movie that", "this is a", "it has been", "one of the", "an actor who", "what a story", "in the end"]
HELD_OUT = ["some people", "we know that", "the best part", "never mind"]

# Attributes and datasets that say when, where and by which attempt a file was made, and not what is in it.
CIRCUMSTANCE = {"created_utc", "seconds", "attempt", "run_id", "config"}


MORE = pytest.mark.more  # what .ci/run alone has time for: `jobs/test.sh more`


def some(cases, every=3):
    """One case of so many for jobs/test.sh, the others for .ci/run."""
    return [case if place % every == 0 else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=MORE)
            for place, case in enumerate(cases)]


def settings(*texts):
    """The command line's words for "section.key=value" texts."""
    return [word for text in texts for word in ("-s", text)]


def pytest_collection_modifyitems(items):
    if BUILD is None:
        for item in items:
            if "e2e" in str(item.fspath):
                item.add_marker(pytest.mark.skip(reason="runs under ctest (label e2e), which names the build"))


def sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def metrics(run: pathlib.Path):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def metrics_without_time(path: pathlib.Path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row.pop("time")
    return rows


def h5_contents(path: pathlib.Path):
    """Every dataset and attribute but the circumstances."""
    found = {}

    def add(name, node):
        found.update({f"{name}@{key}": value for key, value in node.attrs.items() if key not in CIRCUMSTANCE})
        if isinstance(node, h5py.Dataset) and name not in CIRCUMSTANCE:
            found[name] = node[()]

    with h5py.File(path) as file:
        add("", file)
        file.visititems(add)
    return found


def assert_same_contents(a: pathlib.Path, b: pathlib.Path):
    mine, other = h5_contents(a), h5_contents(b)
    assert mine.keys() == other.keys() and len(mine) > 10
    for name in mine:
        np.testing.assert_array_equal(mine[name], other[name], err_msg=name)


def snapshot(folder: pathlib.Path):
    """What is in a folder and has not been written, replaced or removed since if another snapshot is the same."""
    found = {}
    for path in folder.rglob("*"):
        info = path.lstat()
        found[str(path.relative_to(folder))] = None if path.is_dir() else (info.st_ino, info.st_mtime_ns, info.st_size)
    return found


def wait_until(condition, process, seconds=60):
    """Waits for a condition while a process works towards it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended with exit {process.returncode} first:\n{process.communicate()[1]}"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def ranks_of(process):
    """Process ids of a command's own processes: the ranks, and what started them."""
    parents, names = {}, {}
    for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            before, _, after = entry.read_text().rpartition(")")
        except OSError:
            continue
        pid, _, name = before.partition(" (")
        names[int(pid)], parents[int(pid)] = name, int(after.split()[1])
    found = [process.pid]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid and names[child] == "vbon"]
    return found


def is_running(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill_all(process):
    """kill -9 of every rank at one moment; returns when all are gone."""
    pids = ranks_of(process)
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            assert pid != process.pid
    process.communicate()
    deadline = time.monotonic() + 30
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, "a killed rank lives on"
        time.sleep(0.005)


class Vbon:
    """Runs commands in a folder, on one thread, and remembers nothing."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.binary = pathlib.Path(BUILD) / "bin" / "vbon"

    def environment(self, more=None):
        return dict(os.environ, OMP_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1", **(more or {}))

    def command(self, *arguments, ranks=1, under=()):
        """`under`: a program (with its arguments) that every rank is started by."""
        line = [*under, str(self.binary), *map(str, arguments)]
        return line if ranks == 1 else [str(ROOT / "jobs" / "mpirun.sh"), "-n", str(ranks), *line]

    def start(self, *arguments, ranks=1, under=(), environment=None, **options):
        return subprocess.Popen(self.command(*arguments, ranks=ranks, under=under), cwd=self.folder, env=self.environment(environment),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options)

    def run(self, *arguments, ranks=1, under=(), expect=0, timeout=120, environment=None, **options):
        done = subprocess.run(self.command(*arguments, ranks=ranks, under=under), cwd=self.folder,
                              env=self.environment(environment), capture_output=True, text=True, timeout=timeout, **options)
        assert done.returncode == expect, f"exit {done.returncode}, not {expect}\n{done.stdout}\n{done.stderr}"
        return done

    def refused(self, *arguments, words, ranks=1, expect=2, **options):
        """A command that must end with an error that holds these words, within seconds and without touching a file."""
        before, start = snapshot(self.folder), time.monotonic()
        done = self.run(*arguments, ranks=ranks, expect=expect, **options)
        assert time.monotonic() - start < 20
        for word in words:
            assert word in done.stderr, f"'{word}' is missing in: {done.stderr}"
        assert "internal error" not in done.stderr
        assert snapshot(self.folder) == before, "a refused command leaves everything as it was"
        return done


def write_jsonl(path: pathlib.Path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def make_model(folder: pathlib.Path, kind="llama", seed=1, tokenizer="smollm2"):
    program = pathlib.Path(BUILD) / "tests" / "support" / "make_toy"
    subprocess.run([program, folder, ROOT / "tests" / "golden" / "text" / tokenizer, str(seed), "0.1", kind], check=True)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """A folder with a random reference, prompts, an exec reward, and pools; nobody writes to it."""
    folder = tmp_path_factory.mktemp("inputs")
    make_model(folder / "reference")
    (folder / "reward.py").write_text(REWARD)
    for name, texts in (("train", TRAIN), ("eval", HELD_OUT)):
        write_jsonl(folder / f"{name}.jsonl", [{"id": i, "prompt": text} for i, text in enumerate(texts)])
    (folder / "toy.yaml").write_text(CONFIG.replace("PYTHON", sys.executable))
    Vbon(folder).run("pool", "-c", "toy.yaml", "--quiet")
    return folder


@pytest.fixture(scope="module")
def toy(inputs, tmp_path_factory):
    """The inputs in a folder that the tests of a file share."""
    return Vbon(pathlib.Path(shutil.copytree(inputs, tmp_path_factory.mktemp("toy") / "toy")))


@pytest.fixture(scope="module")
def hf():
    """transformers with torch, as a peer; skipped where Python cannot import them."""
    try:
        import torch
        import transformers
    except (ImportError, OSError) as error:  # torch's own libraries may be missing, too
        pytest.skip(f"needs torch and transformers that Python can import: {error}")
    torch.set_num_threads(1)
    return types.SimpleNamespace(torch=torch, transformers=transformers)


@pytest.fixture
def fresh(inputs, tmp_path):
    """The inputs in a folder of the test's own."""
    return Vbon(pathlib.Path(shutil.copytree(inputs, tmp_path / "fresh")))
