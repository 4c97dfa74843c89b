"""The paper's experiments, configs/paper: every grid has the runs that the paper lists, can be planned for a cluster
with models of their real size, and runs to the end on tiny models of the same kinds in their place."""
import json
import math
import pathlib
import re
import shutil

import h5py
import numpy as np
import pytest

from conftest import ROOT, Vbon, metrics, some, write_jsonl
from tiny_models import make_distilbert, make_gpt2, make_gpt_neox, make_shape, make_summary_reward

PAPER = ROOT / "configs" / "paper"
STEPS = 2

# Grid: its runs (appendix F: values times seeds), and what the first one is.
SENTIMENT = {
    "vbon": (33, {"train.method": "vbon", "vbon.objective": "exact", "vbon.N": 1}),
    "vbon-l": (32, {"train.method": "vbon", "vbon.objective": "L", "vbon.beta": 0.005}),
    "vbon-l1": (33, {"train.method": "vbon", "vbon.objective": "L1"}),
    "ppo": (32, {"train.method": "ppo", "ppo.kl_coef": 0.005}),
    "ppo-logit": (32, {"train.method": "ppo", "ppo.kl_coef": 0.005}),
    "dpo": (33, {"train.method": "dpo", "preference.beta": 0.01}),
    "bonbon": (30, {"train.method": "bonbon", "vbon.N": 2}),  # without N = 1: 33
    "bon-sft": (32, {"train.method": "bon_sft", "vbon.N": 10}),
    "figure4": (21, {"train.method": "vbon", "vbon.N": 10, "pool.use": 5}),
}
TLDR = {
    "vbon-n100": (3, {"train.method": "vbon", "vbon.objective": "L", "vbon.estimator": "exponential", "vbon.N": 100}),
    "vbon-beta05": (3, {"train.method": "vbon", "vbon.objective": "L", "vbon.beta": 0.05}),
    "ppo-n100": (1, {"train.method": "ppo", "ppo.kl_coef": 0.01010101}),
    "ppo-beta05": (1, {"train.method": "ppo", "ppo.kl_coef": 0.05}),
    "dpo": (1, {"train.method": "dpo", "preference.beta": 0.05}),
    "bonbon": (1, {"train.method": "bonbon", "vbon.N": 100}),
    "bon-sft": (1, {"train.method": "bon_sft", "vbon.N": 100}),
}
GRIDS = [("sentiment", name) for name in SENTIMENT] + [("tldr", name) for name in TLDR]
POOLS = {"sentiment": {f"pool-{name}.h5" for name in ("train", "eval", "train-logit", "eval-logit")},
         "tldr": {"pool-train.h5", "pool-id.h5"} | {f"pool-{half}-t{t}.h5" for half in ("id", "ood")
                                                    for t in ("025", "05", "075", "1")}}

# Sizes of a test. TL;DR's N = 100 needs a hundred samples a prompt; tiny models have three layers; bf16 needs a GPU.
SMALL = {"train.steps": STEPS, "train.prompts_per_step": 4, "train.chunk_prompts": 2, "sampling.max_new_tokens": 6,
         "sampling.slots": 64, "pool.use": 0, "eval.samples": 2, "eval.bootstrap": 100, "cluster.threads": 1,
         "checkpoint.every": 0}
SIZES = {"sentiment": SMALL | {"pool.samples": 16},
         "tldr": SMALL | {"pool.samples": 100, "model.dtype": "f32", "train.layers": "last 2"}}


def settings(values):
    return [word for key, value in values.items() for word in ("-s", f"{key}={value}")]


