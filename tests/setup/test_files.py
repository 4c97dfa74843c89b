import hashlib
import io
import subprocess
import tarfile
import zipfile

import files
import pytest
from files import Archive, SetupError, committed, differing, download, member, sha256_of


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_zip(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("in/side.txt", b"content")
    return path


def make_tar(path):
    with tarfile.open(path, "w:gz") as file:
        info = tarfile.TarInfo("in/side.txt")
        info.size = 7
        file.addfile(info, io.BytesIO(b"content"))
    return path


def test_sha256_of_known_content(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_differing_names_missing_and_changed_files(tmp_path):
    (tmp_path / "right").write_bytes(b"right")
    (tmp_path / "wrong").write_bytes(b"changed")
    expected = {name: sha256(name.encode()) for name in ("right", "wrong", "missing")}
    assert differing(tmp_path, expected) == ["wrong", "missing"]


def test_committed_keeps_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "new" / "file"
    with committed(path) as file:
        file.write(b"old")
    with pytest.raises(RuntimeError), committed(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_member_is_read_and_checked(tmp_path, make):
    archive = make(tmp_path / "archive")
    assert member(archive, "in/side.txt", sha256(b"content")) == b"content"
    with pytest.raises(SetupError, match="expected"):
        member(archive, "in/side.txt", sha256(b"other"))
    with pytest.raises(SetupError, match="no file absent.txt"):
        member(archive, "absent.txt", sha256(b"content"))


class FakePip:
    """Stands for subprocess.run: notes the command and leaves `content` (None: nothing) where pip would."""

    def __init__(self, path, content, returncode=0):
        self.path, self.content, self.returncode, self.commands = path, content, returncode, []

    def __call__(self, command, **_):
        wanted = command[command.index("--requirement") + 1]
        self.commands.append((command, open(wanted, encoding="utf-8").read()))
        if self.content is not None:
            self.path.write_bytes(self.content)
        return subprocess.CompletedProcess(command, self.returncode, stdout="pip's own words")


def test_download_asks_pip_once_and_for_one_checksum_only(tmp_path, monkeypatch):
    archive = Archive("thing==1.0", "thing-1.0.whl", sha256(b"wheel"))
    pip = FakePip(tmp_path / archive.file, b"wheel")
    monkeypatch.setattr(files.subprocess, "run", pip)
    assert download(archive, tmp_path) == download(archive, tmp_path) == tmp_path / archive.file
    (command, wanted), = pip.commands
    assert wanted == f"thing==1.0 --hash=sha256:{archive.sha256}\n"
    assert {"--no-deps", "--require-hashes", "--only-binary"} <= set(command)


def test_download_replaces_a_damaged_archive(tmp_path, monkeypatch):
    archive = Archive("thing==1.0", "thing-1.0.tar.gz", sha256(b"source"), source=True)
    (tmp_path / archive.file).write_bytes(b"sour")
    pip = FakePip(tmp_path / archive.file, b"source")
    monkeypatch.setattr(files.subprocess, "run", pip)
    assert download(archive, tmp_path).read_bytes() == b"source"
    assert "--no-binary" in pip.commands[0][0]


@pytest.mark.parametrize("content, returncode, message", [
    (None, 1, "pip's own words"), (None, 0, "could not download thing==1.0"), (b"other", 0, "sha256 is")])
def test_download_that_fails_says_so(tmp_path, monkeypatch, content, returncode, message):
    archive = Archive("thing==1.0", "thing-1.0.whl", sha256(b"wheel"))
    monkeypatch.setattr(files.subprocess, "run", FakePip(tmp_path / archive.file, content, returncode))
    with pytest.raises(SetupError, match=message):
        download(archive, tmp_path)
