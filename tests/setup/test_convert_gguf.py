"""The conversion on a small GGUF file whose blocks are packed here, number by number."""

import json
import struct

import numpy as np
import pytest
from convert_gguf import convert, hf_name, shortest, unpermuted
from files import SetupError
from gguf import GGMLQuantizationType, GGUFWriter
from tokenizers import Tokenizer

HIDDEN, HEADS, KV_HEADS, FEED_FORWARD, LAYERS = 64, 4, 2, 96, 2
BYTES = [chr(c) for c in [*range(33, 127), *range(161, 173), *range(174, 256)]] + [chr(256 + i) for i in range(68)]
TOKENS = ["<|endoftext|>", "<|im_start|>", *BYTES, "Ġa", "11"]
MERGES = ["Ġ a", "1 1"]


def pack(values: np.ndarray, kind: str) -> np.ndarray:
    """[rows, columns] fp32 -> the bytes of its Q8_0 or Q4_1 blocks of 32, [rows, bytes]."""
    rows = []
    for row in values.reshape(values.shape[0], -1, 32):
        content = b""
        for block in row:
            if kind == "Q8_0":
                scale = np.float16(np.abs(block).max() / 127)
                content += scale.tobytes() + np.round(block / np.float32(scale)).astype(np.int8).tobytes()
            else:
                scale, low = np.float16((block.max() - block.min()) / 15), np.float16(block.min())
                code = np.clip(np.round((block - np.float32(low)) / np.float32(scale)), 0, 15).astype(np.uint8)
                content += scale.tobytes() + low.tobytes() + (code[:16] | code[16:] << 4).tobytes()
        rows.append(np.frombuffer(content, dtype=np.uint8))
    return np.stack(rows)


def unpack(packed: np.ndarray, kind: str) -> np.ndarray:
    """The definition of the two formats, in scalars."""
    rows = []
    for row in packed:
        content, values = row.tobytes(), []
        for begin in range(0, len(content), 34 if kind == "Q8_0" else 20):
            if kind == "Q8_0":
                scale, *codes = struct.unpack_from("<e32b", content, begin)
                values += [np.float32(scale) * np.float32(code) for code in codes]
            else:
                scale, low, *codes = struct.unpack_from("<ee16B", content, begin)
                for code in [c & 15 for c in codes] + [c >> 4 for c in codes]:
                    values.append(np.float32(scale) * np.float32(code) + np.float32(low))
        rows.append(values)
    return np.array(rows, dtype=np.float32)


def read_safetensors(path) -> dict[str, np.ndarray]:
    content = path.read_bytes()
    size, = struct.unpack_from("<Q", content)
    header, body = json.loads(content[8:8 + size]), content[8 + size:]
    assert header.pop("__metadata__") == {"format": "pt"}
    assert sum(np.prod(entry["shape"]) * 4 for entry in header.values()) == len(body)
    return {name: np.frombuffer(body[slice(*entry["data_offsets"])], dtype="<f4").reshape(entry["shape"])
            for name, entry in header.items()}


def write_gguf(path, architecture="llama", pre="smollm", extra=None) -> dict[str, np.ndarray]:
    """Writes the file; returns what each tensor's values are by definition, under its GGUF name."""
    random = np.random.default_rng(7)
    writer, truth = GGUFWriter(path, architecture), {}
    writer.add_embedding_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_rope_freq_base(100000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3] + [1] * (len(TOKENS) - 2))
    writer.add_token_merges(MERGES)
    shapes = {"token_embd": (len(TOKENS), HIDDEN), "output_norm": (HIDDEN,)}
    kv = HIDDEN // HEADS * KV_HEADS
    for layer in range(LAYERS):
        for part, shape in {"attn_norm": (HIDDEN,), "attn_q": (HIDDEN, HIDDEN), "attn_k": (kv, HIDDEN),
                            "attn_v": (kv, HIDDEN), "attn_output": (HIDDEN, HIDDEN), "ffn_norm": (HIDDEN,),
                            "ffn_gate": (FEED_FORWARD, HIDDEN), "ffn_up": (FEED_FORWARD, HIDDEN),
                            "ffn_down": (HIDDEN, FEED_FORWARD)}.items():
            shapes[f"blk.{layer}.{part}"] = shape
    if extra:
        shapes[extra] = (HIDDEN,)
    for name, shape in shapes.items():
        values = random.standard_normal(shape).astype(np.float32)
        if len(shape) == 1:
            truth[name] = values
            writer.add_tensor(f"{name}.weight", values)
            continue
        kind = "Q8_0" if name == "token_embd" else "Q4_1"
        packed = pack(values, kind)
        truth[name] = unpack(packed, kind)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return truth


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    truth = write_gguf(folder / "model.gguf")
    convert(folder / "model.gguf", folder / "model")
    return folder / "model", truth


