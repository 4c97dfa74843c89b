"""One HDF5 file, read without trust: checksum, format and schema are checked when it is opened, every dataset's type,
shape and storage when it is read. Every fault is an InputError that names the file.

Refused because they lead out of the file or run code: soft and external links, external and virtual storage, filters.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .errors import InputError

ANY = -1  # in a shape: any size
GUARD = b"vbon: sha256 of the bytes from 512 on: "
GUARD_BYTES = 512
REQUIRED: Any = object()


@contextmanager
def open_h5(path: Path, wanted: str, newest: int = 1) -> Iterator["H5Source"]:
    """The file, checked to be of format `wanted` ("vbon.pool") in a schema version up to `newest`."""
    if not path.exists():
        raise InputError(f"'{path}' does not exist")
    if not path.is_file():
        raise InputError(f"'{path}' is no plain file; an HDF5 file is needed here")
    with _named_faults(path):
        _check_guard(path)
        with h5py.File(path, "r", locking=False) as file:
            source = H5Source(path, file)
            source.check_kind(wanted, newest)
            yield source


def format_of(path: Path) -> str:
    """The `format` attribute of any HDF5 file."""
    with _named_faults(path), h5py.File(path, "r", locking=False) as file:
        return H5Source(path, file).text("format")


@contextmanager
def _named_faults(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, UnicodeError, MemoryError) as fault:
        if isinstance(fault, PermissionError):
            raise InputError(f"'{path}' cannot be read: {fault.strerror}") from fault
        raise InputError(f"'{path}' is truncated, damaged or no HDF5 file; make it again") from fault


def _check_guard(path: Path) -> None:
    """Files of vbon begin with the SHA-256 of their other bytes; files of other programs may have none."""
    with open(path, "rb") as file:
        head = file.read(GUARD_BYTES)
        if not head.startswith(GUARD):
            return
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    if head != (GUARD + digest.hexdigest().encode()).ljust(GUARD_BYTES, b"\n"):
        raise InputError(f"'{path}' is truncated or damaged: its bytes are not those that were written; make it again")


class H5Source:
    """An open file. Names of datasets may be paths ("prompt/text")."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self._file = file
        self._bytes = path.stat().st_size

    def check_kind(self, wanted: str, newest: int) -> None:
        found, version = self.text("format"), self.integer("schema_version")
        if found != wanted:
            raise InputError(f"'{self.path}' is a '{found}' file; a '{wanted}' file is needed here")
        if not 1 <= version <= newest:
            raise InputError(
                f"'{self.path}' has schema version {version} of '{wanted}'; this program reads versions 1 to {newest}: "
                "use a newer one"
            )

    def attribute(self, name: str, default: Any = REQUIRED, group: str = "/") -> Any:
        """Any attribute, as h5py gives it; `default` where it is missing."""
        attributes = self._file[group].attrs
        if name not in attributes:
            if default is REQUIRED:
                raise InputError(f"'{self.path}' has no attribute '{name}': it was not written by vbon or is damaged")
            return default
        value = attributes[name]
        return value.decode("utf-8") if isinstance(value, bytes) else value

    def text(self, name: str, default: Any = REQUIRED) -> str:
        value = self.attribute(name, default)
        if not isinstance(value, str):
            raise InputError(f"'{self.path}': attribute '{name}' is no text")
        return value

    def number(self, name: str, default: Any = REQUIRED, group: str = "/") -> float:
        value = self.attribute(name, default, group)
        if np.ndim(value) != 0 or np.asarray(value).dtype.kind not in "iuf":
            raise InputError(f"'{self.path}': attribute '{name}' is no number")
        return float(value)

    def integer(self, name: str, default: Any = REQUIRED) -> int:
        value = self.attribute(name, default)
        if np.ndim(value) != 0 or np.asarray(value).dtype.kind not in "iu":
            raise InputError(f"'{self.path}': attribute '{name}' is no whole number")
        return int(value)

    def attribute_names(self, group: str = "/") -> list[str]:
        return sorted(self._file[group].attrs)

    def has(self, name: str) -> bool:
        return self._object(name) is not None

    def members(self, group: str = "") -> list[str]:
        """Names directly in a group, in name order; none where there is no such group."""
        found = self._file if group == "" else self._object(group)
        return sorted(found) if isinstance(found, h5py.Group) else []

    def is_group(self, name: str) -> bool:
        return isinstance(self._object(name), h5py.Group)

    def array(self, name: str, dtype: str, shape: tuple[int, ...], rows: list[int] | None = None) -> np.ndarray:
        """A dataset of this type ("int32", "float64") and shape (ANY: any size); `rows`: those alone, ascending."""
        dataset = self.dataset(name, shape)
        if dataset.dtype.newbyteorder("=") != np.dtype(dtype):
            raise InputError(f"'{self.path}': dataset '{name}' is {dataset.dtype} where {dtype} is needed")
        return (dataset[()] if rows is None else dataset[rows]).astype(dtype, copy=False)

    def texts(self, name: str, count: int) -> list[str]:
        dataset = self.dataset(name, (count,))
        if h5py.check_string_dtype(dataset.dtype) is None:
            raise InputError(f"'{self.path}': dataset '{name}' holds no texts")
        return list(dataset.asstr("utf-8")[()])

    def dataset(self, name: str, shape: tuple[int, ...]) -> h5py.Dataset:
        """The dataset with nothing read yet, of this shape and with plain storage in the file itself."""
        found = self._object(name)
        if not isinstance(found, h5py.Dataset):
            raise InputError(f"'{self.path}' has no dataset '{name}': it was not written by vbon or is damaged")
        if (
            found.shape is None
            or len(found.shape) != len(shape)
            or any(want not in (ANY, have) for want, have in zip(shape, found.shape))
        ):
            raise InputError(f"'{self.path}': dataset '{name}' has shape {found.shape}, {shape} is needed (-1: any)")
        if found.is_virtual or found.external or found.id.get_create_plist().get_nfilters() > 0:
            raise InputError(f"'{self.path}': dataset '{name}' is filtered, external or virtual; rewrite it (h5repack)")
        if found.size * found.dtype.itemsize > self._bytes:
            raise InputError(f"'{self.path}': dataset '{name}' claims more values than the file can hold")
        return found

    def _object(self, name: str) -> Any:
        found: Any = self._file
        for part in name.split("/"):
            if not isinstance(found, h5py.Group) or part not in found:
                return None
            if not isinstance(found.get(part, getlink=True), h5py.HardLink):
                raise InputError(f"'{self.path}': '{name}' is a soft or external link; only plain objects are read")
            found = found[part]
        return found
