"""Sweeps: what sweep.json has to say, and which runs are looked at."""

import json
import shutil
from pathlib import Path

import pytest

from analysis.errors import InputError
from analysis.selection import read_evaluated, read_measured
from analysis.sweep import expand, is_sweep, read_sweep


@pytest.fixture
def copy(sweep, tmp_path) -> Path:
    return Path(shutil.copytree(sweep, tmp_path / "sweep"))


def test_a_sweep_lists_its_runs(sweep: Path) -> None:
    found = read_sweep(sweep)
    assert found.name == "small" and len(found.entries) == 12
    first = found.entries[0]
    assert (first.name, first.seed) == ("vbon-2-s1", 1) and first.path == sweep / "runs" / "vbon-2-s1"
    assert first.overrides == {"train.method": "vbon", "vbon.N": 2}
    assert is_sweep(sweep) and is_sweep(sweep / "sweep.json") and not is_sweep(first.path)
    assert [entry.path for entry in read_sweep(sweep / "sweep.json").entries] == [e.path for e in found.entries]


def test_runs_and_sweeps_may_be_mixed_but_not_doubled(sweep: Path, runs) -> None:
    assert [entry.name for entry in expand([runs.vbon, sweep])][:2] == ["vbon-n4", "vbon-2-s1"]
    with pytest.raises(InputError, match="named twice"):
        expand([sweep, sweep / "runs" / "ppo-0.1-s1"])


def test_runs_that_cannot_be_used_are_named_and_left_out(copy: Path) -> None:
    shutil.rmtree(copy / "runs" / "vbon-2-s1")
    (copy / "runs" / "vbon-2-s2" / "finished").unlink()
    shutil.rmtree(copy / "runs" / "vbon-8-s1" / "eval")
    found, notes = read_evaluated([copy])
    assert len(found) == 9 and found[0].name == "vbon-8-s2" and found[0].overrides["vbon.N"] == 8
    assert notes == ["Left out, not begun: vbon-2-s1.", "Left out, not finished: vbon-2-s2.",
                     "Left out, not evaluated: vbon-8-s1."]  # fmt: skip
    found, notes = read_measured([copy])
    assert len(found) == 11 and notes == ["Left out, not begun: vbon-2-s1."]


def test_nothing_left_is_an_error(copy: Path) -> None:
    for folder in (copy / "runs").iterdir():
        (folder / "finished").unlink()
    with pytest.raises(InputError, match=r"none of these runs is finished and evaluated.*not finished: vbon-2-s1"):
        read_evaluated([copy])


def test_a_run_named_by_hand_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        read_evaluated([tmp_path / "none"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "vbon.summary"}, "no sweep of vbon"),
        ({"schema_version": 2}, "schema version 2"),
        ({"runs": []}, "lists no runs"),
        ({"runs": 3}, "lists no runs"),
        ({"runs": [3]}, "run 0 is no object"),
        ({"runs": [{"dir": "x"}]}, "run 0 has no name"),
        ({"runs": [{"name": "x", "dir": "/x"}]}, "relative"),
        ({"runs": [{"name": "../x", "dir": "x"}]}, "out of the folder"),
        ({"runs": [{"name": "/x", "dir": "x"}]}, "out of the folder"),
        ({"runs": [{"name": "x", "dir": "x", "seed": "1"}]}, "seed"),
        ({"runs": [{"name": "x", "dir": "x", "overrides": []}, {"name": "x", "dir": "y"}]}, "one name"),
        ({"runs": [{"name": "x", "dir": "x", "overrides": 3}]}, "overrides"),
    ],
)
def test_a_foreign_list_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    sweep = {"format": "vbon.sweep", "schema_version": 1, "name": "small", "runs": []}
    (tmp_path / "sweep.json").write_text(json.dumps(sweep | change))
    with pytest.raises(InputError, match=message) as fault:
        read_sweep(tmp_path)
    assert "sweep.json" in str(fault.value)


def test_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(InputError, match=r"sweep\.json"):
        expand([tmp_path])
    (tmp_path / "sweep.json").write_text(json.dumps([]))
    with pytest.raises(InputError, match="no JSON object"):
        expand([tmp_path])
