"""Exported models: `transformers` loads a checkpoint's policy as it is, computes the same, and samples as trained."""
import json
import pathlib
import shutil

import h5py
import numpy as np
import pytest

from conftest import Vbon, make_model, settings, sha256

# A toy and the tokenizer of its family; GPT-2's is vocab.json with merges.txt.
KINDS = {"llama": "smollm2", "gpt2": "gpt2_files", "gpt_neox": "neox"}
TOKENIZER_FILES = {"tokenizer.json", "vocab.json", "merges.txt"}
TEMPERATURE = 0.7


@pytest.fixture(scope="module", params=KINDS)
def trained(request, inputs, tmp_path_factory):
    """A run of three steps with a checkpoint after each, and its evaluation."""
    folder = tmp_path_factory.mktemp(request.param)
    for name in ("reward.py", "train.jsonl", "eval.jsonl", "toy.yaml"):
        shutil.copy(inputs / name, folder)
    make_model(folder / "reference", request.param, seed=5, tokenizer=KINDS[request.param])
    vbon = Vbon(folder)
    arguments = settings(f"sampling.temperature={TEMPERATURE}", "train.layers=all", "train.steps=3", "train.warm_start=0",
                         "checkpoint.every=1", "checkpoint.keep=all", "eval.every=0", "optimizer.learning_rate=3e-3")
    for command in ("pool", "train", "eval"):
        vbon.run(command, "-c", "toy.yaml", "--quiet", *arguments)
    return vbon


def policy(vbon, step):
    return vbon.folder / f"run/checkpoints/step-{step:08}/policy"


class Model:
    """A folder in `transformers`, loaded with nothing but its name."""

    def __init__(self, hf, folder: pathlib.Path):
        self.torch = hf.torch
        self.model, info = hf.transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
        assert self.model.dtype == hf.torch.float32

    def logits(self, prompt, response):
        """Of every response token, [length, V]."""
        tokens = self.torch.tensor([[*map(int, prompt), *map(int, response)]])
        with self.torch.no_grad():
            return self.model(tokens).logits[0, len(prompt) - 1:-1]

    def log_softmax(self, prompt, response):
        return self.torch.log_softmax(self.logits(prompt, response).double() / TEMPERATURE, dim=-1)


def prompts_of(path):
    with h5py.File(path) as file:
        offset, tokens = file["prompt/offset"][()], file["prompt/tokens"][()]
        return {id: tokens[offset[i]:offset[i + 1]] for i, id in enumerate(file["prompt/id"][()].tolist())}


def test_log_probabilities_of_every_checkpoint_are_those_of_transformers(hf, trained):
    """Each step's rollouts were drawn by the checkpoint before it; every token counts."""
    prompts = prompts_of(trained.folder / "pool.h5")
    reference = Model(hf, trained.folder / "reference")
    for step in (1, 2):
        model = Model(hf, policy(trained, step))
        with h5py.File(trained.folder / f"run/rollouts/step-{step:08}.h5") as file:
            assert (file["weights_version"][()] == step).all()
            batch = {name: file[name][()] for name in file}
        for i, id in enumerate(batch["prompt_id"].tolist()):
            length = batch["length"][i]
            response = batch["tokens"][i, :length]
            of_policy, of_reference = model.log_softmax(prompts[id], response), reference.log_softmax(prompts[id], response)
            index = hf.torch.arange(length), hf.torch.tensor(response).long()
            probability = of_policy.exp()
            for name, expected in (("logp_behavior", of_policy[index]), ("logp_reference", of_reference[index]),
                                   ("kl", (probability * (of_policy - of_reference)).sum(-1)),
                                   ("entropy", -(probability * of_policy).sum(-1))):
                np.testing.assert_allclose(batch[name][i, :length], expected.numpy(), atol=1e-4, rtol=0, err_msg=name)
        assert np.nanmax(batch["kl"]) > 1e-4, "the policy has moved"


