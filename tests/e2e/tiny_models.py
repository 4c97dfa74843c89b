"""Model folders as a user of a configuration supplies them, but tiny and random: written by NumPy, no torch."""
import json
import pathlib
import shutil

import numpy as np
from safetensors.numpy import load_file, save_file

from conftest import ROOT, make_model

TOKENIZERS = ROOT / "tests" / "golden" / "text"


def make_gpt2(folder: pathlib.Path, seed=1):
    make_model(folder, kind="gpt2", seed=seed, tokenizer="gpt2")


def make_gpt_neox(folder: pathlib.Path, seed=1):
    make_model(folder, kind="gpt_neox", seed=seed, tokenizer="neox")


def make_distilbert(folder: pathlib.Path, labels, seed=1):
    """A DistilBERT classifier with a head of one number a label, of weights large enough that texts differ in it."""
    dim, inner, layers, positions = 16, 32, 2, 128
    vocab = json.loads((TOKENIZERS / "bert_uncased" / "tokenizer.json").read_text())["model"]["vocab"]
    config = {
        "architectures": ["DistilBertForSequenceClassification"], "model_type": "distilbert", "vocab_size": len(vocab),
        "dim": dim, "hidden_dim": inner, "n_layers": layers, "n_heads": 2, "max_position_embeddings": positions,
        "activation": "gelu", "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)}, "pad_token_id": vocab.get("[PAD]", 0)}
    random = np.random.default_rng(seed)
    tensors = {}

    def linear(name, outs, ins):
        tensors[name + ".weight"] = random.normal(0, 0.3, (outs, ins)).astype(np.float32)
        tensors[name + ".bias"] = np.zeros(outs, np.float32)

    def norm(name):
        tensors[name + ".weight"], tensors[name + ".bias"] = np.ones(dim, np.float32), np.zeros(dim, np.float32)

    for part, rows in (("word", len(vocab)), ("position", positions)):
        values = random.normal(0, 0.3, (rows, dim)).astype(np.float32)
        tensors[f"distilbert.embeddings.{part}_embeddings.weight"] = values
    norm("distilbert.embeddings.LayerNorm")
    for i in range(layers):
        block = f"distilbert.transformer.layer.{i}."
        for part in ("q", "k", "v", "out"):
            linear(f"{block}attention.{part}_lin", dim, dim)
        norm(block + "sa_layer_norm")
        linear(block + "ffn.lin1", inner, dim)
        linear(block + "ffn.lin2", dim, inner)
        norm(block + "output_layer_norm")
    linear("pre_classifier", dim, dim)
    linear("classifier", len(labels), dim)
    folder.mkdir(parents=True)
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    shutil.copyfile(TOKENIZERS / "bert_uncased" / "tokenizer.json", folder / "tokenizer.json")


def scalar_config(base, bias=0.0):
    """config.json of a reward model of the public TL;DR code."""
    return {"architectures": ["ScalarModel"], "base_model": "theirs", "base_config": base, "bias": bias,
            "hidden_size": base["hidden_size"]}


def make_summary_reward(folder: pathlib.Path, seed=1):
    """A Pythia with a scalar head, in the layout of the paper's TL;DR models: lm_backbone.*, scalar_head.*."""
    make_gpt_neox(folder, seed)
    body = load_file(str(folder / "model.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    tensors = {"lm_backbone." + name.removeprefix("gpt_neox."): values for name, values in body.items()
               if name != "embed_out.weight"}
    random = np.random.default_rng(seed)
    tensors["scalar_head.weight"] = random.normal(0, 1, (1, config["hidden_size"])).astype(np.float32)
    tensors["scalar_head.bias"] = np.zeros(1, np.float32)
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(scalar_config(config, bias=0.25), indent=1) + "\n")


# config.json of the models themselves, which is all that a plan needs of them.
SHAPES = {
    "gpt2": {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 50257, "n_embd": 768,
             "n_layer": 12, "n_head": 12, "n_positions": 1024, "layer_norm_epsilon": 1e-5,
             "activation_function": "gelu_new", "bos_token_id": 50256, "eos_token_id": 50256},
    "distilbert": {"architectures": ["DistilBertForSequenceClassification"], "model_type": "distilbert",
                   "vocab_size": 30522, "dim": 768, "hidden_dim": 3072, "n_layers": 6, "n_heads": 12,
                   "max_position_embeddings": 512, "activation": "gelu",
                   "id2label": {"0": "NEGATIVE", "1": "POSITIVE"}},
    "pythia-2.8b": {"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "vocab_size": 50304,
                    "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 32, "num_attention_heads": 32,
                    "max_position_embeddings": 2048, "layer_norm_eps": 1e-5, "hidden_act": "gelu", "rotary_pct": 0.25,
                    "use_parallel_residual": True, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 0},
}
SHAPES["pythia-6.9b"] = SHAPES["pythia-2.8b"] | {"hidden_size": 4096, "intermediate_size": 16384}


def make_shape(folder: pathlib.Path, name: str, scalar=False):
    """`scalar`: of the reward model on that body."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(scalar_config(SHAPES[name]) if scalar else SHAPES[name]) + "\n")
