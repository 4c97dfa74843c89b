"""vbon sweep: runs of a grid one after the other, shared stages, killed and started again, and as a Slurm script."""
import json
import os
import signal
import subprocess

import pytest

from conftest import MORE, ROOT, TRAIN, assert_same_contents, wait_until, write_jsonl

GRID = """
config: toy.yaml
dir: study
seeds: [1, 2]
set: {train.warm_start: 0, train.steps: 2, eval.every: 0, checkpoint.every: 0, eval.samples: 4, pool.path: p.h5,
      pool.eval_path: e.h5}
runs:
  - name: vbon
    product: {vbon.N: [2, 4]}
  - set: {train.method: dpo}
  - set: {train.method: regression, sampling.temperature: 0.7}
"""


@pytest.fixture()
def grid(fresh):
    (fresh.folder / "grid.yaml").write_text(GRID)
    return fresh


def runs(vbon):
    sweep = json.loads((vbon.folder / "study/sweep.json").read_text())
    assert sweep["format"] == "vbon.sweep" and sweep["schema_version"] == 1
    return sweep["runs"]


def test_every_run_is_there_once_and_shares_its_stages(grid):
    listed = grid.run("sweep", "grid.yaml", "--dry-run").stdout
    assert listed.count("to do") == 9 and "8 runs in study, 0 done" in listed and not (grid.folder / "study").exists()
    assert "node-hours on 1 rank and 1 node" in listed
    grid.run("sweep", "grid.yaml", "--quiet")
    found = runs(grid)
    assert len(found) == 8 and len({run["name"] for run in found}) == 8
    for run in found:
        folder = grid.folder / "study" / run["dir"]
        assert (folder / "finished").exists() and list((folder / "eval").rglob("summary.json")), run["name"]
        assert f"-seed{run['seed']}-" in run["name"] and run["overrides"]["run.seed"] == run["seed"]
    pools = sorted(path.name for path in grid.folder.glob("p*.h5"))
    assert "p.h5" in pools and len([name for name in pools if name.startswith("p-")]) == 1, "one pool a temperature"
    before = {path: path.stat().st_mtime_ns for path in (grid.folder / "study/runs").rglob("*")}
    assert "8 done" in grid.run("sweep", "grid.yaml", "--dry-run").stdout
    faster = grid.run("sweep", "grid.yaml", "--dry-run", "-s", "sft.max_heldout=3", "-s", "cluster.bucket_mib=1")
    assert "8 done" in faster.stdout, "where, how fast and how exactly measured is no part of a name"
    assert "0 done" in grid.run("sweep", "grid.yaml", "--dry-run", "-s", "optimizer.eps=1e-7").stdout
    grid.run("sweep", "grid.yaml", "--quiet")
    assert {path: path.stat().st_mtime_ns for path in (grid.folder / "study/runs").rglob("*")} == before


def test_the_time_of_another_machine(grid):
    """Twice the rates, half the time; launch says how many ranks."""
    (grid.folder / "grid.yaml").write_text(GRID + "launch: [mpirun, -n, 6]\n")

    def seconds(*more):
        done = grid.run("sweep", "grid.yaml", "--dry-run", "-s", "cluster.ranks_per_node=2", *more)
        line = next(line for line in done.stdout.splitlines() if "node-hours" in line)
        assert "6 ranks and 3 nodes" in line
        return done.stdout

    assert seconds("--tflops", "1e-6", "--gbps", "1e-3") != seconds("--tflops", "2e-6", "--gbps", "2e-3")
    grid.refused("sweep", "grid.yaml", "--dry-run", "--tflops", "1", words=["--tflops and --gbps"])
    on_devices = grid.run("sweep", "grid.yaml", "--dry-run", "-s", "cluster.ranks_per_node=2", "-s", "cluster.devices_per_node=2")
    assert "time: not known" in on_devices.stdout and "--tflops" in on_devices.stdout


def test_seeds_share_models_that_were_trained(fresh):
    """Made once with the configuration's seed; `run` alone would not take another seed's for its own."""
    write_jsonl(fresh.folder / "texts.jsonl", [{"text": text} for text in TRAIN])
    write_jsonl(fresh.folder / "labels.jsonl", [{"text": text, "label": i % 2} for i, text in enumerate(TRAIN)])
    (fresh.folder / "grid.yaml").write_text("""
config: toy.yaml
dir: study
seeds: [1, 2]
set: {train.warm_start: 0, train.steps: 2, eval.every: 0, checkpoint.every: 0, eval.samples: 4,
      pool.path: p.h5, pool.eval_path: e.h5, model.base: reference, model.reference: tuned, sft.text: texts.jsonl,
      evaluator.kind: ngram, evaluator.path: made, evaluator.train.labels: labels.jsonl}
runs: [{set: {train.method: vbon}}]
""")
    fresh.run("sweep", "grid.yaml", "--quiet")
    assert all((fresh.folder / "study" / run["dir"] / "finished").exists() for run in runs(fresh))
    made = json.loads((fresh.folder / "tuned/training.json").read_text())
    assert "seed: 3" in made["config"] and len(list(fresh.folder.glob("tuned*"))) == 1
    config = next((fresh.folder / "study/runs").glob("vbon-seed2-*/config.yaml"))
    alone = fresh.run("run", "-c", config, "--quiet", "-s", "run.dir=alone", expect=2)
    assert "'tuned' was made from" in alone.stderr and "seed" in alone.stderr
    fresh.run("run", "-c", config, "--quiet", "--from", "train", "-s", "run.dir=alone")
    assert (fresh.folder / "alone/finished").exists()


