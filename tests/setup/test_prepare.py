import json

import pytest
import prepare
from files import SetupError, sha256_of


def test_ensure_makes_once_and_again_after_damage(tmp_path, capsys):
    folder, made = tmp_path / "model", []

    def make(where, cache):
        made.append(cache)
        where.mkdir(exist_ok=True)
        (where / "a").write_bytes(b"abc")

    expected = {"a": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
    prepare.ensure(folder, expected, make, tmp_path)
    prepare.ensure(folder, expected, make, tmp_path)
    assert len(made) == 1 and "checksums agree" in capsys.readouterr().out
    (folder / "a").write_bytes(b"abd")
    (folder / "own").write_bytes(b"somebody's")
    prepare.ensure(folder, expected, make, tmp_path)
    assert len(made) == 2 and (folder / "own").read_bytes() == b"somebody's"


def test_ensure_refuses_another_result(tmp_path):
    def make(where, _):
        where.mkdir()
        (where / "a").write_bytes(b"other")

    with pytest.raises(SetupError, match="sha256 is"):
        prepare.ensure(tmp_path / "model", {"a": "0" * 64}, make, tmp_path)


def test_every_checksum_is_a_sha256():
    sums = [*prepare.SMOLLM2_FILES.values(), *prepare.MINILM_FILES.values(), *prepare.REVIEW_FILES.values()]
    sums += [archive.sha256 for archive in (prepare.SMOLLM2, prepare.MINILM, prepare.VADER)]
    sums += [name[1] for name in (prepare.SMOLLM2_GGUF, prepare.HUTTO, prepare.SCORES, prepare.RATINGS)]
    assert len(sums) == len(set(sums)) == 5 + 9 + 11 + 3 + 4
    assert all(len(digest) == 64 and set(digest) <= set("0123456789abcdef") for digest in sums)


def test_the_prepared_model_tokenises_the_golden_strings(root, tmp_path, monkeypatch):
    folder = root / "models" / "smollm2-135m"
    if not folder.is_dir():
        pytest.skip("models/smollm2-135m is not here (jobs/setup.sh --with-data)")
    assert prepare.check_golden_tokens(folder) >= 40
    # The check sees the mistake that it is there for: numbers that are not split.
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["pre_tokenizer"] = tokenizer["pre_tokenizer"]["pretokenizers"][1]
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(SetupError, match="tokenises as"):
        prepare.check_golden_tokens(tmp_path)


def test_prepared_files_have_their_checksums(root):
    folder = root / "data" / "reviews"
    if not folder.is_dir():
        pytest.skip("data/reviews is not here (jobs/setup.sh --with-data)")
    assert {name: sha256_of(folder / name) for name in prepare.REVIEW_FILES} == prepare.REVIEW_FILES
