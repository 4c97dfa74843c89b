"""`analysis calibration`: the tables and the picture of what `vbon amortise` recorded, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .commands import Done, fails


def record(**more: Any) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    transforms = {"head": draw.uniform(size=640), "marginal": draw.beta(0.6, 0.6, size=640)}
    figures = {"head": {"nll": 1.1, "ks": 0.12}, "marginal": {"nll": 1.4, "ks": 0.3}}
    for name, values in transforms.items():
        figures[name]["pit"] = np.histogram(values, bins=20, range=(0, 1))[0].tolist()
    shrinkage = [
        {"samples": m, "weight": w, "rmse": 0.15 if w == 1e6 else (0.4 + abs(np.log2(w or 0.5) - 3) / 20) / np.sqrt(m)}
        for m in (2, 8)
        for w in (0, 1, 2, 4, 8, 16, 32, 1e6)
    ]
    heldout = {"prompts": 20, "samples": 32, **figures, "shrinkage": shrinkage}
    return {"format": "vbon.calibration", "heldout": heldout} | more


def written(folder: Path, content: Any) -> Path:
    folder.mkdir()
    (folder / "calibration.json").write_text(json.dumps(content))
    return folder


def test_tables_and_picture(capsys, tmp_path: Path) -> None:
    done = Done(capsys, tmp_path / "out", "calibration", written(tmp_path / "head", record()))
    pictured = {f"calibration.{kind}" for kind in ("md", "csv", "png", "svg")}
    assert done.files == pictured | {"few-samples.md", "few-samples.csv"}
    done.require_figures("calibration")
    rows = done.rows("few-samples")
    assert [row["samples"] for row in rows] == ["2", "8"]
    assert [row["best_weight"] for row in rows] == ["head alone", "weight 8"]
    assert float(rows[1]["weight_0"]) == pytest.approx(record()["heldout"]["shrinkage"][8]["rmse"])
    assert "20 prompts" in done.text and "0.120" in done.text


def test_a_head_without_few_samples_has_one_panel(capsys, tmp_path: Path) -> None:
    content = record()
    del content["heldout"]["shrinkage"]
    done = Done(capsys, tmp_path / "out", "calibration", written(tmp_path / "head", content))
    assert done.files == {f"calibration.{kind}" for kind in ("md", "csv", "png", "svg")}


@pytest.mark.parametrize(("content", "words"), [
    ({"format": "vbon.reward"}, ["no calibration", "vbon amortise"]),
    ({"format": "vbon.calibration"}, ["no held-out figures", "prompts.eval"]),
    (record(heldout={"prompts": 3}), ["calibration.json", "lacks a figure"]),
    ([], ["no JSON object"]),
])  # fmt: skip
def test_what_is_wrong_is_said(capsys, tmp_path: Path, content: Any, words: list[str]) -> None:
    said = fails(capsys, "calibration", written(tmp_path / "head", content), "-o", tmp_path / "out")
    assert all(word in said for word in words), said
