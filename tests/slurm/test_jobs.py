"""jobs/*.sbatch on a real Slurm: work that is stopped, requeued, cancelled or shared ends as if it had not been."""

import json

from conftest import ROOT, toys

SMALL = ["--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=1", "--time=30"]
THREE_NODES = ["--nodes=3", "--ntasks-per-node=1", "--cpus-per-task=1", "--time=30"]
# Answers the two questions that a start asks, then is killed: by the machine, as it were.
DYING = """
import os, sys
for i, line in enumerate(sys.stdin):
    if i == 2:
        os.kill(os.getpid(), 9)
    print('{"reward": 1}', flush=True)
"""
SLOWLY = {"TOY_REWARD_SLEEP": "0.02"}  # a step takes half a second


def assert_as_whole(work, whole, steps=6):
    weights, metrics = whole(steps)
    assert (work.folder / "run/finished").exists() and work.weights() == weights
    assert toys.metrics_without_time(work.folder / "run/metrics.jsonl") == metrics


def test_a_chain_of_pool_training_and_evaluation(work, inputs, whole):
    """An array of shards, its merge, a training run on up to two nodes, its evaluation: one after the other."""
    (work.folder / "pool.h5").unlink()
    last = work.submit(
        "pool,train,eval",
        "toy.yaml",
        "--array=0-2",
        "--nodes=1-2",
        "--ntasks=2",
        "--cpus-per-task=1",
        "--time=30",
        "--ntasks-per-node=1",
        "--gres=gpu:1",
    )
    assert work.job(last)["JobState"] == "PENDING" and "afterok" in work.job(last)["Dependency"]
    work.ended(last)
    toys.assert_same_contents(work.folder / "pool.h5", inputs / "pool.h5")
    assert_as_whole(work, whole)
    assert list((work.folder / "run/eval").rglob("summary.json"))
    logs = work.logs()
    assert logs.count("--- vbon-pool-") == 4 and "devices 0" in logs and "2 tasks" in logs


def test_preempted_twice_and_a_node_lost_it_ends_the_same(work, whole):
    number = work.submit("train", "toy.yaml", *THREE_NODES, "--", "-s", "train.steps=16", environment=SLOWLY)
    for stop in range(3):
        seen = work.steps()
        work.wait(lambda least=seen + 2: work.steps() >= least, "progress")
        assert work.steps() < 14, "the run was over before it could be stopped"
        if stop < 2:
            work.slurm.ask("scancel", "--batch", "--signal=USR1", number)
        else:
            work.slurm.ask("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=test")
        work.wait(lambda starts=stop + 1: int(work.job(number)["Restarts"]) == starts, f"start {stop + 2}")
        work.slurm.ask("scontrol", "update", "NodeName=n2", "State=RESUME")
    work.ended(number)
    assert_as_whole(work, whole, 16)
    log = work.log(number)
    assert log.count("stopped with what is done kept: requeued") == 2, "the third time Slurm does it by itself"
    assert (
        "start 4" in log
        and "3 tasks" in log
        and len((work.folder / "run/attempts.jsonl").read_text().splitlines()) == 4
    )


def test_it_stops_before_its_own_time_is_over(work, whole):
    """Two minutes, all but seconds of which are to be left: Slurm says when the job ends, the run stops in time."""
    slowly = {"TOY_REWARD_SLEEP": "0.1"}  # the run takes longer than those seconds
    own = ["--time=2", "--signal=B:USR1@10"]  # Slurm's signal comes too late to be what stops it
    options = ["-s", "checkpoint.before_end=104"]
    number = work.submit("train", "toy.yaml", *SMALL[:-1], *own, "--", *options, environment=slowly)
    job = work.ended(number)
    log = work.log(number)
    assert int(job["Restarts"]) >= 1 and log.count("stopped in time: the allocation ends in") == int(job["Restarts"])
    assert_as_whole(work, whole)


