"""Section evaluations: the same policy on other prompts and at another temperature, each against a pool of its own."""
import json

import h5py
import numpy as np
import pytest

from conftest import assert_same_contents, settings, sha256, write_jsonl
from training import train

MORE = """
include: toy.yaml
evaluations:
  cold: {temperature: 0.5, pool: pool-cold.h5}
  far: {prompts: far.jsonl, pool: pool-far.h5, samples: 4}
"""


@pytest.fixture(scope="module")
def trained(toy):
    """A policy, its own evaluation, and the pools of two more."""
    (toy.folder / "more.yaml").write_text(MORE)
    write_jsonl(toy.folder / "far.jsonl", [{"id": i, "prompt": text} for i, text in enumerate(("the old house", "in my garden"))])
    train(toy, "run")
    toy.run("eval", "-c", "toy.yaml", "--quiet")
    before = sha256(toy.folder / "pool-eval.h5")
    toy.run("pool", "-c", "more.yaml", "--quiet")
    assert sha256(toy.folder / "pool-eval.h5") == before, "pools that are there stay"
    toy.main = toy.folder / "run/eval/final-00000003"
    return toy


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def row(folder, name):
    return next(row for row in summary(folder)["rows"] if row["name"] == name)


def test_pools_are_of_their_own_prompts_and_temperature(trained):
    with h5py.File(trained.folder / "pool-cold.h5") as cold, h5py.File(trained.folder / "pool-eval.h5") as main:
        assert cold.attrs["temperature"] == 0.5 and main.attrs["temperature"] == 1.0
        assert (cold["prompt/text"][()] == main["prompt/text"][()]).all()
        assert cold["sample/logp_reference"][()].mean() > main["sample/logp_reference"][()].mean(), "colder draws are likelier"
    with h5py.File(trained.folder / "pool-far.h5") as far:
        assert far["prompt/text"].asstr()[()].tolist() == ["the old house", "in my garden"]


def test_each_has_a_folder_and_the_own_one_stays_as_it_is(trained):
    before = trained.folder / "before.h5"
    before.write_bytes((trained.main / "eval.h5").read_bytes())
    done = trained.run("eval", "-c", "more.yaml", "--quiet")
    assert [line for line in done.stdout.splitlines() if line.startswith("==")] == ["== final", "== cold", "== far"]
    assert_same_contents(before, trained.main / "eval.h5")
    found = {path.name: summary(path) for path in (trained.folder / "run/eval").iterdir() if path.is_dir()}
    assert {name: (one["evaluation"], one["temperature"], one["prompts"], one["samples_per_prompt"]) for name, one in found.items()} == {
        "final-00000003": ("final", 1.0, 4, 8), "cold-00000003": ("cold", 0.5, 4, 8), "far-00000003": ("far", 1.0, 2, 4)}
    with h5py.File(trained.folder / "run/eval/cold-00000003/eval.h5") as file:
        assert file.attrs["evaluation"] == "cold" and file.attrs["temperature"] == 0.5
        assert "temperature: 0.5" in file.attrs["config"] and "evaluations" not in file.attrs["config"]


def test_the_reference_is_the_null_at_every_temperature(trained):
    trained.run("eval", "-c", "more.yaml", "--quiet", "-s", "eval.checkpoint=reference", "-s", "eval.samples=256", "--evaluation", "cold")
    folder = trained.folder / "run/eval/cold-reference"
    policy = row(folder, "policy")
    assert abs(policy["kl"]) < 1e-5
    assert abs(policy["win"] - 0.5) < 4 * max(policy["win_se"], 0.01)
    assert not (trained.folder / "run/eval/reference").exists(), "only the one that was named"
    with h5py.File(folder / "eval.h5") as file, h5py.File(trained.folder / "pool-cold.h5") as pool:
        mine, of_pool = file["reward/main/value"][()].mean(axis=1), pool["reward/main/value"][()].mean(axis=1)
        spread = pool["reward/main/value"][()].std(axis=1) * np.sqrt(1 / 256 + 1 / 32)
    assert (np.abs(mine - of_pool) < 4.5 * spread + 1e-6).all()


@pytest.mark.parametrize("overrides, words", [
    (["evaluations.cold.pool=''"], ["evaluations.cold.pool has to be set"]),
    (["evaluations.cold.pool=pool-eval.h5"], ["evaluations.cold.pool is the pool of other prompts"]),
    (["evaluations.cold.temperature=0"], ["evaluations.cold.temperature is 0", "positive"]),
    (["evaluations.step.pool=x.h5"], ["evaluations.step", "taken"]),
    (["evaluations.cold.temprature=1"], ["unknown key", "did you mean 'evaluations.cold.temperature'"]),
    (["evaluations.cold.temperature=0.6"], ["pool-cold.h5", "temperature"]),
])
def test_what_is_wrong_is_said(trained, overrides, words):
    trained.refused("eval", "-c", "more.yaml", "--quiet", "--evaluation", "cold", *settings(*overrides), words=words)


def test_an_unknown_name_is_refused(trained):
    trained.refused("eval", "-c", "more.yaml", "--evaluation", "hot", words=["--evaluation hot", "final", "cold", "far"])