def test_weights_are_those_of_the_definition(converted):
    folder, truth = converted
    tensors = read_safetensors(folder / "model.safetensors")
    assert len(tensors) == len(truth) == 2 + 9 * LAYERS
    for name, values in truth.items():
        actual = tensors[hf_name(f"{name}.weight")]
        heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(name.rpartition(".")[2])
        if heads:  # head h: rows 0, 2, 4 … then rows 1, 3, 5 … of its own
            values = np.concatenate([half for head in np.split(values, heads) for half in (head[0::2], head[1::2])])
        np.testing.assert_array_equal(actual, values)


def rotated(vector, position, pairs):
    """RoPE of one head: each pair of components is turned by position / 100000^(2i/dim)."""
    out = vector.copy()
    for i, (a, b) in enumerate(pairs):
        angle = position / 100000.0 ** (2 * i / len(vector))
        out[a] = vector[a] * np.cos(angle) - vector[b] * np.sin(angle)
        out[b] = vector[b] * np.cos(angle) + vector[a] * np.sin(angle)
    return out


def test_scores_of_neighbour_and_half_rotation_agree_after_unpermuting():
    random, dim = np.random.default_rng(1), 8
    q, k, x, y = (random.standard_normal(shape) for shape in ((dim, 5), (dim, 5), (5,), (5,)))
    neighbours = [(2 * i, 2 * i + 1) for i in range(dim // 2)]
    halves = [(i, i + dim // 2) for i in range(dim // 2)]
    expected = rotated(q @ x, 11, neighbours) @ rotated(k @ y, 4, neighbours)
    actual = rotated(unpermuted(q, 1) @ x, 11, halves) @ rotated(unpermuted(k, 1) @ y, 4, halves)
    assert actual == pytest.approx(expected, rel=1e-12)
    assert rotated(q @ x, 11, halves) @ rotated(k @ y, 4, halves) != pytest.approx(expected, rel=1e-3)


def test_all_files_agree_on_start_end_and_padding(converted):
    folder, _ = converted
    config, generation, tokenizer = (json.loads((folder / name).read_text(encoding="utf-8")) for name in
                                     ("config.json", "generation_config.json", "tokenizer_config.json"))
    for key in ("bos", "eos", "pad"):
        assert config[f"{key}_token_id"] == generation[f"{key}_token_id"] == 0
        assert tokenizer[f"{key}_token"] == TOKENS[0]
    assert config["rope_parameters"] == {"rope_theta": 100000.0, "rope_type": "default"}
    assert (config["hidden_size"], config["num_attention_heads"], config["num_key_value_heads"]) == (64, 4, 2)
    assert (config["head_dim"], config["vocab_size"], config["rms_norm_eps"]) == (16, len(TOKENS), 1e-5)


def test_tokenizer_splits_digits_and_knows_special_tokens(converted):
    tokenizer = Tokenizer.from_file(str(converted[0] / "tokenizer.json"))
    one, a = TOKENS.index("1"), TOKENS.index("Ġa")
    assert tokenizer.encode("1111").ids == [one] * 4  # although there is a token for 11
    assert tokenizer.encode("1 a<|endoftext|>1").ids == [one, a, 0, one]
    for text in ("naïve 42 — ✓", " two  spaces\n", "x<|im_start|>y"):
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_transformers_reads_the_folder_as_it_is(converted):
    # transformers imports torch, which a machine without cuDNN and its like cannot.
    pytest.importorskip("torch", exc_type=ImportError, reason="Python cannot import torch here")
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(converted[0])
    assert tokenizer("1 a")["input_ids"] == [TOKENS.index("1"), TOKENS.index("Ġa")]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 0, 0)
    config = transformers.AutoConfig.from_pretrained(converted[0])
    assert config.rope_parameters == {"rope_theta": 100000.0, "rope_type": "default"}


def test_result_is_the_same_every_time(converted, tmp_path):
    folder, _ = converted
    convert(folder.parent / "model.gguf", tmp_path)
    for file in folder.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("change, message", [
    ({"architecture": "gpt2"}, "architecture gpt2 is not llama"), ({"pre": "llama-bpe"}, "smollm kind"),
    ({"extra": "blk.0.attn_sinks"}, "blk.0.attn_sinks.weight")])
def test_other_models_are_refused_by_name(tmp_path, change, message):
    if change.get("architecture"):
        writer = GGUFWriter(tmp_path / "model.gguf", change["architecture"])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    else:
        write_gguf(tmp_path / "model.gguf", **change)
    with pytest.raises(SetupError, match=message):
        convert(tmp_path / "model.gguf", tmp_path / "model")


def test_shortest_decimal_is_the_same_number_in_fp32():
    for number in (1e-5, 1e-6, 100000.0, 0.1, 500000.0):
        assert shortest(float(np.float32(number))) == number
