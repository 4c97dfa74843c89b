"""Reads what the C++ test wrote into a folder, with h5py, numpy and safetensors; a wrong value ends in an AssertionError."""

import hashlib
import json
import pathlib
import sys

import h5py
import numpy as np
from safetensors.numpy import load_file

folder = pathlib.Path(sys.argv[1])


def texts(dataset):
    return [value.decode("utf-8") for value in dataset[:]]


def check_guard(path):
    content = path.read_bytes()
    line = b"vbon: sha256 of the bytes from 512 on: " + hashlib.sha256(content[512:]).hexdigest().encode()
    assert content[:512] == line.ljust(512, b"\n"), path


def check_common(file, name):
    attributes = file.attrs
    assert attributes["format"] == name and attributes["schema_version"] == 1
    assert len(attributes["content_sha256"]) == 64
    assert json.loads(attributes["library_versions"])["hdf5"]
    for key in ("created_utc", "vbon_version", "config", "seed", "attempt", "dtype", "threads_per_rank", "device"):
        assert key in attributes, key


def check_samples(file, num_prompts, num_samples, length):
    assert file["prompt/id"].dtype == np.int64 and list(file["prompt/id"]) == [1000 + p for p in range(num_prompts)]
    for text, sha256 in zip(texts(file["prompt/text"]), texts(file["prompt/text_sha256"])):
        assert hashlib.sha256(text.encode("utf-8")).hexdigest() == sha256
    assert texts(file["prompt/text"])[1] == "prompt 1 \u00e9\n"
    offset = file["prompt/offset"][:]
    assert offset.dtype == np.int64 and list(np.diff(offset)) == [p % 4 + 1 for p in range(num_prompts)]
    assert file["prompt/tokens"].dtype == np.int32 and len(file["prompt/tokens"]) == offset[-1]
    tokens, lengths, finished = (file["sample/" + name][:] for name in ("tokens", "length", "finished"))
    assert tokens.dtype == np.int32 and tokens.shape == (num_prompts, num_samples, length)
    assert lengths.dtype == np.int32 and finished.dtype == np.uint8
    after = np.arange(length) >= lengths[:, :, None]
    assert (tokens[after] == -1).all() and (tokens[~after] >= 0).all()
    last = np.take_along_axis(tokens, lengths[:, :, None] - 1, axis=2)[:, :, 0]
    assert ((last == 0) == (finished == 1)).all()
    assert file["sample/logp_reference"].dtype == np.float32
    assert (file["sample/logp_reference"][:] == -0.5 * lengths).all()
    assert file["reward/main/value"].dtype == np.float32


for path in folder.glob("*.h5"):
    check_guard(path)

with h5py.File(folder / "pool.h5") as file:
    check_common(file, "vbon.pool")
    check_samples(file, 6, 4, 5)
    attributes = file.attrs
    assert attributes["temperature"] == 0.7 and attributes["max_new_tokens"] == 5 and attributes["num_samples"] == 4
    assert list(attributes["eos_ids"]) == [0] and attributes["ties"] == "uniform"
    assert attributes["reward_output"] == "log_prob" and attributes["reward_round"] == 1e-5 and attributes["seconds"] == 1.25
    assert attributes["reference_sha256"] == "a" * 64 and "pool_sha256" not in attributes
    for name in ("main", "evaluator"):
        assert (np.sort(file[f"reward/{name}/value"][:], axis=1) == file[f"logf/{name}/sorted_reward"][:]).all()

with h5py.File(folder / "rollouts.h5") as file:
    check_common(file, "vbon.rollouts")
    assert file.attrs["step"] == 7
    types = {
        "int64": ["prompt_id"],
        "int32": ["sample", "weights_version", "attempt", "tokens", "length"],
        "uint8": ["source", "finished", "at_floor", "at_ceiling"],
        "float32": ["logp_behavior", "logp_reference", "kl", "entropy", "value", "advantage", "returns", "prefix_reward", "reward", "log_f",
                    "evaluator"],
    }
    matrices = {"tokens", "logp_behavior", "logp_reference", "kl", "entropy", "value", "advantage", "returns", "prefix_reward"}
    assert sorted(file) == sorted(sum(types.values(), []))
    for dtype, names in types.items():
        for name in names:
            assert file[name].dtype == dtype and file[name].shape == ((12, 5) if name in matrices else (12,)), name
    after = np.arange(5) >= file["length"][:][:, None]
    assert (np.isnan(file["logp_behavior"][:]) == after).all() and (file["tokens"][:][after] == -1).all()
    assert np.isnan(file["value"][:]).all() and (file["at_floor"][:] == 1).all()

with h5py.File(folder / "metrics.h5") as file:
    check_common(file, "vbon.metrics")
    assert file["step"].dtype == np.int64 and list(file["step"]) == [1, 2] and list(file["tokens"]) == [900, 1800]
    assert list(file["episodes"]) == [64, 128]
    assert file["reward"].dtype == np.float64 and list(file["reward"]) == [0.1, 0.2]
    assert np.isnan(file["kl"][0]) and file["kl"][1] == 0.25
    assert file["time/idle"].shape == (2, 2) and np.isnan(file["time/idle"][0, 1])
lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
assert lines[1] == {"step": 2, "episodes": 128, "tokens": 1800, "reward": 0.2, "kl": 0.25, "time": {"idle": [0.5, 1.0]}}

with h5py.File(folder / "eval.h5") as file:
    check_common(file, "vbon.eval")
    check_samples(file, 3, 4, 5)
    attributes = file.attrs
    assert attributes["method"] == "vbon" and attributes["N"] == 4.0 and attributes["beta"] == 1 / 3
    assert [attributes[f"{kind}_seed"] for kind in ("training", "evaluation", "bootstrap")] == [1, 2, 3]
    assert attributes["checkpoint_sha256"] == "f" * 64 and attributes["checkpoint_step"] == 32
    assert attributes["pool_sha256"] == "e" * 64 and attributes["temperature"] == 0.7
    assert file["sample/kl"].dtype == np.float32 and file["sample/kl"].shape == (3, 4)
    assert list(file["win"]) == [0.25, 0.5, 1.0]
    assert list(file["bon/N"]) == [1, 2, 4] and list(file["bon/win"]) == [0.5, 0.66, 0.8]
    assert sorted(file["bon"]) == ["N", "kl", "reward", "se", "win"]
    assert file["summary"].attrs["win"] == 0.58 and np.isnan(file["summary"].attrs["evaluator"])

with h5py.File(folder / "large.h5") as file:
    assert np.prod(file["x"].chunks) * 8 <= 4 << 20 and (file["x"][:] == 0.5).all()

tensors = load_file(folder / "model.safetensors")
assert tensors["w"].dtype == np.float32 and (tensors["w"] == [[1, 2, 3], [4, 5, 6]]).all()
