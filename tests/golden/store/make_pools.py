"""Writes pool_h5py.h5, a pool as h5py writes it, and refused/*.h5: the same with one thing that readers must refuse."""

import hashlib
import pathlib

import h5py
import numpy as np

here = pathlib.Path(__file__).parent
rewards = np.array([[-1, -2, -0.5], [0.25, 0.25, -3]], dtype=np.float32)
texts = ["a film", "caf\u00e9 \U0001f3ac"]


def write(path, skip=()):
    with h5py.File(path, "w") as file:
        file.attrs.update(
            {
                "format": "vbon.pool", "schema_version": 1, "temperature": 0.7, "max_new_tokens": 3, "num_samples": 3,
                "eos_ids": np.array([0]), "ties": "uniform", "reward_output": "log_prob", "reward_round": 1e-5,
                "seconds": 0.0,
            }
        )
        data = {
            "prompt/id": np.array([5, 9]),
            "prompt/tokens": np.array([3, 4, 5, 6, 7], dtype=np.int32),
            "prompt/offset": np.array([0, 2, 5]),
            "sample/tokens": np.array(
                [[[11, 0, -1], [11, 12, 13], [0, -1, -1]], [[8, 8, 0], [9, 0, -1], [9, 9, 9]]], dtype=np.int32
            ),
            "sample/length": np.array([[2, 3, 1], [3, 2, 3]], dtype=np.int32),
            "sample/finished": np.array([[1, 0, 1], [1, 1, 0]], dtype=np.uint8),
            "sample/logp_reference": np.full((2, 3), -1.5, dtype=np.float32),
            "reward/main/value": rewards,
            "logf/main/sorted_reward": np.sort(rewards, axis=1),
        }
        for name, values in data.items():
            if name not in skip:
                file[name] = values
        file["prompt/text"] = texts
        file["prompt/text_sha256"] = [hashlib.sha256(text.encode("utf-8")).hexdigest() for text in texts]


def refused(name, change, skip=("sample/logp_reference",)):
    path = here / "refused" / name
    write(path, skip)
    with h5py.File(path, "r+") as file:
        change(file)


logp = np.full((2, 3), -1.5, dtype=np.float32)
virtual = h5py.VirtualLayout((2, 3), np.float32)
virtual[:] = h5py.VirtualSource("../pool_h5py.h5", "sample/logp_reference", (2, 3))

(here / "refused").mkdir(exist_ok=True)
write(here / "pool_h5py.h5")
refused("gzip.h5", lambda f: f.create_dataset("sample/logp_reference", data=logp, compression="gzip"))
refused("external_storage.h5", lambda f: f.create_dataset(
    "sample/logp_reference", (2, 3), np.float32, external=[("/proc/self/environ", 0, 24)]))
refused("external_link.h5", lambda f: f["sample"].__setitem__(
    "logp_reference", h5py.ExternalLink("../pool_h5py.h5", "sample/logp_reference")))
refused("soft_link.h5", lambda f: f["sample"].__setitem__("logp_reference", h5py.SoftLink("/reward/main/value")))
refused("virtual.h5", lambda f: f.create_virtual_dataset("sample/logp_reference", virtual))
refused("sparse.h5", lambda f: f.create_dataset("sample/logp_reference", (2, 1 << 40), np.float32, chunks=(1, 1024)))
refused("wrong_type.h5", lambda f: f.create_dataset("sample/logp_reference", data=logp.astype(np.float64)))
refused("newer_schema.h5", lambda f: f.attrs.__setitem__("schema_version", 2), skip=())


# Groups that lead back to the root, and text in two dimensions: nobody asks for them, but the checksum goes over all.
refused("circle.h5", lambda f: [f.__setitem__(f"again{i}", f["/"]) for i in range(20)], skip=())
refused("text_matrix.h5", lambda f: f.__setitem__("more", [["a", "b"], ["c", "d"]]), skip=())


def nan_reward(file):
    file["reward/main/value"][0, 0] = np.nan


refused("nan_reward.h5", nan_reward, skip=())
