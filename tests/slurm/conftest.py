"""One Slurm for all tests here; the toys of the end-to-end tests are jobs on it. Needs VBON_BUILD (ctest gives it)."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))
from cluster import Cluster  # noqa: E402


def load_toys():
    """tests/e2e/conftest.py, under a name that is not this file's."""
    spec = importlib.util.spec_from_file_location("toys", ROOT / "tests" / "e2e" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["toys"] = module
    spec.loader.exec_module(module)
    return module


toys = load_toys()
inputs = toys.inputs


def pytest_collection_modifyitems(items):
    if toys.BUILD is None:
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="runs under ctest (label slurm), which names the build"))


@pytest.fixture(scope="session")
def slurm():
    shared_memory = set(os.listdir("/dev/shm"))
    with Cluster(nodes=4) as cluster:
        yield cluster
    assert not cluster.processes_left() and not cluster.root.exists()
    if "VBON_ISOLATED" in os.environ:  # else others may have put something there
        assert set(os.listdir("/dev/shm")) <= shared_memory


class Work(toys.Vbon):
    """A user's folder on the cluster."""

    def __init__(self, folder, slurm):
        super().__init__(folder)
        self.slurm = slurm
        self.cluster_env = folder / "cluster.env"
        self.cluster_env.write_text("logs=logs\n")

    def environment(self, more=None):
        return super().environment(
            {**self.slurm.environment, "VBON": str(self.binary), "VBON_CLUSTER": str(self.cluster_env), **(more or {})}
        )

    def submit(self, *words, expect=0, environment=None):
        """Number of the last job; or with `expect` what was said."""
        done = subprocess.run(
            [ROOT / "jobs" / "submit.sh", *map(str, words)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env=self.environment(environment),
            timeout=60,
        )
        assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stderr if expect else done.stdout.split()[-1]

    def job(self, number):
        """What scontrol says of a job; of an array, of its last task."""
        lines = self.slurm.ask("scontrol", "--oneliner", "show", "job", number).splitlines()
        return dict(word.split("=", 1) for word in lines[-1].split() if "=" in word) if lines else {}

    def logs(self):
        return "".join(
            f"--- {path.name}\n{path.read_text()}\n" for path in sorted((self.folder / "logs").glob("*.log"))
        )

    def log(self, number):
        found = list((self.folder / "logs").glob(f"*-{number}.log"))
        return found[0].read_text() if found else ""

    def wait(self, condition, what, seconds=240):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"no {what} within {seconds} s\n{self.slurm.ask('squeue')}{self.logs()}"
            time.sleep(0.1)

    def ended(self, number, state="COMPLETED", seconds=400):
        """Waits for the job's end; returns its record."""
        over = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL"}
        self.wait(lambda: self.job(number).get("JobState") in over, f"end of job {number}", seconds)
        job = self.job(number)
        assert job["JobState"] == state, f"{job}\n{self.logs()}"
        return job

    def steps(self, run="run"):
        path = self.folder / run / "metrics.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def weights(self, run="run"):
        return toys.sha256(
            sorted((self.folder / run / "checkpoints").glob("step-*"))[-1] / "policy" / "model.safetensors"
        )


@pytest.fixture
def work(inputs, slurm, tmp_path):
    return Work(pathlib.Path(shutil.copytree(inputs, tmp_path / "work")), slurm)


@pytest.fixture(scope="session")
def whole(inputs, tmp_path_factory):
    """Weights and metrics of runs that nothing stopped, by their number of steps, made by one process without Slurm."""
    folder = tmp_path_factory.mktemp("whole")
    made = {}

    def run(steps=6):
        if steps not in made:
            vbon = toys.Vbon(pathlib.Path(shutil.copytree(inputs, folder / str(steps))))
            vbon.run("train", "-c", "toy.yaml", "--quiet", "-s", f"train.steps={steps}")
            last = vbon.folder / f"run/checkpoints/step-{steps:08}/policy/model.safetensors"
            made[steps] = toys.sha256(last), toys.metrics_without_time(vbon.folder / "run/metrics.jsonl")
        return made[steps]

    return run
