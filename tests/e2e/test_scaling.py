"""Measuring what ranks are worth: runs of a grid on numbers of ranks of their own, the model that analysis fits and `vbon
plan` uses, and what a step costs a file system and a terminal however many ranks there are."""
import collections
import ctypes
import json
import os
import struct
import subprocess
import sys

import pytest

from conftest import ROOT, metrics, metrics_without_time, settings, wait_until

sys.path.insert(0, str(ROOT))
from analysis.scaling_model import Model, Step

GRID = """
config: toy.yaml
dir: study
set: {train.warm_start: 0, train.steps: 4, eval.every: 0, checkpoint.every: 0, pool.eval_path: "", cluster.roles: all}
runs:
  - name: strong
    product: {ranks: [1, 2], train.minibatches: [1, 2]}
  - name: split
    set: {ranks: 3, cluster.roles: "{rollout: 1, scorer: 1, learner: 1}"}
"""
ROLES = {1: "all", 2: "all", 4: "{rollout: 1, scorer: 1, learner: 2}"}


@pytest.fixture(scope="module")
def measured(toy):
    """jobs/scaling.sh on a grid, as a user calls it."""
    (toy.folder / "grid.yaml").write_text(GRID)
    done = subprocess.run([ROOT / "jobs" / "scaling.sh", "-o", "figures", "grid.yaml"], cwd=toy.folder, text=True,
                          env=toy.environment({"VBON": str(toy.binary)}), capture_output=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    toy.said = done.stdout
    return toy


def sweep_runs(vbon):
    return json.loads((vbon.folder / "study" / "sweep.json").read_text())["runs"]


def test_each_run_has_its_ranks(measured):
    found = sweep_runs(measured)
    assert [run["ranks"] for run in found] == [1, 1, 2, 2, 3]
    for run in found:
        assert f"ranks{run['ranks']}" in run["name"] and "ranks" not in run["overrides"]
        rows = metrics(measured.folder / "study" / run["dir"])
        assert len(rows) == 4 and all(len(row["time"]["total"]) == run["ranks"] for row in rows)
    assert len({run["dir"] for run in found}) == 5
    listed = measured.run("sweep", "grid.yaml", "--dry-run").stdout
    assert "5 done" in listed and [line.split()[2] for line in listed.splitlines() if "split-" in line] == ["3"]
    # More ranks of one learner draw and learn the same.
    a, b = (measured.folder / "study" / run["dir"] / "metrics.jsonl" for run in (found[0], found[4]))
    assert metrics_without_time(a) == metrics_without_time(b)


def test_ranks_are_no_reason_to_run_it_twice(measured):
    (measured.folder / "twice.yaml").write_text(GRID.replace("ranks: [1, 2]", "ranks: [2, 2]"))
    measured.refused("sweep", "twice.yaml", "--dry-run", words=["the same run"])


def test_figures_are_there(measured):
    names = {path.name for path in (measured.folder / "figures").iterdir()}
    assert {"scaling.md", "scaling-roles.md", "scaling-model.md", "scaling-prediction.md", "scaling.json", "scaling.png",
            "scaling-time.png"} <= names
    assert "beyond" in (measured.folder / "figures" / "scaling-prediction.md").read_text()


@pytest.mark.parametrize("ranks, minibatches, prompts", [(1, 1, 4), (2, 2, 8), (4, 1, 8), (1024, 2, 1024)])
def test_the_plan_and_the_analysis_predict_the_same(measured, ranks, minibatches, prompts):
    # By known terms, each of which counts, and by those that the runs gave.
    fitted = json.loads((measured.folder / "figures" / "scaling.json").read_text())
    known = fitted | {"terms": {"fixed": 0.31, "compute": 0.017, "update": 0.011, "latency": 0.023, "bytes": 3e-7}}
    (measured.folder / "known.json").write_text(json.dumps(known))
    with open(measured.folder / "many.jsonl", "w") as file:
        file.writelines(json.dumps({"id": i, "prompt": f"number {i}"}) + "\n" for i in range(1024))
    for model, path in ((fitted, "figures/scaling.json"), (known, "known.json")):
        done = measured.run("plan", "-c", "toy.yaml", "--json", "--ranks", ranks, "--model", path, "-s", "cluster.roles=all",
                            "-s", "train.warm_start=0", "-s", f"train.minibatches={minibatches}", "-s",
                            "prompts.train=many.jsonl", "-s", f"train.prompts_per_step={prompts}")
        plan = json.loads(done.stdout)
        said = plan["time"]["model"]
        gradient = 4 * (plan["memory"]["trained"] + plan["memory"]["critic"])
        step = Step(ranks, 4 * prompts, 2 * minibatches, gradient)
        assert said["step_seconds"] == pytest.approx(Model(model["terms"], []).seconds(step), rel=1e-12)
        assert said["beyond"] == (ranks > 2) and said["measured_ranks"] == 2
        assert sum(said["parts"].values()) == pytest.approx(said["step_seconds"], rel=1e-12)
        # What analysis takes for the gradient, from a checkpoint, is what the plan counts.
        assert model["gradient_bytes"] == pytest.approx(gradient, rel=0.02)
        assert not [note for note in plan["notes"] if "the model of a step was measured" in note]


class Watch:
    """What happens in a folder, by inotify: files made, opened to be read, renamed, removed, by whoever does it."""

    OPEN, MOVED_TO, CREATE, DELETE, FOLDER = 0x20, 0x80, 0x100, 0x200, 0x40000000

    def __init__(self, folder):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_NONBLOCK)
        mask = self.OPEN | self.MOVED_TO | self.CREATE | self.DELETE
        if self.fd < 0 or self.libc.inotify_add_watch(self.fd, str(folder).encode(), mask) < 0:
            raise OSError(ctypes.get_errno(), "inotify")

    def counts(self, of):
        """Of files whose names hold `of`."""
        found = collections.Counter()
        while True:
            try:
                data = os.read(self.fd, 1 << 20)
            except BlockingIOError:
                os.close(self.fd)
                return found
            at = 0
            while at < len(data):
                _, mask, _, size = struct.unpack_from("iIII", data, at)
                name = data[at + 16:at + 16 + size].rstrip(b"\0").decode()
                at += 16 + size
                assert not mask & 0x4000, "events were lost"
                if mask & self.FOLDER or of not in name:
                    continue
                for flag, what in ((self.OPEN, "open"), (self.MOVED_TO, "rename"), (self.CREATE, "make"), (self.DELETE, "remove")):
                    if mask & flag and not (what == "open" and name.startswith(".")):
                        found[what] += 1


