"""`analysis pareto`: the table of runs, the shares, the pictures, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from analysis import stats
from analysis.front_picture import bon_curves
from analysis.io import read_evaluation
from analysis.methods import METHODS, Method, method_of
from analysis.points import points_of, strength_of
from analysis.runs import read_run
from analysis.selection import read_evaluated

from . import fixtures, sweeps
from .commands import Done, fails


def test_every_run_stands_in_the_table_with_what_its_evaluation_holds(sweep: Path, tmp_path: Path, capsys) -> None:
    done = Done(capsys, tmp_path / "out", "pareto", sweep)
    rows = done.rows("pareto")
    assert [row["run"] for row in rows[:3]] == ["vbon-2-s1", "vbon-2-s2", "vbon-8-s1"] and len(rows) == 12
    assert [row["method"] for row in rows[::4]] == ["vBoN", "BoNBoN", "PPO"]
    for row in rows:
        evaluation = read_evaluation(sweep / "runs" / row["run"] / "eval" / "final-00000012" / "eval.h5")
        win, kl = evaluation.win.mean(), evaluation.kl.mean(dtype=np.float64)
        assert float(row["win"]) == pytest.approx(win) and float(row["kl"]) == pytest.approx(kl)
        assert float(row["reward"]) == pytest.approx(evaluation.rewards["main"].mean(dtype=np.float64))
        assert float(row["evaluator"]) == pytest.approx(evaluation.rewards["evaluator"].mean(dtype=np.float64))
        assert float(row["efficiency"]) == pytest.approx(float(stats.efficiency(win, kl)))
        assert float(row["win_low"]) < win < float(row["win_high"])
        assert int(row["seed"]) == evaluation.training_seed
        dominated = any(float(other["kl"]) <= kl and float(other["win"]) > win for other in rows)
        assert row["front_win"] == str(not dominated).lower()
    assert (rows[0]["N"], rows[0]["beta"]) == ("2.0", "1.0") and (rows[-1]["N"], rows[-1]["beta"]) == ("", "0.5")
    shares = done.rows("pareto-shares")
    assert [row["runs"] for row in shares] == ["4", "4", "4"]
    for metric in ("win", "reward", "evaluator"):
        assert sum(float(row[f"{metric}_share"]) for row in shares) == pytest.approx(1)
        count = sum(row[f"front_{metric}"] == "true" for row in rows if row["method"] == "vBoN")
        assert float(shares[0][f"{metric}_own"]) == pytest.approx(count / 4)
        assert shares[0][f"{metric}_share_low"] != ""
    assert "parametric bootstrap" in done.notes_of("pareto-shares") and "vBoN" in done.text
    done.require_figures("pareto", "pareto-win", "pareto-reward", "pareto-evaluator")
    assert len(done.files) == 8 + 6


def test_best_of_n_comes_from_the_curve_and_the_table_of_the_evaluation(sweep: Path) -> None:
    points = points_of(read_evaluated([sweep])[0])
    (curve,) = bon_curves(points, "win")  # twelve runs, one pool
    assert curve.n.tolist() == [1, 2, 4, 8, 16] and curve.value == pytest.approx(curve.n / (curve.n + 1))
    (curve,) = bon_curves(points, "evaluator")
    assert (curve.n.tolist(), curve.kl.tolist(), curve.value.tolist(), curve.se.tolist()) == (
        [4],
        [0.636],
        [0.7],
        [0.01],
    )


def test_every_method_has_a_look_of_its_own() -> None:
    assert {"bon_sft", "ppo", "dpo", "ipo", "bonbon", "bond", "jbond", "jeffreys", "vbon", "regression",
            "reference"} <= set(METHODS)  # fmt: skip
    looks = [method.look for method in METHODS.values()]
    assert len({look.marker for look in looks}) == len(looks) - 1  # bound L has the open circle of vBoN
    assert len({(look.marker, look.is_open) for look in looks}) == len(looks)
    assert len({method.label for method in METHODS.values()}) == len(METHODS)
    assert method_of("of_tomorrow").label == "of_tomorrow"


def test_bounds_of_vbon_are_methods_of_their_own(tmp_path: Path, capsys, undrawn) -> None:
    pool = fixtures.write_pool(tmp_path / "pool.h5", num_prompts=4)
    for objective in ("exact", "L", "L1"):
        sweeps.write_member(tmp_path / objective, pool, "vbon", 4, 1, vbon__objective=objective)
    done = Done(capsys, tmp_path / "out", "pareto", *(tmp_path / name for name in ("L1", "L", "exact")))
    assert [row["method"] for row in done.rows("pareto")] == ["vBoN", "vBoN, bound L", "vBoN, bound L1"]
    assert done.rows("pareto-shares")[0].get("win_share_low") is None  # one seed: no interval
    assert "bootstrap" not in done.notes_of("pareto-shares")


def test_runs_on_other_prompts_or_at_other_temperatures_are_refused(sweep: Path, tmp_path: Path, capsys) -> None:
    other = fixtures.write_pool(tmp_path / "pool.h5", num_prompts=5)
    sweeps.write_member(tmp_path / "other", other, "vbon", 4, 1)
    one = sweep / "runs" / "vbon-2-s1"
    assert "other prompts" in fails(capsys, "pareto", one, tmp_path / "other", "-o", tmp_path / "out")
    warm = Path(shutil.copytree(one, tmp_path / "warm"))
    block = fixtures.write_pool(tmp_path / "again.h5", num_prompts=16)
    (warm / "config.yaml").write_text(fixtures.config_text(tmp_path, sampling__temperature="1.0"))
    fixtures.write_evaluation(warm / "eval" / "final-00000012" / "eval.h5", 12, 1, block, temperature=1.0)
    assert "temperature 1" in fails(capsys, "pareto", one, warm, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_several_pools_are_noted_and_far_points_counted(sweep: Path, tmp_path: Path, capsys, undrawn) -> None:
    one = Path(shutil.copytree(sweep / "runs" / "vbon-8-s1", tmp_path / "one"))
    block = fixtures.write_pool(tmp_path / "pool.h5", num_prompts=16)
    path = one / "eval" / "final-00000012" / "eval.h5"
    fixtures.write_evaluation(path, 12, 1, block, pool_sha256="7" * 64, cost=9.0)
    done = Done(capsys, tmp_path / "out", "pareto", one, sweep / "runs" / "vbon-2-s1", "--kl-max", "2")
    assert "2 pools" in done.notes
    for bad in ("0", "-1", "nan", "inf"):
        assert "--kl-max" in fails(capsys, "pareto", one, "-o", tmp_path / "none", "--kl-max", bad)


def test_output_that_cannot_be_written_ends_with_74(sweep: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    run = sweep / "runs" / "vbon-2-s1"
    assert "cannot be written" in fails(capsys, "pareto", run, "-o", tmp_path / "file" / "x", code=74)


def test_strengths_name_what_tells_two_configurations_apart(tmp_path: Path) -> None:
    pool = fixtures.write_pool(tmp_path / "pool.h5", num_prompts=3)
    for rate in ("0.02", "0.1"):  # J-BOND aims at no N, whatever the configuration has
        sweeps.write_member(tmp_path / f"jbond-{rate}", pool, "jbond", 4, 1, anchor__rate=rate, bond__gamma="1")
    for method, key in (("ppo", "ppo__kl_coef"), ("dpo", "preference__beta"), ("vbon", "vbon__N")):
        sweeps.write_member(tmp_path / method, pool, method, 0.5 if method != "vbon" else 3.5, 1)
        path = tmp_path / method / "eval" / "final-00000012" / "eval.h5"
        fixtures.write_evaluation(
            path, 12, 1.0, pool, n=1.0, method=method
        )  # as where the evaluation knows no strength
        assert key.replace("__", ":").split(":")[1] in (tmp_path / method / "config.yaml").read_text()
    points = points_of(read_evaluated([path for path in sorted(tmp_path.iterdir()) if path.is_dir()])[0])
    assert [(point.label, point.n, point.beta, point.parameter) for point in points] == [
        ("vBoN", 3.5, 0.4, "N = 3.5"), ("J-BOND", None, None, "rate = 0.02"), ("J-BOND", None, None, "rate = 0.1"),
        ("PPO", None, 0.5, "β = 0.5"), ("DPO", None, 0.5, "β = 0.5")]  # fmt: skip


def test_a_new_method_needs_its_line_alone(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "config.yaml").write_text(fixtures.config_text(Path("x"), "new", preference__beta="0.25"))
    run = read_run(tmp_path)
    assert run.n == 4 and strength_of(run, None) == (4, 1 / 3), "until then its strength is N"
    monkeypatch.setitem(METHODS, "new", Method("New", METHODS["dpo"].look, "beta", "preference.beta"))
    assert run.n is None and strength_of(run, None) == (None, 0.25)