def prompts(beginnings, count):
    return [{"id": i, "prompt": f"{beginnings[i % len(beginnings)]} {i}"} for i in range(count)]


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    """A folder with both experiments' configurations and, under the paths that these name, tiny models and prompts."""
    folder = tmp_path_factory.mktemp("paper")
    shutil.copytree(PAPER, folder / "configs" / "paper")
    models = folder / "models"
    make_gpt2(models / "gpt2-imdb")
    make_distilbert(models / "distilbert-imdb", ["NEGATIVE", "POSITIVE"])
    make_gpt_neox(models / "pythia-2.8b-sft")
    make_summary_reward(models / "pythia-2.8b-reward", seed=1)
    make_summary_reward(models / "pythia-6.9b-reward", seed=2)
    for path, lines in {
            "imdb/prompts-train": prompts(["This film is", "I saw it", "The plot of"], 8),
            "imdb/prompts-eval": prompts(["My wife and"], 3),
            "tldr/prompts-train": prompts(["SUBREDDIT: r/relationships\n\nTITLE: Us\n\nTL;DR:"], 8),
            "tldr/prompts-id": prompts(["SUBREDDIT: r/relationship_advice\n\nTITLE: Me\n\nTL;DR:"], 3),
            "tldr/prompts-ood": prompts(["SUBREDDIT: r/pettyrevenge\n\nTITLE: A goat\n\nTL;DR:"], 3)}.items():
        (folder / "data" / path).parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(folder / "data" / f"{path}.jsonl", lines)
    return Vbon(folder)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A folder with the shapes of the real models and nothing else."""
    folder = tmp_path_factory.mktemp("cluster")
    make_shape(folder / "models" / "gpt2-imdb", "gpt2")
    make_shape(folder / "models" / "distilbert-imdb", "distilbert")
    make_shape(folder / "models" / "pythia-2.8b-sft", "pythia-2.8b")
    for name in ("pythia-2.8b", "pythia-6.9b"):
        make_shape(folder / "models" / f"{name}-reward", name, scalar=True)
    return Vbon(folder)


def check_run(folder: pathlib.Path, model_type: str):
    """What a finished run leaves: metrics of every step, a policy, and an evaluation with Best-of-N beside it."""
    rows = metrics(folder)
    assert (folder / "finished").exists() and [row["step"] for row in rows] == list(range(STEPS))
    for row in rows:
        assert all(math.isfinite(value) for key, value in row.items() if isinstance(value, float)), row
        assert row["learning_rate"] > 0
    policy = next((folder / "checkpoints").glob(f"step-*{STEPS}/policy"))
    assert json.loads((policy / "config.json").read_text())["model_type"] == model_type
    found = {path.name: path for path in (folder / "eval").iterdir() if path.name.endswith(f"-{STEPS:08}")}
    for evaluation in found.values():
        check_evaluation(evaluation)
    assert len(found) == (9 if "tldr" in folder.parts else 1), "Figure 5: four temperatures, two halves of the test set"


def check_evaluation(folder: pathlib.Path):
    experiment = "tldr" if "tldr" in folder.parts else "sentiment"
    samples = SIZES[experiment]["pool.samples"]
    summary = json.loads((folder / "summary.json").read_text())
    with h5py.File(folder / "eval.h5") as file:
        win, kl, reward = (file[name][()] for name in ("win", "sample/kl", "reward/main/value"))
        bon = {name: file[f"bon/{name}"][()] for name in ("N", "kl", "win")}
        assert file["reward"].keys() >= ({"main", "evaluator"} if experiment == "tldr" else {"main"})
    assert ((win >= 0) & (win <= 1)).all() and (kl > -1e-4).all() and np.isfinite(reward).all() and summary
    assert reward.std() > 0, "the tiny reward tells responses apart"
    known = bon["N"] <= samples / 2  # enough others to win against
    assert known.any() and (np.diff(bon["win"][known]) > 0).all() and (bon["win"] > 0.5).all() and (bon["kl"] > 0).all()


@pytest.mark.parametrize("experiment, name", some(GRIDS), ids=map("-".join, GRIDS))
def test_a_grid_runs(experiments, experiment, name):
    count, first = (SENTIMENT if experiment == "sentiment" else TLDR)[name]
    grid = f"configs/paper/{experiment}/{name}.yaml"
    small = {key: value for key, value in SIZES[experiment].items() if key not in first}
    experiments.run("sweep", grid, "--only", "0", "--quiet", *settings(small))
    study = experiments.folder / f"runs/paper/{experiment}/{name}"
    sweep = json.loads((study / "sweep.json").read_text())
    assert len(sweep["runs"]) == count and len({run["name"] for run in sweep["runs"]}) == count
    assert sweep["runs"][0]["overrides"].items() >= first.items()
    check_run(study / sweep["runs"][0]["dir"], "gpt2" if experiment == "sentiment" else "gpt_neox")
    pools = {path.name for path in (experiments.folder / f"runs/paper/{experiment}").glob("pool*.h5")}
    assert pools <= POOLS[experiment], "all grids share their pools"


@pytest.mark.parametrize("experiment", ["sentiment", "tldr"])
def test_best_of_n_is_an_evaluation(experiments, experiment):
    config = f"configs/paper/{experiment}/bon.yaml"
    small = settings(SIZES[experiment])
    experiments.run("pool", "-c", config, "--split", "eval", "--quiet", *small)
    experiments.run("eval", "-c", config, *small)
    check_evaluation(experiments.folder / f"runs/paper/{experiment}/bon/eval/reference")


@pytest.mark.parametrize("method", ["vbon", "ppo", "dpo", "bonbon", "bon_sft"])
@pytest.mark.parametrize("experiment, parameters", [("sentiment", 124_439_808), ("tldr", 2_775_208_960)])
def test_it_can_be_planned_for_64_ranks(cluster, experiment, parameters, method):
    nodes = ["--ranks", "64", "-s", "cluster.ranks_per_node=8", "-s", "cluster.devices_per_node=8"]
    target = ["-s", "vbon.beta=none", "-s", "vbon.N=100"]
    done = cluster.run("plan", "-c", PAPER / experiment / "base.yaml", "--json", *nodes, *target, "-s",
                       f"train.method={method}")
    plan = json.loads(done.stdout)
    ranges = {part["roles"]: part["last"] - part["first"] + 1 for part in plan["placement"]["ranges"]}
    assert sum(ranges.values()) == 64 and ranges["learner"] >= 2
    assert plan["memory"]["parameters"] == parameters
    if experiment == "tldr" and method in ("vbon", "ppo"):
        assert ranges["learner"] == 8 and plan["batch"]["run"]["episodes"] == 10016
        assert plan["memory"]["fullest_device"] < 40 * 2**30
    if experiment == "sentiment" and method in ("vbon", "ppo"):
        assert plan["batch"]["run"]["updates"] == 1600 and plan["batch"]["run"]["episodes"] == 12800


def test_the_readme_names_every_grid_and_no_file_that_is_not_there():
    text = (PAPER / "README.md").read_text()
    for experiment, name in GRIDS:
        assert f"`{name}`" in text, f"{experiment}/{name}"
    named = set(re.findall(r"configs/[\w/.-]+\.yaml", text))
    assert named and all((ROOT / path).is_file() for path in named)
    assert {path.stem for path in PAPER.glob("*/*.yaml")} == {name for _, name in GRIDS} | {"base", "bon"}
