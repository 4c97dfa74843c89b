#!/usr/bin/env python3
"""Writes model.safetensors beside the pytorch_model.bin of a model folder (with an index: one file for each shard).

    python3 jobs/convert-weights.py FOLDER

Needs Python alone. A .bin file is a pickle, which can run programs when it is read in the ordinary way; here it can name
tensors and storages and nothing else. Both of torch's formats are read: the zip archive, and the older plain one.
"""

import itertools
import json
import os
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from data.files import committed

PLAIN_MAGIC, PLAIN_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class ConversionError(Exception):
    """What is wrong with the input; the message names the file."""


class DType(NamedTuple):
    name: str  # as in safetensors
    code: str  # of a memoryview with items of that size
    size: int


STORAGES = {
    "DoubleStorage": DType("F64", "Q", 8), "LongStorage": DType("I64", "Q", 8), "FloatStorage": DType("F32", "I", 4),
    "IntStorage": DType("I32", "I", 4), "HalfStorage": DType("F16", "H", 2), "BFloat16Storage": DType("BF16", "H", 2),
    "ShortStorage": DType("I16", "H", 2), "CharStorage": DType("I8", "B", 1), "ByteStorage": DType("U8", "B", 1),
    "BoolStorage": DType("BOOL", "B", 1),
}


class Storage(NamedTuple):
    key: str
    dtype: DType
    count: int


class Tensor(NamedTuple):
    storage: Storage
    offset: int
    shape: tuple
    stride: tuple

    @classmethod
    def rebuilt(cls, storage, offset, shape, stride, *_):
        shape, stride = tuple(shape), tuple(stride)
        whole = all(isinstance(n, int) and n >= 0 for n in (offset, *shape, *stride))
        if not (isinstance(storage, Storage) and whole and len(shape) == len(stride)):
            raise ConversionError("a tensor without a storage, or with a shape or strides that are none")
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride))
        if 0 not in shape and last >= storage.count:
            raise ConversionError(f"a tensor of shape {list(shape)} that does not lie within its storage")
        return cls(storage, offset, shape, stride)

    def count(self):
        count = 1
        for n in self.shape:
            count *= n
        return count

    def values(self, content):
        """The tensor's items in order, as bytes, out of its storage's."""
        if self.count() == 0:
            return b""
        items, dense, run = memoryview(content).cast(self.storage.dtype.code), True, 1
        for n, step in zip(reversed(self.shape), reversed(self.stride)):
            dense, run = dense and (step == run or n == 1), run * n
        if dense:
            return items[self.offset:self.offset + run].tobytes()
        *outer, (length, step) = zip(self.shape, self.stride)
        rows = []
        for place in itertools.product(*(range(0, n * s, s) if s else [0] * n for n, s in outer)):
            begin = self.offset + sum(place)
            rows.append(items[begin:begin + (length - 1) * step + 1:step].tobytes() if step else
                        items[begin:begin + 1].tobytes() * length)
        return b"".join(rows)


class Names(pickle.Unpickler):
    """A pickle that may name tensors, and nothing that does anything."""

    def find_class(self, module, name):
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        allowed = {("collections", "OrderedDict"): OrderedDict,
                   ("torch._utils", "_rebuild_tensor"): Tensor.rebuilt,
                   ("torch._utils", "_rebuild_tensor_v2"): Tensor.rebuilt,
                   ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor}
        if (module, name) not in allowed:
            raise ConversionError(f"it names {module}.{name}, which weights have no need of")
        return allowed[module, name]

    def persistent_load(self, saved):
        kind, dtype, key, _, count, *view = saved
        if kind != "storage" or not isinstance(dtype, DType) or view not in ([], [None]):
            raise ConversionError("it holds something that is no storage of a tensor")
        return Storage(str(key), dtype, int(count))