@MORE
def test_a_run_that_fails_leaves_the_others_alone(grid):
    (grid.folder / "grid.yaml").write_text(GRID + "  - set: {train.method: bon_sft, vbon.N: 99}\n")
    done = grid.run("sweep", "grid.yaml", expect=1)
    assert "bon_sft" in done.stderr and "failed" in done.stderr and "logs/bon_sft" in done.stderr
    assert sum((grid.folder / "study" / run["dir"] / "finished").exists() for run in runs(grid)) == 8


def test_stopped_it_goes_on(grid):
    process = grid.start("sweep", "grid.yaml", "--quiet", environment={"TOY_REWARD_SLEEP": "0.004"})
    wait_until(lambda: len(list((grid.folder / "study/done").glob("*"))) >= 2 if (grid.folder / "study").exists() else False,
               process)
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=60)
    assert process.returncode == 75
    first = len(list((grid.folder / "study/done").glob("*")))
    assert 2 <= first < 8
    grid.run("sweep", "grid.yaml", "--quiet")
    assert len(list((grid.folder / "study/done").glob("*"))) == 8


def test_one_piece_alone(grid):
    grid.run("sweep", "grid.yaml", "--stage", "0", "--quiet")
    assert (grid.folder / "p.h5").exists() and not list((grid.folder / "study/done").glob("*"))
    grid.run("sweep", "grid.yaml", "--only", "3", "--quiet")
    assert len(list((grid.folder / "study/done").glob("*"))) == 1
    at_once = [grid.start("sweep", "grid.yaml", "--only", "3", "--quiet") for _ in range(24)]  # an array's beginning
    assert [(process.communicate(timeout=60), process.returncode)[1] for process in at_once] == [0] * 24
    assert sorted(path.name for path in (grid.folder / "study").iterdir()) == ["done", "logs", "runs", "sweep.json"]
    grid.refused("sweep", "grid.yaml", "--only", "8", words=["--only 8", "8 of them"])


def test_slurm_script_is_bash_that_submits_in_order(grid):
    (grid.folder / "grid.yaml").write_text(GRID + 'slurm: {time: "01:00:00", runs_at_once: 5}\n')
    grid.run("sweep", "grid.yaml", "--slurm", "submit.sh")
    fake = grid.folder / "bin"
    fake.mkdir()
    (fake / "sbatch").write_text('#!/bin/sh\n[ "$1" = --test-only ] && exit\necho "$@" >> "$CALLS"\nwc -l < "$CALLS"\n')
    (fake / "sbatch").chmod(0o755)
    calls = grid.folder / "calls"
    subprocess.run(["bash", "submit.sh", "--qos=low"], cwd=grid.folder, check=True,
                   env={**os.environ, "PATH": f"{fake}:{os.environ['PATH']}", "CALLS": str(calls), "VBON_JOBS": str(ROOT / "jobs")})
    stages, array, report = calls.read_text().splitlines()
    assert "--array=0-1 " in stages and stages.endswith("jobs/sweep.sbatch " + f"{grid.folder}/grid.yaml --stage")
    assert "--array=0-7%5" in array and "afterok:1" in array and array.endswith("grid.yaml --only")
    assert "afterany:2" in report and report.endswith("jobs/sweep.sbatch study report")
    assert all("--time=01:00:00" in call and "--qos=low" in call for call in (stages, array, report))
    # Pools by an array of shards, three of each of the two shared stages.
    (grid.folder / "grid.yaml").write_text(GRID + "slurm: {pool_shards: 3}\n")
    grid.run("sweep", "grid.yaml", "--slurm", "submit.sh")
    calls.unlink()
    subprocess.run(["bash", "submit.sh"], cwd=grid.folder, check=True,
                   env={**os.environ, "PATH": f"{fake}:{os.environ['PATH']}", "CALLS": str(calls), "VBON_JOBS": str(ROOT / "jobs")})
    models, shards, stages, array, _ = calls.read_text().splitlines()
    assert "--array=0-1 " in models and models.endswith("grid.yaml --models")
    assert "--array=0-5%16 " in shards and "afterok:1 " in shards and shards.endswith("grid.yaml --shard 3")
    assert "afterok:2 " in stages and stages.endswith("grid.yaml --stage") and "afterok:3 " in array


def test_shards_of_a_shared_pool(grid):
    pool = grid.folder / "p.h5"
    grid.run("sweep", "grid.yaml", "--stage", "0", "--until", "sft", "--quiet")
    for shard in range(3):
        assert not pool.exists()
        grid.run("sweep", "grid.yaml", "--stage", "0", "--shard", f"{shard}/3", "--quiet")
    grid.run("sweep", "grid.yaml", "--stage", "0", "--quiet")
    apart = pool.rename(grid.folder / "apart.h5")
    grid.run("sweep", "grid.yaml", "--stage", "0", "--quiet")
    assert_same_contents(pool, apart)
    grid.refused("sweep", "grid.yaml", "--shard", "0/3", words=["--stage"])


def test_grids_that_cannot_be(grid):
    (grid.folder / "grid.yaml").write_text(GRID.replace("vbon.N: [2, 4]", "vbon.N: [2, 0.5], vbon.objetive: [L]"))
    grid.refused("sweep", "grid.yaml", words=["vbon.objetive", "did you mean 'vbon.objective'"])
    (grid.folder / "grid.yaml").write_text(GRID.replace("[2, 4]", "[2, 2]"))
    grid.refused("sweep", "grid.yaml", words=["the same run"])
    grid.refused("sweep", "none.yaml", words=["none.yaml"])
