"""Reward models from pairs: made by `vbon reward` of toy language models, loaded by `transformers` as they are."""
import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT, Vbon, make_model, settings, snapshot, write_jsonl

KINDS = {"llama": "smollm2", "gpt2": "gpt2", "gpt_neox": "neox"}
WORDS = ["great", "lovely", "fun"], ["dull", "awful", "boring"]
PAIRS = [{"prompt": f"The {what} was", "chosen": f" {good}.", "rejected": f" {bad}, I think."}
         for what in ("film", "plot", "end") for good, bad in zip(*WORDS)]
TEXTS = [{"prompt": p["prompt"], "response": p[key]} for p in PAIRS for key in ("chosen", "rejected")]
REWARD = ["reward.kind=classifier", "reward.command=[]", "reward.path=rm", "reward.output=logit", "reward.append_eos=true",
          "reward.round=0"]
TRAIN = ["reward.train.labels=pairs.jsonl", "reward.train.heldout=pairs.jsonl", "reward.train.base=base",
         "reward.train.layers=last 2", "reward.train.epochs=12", "reward.train.batch=4", "reward.train.warmup=0",
         "reward.train.learning_rate=3e-3"]


def prepared(folder: pathlib.Path, inputs, kind):
    for name in ("reward.py", "train.jsonl", "eval.jsonl", "toy.yaml"):
        shutil.copy(inputs / name, folder)
    shutil.copytree(inputs / "reference", folder / "reference")
    make_model(folder / "base", kind, seed=5, tokenizer=KINDS[kind])
    write_jsonl(folder / "pairs.jsonl", PAIRS)
    write_jsonl(folder / "texts.jsonl", TEXTS)
    return Vbon(folder)


def make(vbon, *more, **options):
    return vbon.run("reward", "-c", "toy.yaml", "--section", "reward", "--quiet", *settings(*REWARD, *TRAIN, *more), **options)


def scores(vbon, path="rm"):
    out = vbon.run("score", "-c", "toy.yaml", "--texts", "texts.jsonl", *settings(*REWARD, f"reward.path={path}")).stdout
    return [json.loads(line)["reward"] for line in out.splitlines()]


@pytest.fixture(scope="module", params=KINDS)
def trained(request, inputs, tmp_path_factory):
    vbon = prepared(tmp_path_factory.mktemp(request.param), inputs, request.param)
    make(vbon)
    return vbon


def test_chosen_texts_win_and_rewards_are_centred(trained):
    rewards = scores(trained)
    assert all(good > bad + 1 for good, bad in zip(rewards[::2], rewards[1::2])), rewards
    assert abs(sum(rewards)) / len(rewards) < 1e-5
    record = json.loads((trained.folder / "rm/training.json").read_text())
    assert record["heldout"]["accuracy"] == 1 and record["heldout"]["pairs"] == len(PAIRS)
    config = json.loads((trained.folder / "rm/config.json").read_text())
    assert config["vbon"]["bias"] == pytest.approx(record["centered_by"])


def test_transformers_gives_the_same_scores_before_centring(hf, trained):
    folder = trained.folder / "rm"
    model, info = hf.transformers.AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    assert model.config.num_labels == 1
    tokenizer = hf.transformers.AutoTokenizer.from_pretrained(folder)
    bias = json.loads((folder / "config.json").read_text())["vbon"]["bias"]
    for text, reward in zip(TEXTS, scores(trained)):
        ids = [*tokenizer(text["prompt"] + text["response"]).input_ids, model.config.eos_token_id]
        with hf.torch.no_grad():
            assert model(hf.torch.tensor([ids])).logits.item() - bias == pytest.approx(reward, abs=1e-4)


def test_weights_of_torch_are_converted_to_the_same(hf, trained, tmp_path):
    """A folder with pytorch_model.bin alone is refused with the converter's name; after it the scores are the same."""
    model = hf.transformers.AutoModelForSequenceClassification.from_pretrained(trained.folder / "rm")
    torch_folder = pathlib.Path(shutil.copytree(trained.folder / "rm", trained.folder / "rm-torch"))
    hf.torch.save(model.state_dict(), torch_folder / "pytorch_model.bin")
    (torch_folder / "model.safetensors").unlink()
    trained.refused("score", "-c", "toy.yaml", "--texts", "texts.jsonl", *settings(*REWARD, "reward.path=rm-torch"),
                    words=["pytorch_model.bin", "jobs/convert-weights.py 'rm-torch'"])
    subprocess.run([sys.executable, ROOT / "jobs/convert-weights.py", torch_folder], check=True)
    assert scores(trained, "rm-torch") == scores(trained)


def test_two_ranks_train_the_same_model(inputs, tmp_path):
    vbon = prepared(tmp_path, inputs, "llama")
    make(vbon, "reward.path=one")
    make(vbon, "reward.path=two", ranks=2)
    assert scores(vbon, "two") == pytest.approx(scores(vbon, "one"), abs=0.05)  # sums in another order, by many updates
    made = snapshot(tmp_path / "two")
    make(vbon, "reward.path=two", ranks=2)  # is there, made so
    assert snapshot(tmp_path / "two") == made
    vbon.run("plan", "-c", "toy.yaml", *settings(*REWARD, "reward.path=one"))
    vbon.run("doctor", "-c", "toy.yaml", *settings(*REWARD, "reward.path=one"))


@pytest.mark.parametrize("lines, more, words", [
    ([PAIRS[0], {"text": "a", "label": 1}], [], ["pairs.jsonl:2", "a file has one kind"]),
    ([{"text": "a", "label": 1}, PAIRS[0]], [], ["pairs.jsonl:2", "a file has one kind"]),
    ([{"prompt": "a", "chosen": "b"}], [], ["pairs.jsonl:1", "'rejected' is missing"]),
    (PAIRS, ["reward.kind=ngram", "reward.append_eos=false"], ["has pairs", "n-gram"]),
    (PAIRS, ["reward.kind=exec", "reward.append_eos=false"], ["reward.kind", "not trained"]),
    (PAIRS, ["reward.kind=ngram"], ["reward.append_eos"]),
    (PAIRS, ["reward.train.center=-1"], ["reward.train.center"]),
    (PAIRS, ["reward.train.layers=last 4"], ["reward.train.layers", "3"]),
])
def test_what_cannot_be_learned_is_refused(inputs, tmp_path, lines, more, words):
    vbon = prepared(tmp_path, inputs, "llama")
    write_jsonl(tmp_path / "pairs.jsonl", lines)
    vbon.refused("reward", "-c", "toy.yaml", "--section", "reward", "--quiet", *settings(*REWARD, *TRAIN, *more), words=words)
