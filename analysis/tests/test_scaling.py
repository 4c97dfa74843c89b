"""`analysis scaling`: efficiencies and the model's terms of runs whose times are known."""

import json
import math
from pathlib import Path

import pytest

from .commands import Done, fails
from .fixtures import config_text

FIXED, COMPUTE, LATENCY, PER_BYTE, GRADIENT = 0.5, 0.04, 0.1, 2e-9, 4e7


def seconds(ranks: int, sequences: float) -> float:
    return FIXED + COMPUTE * sequences / ranks + LATENCY * math.log2(ranks) + PER_BYTE * GRADIENT * (ranks - 1) / ranks


def write(folder: Path, ranks: int, sequences: int, roles: str = "all", factor: float = 1.0, steps: int = 6) -> Path:
    folder.mkdir(parents=True)
    whole = factor * seconds(ranks, sequences)
    rows = []
    for step in range(steps):
        slow = 30.0 if step == 0 else 0.0  # the first step loads and packs
        idle = 0.1 * whole
        time = {"generate": [0.5 * whole] * ranks, "update": [0.3 * whole] * ranks, "reduce": [0.05 * whole] * ranks,
                "publish": [0.01 * whole] * ranks, "idle": [idle] * ranks, "total": [whole + slow] * ranks}  # fmt: skip
        count = sequences * (step + 1)
        rows.append({"step": step, "episodes": count, "tokens": 10 * count, "reward": 0.0, "time": time})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.yaml").write_text(config_text(Path("pool.h5"), cluster__roles=roles))
    state = folder / "checkpoints" / "step-00000006" / "state"
    state.mkdir(parents=True)
    with open(state / "optimizer.safetensors", "wb") as file:
        file.truncate(int(2 * GRADIENT))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    strong = [write(tmp_path / f"strong-{p}", p, 64) for p in (1, 2, 4, 8)]
    weak = [write(tmp_path / f"weak-{p}", p, 64 * p) for p in (2, 4, 8)]
    return strong + weak


def test_efficiencies_and_terms_of_known_times(tmp_path: Path, runs: list[Path], capsys) -> None:
    done = Done(capsys, tmp_path / "out", "scaling", "--predict", "1024", *runs)
    rows = {(int(row["ranks"]), float(row["sequences"])): row for row in done.rows("scaling")}
    for p in (2, 4, 8):
        row = rows[p, 64.0]
        assert float(row["seconds"]) == pytest.approx(seconds(p, 64))
        assert float(row["strong"]) == pytest.approx(seconds(1, 64) / (p * seconds(p, 64)))
        assert float(rows[p, 64.0 * p]["weak"]) == pytest.approx(seconds(1, 64) / seconds(p, 64 * p))
        assert float(row["idle"]) == pytest.approx(0.1) and float(row["communication"]) == pytest.approx(0.06)
        assert float(row["tokens_per_s"]) == pytest.approx(640 / seconds(p, 64))
    assert rows[1, 64.0]["strong"] == rows[1, 64.0]["weak"] == ""
    says = json.loads((done.out / "scaling.json").read_text())
    assert says["gradient_bytes"] == GRADIENT and says["ranks"] == [1, 2, 4, 8] and says["relative_error"] < 1e-6
    assert says["terms"] == pytest.approx(
        {"fixed": FIXED, "compute": COMPUTE, "latency": LATENCY, "bytes": PER_BYTE}, rel=1e-4
    )
    (beyond,) = done.rows("scaling-prediction")
    assert float(beyond["strong_s"]) == pytest.approx(seconds(1024, 64), rel=1e-4)
    assert float(beyond["weak"]) == pytest.approx(seconds(1, 64) / seconds(1024, 64 * 1024), rel=1e-4)
    assert "up to 8 ranks" in done.notes_of("scaling-prediction")
    done.require_figures("scaling", "scaling-time")


def test_the_median_of_runs_and_splits_of_roles(tmp_path: Path, runs: list[Path], capsys) -> None:
    for factor in (1.5, 3.0, 2.0):
        runs.append(write(tmp_path / f"split-{factor}", 3, 64, "{rollout: 1, scorer: 1, learner: 1}", factor))
    done = Done(capsys, tmp_path / "out", "scaling", *runs)
    (split,) = [row for row in done.rows("scaling") if row["ranks"] == "3"]
    assert split["roles"] == "1 rollout, 1 scorer, 1 learner" and split["runs"] == "3"
    assert float(split["seconds"]) == pytest.approx(2 * seconds(3, 64))
    assert float(split["strong"]) == pytest.approx(seconds(1, 64) / (3 * 2 * seconds(3, 64)))
    assert json.loads((done.out / "scaling.json").read_text())["relative_error"] < 1e-6, "splits are not fitted"


def test_what_cannot_be_said_is_said(tmp_path: Path, capsys) -> None:
    one = write(tmp_path / "one", 1, 64)
    done = Done(capsys, tmp_path / "out", "scaling", one)
    assert "no scaling to draw" in done.notes and "No model" in done.notes
    assert done.files == {"scaling.md", "scaling.csv", "scaling-time.png", "scaling-time.svg"}
    short = write(tmp_path / "short", 2, 64, steps=2)
    assert "fewer than three steps: short" in Done(capsys, tmp_path / "again", "scaling", one, short).notes
    assert "measured the time" in fails(capsys, "scaling", short, "-o", tmp_path / "none")
    assert "--predict" in fails(capsys, "scaling", one, "--predict", "0", "-o", tmp_path / "none")
