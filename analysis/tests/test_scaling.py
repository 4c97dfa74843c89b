"""`analysis scaling`: efficiencies and the model's terms of runs whose times are known."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from analysis.runs import read_run
from analysis.scaling import measure, series_of
from analysis.scaling_model import Step, fit

from .commands import Done, fails
from .fixtures import config_text

FIXED, COMPUTE, UPDATE, LATENCY, PER_BYTE, GRADIENT = 0.5, 0.04, 0.02, 0.1, 1e-9, 4e7
TERMS = {"fixed": FIXED, "compute": COMPUTE, "update": UPDATE, "latency": LATENCY, "bytes": PER_BYTE}


def seconds(ranks: int, sequences: float, updates: int = 1) -> float:
    sent = updates * 2 * GRADIENT * (ranks - 1) / ranks
    return FIXED + COMPUTE * sequences / ranks + UPDATE * updates + LATENCY * math.log2(ranks) + PER_BYTE * sent


def write(
    folder: Path, ranks: int, sequences: int, roles: str = "all", factor: float = 1.0, steps: int = 6, updates: int = 1,
    chunk: int = 4, reduce: str = "by_rank",
) -> Path:  # fmt: skip
    folder.mkdir(parents=True)
    whole = factor * seconds(ranks, sequences, updates)
    rows = []
    for step in range(steps):
        slow = 30.0 if step == 0 else 0.0  # the first step loads and packs
        idle = 0.1 * whole
        time = {"generate": [0.5 * whole] * ranks, "update": [0.3 * whole] * ranks, "reduce": [0.05 * whole] * ranks,
                "publish": [0.01 * whole] * ranks, "idle": [idle] * ranks, "total": [whole + slow] * ranks}  # fmt: skip
        count = sequences * (step + 1)
        rows.append({"step": step, "episodes": count, "tokens": 10 * count, "reward": 0.0, "time": time})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.yaml").write_text(config_text(Path("pool.h5"), cluster__roles=roles, cluster__threads="1",
                                                    train__minibatches=str(updates), train__chunk_prompts=str(chunk),
                                                    run__reduce=reduce))  # fmt: skip
    state = folder / "checkpoints" / "step-00000006" / "state"
    state.mkdir(parents=True)
    with open(state / "optimizer.safetensors", "wb") as file:
        file.write((2).to_bytes(8, "little") + b"{}")
        file.truncate(int(2 * GRADIENT) + 10)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    strong = [write(tmp_path / f"strong-{p}", p, 64) for p in (1, 2, 4, 8)]
    weak = [write(tmp_path / f"weak-{p}", p, 64 * p) for p in (2, 4, 8)]
    more = [write(tmp_path / f"updates-{p}", p, 64, updates=4) for p in (1, 2, 4, 8)]
    return strong + weak + more


def test_efficiencies_and_terms_of_known_times(tmp_path: Path, runs: list[Path], capsys) -> None:
    done = Done(capsys, tmp_path / "out", "scaling", "--predict", "1024", *runs)
    rows = {(int(row["ranks"]), float(row["sequences"])): row for row in done.rows("scaling") if row["updates"] == "1"}
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
    assert says["terms"] == pytest.approx(TERMS, rel=1e-4) and says["sequences"] == [64, 512]
    assert says["format"] == "vbon.scaling" and says["measured_with"]["sampling.max_new_tokens"] == 12
    (beyond,) = done.rows("scaling-prediction")
    assert beyond["range"] == "beyond"
    assert float(beyond["strong_s"]) == pytest.approx(seconds(1024, 64), rel=1e-4)
    assert float(beyond["weak"]) == pytest.approx(seconds(1, 64) / seconds(1024, 64 * 1024), rel=1e-4)
    assert "up to 8 ranks" in done.notes_of("scaling-prediction")
    share = (LATENCY * 10 + PER_BYTE * 2 * GRADIENT * 1023 / 1024) / seconds(1024, 64)
    assert float(beyond["strong_communication"]) == pytest.approx(share, rel=1e-4)
    for row in done.rows("scaling-model"):
        known = seconds(int(row["ranks"]), float(row["sequences"]), int(row["updates"]))
        assert float(row["measured_s"]) == pytest.approx(known) == pytest.approx(float(row["model_s"]), rel=1e-6)
        assert abs(float(row["error"])) < 1e-6
    done.require_figures("scaling", "scaling-time", "scaling-prediction")


def test_runs_that_share_cores_are_shown_and_not_fitted(tmp_path: Path, runs: list[Path], capsys) -> None:
    runs.append(write(tmp_path / "shared", 16, 64, factor=7.0))
    done = Done(capsys, tmp_path / "out", "scaling", "--fit-up-to", "8", *runs)
    says = json.loads((done.out / "scaling.json").read_text())
    assert says["ranks"] == [1, 2, 4, 8] and says["relative_error"] < 1e-6
    assert says["terms"] == pytest.approx(TERMS, rel=1e-4)
    assert "16" in {row["ranks"] for row in done.rows("scaling")}
    assert "16" not in {row["ranks"] for row in done.rows("scaling-model")}
    assert "no part of the model" in done.notes


def test_predictions_say_where_measuring_ends(tmp_path: Path, runs: list[Path], capsys) -> None:
    done = Done(capsys, tmp_path / "out", "scaling", "--predict", "4,8,9,64", *runs)
    assert [row["range"] for row in done.rows("scaling-prediction")] == ["measured", "measured", "beyond", "beyond"]


def test_errors_of_the_model_are_shown(tmp_path: Path, runs: list[Path], capsys) -> None:
    """A run a tenth slower than the others say."""
    slow = write(tmp_path / "slow", 2, 256, factor=1.1)
    done = Done(capsys, tmp_path / "out", "scaling", *runs, slow)
    (row,) = [row for row in done.rows("scaling-model") if row["sequences"] == "256.0" and row["ranks"] == "2"]
    says = json.loads((done.out / "scaling.json").read_text())
    assert -0.1 < float(row["error"]) < -0.03 and says["relative_error"] == pytest.approx(-float(row["error"]))
    assert f"{100 * says['relative_error']:.0f}%" in done.notes_of("scaling-prediction")


def test_no_term_is_negative() -> None:
    """Ranks that speed a step up more than they can: nothing of it becomes a gain by communication."""
    steps = [Step(p, n, 1, GRADIENT) for p in (1, 2, 4) for n in (8, 64)]
    model = fit(steps, [0.1 + 0.01 * step.sequences / step.ranks**1.5 for step in steps])
    assert model is not None and min(model.terms.values()) >= 0 and model.terms["latency"] == model.terms["bytes"] == 0
    assert max(abs(point.error) for point in model.points) == model.relative_error > 0.01


def test_terms_survive_noise() -> None:
    """Times that scatter by 2%, as those of a quiet machine: within a tenth for what such steps determine well."""
    random = np.random.default_rng(5)
    steps = [Step(p, n * p, u, GRADIENT) for p in (1, 2, 4, 8) for n in (8, 16, 64) for u in (1, 4, 8)]
    times = [seconds(s.ranks, s.sequences, s.updates) * (1 + 0.02 * random.standard_normal()) for s in steps]
    model = fit(steps, times)
    assert model is not None and model.relative_error < 0.1
    for name in ("fixed", "compute", "bytes"):
        assert model.terms[name] == pytest.approx(TERMS[name], rel=0.15), name


def test_runs_of_another_kind_share_no_model(tmp_path: Path, runs: list[Path], capsys) -> None:
    other = write(tmp_path / "other", 2, 64)
    text = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(text.replace("max_new_tokens: 12", "max_new_tokens: 24"))
    assert "have 2" in fails(capsys, "scaling", *runs, other, "-o", tmp_path / "none")


def test_sizes_of_chunks_stay_apart(tmp_path: Path, capsys) -> None:
    split = "{rollout: 1, scorer: 1, learner: 1}"
    found = [write(tmp_path / f"chunk-{c}", 3, 64, split, 1 + 1 / c, chunk=c) for c in (1, 2, 4)]
    done = Done(capsys, tmp_path / "out", "scaling", *found)
    rows = {row["chunk"]: float(row["seconds"]) for row in done.rows("scaling")}
    assert rows == {str(c): pytest.approx((1 + 1 / c) * seconds(3, 64)) for c in (1, 2, 4)}
    done.require_figures("scaling-time")


def test_lengths_stay_apart(tmp_path: Path) -> None:
    """Splits of roles at two lengths, where no model refuses them: two series, which say what tells them apart."""
    found = []
    for length in (12, 24):
        for p in (3, 6):
            folder = write(tmp_path / f"{p}-ranks-{length}", p, 64, f"{{rollout: {p - 2}, scorer: 1, learner: 1}}", length / 12)
            text = (folder / "config.yaml").read_text()
            (folder / "config.yaml").write_text(text.replace("max_new_tokens: 12", f"max_new_tokens: {length}"))
            found.append(measure(read_run(folder)))
    series = series_of(found)
    assert [s.title for s in series] == [f"strong, 64, split roles, max_new_tokens {length}" for length in (12, 24)]
    for one in series:
        assert one.efficiency(one.points[1]) == pytest.approx(seconds(3, 64) / (2 * seconds(6, 64)))


def test_sums_of_gradients_stay_apart(tmp_path: Path, runs: list[Path], capsys) -> None:
    """Twice the time with run.reduce: fixed: rows and series of their own, and nothing of it in the model."""
    runs += [write(tmp_path / f"fixed-{p}", p, 64, factor=2.0, reduce="fixed") for p in (1, 2)]
    done = Done(capsys, tmp_path / "out", "scaling", *runs)
    rows = {row["ranks"]: row for row in done.rows("scaling") if row["reduce"] == "fixed"}
    assert float(rows["1"]["seconds"]) == pytest.approx(2 * seconds(1, 64)) and set(rows) == {"1", "2"}
    assert float(rows["2"]["strong"]) == pytest.approx(seconds(1, 64) / (2 * seconds(2, 64)))
    assert json.loads((done.out / "scaling.json").read_text())["relative_error"] < 1e-6
    assert "run.reduce: fixed" in done.notes


def test_time_and_idle_by_role(tmp_path: Path, capsys) -> None:
    folder = write(tmp_path / "split", 4, 64, "{rollout: 2, scorer: 1, learner: 1}")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        slow = row["time"]["total"][0] - seconds(4, 64)
        row["time"] = {"generate": [1.0, 0.8, 0, 0], "score": [0, 0, 0.5, 0], "update": [0, 0, 0, 0.7],
                       "idle": [0.2, 0.4, 0.7, 0.5], "total": [1.3 + slow] * 4}  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = Done(capsys, tmp_path / "out", "scaling", folder)
    by_role = {row["roles"]: row for row in done.rows("scaling-roles")}
    assert {role: row["count"] for role, row in by_role.items()} == {"rollout": "2", "scorer": "1", "learner": "1"}
    assert float(by_role["rollout"]["generate"]) == pytest.approx(0.9) and float(by_role["rollout"]["idle"]) == pytest.approx(0.3)
    assert float(by_role["scorer"]["score"]) == pytest.approx(0.5) and float(by_role["learner"]["update"]) == pytest.approx(0.7)
    assert float(by_role["scorer"]["idle_share"]) == pytest.approx(0.7 / 1.3) and float(by_role["scorer"]["other"]) == pytest.approx(0.1)


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
    assert done.files == {
        "scaling.md", "scaling.csv", "scaling-roles.md", "scaling-roles.csv", "scaling-time.png", "scaling-time.svg",
    }  # fmt: skip
    short = write(tmp_path / "short", 2, 64, steps=2)
    assert "fewer than three steps: short" in Done(capsys, tmp_path / "again", "scaling", one, short).notes
    assert "measured the time" in fails(capsys, "scaling", short, "-o", tmp_path / "none")
    assert "--predict" in fails(capsys, "scaling", one, "--predict", "0", "-o", tmp_path / "none")