class Zip:
    """Torch's format since 1.6: FOLDER/data.pkl, and FOLDER/data/KEY for each storage."""

    def __init__(self, file):
        self.archive = zipfile.ZipFile(file)
        names = [name for name in self.archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise ConversionError("it is no archive of torch's: there is no data.pkl in it")
        self.root = names[0][:-len("data.pkl")]
        if self.root + "byteorder" in self.archive.namelist() and self.archive.read(self.root + "byteorder") != b"little":
            raise ConversionError("its numbers are not little endian")
        with self.archive.open(names[0]) as data:
            self.state = Names(data).load()

    def read(self, storage):
        return self.archive.read(f"{self.root}data/{storage.key}")


class Plain:
    """The older format: a few pickles, then each storage's length and content, in the order of a list of keys."""

    def __init__(self, file):
        self.file = file
        if Names(file).load() != PLAIN_MAGIC or Names(file).load() != PLAIN_PROTOCOL:
            raise ConversionError("it is no file of torch's")
        if not Names(file).load().get("little_endian", True):
            raise ConversionError("its numbers are not little endian")
        self.state = Names(file).load()
        sizes = {t.storage.key: t.storage for t in self.state.values() if isinstance(t, Tensor)}
        self.place = {}
        for key in Names(file).load():
            count, = struct.unpack("<q", file.read(8))
            if key not in sizes or count != sizes[key].count:
                raise ConversionError(f"storage {key} is of another size than its tensors say")
            self.place[key] = file.tell()
            file.seek(count * sizes[key].dtype.size, os.SEEK_CUR)

    def read(self, storage):
        self.file.seek(self.place[storage.key])
        return self.file.read(storage.count * storage.dtype.size)


def write_safetensors(path, tensors, read):
    """Widest items first, then by name: so everything is aligned. One storage at a time is in memory."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    order = sorted(tensors.items(), key=lambda item: (-item[1].storage.dtype.size, item[0]))
    for name, tensor in order:
        begin, end = end, end + tensor.count() * tensor.storage.dtype.size
        header[name] = {"dtype": tensor.storage.dtype.name, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with committed(path) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, tensor in order:
            content = read(tensor.storage) if tensor.count() else b""
            if tensor.count() and len(content) != tensor.storage.count * tensor.storage.dtype.size:
                raise ConversionError(f"the storage of '{name}' is cut short")
            file.write(tensor.values(content))


def convert(source, target):
    """One .bin file; returns the names of its tensors."""
    try:
        with open(source, "rb") as file:
            is_zip = file.read(4) == b"PK\3\4"
            file.seek(0)
            content = Zip(file) if is_zip else Plain(file)
            tensors = content.state
            if not isinstance(tensors, dict) or not tensors:
                raise ConversionError("it holds no dictionary of tensors")
            for name, tensor in tensors.items():
                if not (isinstance(name, str) and isinstance(tensor, Tensor)):
                    raise ConversionError(f"'{name}' is no tensor")
            write_safetensors(target, tensors, content.read)
            return list(tensors)
    except ConversionError as error:
        raise ConversionError(f"'{source}': {error}") from None
    except (pickle.UnpicklingError, zipfile.BadZipFile, struct.error, EOFError, KeyError, AttributeError, TypeError,
            ValueError, IndexError) as error:
        raise ConversionError(f"'{source}' is damaged or no file of torch's ({type(error).__name__}: {error})") from None


def convert_shards(folder, index_file):
    try:
        index = json.loads(index_file.read_text())["weight_map"]
        shards = sorted(set(index.values()))
        if any(Path(shard).name != shard for shard in shards):
            raise ValueError("a shard lies outside the folder")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConversionError(f"'{index_file}' is no index of shards: {error}") from None
    names = {shard: shard.replace("pytorch_model", "model").removesuffix(".bin") + ".safetensors" for shard in shards}
    for shard in shards:
        held = convert(folder / shard, folder / names[shard])
        missing = [name for name, place in index.items() if place == shard and name not in held]
        if missing:
            raise ConversionError(f"'{folder / shard}' does not hold '{missing[0]}', which {index_file.name} says it holds")
        print(f"{shard} -> {names[shard]}")
    size = sum((folder / name).stat().st_size for name in names.values())
    text = json.dumps({"metadata": {"total_size": size},
                       "weight_map": {name: names[shard] for name, shard in index.items()}}, indent=2)
    with committed(folder / "model.safetensors.index.json") as file:
        file.write(text.encode() + b"\n")


def main(arguments):
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    folder = Path(arguments[0])
    single, index = folder / "pytorch_model.bin", folder / "pytorch_model.bin.index.json"
    try:
        if (folder / "model.safetensors").exists() or (folder / "model.safetensors.index.json").exists():
            print(f"'{folder}' has its weights in safetensors: nothing to do")
        elif single.exists():
            convert(single, folder / "model.safetensors")
            print("pytorch_model.bin -> model.safetensors")
        elif index.exists():
            convert_shards(folder, index)
        else:
            raise ConversionError(f"'{folder}' has neither {single.name} nor {index.name}")
    except (ConversionError, OSError) as error:
        print(f"convert-weights: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