def test_the_evaluated_policy_is_the_exported_one(hf, trained):
    model, reference = Model(hf, policy(trained, 3)), Model(hf, trained.folder / "reference")
    path = trained.folder / "run/eval/final-00000003/eval.h5"
    prompts = prompts_of(path)
    with h5py.File(path) as file:
        tokens, length = file["sample/tokens"][()], file["sample/length"][()]
        kl, logp_reference = file["sample/kl"][()], file["sample/logp_reference"][()]
    for row, prompt in enumerate(prompts.values()):
        for k in range(0, tokens.shape[1], 3):
            response = tokens[row, k, :length[row, k]]
            of_policy, of_reference = model.log_softmax(prompt, response), reference.log_softmax(prompt, response)
            assert abs((of_policy.exp() * (of_policy - of_reference)).sum().item() - kl[row, k]) < 1e-4
            index = hf.torch.arange(len(response)), hf.torch.tensor(response).long()
            assert abs(of_reference[index].sum().item() - logp_reference[row, k]) < 3e-4, "eight tokens"


def test_it_samples_as_trained(hf, trained):
    """generate() by the folder's own generation_config.json: the whole vocabulary at the temperature of training."""
    torch = hf.torch
    model = Model(hf, policy(trained, 3))
    prompt = next(iter(prompts_of(trained.folder / "pool.h5").values()))
    tokens = torch.tensor([prompt.tolist()])
    torch.manual_seed(1)
    out = model.model.generate(tokens, attention_mask=torch.ones_like(tokens), num_return_sequences=64,
                               return_dict_in_generate=True, output_scores=True)
    drawn = out.sequences[:, len(prompt):]
    assert drawn.shape[1] <= 8 and len({tuple(row.tolist()) for row in drawn}) > 32, "it draws, eight tokens at most"
    expected = model.log_softmax(prompt, prompt[:1])[0]
    first = torch.log_softmax(out.scores[0][0].double(), dim=-1)
    assert torch.isfinite(first).all(), "nothing is cut off"
    np.testing.assert_allclose(first.numpy(), expected.numpy(), atol=1e-4, rtol=0)
    for row in drawn.tolist():
        if 0 in row:
            assert set(row[row.index(0):]) == {0}, "it stops at the end-of-sequence token"


def test_the_tokenizer_goes_along(hf, trained):
    tokenizer = hf.transformers.AutoTokenizer.from_pretrained(policy(trained, 3))
    text = "What a story, it's 12 o'clock!"
    with h5py.File(trained.folder / "pool.h5") as file:
        texts = [t.decode() for t in file["prompt/text"][()]]
    for row, prompt in enumerate(prompts_of(trained.folder / "pool.h5").values()):
        assert [0, *tokenizer(texts[row], add_special_tokens=False)["input_ids"]] == prompt.tolist()
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_files_of_a_policy(trained):
    """Needs no torch: names, shapes, types and settings, against the folder that training started from."""
    from safetensors.numpy import load_file
    before, after = load_file(trained.folder / "reference/model.safetensors"), load_file(policy(trained, 3) / "model.safetensors")
    assert before.keys() == after.keys()
    for name in before:
        assert after[name].dtype == np.float32 and after[name].shape == before[name].shape
    assert any((before[name] != after[name]).any() for name in before)
    old, new = (json.loads((folder / "config.json").read_text()) for folder in (trained.folder / "reference", policy(trained, 3)))
    assert old == new
    assert json.loads((policy(trained, 3) / "generation_config.json").read_text()) == {
        "do_sample": True, "temperature": TEMPERATURE, "top_k": 0, "top_p": 1.0, "max_new_tokens": 8,
        "eos_token_id": [0], "pad_token_id": 0, "bos_token_id": 0}
    old, new = ({path.name: sha256(path) for path in folder.iterdir() if path.name in TOKENIZER_FILES}
                for folder in (trained.folder / "reference", policy(trained, 3)))
    assert old == new != {}


def test_vbon_samples_it_as_trained(trained):
    """`vbon sample` without a configuration follows generation_config.json; a checkpoint can be the next reference."""
    def draw(*more):
        out = trained.run("sample", "-m", policy(trained, 3), "--prompt", "the film is", "--json", "-n", 4, "--seed", 3, *more)
        return out.stdout

    assert draw() == draw("--temperature", TEMPERATURE, "--max-new-tokens", 8)
    assert draw() != draw("--temperature", 1.5)
    trained.run("pool", "-c", "toy.yaml", "--quiet", "--split", "eval", "-s", f"model.reference={policy(trained, 3)}",
                "-s", "pool.eval_path=next.h5", "-s", "pool.samples=4")
    with h5py.File(trained.folder / "next.h5") as file:
        assert file["sample/tokens"].shape == (4, 4, 8)
