"""vbon amortise and training with it: F of a prompt's rewards from its embedding, alone or beside the pool's counts."""
import json
import math

import h5py
import numpy as np
import pytest

from conftest import HELD_OUT, TRAIN, assert_same_contents, settings, sha256, write_jsonl
from training import check_invariants, final, rollouts, train

HEAD = ["amortised.path=head", "amortised.components=2", "amortised.updates=60", "amortised.heldout=0.25"]
NEW = ["all the best", "look at me"]


@pytest.fixture(scope="module")
def amortised(toy):
    toy.output = toy.run("amortise", "-c", "toy.yaml", *settings(*HEAD))
    write_jsonl(toy.folder / "more.jsonl", [{"id": i, "prompt": text} for i, text in enumerate([*TRAIN, *NEW])])
    return toy


def read_head(folder):
    from safetensors.numpy import load_file
    return json.loads((folder / "head/config.json").read_text()), load_file(folder / "head/model.safetensors")


def embeddings(folder, prompts):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "reference", dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "reference")
    found = []
    for prompt in prompts:
        ids = torch.tensor([[0, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]])
        with torch.no_grad():
            found.append(model.base_model(ids).last_hidden_state[0, -1].double().numpy())
    return np.array(found)


def quantiles(folder, embedding, reward):
    """F_strict and F by the head's files."""
    config, head = read_head(folder)
    k = config["components"]
    e = (embedding - head["embedding.shift"]) / head["embedding.spread"] / math.sqrt(len(embedding))
    raw = head["bias"] + head["weight"] @ e
    weight = np.exp(raw[:k] - raw[:k].max())
    weight /= weight.sum()
    mean, scale = raw[k:2 * k], config["least_scale"] + np.exp(raw[2 * k:])
    at = lambda r: (weight / (1 + np.exp(-((r - config["centre"]) / config["unit"] - mean) / scale))).sum()
    return at(reward - config["round"] / 2), at(reward + config["round"] / 2)


def test_the_command_writes_a_head_and_says_how_well_it_holds(amortised):
    record = json.loads((amortised.folder / "head/calibration.json").read_text())
    assert record["heldout"]["prompts"] == 4 and record["heldout"]["samples"] == 32
    assert sum(record["heldout"]["head"]["pit"]) == 4 * 32
    assert "error of F from" in amortised.output.stdout and "head alone" in amortised.output.stdout
    before = sha256(amortised.folder / "head/model.safetensors")
    again = amortised.run("amortise", "-c", "toy.yaml", *settings(*HEAD))
    assert "nothing to do" in again.stderr and sha256(amortised.folder / "head/model.safetensors") == before
    # The transforms of the evaluation pool's rewards, again.
    with h5py.File(amortised.folder / "pool-eval.h5") as file:
        rewards = file["reward/main/value"][()].astype(float)
    found = embeddings(amortised.folder, HELD_OUT)
    pit = [np.mean(quantiles(amortised.folder, e, r)) for e, row in zip(found, rewards) for r in row]
    counts = np.histogram(pit, bins=20, range=(0, 1))[0]
    assert np.abs(counts - record["heldout"]["head"]["pit"]).sum() <= 4, "but for rounding at the edges"


def test_counts_and_head_together_are_log_f(amortised):
    run = train(amortised, "prior", *HEAD, "amortised.weight=3")
    check_invariants(run)
    batch = rollouts(run, 0)
    with h5py.File(amortised.folder / "pool.h5") as file:
        tables = dict(zip(file["prompt/id"][()].tolist(), file["logf/main/sorted_reward"][()].astype(float)))
    found = embeddings(amortised.folder, TRAIN)
    want = []
    for prompt, reward in zip(batch["prompt_id"].tolist(), batch["reward"].astype(float)):
        below = (tables[prompt] < reward).sum()
        want.append(math.log((below + 3 * quantiles(amortised.folder, found[prompt], reward)[0]) / (32 + 3)))
    np.testing.assert_allclose(batch["log_f"], want, rtol=1e-3, atol=1e-3)


def test_prompts_that_the_pool_lacks_have_the_head_alone(amortised):
    run = train(amortised, "lacking", *HEAD, "amortised.weight=3", "prompts.train=more.jsonl", "train.prompts_per_step=10",
                "train.chunk_prompts=5", "train.steps=1")
    batch = rollouts(run, 0)
    new = np.isin(batch["prompt_id"], [8, 9])
    assert new.sum() == 8
    found = embeddings(amortised.folder, [*TRAIN, *NEW])
    want = [math.log(quantiles(amortised.folder, found[prompt], reward)[0])
            for prompt, reward in zip(batch["prompt_id"][new].tolist(), batch["reward"][new].astype(float))]
    np.testing.assert_allclose(batch["log_f"][new], want, rtol=1e-3, atol=1e-3)
    assert (batch["at_floor"][new] == 0).all() and (batch["at_ceiling"][new] == 0).all()


def test_no_pool_is_needed_and_ranks_do_not_matter(amortised):
    runs = [train(amortised, f"head-{ranks}", *HEAD, "amortised.weight=1", 'pool.path=""', "prompts.train=more.jsonl", ranks=ranks)
            for ranks in (1, 3)]
    for run in runs:
        check_invariants(run)
    assert sha256(final(runs[0]) / "policy/model.safetensors") == sha256(final(runs[1]) / "policy/model.safetensors")
    assert_same_contents(runs[0] / "rollouts/step-00000002.h5", runs[1] / "rollouts/step-00000002.h5")


def test_regression_fits_the_shrunken_weights(amortised):
    plain = train(amortised, "regression", "train.method=regression", "train.steps=2")
    prior = train(amortised, "regression-prior", "train.method=regression", "train.steps=2", *HEAD, "amortised.weight=16")
    assert sha256(final(plain) / "policy/model.safetensors") != sha256(final(prior) / "policy/model.safetensors")


@pytest.mark.parametrize("command, overrides, words", [
    ("train", ["amortised.weight=2"], ["amortised.weight needs a head"]),
    ("train", [*HEAD, "amortised.weight=0"], ["amortised.weight is 0", "positive"]),
    ("train", [*HEAD, "amortised.weight=2", "train.method=ppo"], ["methods vbon, regression"]),
    ("train", [*HEAD, "amortised.weight=2", "vbon.objective=L", "vbon.estimator=harmonic"], ["estimator"]),
    ("train", ["amortised.path=reference", "amortised.weight=2"], ["no amortised F"]),
    ("amortise", [*HEAD, "amortised.components=3"], ["'head' was made from another pool or another configuration"]),
    ("amortise", ["amortised.path=reference"], ["'reference' exists", "vbon amortise"]),
    ("amortise", ["amortised.path=new", "sampling.temperature=0.9"], ["pool.h5", "temperature"]),
])
def test_what_is_wrong_is_said(amortised, command, overrides, words):
    amortised.refused(command, "-c", "toy.yaml", "--quiet", "-s", "run.dir=refused", *settings(*overrides), words=words)


def test_a_head_of_other_rewards_is_refused(amortised):
    amortised.run("train", "-c", "toy.yaml", "--quiet", *settings("run.dir=other", *HEAD, "amortised.weight=1", 'pool.path=""', "reward.id=v2", "eval.every=0",
                                                              "train.warm_start=0"), expect=2)
