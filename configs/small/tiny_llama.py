"""Hugging Face folders of small Llama models with random weights, for studies that need no language. NumPy and the
standard library are all it needs; the make.py beside each study says which models."""
import json
import struct

import numpy as np


def config(letters, hidden, inner, layers, heads, positions, **more):
    """config.json of a model of these letters and, as token 0, an end."""
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 1 + len(letters),
        "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": heads, "max_position_embeddings": positions, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False, "hidden_act": "silu", "bos_token_id": None, "eos_token_id": 0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}} | more


def weights(config, seed, deviation, head="lm_head.weight", rows=None):
    random = np.random.default_rng(seed)
    hidden, inner = config["hidden_size"], config["intermediate_size"]

    def matrix(*shape):
        return (random.standard_normal(shape) * deviation).astype(np.float32)

    tensors = {"model.embed_tokens.weight": matrix(config["vocab_size"], hidden)}
    for i in range(config["num_hidden_layers"]):
        block = f"model.layers.{i}."
        for name in ("q", "k", "v", "o"):
            tensors[f"{block}self_attn.{name}_proj.weight"] = matrix(hidden, hidden)
        tensors[block + "mlp.gate_proj.weight"] = matrix(inner, hidden)
        tensors[block + "mlp.up_proj.weight"] = matrix(inner, hidden)
        tensors[block + "mlp.down_proj.weight"] = matrix(hidden, inner)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{block}{name}.weight"] = np.ones(hidden, np.float32)
    tensors["model.norm.weight"] = np.ones(hidden, np.float32)
    tensors[head] = matrix(rows or config["vocab_size"], hidden)
    return tensors


def write(folder, config, tensors, letters):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer(letters), indent=1) + "\n")
    _write_safetensors(folder / "model.safetensors", tensors)


def _write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(values.tobytes() for values in tensors.values()))


def _tokenizer(letters):
    end = {"id": 0, "content": "<end>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
           "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    vocab = {"<end>": 0} | {letter: i + 1 for i, letter in enumerate(letters)}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": []}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [end], "normalizer": None,
            "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level, "model": model}
