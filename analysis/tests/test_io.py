"""Readers: files written by vbon itself come back, and every kind of bad file is refused in one line that names it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from analysis.errors import InputError
from analysis.io import read_evaluation, read_pool, read_summary
from analysis.metrics import read_metrics, read_metrics_h5

from . import fixtures

FILES = Path(__file__).parent / "files"  # written by write_files.cpp


def test_a_pool_of_vbon_comes_back() -> None:
    pool = read_pool(FILES / "pool.h5")
    assert (pool.temperature, pool.max_new_tokens, pool.num_samples, pool.seconds) == (0.7, 6, 12, 2.5)
    assert pool.prompt_id.tolist() == [50, 51, 52, 53, 54]
    assert pool.prompt_text[2] == "prompt 2 <b>é</b>"
    assert pool.provenance.vbon_version == "0.1.0" and pool.provenance.library_versions["torch"] == "2.11.0"
    assert pool.provenance.seed == 3 and pool.provenance.sha256["reference"] == "a" * 64
    assert pool.rewards["main"].shape == (5, 12) and set(pool.rewards) == {"main", "evaluator"}
    tokens = pool.tokens([1, 3])
    assert tokens.shape == (2, 12, 6) and tokens.dtype == np.int32
    with h5py.File(FILES / "pool.h5") as file:
        assert (tokens == file["sample/tokens"][()][[1, 3]]).all()
    assert ((tokens >= 0).sum(axis=2) == pool.length[[1, 3]]).all()


def test_an_evaluation_of_vbon_comes_back() -> None:
    evaluation = read_evaluation(FILES / "eval.h5")
    assert (evaluation.method, evaluation.n, evaluation.beta, evaluation.step) == ("vbon", 4, 1 / 3, 20)
    assert (evaluation.training_seed, evaluation.evaluation_seed, evaluation.bootstrap_seed) == (3, 4, 5)
    assert evaluation.kl[0].tolist() == [0.25, 0.375, 0.5] and evaluation.win.shape == (5,)
    assert evaluation.bon["N"].tolist() == [1, 2, 3.5, 4, 11, 20] and set(evaluation.bon) >= {"kl", "win", "se"}
    assert evaluation.summary["efficiency"] == 0.5 and np.isnan(evaluation.summary["evaluator"])
    assert evaluation.provenance.sha256["pool"] == read_pool(FILES / "pool.h5").provenance.sha256["content"]


def test_both_records_of_metrics_of_vbon_agree() -> None:
    line, table = read_metrics(FILES / "metrics.jsonl"), read_metrics_h5(FILES / "metrics.h5")
    for metrics in (line, table):
        assert metrics.step.tolist() == [1, 2, 3] and metrics.tokens.tolist() == [40, 80, 120]
        assert metrics.values["reward"].tolist() == [0.1, 0.2, 0.1 * 3] and np.isnan(metrics.values["value_loss"]).all()
        assert np.isnan(metrics.time["generate"][0, 2]) and metrics.time["generate"][2].tolist() == [1, 2, 3]
    assert sorted(line.values) == sorted(table.values) and sorted(line.time) == sorted(table.time)


def test_a_torn_last_line_is_left_out_and_a_metric_may_come_late(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step":1,"episodes":1,"tokens":2}\n{"step":2,"episodes":2,"tokens":4,"late":7}\n{"step":3,"epi')
    metrics = read_metrics(path)
    assert metrics.step.tolist() == [1, 2]
    assert np.isnan(metrics.values["late"][0]) and metrics.values["late"][1] == 7 and metrics.time == {}
    path.write_text("")
    assert len(read_metrics(path).step) == 0


@pytest.mark.parametrize(
    "line",
    [
        "3",
        "[]",
        "{}",
        "{",
        '{"step":1,"episodes":1}',
        '{"step":-1,"episodes":1,"tokens":1}',
        '{"step":true,"episodes":1,"tokens":1}',
        '{"step":1.5,"episodes":1,"tokens":1}',
        '{"step":1,"episodes":1,"tokens":1,"reward":"x"}',
        '{"step":1,"episodes":1,"tokens":1,"reward":[1]}',
        '{"step":1,"episodes":1,"tokens":1,"time":3}',
        '{"step":1,"episodes":1,"tokens":1,"time":{"idle":3}}',
        '{"step":1,"episodes":1,"tokens":1,"time":{"idle":["x"]}}',
        '{"step":99999999999999999999,"episodes":1,"tokens":1}',
        '{"step":0,"episodes":1,"tokens":1}',  # does not rise
    ],
)
def test_a_malformed_record_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step":0,"episodes":1,"tokens":1}\n' + line + "\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl"):
        read_metrics(path)


def test_texts_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    for content in (b"\xff\xfe", b"[1]", b"{}", b'{"format":"vbon.summary","rows":3}', b"[" * 100000):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"summary\.json"):
            read_summary(path)
    path.write_text('{"format":"vbon.summary","rows":[3]}')
    with pytest.raises(InputError, match="row"):
        read_summary(path)
    path.write_text(json.dumps({"format": "vbon.summary", "rows": [{"name": "policy", "kl": None}]}))
    assert read_summary(path)["rows"][0]["name"] == "policy"


def _rewrite(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)
        fixtures.seal(path)

    return rewrite


def _replace(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def replace(file: h5py.File) -> None:
        values = change(file[name][()])
        del file[name]
        file[name] = values

    return _rewrite(replace)


def _set(name: str, index: tuple[int, ...], value: float) -> Callable[[Path], None]:
    def put(values: np.ndarray) -> np.ndarray:
        values[index] = value
        return values

    return _replace(name, put)


def _folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.write_bytes(bytes(content))


def _without_guard(path: Path) -> None:
    """As another program might leave it: no checksum, then broken in the middle."""
    content = path.read_bytes()
    path.write_bytes(b"\0" * 512 + content[512 : len(content) // 2])


def _filter(file: h5py.File) -> None:
    values = file["sample/length"][()]
    del file["sample/length"]
    file.create_dataset("sample/length", data=values, compression="gzip")


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=file["sample/length"].shape, dtype="int32")
    layout[:] = h5py.VirtualSource(".", "sample/other", shape=file["sample/length"].shape)
    file.move("sample/length", "sample/other")
    file.create_virtual_dataset("sample/length", layout)


def _external_storage(file: h5py.File) -> None:
    shape = file["sample/length"].shape
    del file["sample/length"]
    file.create_dataset("sample/length", shape, "int32", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def _link(link: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file.move("sample/length", "sample/other")
        file["sample/length"] = link

    return change


def _claim(file: h5py.File) -> None:
    del file["sample/length"]
    file.create_dataset("sample/length", (24, 1 << 40), "int32", chunks=(1, 1 << 20))


def _broken_text(file: h5py.File) -> None:
    del file["prompt/text"]
    texts = np.array([b"\xff\xfe"] * 24, dtype=object)
    file.create_dataset("prompt/text", data=texts, dtype=h5py.string_dtype("utf-8"))


def _attribute(name: str, value: object) -> Callable[[Path], None]:
    return _rewrite(lambda file: file.attrs.__setitem__(name, value))


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: path.unlink(), "does not exist"),
    "a folder": (_folder_instead, "no plain file"),
    "empty": (lambda path: path.write_bytes(b""), "damaged or no HDF5"),
    "no HDF5": (lambda path: path.write_text("hello\n" * 200), "damaged or no HDF5"),
    "cut": (_cut, "truncated or damaged"),
    "one bit": (_flip, "truncated or damaged"),
    "broken, without checksum": (_without_guard, "damaged"),
    "foreign": (_attribute("format", "vbon.rollouts"), "is a 'vbon.rollouts' file; a 'vbon.[a-z]+' file is needed"),
    "no format": (_rewrite(lambda file: file.attrs.__delitem__("format")), "no attribute 'format'"),
    "format no text": (_attribute("format", 3), "no text"),
    "newer": (_attribute("schema_version", 2), "schema version 2 .* versions 1 to 1"),
    "schema zero": (_attribute("schema_version", 0), "schema version 0"),
    "version no number": (_attribute("schema_version", "1"), "no whole number"),
    "seed no number": (_attribute("seed", "x"), "'seed' is no whole number"),
    "versions no JSON": (_attribute("library_versions", "x"), "library_versions"),
    "without a dataset": (_rewrite(lambda file: file.__delitem__("sample/length")), "no dataset 'sample/length'"),
    "without samples": (_replace("sample/tokens", lambda tokens: tokens[:, :0]), "no samples"),
    "without main": (_rewrite(lambda file: file.move("reward/main", "reward/other")), "no reward 'main'"),
    "another type": (_replace("sample/length", lambda length: length.astype(np.int64)), "int64 where int32"),
    "another shape": (_replace("sample/length", lambda length: length[:, 1:]), "shape"),
    "texts no texts": (_replace("prompt/text", lambda texts: np.arange(len(texts))), "no texts"),
    "texts no UTF-8": (_rewrite(_broken_text), "damaged"),
    "length 0": (_set("sample/length", (0, 0), 0), "length"),
    "length past T": (_set("sample/length", (0, 0), 99), "length"),
    "reward infinite": (_set("reward/main/value", (1, 1), np.inf), "not finite"),
    "filtered": (_rewrite(_filter), "filtered"),
    "virtual": (_rewrite(_virtual), "virtual"),
    "stored elsewhere": (_rewrite(_external_storage), "external"),
    "soft link": (_rewrite(_link(h5py.SoftLink("/sample/other"))), "link"),
    "external link": (_rewrite(_link(h5py.ExternalLink("other.h5", "/x"))), "link"),
    "a group": (_rewrite(lambda file: (file.__delitem__("prompt/id"), file.create_group("prompt/id"))), "no dataset"),
    "too large": (_rewrite(_claim), "shape|claims"),
}
OF_EVALUATION = {
    "KL negative": (_set("sample/kl", (0, 0), -1), "KL"),
    "KL no number": (_set("sample/kl", (0, 0), np.nan), "KL"),
    "win above 1": (_set("win", (0,), 1.5), "win rate"),
    "win no number": (_set("win", (0,), np.nan), "win rate"),
    "curve without se": (_rewrite(lambda file: file.__delitem__("bon/se")), "bon/se"),
    "curve of another length": (_replace("bon/kl", lambda kl: kl[:2]), "bon/kl"),
    "N below 1": (_set("bon/N", (0,), 0.5), "N < 1"),
    "without method": (_rewrite(lambda file: file.attrs.__delitem__("method")), "'method'"),
}
OF_POOL = {
    "table not ascending": (_replace("logf/main/sorted_reward", lambda table: table[:, ::-1]), "ascending order"),
    "without table": (_rewrite(lambda file: file.__delitem__("logf/main")), "logf/main"),
    "temperature a list": (_attribute("temperature", [0.7, 0.7]), "'temperature' is no number"),
}


def _expect_refusal(reader: Callable[[Path], object], path: Path, bad: tuple[Callable[[Path], object], str]) -> None:
    damage, message = bad
    damage(path)
    with pytest.raises(InputError, match=message) as fault:
        reader(path)
    assert str(path) in str(fault.value) and "\n" not in str(fault.value)


@pytest.mark.parametrize("name", [*BAD_FILES, *OF_POOL])
def test_a_bad_pool_is_refused(tmp_path: Path, runs, name: str) -> None:
    path = shutil.copy(runs.pool, tmp_path / "pool.h5")
    _expect_refusal(read_pool, Path(path), (BAD_FILES | OF_POOL)[name])


@pytest.mark.parametrize("name", [*BAD_FILES, *OF_EVALUATION])
def test_a_bad_evaluation_is_refused(tmp_path: Path, runs, name: str) -> None:
    path = shutil.copy(runs.vbon / "eval" / "step-00000030.h5", tmp_path / "eval.h5")
    _expect_refusal(read_evaluation, Path(path), (BAD_FILES | OF_EVALUATION)[name])


@pytest.mark.parametrize("name", ["missing", "cut", "foreign", "newer", "no HDF5"])
def test_bad_metrics_are_refused(tmp_path: Path, runs, name: str) -> None:
    path = shutil.copy(runs.vbon / "metrics.h5", tmp_path / "metrics.h5")
    _expect_refusal(read_metrics_h5, Path(path), BAD_FILES[name])


def test_steps_of_a_table_have_to_rise(tmp_path: Path, runs) -> None:
    path = Path(shutil.copy(runs.vbon / "metrics.h5", tmp_path / "metrics.h5"))
    _expect_refusal(read_metrics_h5, path, (_set("step", (1,), 1), "do not rise"))


def test_optional_attributes_may_be_missing(tmp_path: Path, runs) -> None:
    def strip(file: h5py.File) -> None:
        for name in (
            "created_utc",
            "vbon_version",
            "config",
            "seed",
            "attempt",
            "library_versions",
            "reference_sha256",
        ):
            del file.attrs[name]
        del file["summary"], file["bon"], file["reward/evaluator"]

    path = Path(shutil.copy(runs.vbon / "eval" / "step-00000030.h5", tmp_path / "eval.h5"))
    _rewrite(strip)(path)
    evaluation = read_evaluation(path)
    assert evaluation.provenance.seed is None and evaluation.bon == {} and evaluation.summary == {}