def test_files_of_a_step_do_not_grow_with_the_ranks(toy):
    found = {}
    for ranks in ROLES:
        run = toy.folder / f"operations-{ranks}"
        words = settings(f"run.dir={run.name}", f"cluster.roles={ROLES[ranks]}", "train.warm_start=0", "train.steps=3",
                         "eval.every=0", "checkpoint.every=0", "rollouts.keep=last 1")
        plan = json.loads(toy.run("plan", "-c", "toy.yaml", "--json", "--ranks", ranks, *words).stdout)
        # A reward that takes its time: the watch begins before the second step, whose files it follows to their end.
        process = toy.start("train", "-c", "toy.yaml", *words, ranks=ranks, environment={"TOY_REWARD_SLEEP": "0.05"})
        wait_until((run / "rollouts").exists, process)
        watch = Watch(run / "rollouts")
        assert not list((run / "rollouts").glob("*step-00000001*")), "the watch began too late"
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        found[ranks] = watch.counts("step-00000001")
        assert [path.name for path in (run / "rollouts").iterdir()] == ["step-00000002.h5"], "finished steps are merged"
        step = plan["files"]["step"]
        made = step["chunk_files"] + 1
        assert step["chunk_files"] == 2 * 4, "four prompts, each a chunk, sampled and scored"
        # A reader opens a file for its checksum and for its contents; two events of a kind in a row are told as one.
        opened = found[ranks].pop("open")
        assert step["chunk_files"] <= opened <= 2 * step["chunk_files"], ranks
        assert found[ranks] == {"make": made, "rename": made, "remove": made}, ranks
        assert sum(found[ranks].values()) + step["chunk_files"] == step["operations"]  # an opening of each
    assert found[1] == found[2] == found[4]


def test_of_four_ranks_one_speaks(toy):
    words = ["-s", "run.dir=quiet", "-s", f"cluster.roles={ROLES[4]}", "-s", "train.steps=4"]
    done = toy.run("train", "-c", "toy.yaml", *words, ranks=4)
    assert "[rank" not in done.stderr and done.stderr.count("is done") <= 1
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    alone = toy.run("train", "-c", "toy.yaml", "-s", "run.dir=alone", "-s", "train.steps=4").stderr
    assert len(lines) <= len([line for line in alone.splitlines() if line.strip()]) + 3, done.stderr
    assert not (toy.folder / "quiet" / "logs").exists()


def test_ranks_write_files_of_their_own_where_they_are_told_to(toy):
    words = ["-s", "run.dir=files", "-s", f"cluster.roles={ROLES[4]}", "-s", "log.rank_files=true"]
    toy.run("train", "-c", "toy.yaml", *words, "-s", "train.steps=4", ranks=4)
    logs = sorted((toy.folder / "files" / "logs").iterdir())
    assert [path.name for path in logs] == [f"rank-{rank:05}.log" for rank in range(4)]
    for rank, (path, role) in enumerate(zip(logs, ("rollout", "scorer", "learner", "learner"))):
        assert f"rank {rank} of 4 on " in path.read_text() and path.read_text().splitlines()[0].endswith(f": {role}")


def test_an_error_of_all_ranks_is_told_once(toy):
    """Each of four ranks reads the pool, and finds that it is of another temperature."""
    done = toy.run("train", "-c", "toy.yaml", "-s", "run.dir=never", "-s", "sampling.temperature=0.5", ranks=4, expect=2)
    said = [line for line in done.stderr.splitlines() if "was made with something else" in line]
    assert len(said) == 1 and "[rank 0]" in said[0] and "temperature" in said[0], done.stderr
