"""Writes pytorch_bin/: small pytorch_model.bin files as torch.save makes them, in both of its formats and in two shards,
and what is in them as the safetensors library writes it (expected.safetensors).

    python make_pytorch_bin.py        needs torch, safetensors
"""

import json
import pathlib
import shutil
from collections import OrderedDict

import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent / "pytorch_bin"


def tensors():
    torch.manual_seed(3)
    matrix, cube = torch.randn(5, 7), torch.randn(3, 4, 2)
    return OrderedDict({
        "matrix": matrix,
        "tied": matrix,  # one storage
        "transposed": matrix.t(),
        "slice": matrix[1:4, 2:5],
        "every_other": cube[:, ::2, 1],
        "expanded": torch.randn(1, 3).expand(4, 3),
        "row_of_expanded": torch.randn(3, 1).expand(3, 6),
        "half": torch.randn(4, 3).half().t(),
        "bfloat16": torch.randn(2, 9).bfloat16()[:, 1::3],
        "double": torch.randn(3, dtype=torch.float64),
        "long": torch.tensor(-7),
        "int": torch.arange(4, dtype=torch.int32),
        "bool": torch.tensor([True, False, True]),
        "byte": torch.arange(3, dtype=torch.uint8),
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
    })


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    for name in ("zip", "plain", "shards"):
        (HERE / name).mkdir(parents=True)
    state = tensors()
    torch.save(state, HERE / "zip/pytorch_model.bin")
    torch.save(state, HERE / "plain/pytorch_model.bin", _use_new_zipfile_serialization=False)
    shards = {f"pytorch_model-0000{k + 1}-of-00002.bin": dict(list(state.items())[k::2]) for k in range(2)}
    for file, part in shards.items():
        torch.save(part, HERE / "shards" / file)
    index = {"metadata": {"total_size": 0}, "weight_map": {name: file for file, part in shards.items() for name in part}}
    (HERE / "shards/pytorch_model.bin.index.json").write_text(json.dumps(index, indent=1) + "\n")
    save_file({name: t.detach().contiguous().clone() for name, t in state.items()}, HERE / "expected.safetensors")


if __name__ == "__main__":
    main()