def test_a_cancelled_step_costs_nothing_and_a_cancelled_job_stays_cancelled(work, whole):
    number = work.submit("train", "toy.yaml", *THREE_NODES, "--", "-s", "train.steps=16", environment=SLOWLY)
    work.wait(lambda: work.steps() >= 2, "progress")
    step = next(
        line.split()[0]
        for line in work.slurm.ask("squeue", "--steps", "-h", "-j", number, "-o", "%i %j").splitlines()
        if line.endswith(" vbon")
    )
    work.slurm.ask("scancel", step)
    assert work.ended(number, "FAILED")["ExitCode"] != "0:0", "its ranks are killed at once"
    seen = work.steps()
    assert seen < 14
    number = work.submit("train", "toy.yaml", *THREE_NODES, "--", "-s", "train.steps=16", environment=SLOWLY)
    work.wait(lambda: work.steps() >= seen + 1, "more progress")
    work.slurm.ask("scancel", number)
    work.ended(number, "CANCELLED")
    restarts = work.job(number)["Restarts"]
    again = work.submit("train", "toy.yaml", *THREE_NODES, "--", "-s", "train.steps=16")
    work.ended(again)
    assert_as_whole(work, whole, 16)
    assert work.job(number)["JobState"] == "CANCELLED" and work.job(number)["Restarts"] == restarts


def test_what_cannot_run_is_refused_with_its_reason(work):
    for resource in ("--nodes=9", "--cpus-per-task=64", "--gres=gpu:3", "--mem=100G"):
        said = work.submit("train", "toy.yaml", *SMALL, resource, expect=2)
        assert resource in said and "node configuration is not available" in said and "sinfo" in said
    assert "invalid partition" in work.submit("train", "toy.yaml", *SMALL, "--partition=x", expect=2)
    assert not work.slurm.ask("squeue", "-h", "-t", "PENDING"), "nothing waits for what will never be"
    assert "no file 'none.yaml'" in work.submit("train", "none.yaml", expect=2)
    assert "unknown job 'tran'" in work.submit("tran", "toy.yaml", expect=2)
    # Too few ranks for the roles; and its evaluation, which then can never begin, does not wait for ever.
    last = work.submit(
        "train,eval", "toy.yaml", *SMALL, "--", "-s", "cluster.roles={rollout: 2, scorer: 1, learner: 4}"
    )
    work.ended(last, "CANCELLED")
    train = next((work.folder / "logs").glob("vbon-train-*.log")).stem.split("-")[-1]
    assert work.ended(train, "FAILED")["ExitCode"] == "2:0"
    assert "7" in work.log(train) and "rank" in work.log(train)
    missing = work.submit("train", "toy.yaml", *SMALL, environment={"VBON": "/nowhere/vbon"})
    assert work.ended(missing, "FAILED")["ExitCode"] == "2:0"
    assert "no program /nowhere/vbon" in work.log(missing) and "cluster.env" in work.log(missing)


def test_a_machine_that_fails_is_tried_three_times_more(work):
    """The reward's program dies in the first online step, every time."""
    (work.folder / "reward.py").write_text(DYING)
    number = work.submit("train", "toy.yaml", *SMALL, "--ntasks-per-node=2", "--", "-s", "eval.every=0")
    job = work.ended(number, "FAILED")
    log = work.log(number)
    assert job["ExitCode"] == "74:0" and job["Restarts"] == "3", log
    assert [f"try {i} of 3" in log for i in (1, 2, 3)] == [True] * 3 and "not requeued" in log
    assert work.steps() == 2, "the steps before stand"


def test_without_pmix_mpirun_starts_the_ranks(work, whole):
    fake = work.folder / "bin"
    fake.mkdir()
    (fake / "srun").write_text(
        '#!/bin/sh\ncase "$1" in --mpi=list) echo "MPI plugin types are: none pmi2" >&2 ;; '
        '*) exec /usr/bin/srun "$@" ;; esac\n'
    )
    (fake / "srun").chmod(0o755)
    work.cluster_env.write_text(f"logs=logs\nPATH={fake}:$PATH\n")
    number = work.submit("train", "toy.yaml", *SMALL, "--ntasks-per-node=2", environment=SLOWLY)
    work.wait(lambda: work.steps() >= 2, "progress")
    work.slurm.ask("scancel", "--batch", "--signal=USR1", number)
    job = work.ended(number)
    assert job["Restarts"] == "1" and "mpirun inside the allocation" in work.log(number)
    assert_as_whole(work, whole)


