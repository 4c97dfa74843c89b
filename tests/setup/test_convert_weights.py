"""jobs/convert-weights.py against what torch.save and the safetensors library wrote (golden/store/make_pytorch_bin.py)."""

import json
import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/store/pytorch_bin"


def converted(folder):
    return subprocess.run([sys.executable, str(ROOT / "jobs/convert-weights.py"), str(folder)], capture_output=True,
                          text=True)


def tensors_of(path):
    """Name -> dtype, shape, bytes."""
    content = path.read_bytes()
    size, = struct.unpack_from("<Q", content)
    header, body = json.loads(content[8:8 + size]), content[8 + size:]
    assert header.pop("__metadata__", {"format": "pt"}) == {"format": "pt"}
    return {name: (entry["dtype"], entry["shape"], body[slice(*entry["data_offsets"])]) for name, entry in header.items()}


@pytest.fixture
def folder(tmp_path, request):
    return Path(shutil.copytree(GOLDEN / request.param, tmp_path / request.param))


@pytest.mark.parametrize("folder", ["zip", "plain"], indirect=True)
def test_tensors_are_those_that_torch_saved(folder):
    run = converted(folder)
    assert run.returncode == 0, run.stderr
    expected = tensors_of(GOLDEN / "expected.safetensors")
    assert len(expected) == 16
    assert tensors_of(folder / "model.safetensors") == expected
    before = (folder / "model.safetensors").read_bytes()
    assert "nothing to do" in converted(folder).stdout
    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("folder", ["shards"], indirect=True)
def test_shards_get_an_index_of_their_own(folder):
    run = converted(folder)
    assert run.returncode == 0, run.stderr
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(index.values()) == {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    shards = {shard: tensors_of(folder / shard) for shard in set(index.values())}
    assert {name: shards[shard][name] for name, shard in index.items()} == tensors_of(GOLDEN / "expected.safetensors")


class Program:
    def __reduce__(self):
        return exec, ("open('ran', 'w')",)


@pytest.mark.parametrize("folder", ["zip", "plain"], indirect=True)
def test_what_is_no_weights_is_refused_and_never_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    file = folder / "pytorch_model.bin"
    whole = file.read_bytes()

    def refused(content, *words):
        file.write_bytes(content)
        run = converted(folder)
        assert run.returncode == 2 and "Traceback" not in run.stderr, run.stderr
        assert all(word in run.stderr for word in (str(file), *words)), run.stderr
        assert [path.name for path in folder.iterdir()] == ["pytorch_model.bin"]

    refused(pickle.dumps(Program()), "builtins.exec")
    refused(pickle.dumps(0x1950A86A20F9469CFC6C) + pickle.dumps(1001) + pickle.dumps(Program()), "builtins.exec")
    refused(b"")
    refused(b"no weights")
    for length in (20, len(whole) // 2, len(whole) - 30):
        refused(whole[:length])


def test_a_folder_without_weights_is_named(tmp_path):
    run = converted(tmp_path)
    assert run.returncode == 2 and str(tmp_path) in run.stderr and "pytorch_model.bin" in run.stderr
