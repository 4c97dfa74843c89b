"""Writes a language model small enough to list its every response: three letters and an end, at most four tokens.

    python3 configs/small/enumerable/make.py runs/enumerable/model

A Hugging Face folder with random weights (two Llama blocks); NumPy and the standard library are all it needs.
"""
import json
import pathlib
import struct
import sys

import numpy as np

LETTERS = "abc"
HIDDEN, INNER, LAYERS, HEADS = 64, 256, 2, 2
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 1 + len(LETTERS), "hidden_size": HIDDEN,
    "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": HEADS,
    "max_position_embeddings": 16, "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "hidden_act": "silu",
    "bos_token_id": None, "eos_token_id": 0, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}


def weights(seed=11, deviation=0.15):
    random = np.random.default_rng(seed)

    def matrix(*shape):
        return (random.standard_normal(shape) * deviation).astype(np.float32)

    tensors = {"model.embed_tokens.weight": matrix(CONFIG["vocab_size"], HIDDEN)}
    for i in range(LAYERS):
        block = f"model.layers.{i}."
        for name in ("q", "k", "v", "o"):
            tensors[f"{block}self_attn.{name}_proj.weight"] = matrix(HIDDEN, HIDDEN)
        tensors[block + "mlp.gate_proj.weight"] = matrix(INNER, HIDDEN)
        tensors[block + "mlp.up_proj.weight"] = matrix(INNER, HIDDEN)
        tensors[block + "mlp.down_proj.weight"] = matrix(HIDDEN, INNER)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{block}{name}.weight"] = np.ones(HIDDEN, np.float32)
    tensors["model.norm.weight"] = np.ones(HIDDEN, np.float32)
    tensors["lm_head.weight"] = matrix(CONFIG["vocab_size"], HIDDEN)
    return tensors


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(values.tobytes() for values in tensors.values()))


def tokenizer():
    end = {"id": 0, "content": "<end>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
           "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    vocab = {"<end>": 0} | {letter: i + 1 for i, letter in enumerate(LETTERS)}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": []}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [end], "normalizer": None,
            "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level, "model": model}


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(), indent=1) + "\n")
    write_safetensors(folder / "model.safetensors", weights())


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