def test_a_sweep_is_jobs_of_the_same_kind(work):
    (work.folder / "grid.yaml").write_text(f"""
config: toy.yaml
dir: study
launch: [{ROOT}/jobs/launch.sh]
set: {{train.warm_start: 0, train.steps: 2, eval.every: 0, eval.samples: 4, pool.path: p.h5, pool.eval_path: e.h5}}
runs:
  - set: {{train.method: regression}}
  - set: {{train.method: vbon}}
slurm: {{nodes: 1, ntasks-per-node: 2, cpus-per-task: 1, time: 30, runs_at_once: 2, pool_shards: 2}}
""")
    last = work.submit("sweep", "grid.yaml", environment=SLOWLY)
    # One run is preempted: the report waits until it has been started again and ended.
    begun = work.folder / "study/runs"
    work.wait(lambda: begun.exists() and any(path.name.startswith("vbon") for path in begun.iterdir()), "a run")
    listed = work.slurm.ask("squeue", "-h", "-r", "-t", "R", "-o", "%i").split()
    number = next(job for job in listed if job.endswith("_1"))
    work.slurm.ask("scancel", "--batch", "--signal=USR1", number)
    work.ended(last)
    assert work.job(number)["Restarts"] == "1", work.job(number)
    runs = json.loads((work.folder / "study/sweep.json").read_text())["runs"]
    assert len(runs) == 2 and all((work.folder / "study" / run["dir"] / "finished").exists() for run in runs)
    times = [
        json.loads(line)["time"]["total"]
        for run in runs
        for line in (work.folder / "study" / run["dir"] / "metrics.jsonl").read_text().splitlines()
    ]
    assert {len(ranks) for ranks in times} == {2}, "a rank a task"
    shards = list((work.folder / "study/logs").glob("stages-0-shard-*.log"))
    assert len(shards) == 2 and (work.folder / "p.h5").exists() and (work.folder / "e.h5").exists()
    assert (work.folder / "study/report.html").exists()


SCALING = f"""
config: toy.yaml
dir: study
launch: [{ROOT}/jobs/launch.sh]
set: {{train.warm_start: 0, train.steps: 3, eval.every: 0, pool.path: p.h5, pool.eval_path: "", cluster.roles: all}}
runs: [{{name: strong, product: {{ranks: [1, 2, 3]}}}}]
slurm: {{ntasks-per-node: 2, cpus-per-task: 1, time: 30, runs_at_once: 2}}
"""


def ranks_of_runs(work):
    """Name -> ranks that its steps had."""
    runs = json.loads((work.folder / "study/sweep.json").read_text())["runs"]
    found = {}
    said = "".join(f"--- {path}\n{path.read_text()}" for path in sorted((work.folder / "study/logs").glob("*")))
    for run in runs:
        metrics = work.folder / "study" / run["dir"] / "metrics.jsonl"
        assert metrics.exists(), f"{run['dir']} took no step\n{said}{work.logs()}"
        rows = metrics.read_text().splitlines()
        found[run["name"].rpartition("-")[0]] = {len(json.loads(row)["time"]["total"]) for row in rows}
    return found


def test_scaling_is_measured_within_one_job(work):
    (work.folder / "grid.yaml").write_text(SCALING)
    options = ["--nodes=2", "--ntasks-per-node=2", "--cpus-per-task=1", "--time=30"]
    number = work.submit("scaling", "grid.yaml", *options)
    work.ended(number)
    assert ranks_of_runs(work) == {f"strong-ranks{p}": {p} for p in (1, 2, 3)}
    assert (work.folder / "runs/scaling/figures/scaling.json").exists(), work.log(number)


def test_runs_of_a_sweep_get_as_many_tasks_as_they_have_ranks(work):
    (work.folder / "grid.yaml").write_text(SCALING)
    work.ended(work.submit("sweep", "grid.yaml"))
    assert ranks_of_runs(work) == {f"strong-ranks{p}": {p} for p in (1, 2, 3)}
    assert (work.folder / "study/figures/scaling.json").exists()
    said = "".join(path.read_text() for path in (work.folder / "study/logs").glob("run-*.slurm"))
    assert {f"{p} tasks" for p in (1, 2, 3)} <= set(map(str.strip, said.replace(":", ",").split(","))), said
