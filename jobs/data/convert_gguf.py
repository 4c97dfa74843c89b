"""A Llama language model in GGUF (Q4_1, Q8_0, F32) as a Hugging Face folder in fp32: NumPy and gguf, no torch.

The folder agrees with itself about one thing that GGUF files of instruct models leave open: `<|endoftext|>` is start of
text, end of text and padding, in config, generation config and tokenizer config, because the model is used on raw text.
The result is a function of the input alone, byte for byte.
"""

import json
import struct
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

from files import SetupError, committed

END_OF_TEXT = "<|endoftext|>"
CONTROL_TOKEN = 3  # value of tokenizer.ggml.token_type

TOP_NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
LAYER_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}


def hf_name(name: str) -> str:
    """blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight"""
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    block, _, rest = name.partition(".")
    layer, _, rest = rest.partition(".")
    part, _, kind = rest.partition(".")
    if block != "blk" or part not in LAYER_NAMES or kind != "weight":
        raise SetupError(f"GGUF tensor {name} is none that a Llama model with tied embeddings has")
    return f"model.layers.{layer}.{LAYER_NAMES[part]}.{kind}"


def unpermuted(rows: np.ndarray, num_heads: int) -> np.ndarray:
    """Rows of a q or k projection, [heads * dim, in]: GGUF rotates neighbours (0,1), (2,3) …, Hugging Face rotates
    halves (0, dim/2), (1, dim/2 + 1) …, so each head's rows are interleaved there and consecutive here."""
    heads = rows.reshape(num_heads, rows.shape[0] // num_heads // 2, 2, rows.shape[1])
    return heads.swapaxes(1, 2).reshape(rows.shape)


def value(reader: GGUFReader, key: str):
    field = reader.get_field(key)
    if field is None:
        raise SetupError(f"GGUF file has no {key}")
    return field.contents()


def shortest(number: float) -> float:
    """The decimal that a person wrote, of a number that was stored in fp32: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(number)))


def model_config(reader: GGUFReader) -> dict:
    if value(reader, "general.architecture") != "llama":
        raise SetupError(f"GGUF architecture {value(reader, 'general.architecture')} is not llama")
    hidden, heads = value(reader, "llama.embedding_length"), value(reader, "llama.attention.head_count")
    theta = shortest(value(reader, "llama.rope.freq_base"))
    end = value(reader, "tokenizer.ggml.tokens").index(END_OF_TEXT)
    return {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": end, "dtype": "float32", "eos_token_id": end, "head_dim": hidden // heads,
        "hidden_act": "silu", "hidden_size": hidden, "initializer_range": 0.02,
        "intermediate_size": value(reader, "llama.feed_forward_length"),
        "max_position_embeddings": value(reader, "llama.context_length"), "mlp_bias": False, "model_type": "llama",
        "num_attention_heads": heads, "num_hidden_layers": value(reader, "llama.block_count"),
        "num_key_value_heads": value(reader, "llama.attention.head_count_kv"), "pad_token_id": end,
        "rms_norm_eps": shortest(value(reader, "llama.attention.layer_norm_rms_epsilon")),
        "rope_parameters": {"rope_theta": theta, "rope_type": "default"}, "rope_theta": theta,
        "tie_word_embeddings": True, "use_cache": True, "vocab_size": value(reader, "llama.vocab_size"),
    }


def tokenizer(reader: GGUFReader) -> dict:
    """tokenizer.json: byte-level BPE of the "smollm" kind: every digit by itself, then GPT-2's pattern. The bytes that
    have no token (some control characters, parts of no assigned character) are dropped, as the model's authors do."""
    if (value(reader, "tokenizer.ggml.model"), value(reader, "tokenizer.ggml.pre")) != ("gpt2", "smollm"):
        raise SetupError("GGUF tokenizer is not a byte-level BPE of the smollm kind")
    tokens, kinds = value(reader, "tokenizer.ggml.tokens"), value(reader, "tokenizer.ggml.token_type")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": token, **flags}
                         for i, (token, kind) in enumerate(zip(tokens, kinds)) if kind == CONTROL_TOKEN],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence",
                          "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(tokens)},
                  "merges": [merge.split(" ") for merge in value(reader, "tokenizer.ggml.merges")]},
    }


def write_safetensors(path: Path, reader: GGUFReader, config: dict) -> None:
    """One tensor at a time, in the order of their names: the whole model is never in memory."""
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    tensors = sorted((hf_name(tensor.name), tensor) for tensor in reader.tensors)
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors:
        begin, end = end, end + 4 * int(np.prod(tensor.shape))
        shape = [int(size) for size in reversed(tensor.shape)]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with committed(path) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in tensors:
            values = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype="<f4")
            part = tensor.name.split(".")[-2]
            file.write((unpermuted(values, heads[part]) if part in heads else values).tobytes())


def convert(gguf: Path, folder: Path) -> None:
    reader = GGUFReader(gguf)
    config = model_config(reader)
    end = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    tokenizer_config = {
        "add_prefix_space": False, "bos_token": END_OF_TEXT, "clean_up_tokenization_spaces": False,
        "eos_token": END_OF_TEXT, "model_max_length": config["max_position_embeddings"], "pad_token": END_OF_TEXT,
        "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": None,
    }
    write_safetensors(folder / "model.safetensors", reader, config)
    for name, content, indent in (("config.json", config, 2), ("generation_config.json", end, 2),
                                  ("tokenizer.json", tokenizer(reader), None),
                                  ("tokenizer_config.json", tokenizer_config, 2)):
        with committed(folder / name) as file:
            file.write((json.dumps(content, indent=indent, ensure_ascii=False) + "\n").encode())
