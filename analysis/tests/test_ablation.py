"""`analysis ablation`: runs grouped by one key, over seeds; the time of the pool."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats

from analysis import stats
from analysis.ablation import cells_by
from analysis.ablation_picture import layout
from analysis.io import read_evaluation
from analysis.points import points_of
from analysis.pool_time import unit
from analysis.selection import read_evaluated

from . import fixtures, sweeps
from .commands import Done, fails


@pytest.fixture(scope="module")
def uses(tmp_path_factory) -> Path:
    """Runs that use 8, 16 and all 32 samples of a pool that took 64 s; three seeds, but one of the last."""
    folder = tmp_path_factory.mktemp("uses")
    pool = fixtures.write_pool(folder / "pool.h5", num_prompts=6)
    fixtures.write_pool(folder / "pool-train.h5", num_prompts=4, seconds=64.0)
    for use, seeds in ((16, (1, 2, 3)), (8, (1, 2, 3)), (0, (1,))):
        for seed in seeds:
            sweeps.write_member(folder / f"use-{use}-{seed}", pool, "vbon", 4, seed, stream=use, pool__use=str(use))
    return folder


def runs_in(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/config.yaml"))


def test_means_over_seeds_have_students_interval() -> None:
    values = np.array([0.3, 0.5, 0.9])
    found = stats.over_seeds(values)
    low, high = scipy_stats.t.interval(0.95, 2, loc=values.mean(), scale=scipy_stats.sem(values))
    assert (found.value, found.se) == pytest.approx((values.mean(), scipy_stats.sem(values)))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert stats.over_seeds(np.array([0.3])) == stats.Figure(0.3)


def test_rows_hold_the_mean_of_their_seeds_and_the_scaled_time_of_the_pool(uses: Path, tmp_path, capsys) -> None:
    done = Done(capsys, tmp_path / "out", "ablation", *runs_in(uses), "--by", "pool.use")
    rows = done.rows("ablation-pool.use")
    assert [(row["pool.use"], row["runs"], row["interval"]) for row in rows] == [
        ("8", "3", "seeds"), ("16", "3", "seeds"), ("32", "1", "prompts")]  # fmt: skip
    assert [float(row["pool_seconds"]) for row in rows] == [16, 32, 64]
    assert "scaled by m/M" in done.notes_of("ablation-pool.use") and "note" not in done.notes
    for row, use in zip(rows, (8, 16, 0)):
        files = [path / "eval" / "final-00000012" / "eval.h5" for path in uses.glob(f"use-{use}-*")]
        found = [read_evaluation(file) for file in files]
        for name, values in (
            ("win", [one.win.mean() for one in found]),
            ("kl", [one.kl.mean(dtype=np.float64) for one in found]),
            ("evaluator", [one.rewards["evaluator"].mean(dtype=np.float64) for one in found]),
        ):
            assert float(row[name]) == pytest.approx(np.mean(values))
            if use:
                assert float(row[f"{name}_se"]) == pytest.approx(scipy_stats.sem(values))
    done.require_figures("ablation-pool.use", "ablation-pool.use-kl")
    assert len(done.files) == 6


def test_a_pool_that_is_not_found_or_another_one_has_no_time(uses: Path, tmp_path: Path, capsys, undrawn) -> None:
    folder = Path(shutil.copytree(uses, tmp_path / "uses"))
    fixtures.write_h5(folder / "use-8-1" / "metrics.h5", fixtures.provenance("vbon.metrics", pool_sha256="6" * 64), {
        name: np.array([1], np.int64) for name in ("step", "episodes", "tokens")})  # fmt: skip
    (folder / "use-16-1" / "config.yaml").write_text(
        fixtures.config_text(Path("x"), pool__use="16", pool__path='"no.h5"')
    )
    chosen = [folder / name for name in ("use-8-1", "use-16-1")]
    done = Done(capsys, tmp_path / "out", "ablation", *chosen, "--by", "pool.use")
    assert "was not found" in done.notes and "pool_seconds" not in done.rows("ablation-pool.use")[0]


def test_units_of_time() -> None:
    assert (unit(100), unit(121), unit(7201)) == (("s", 1.0), ("min", 60.0), ("h", 3600.0))


def test_everything_else_that_differs_is_named(tmp_path: Path, capsys, undrawn) -> None:
    pool = fixtures.write_pool(tmp_path / "pool.h5", num_prompts=4)
    for objective in ("L", "exact"):
        for n in (16.0, 2.0):
            sweeps.write_member(tmp_path / f"{objective}-{n:g}", pool, "vbon", n, 1, vbon__objective=objective)
    points = points_of(read_evaluated(runs_in(tmp_path))[0])
    cells = cells_by(points, "vbon.objective")
    assert [(cell.value, cell.others) for cell in cells] == [
        (value, (("vbon.N", n),)) for value in ("exact", "L") for n in (2, 16)]  # fmt: skip
    plan = layout(cells, "vbon.objective")  # words: N goes along the axis, a line a word
    assert (plan.x_key, plan.x_values, plan.is_numeric) == ("vbon.N", [2, 16], True)
    assert list(plan.lines) == ["vbon.objective = exact", "vbon.objective = L"]
    plan = layout(cells_by(points, "vbon.N"), "vbon.N")
    assert (plan.x_key, plan.x_values) == ("vbon.N", [2, 16]) and len(plan.lines) == 2
    rows = Done(capsys, tmp_path / "out", "ablation", *runs_in(tmp_path), "--by", "vbon.objective").rows(
        "ablation-vbon.objective")  # fmt: skip
    assert [(row["vbon.objective"], row["vbon.N"]) for row in rows] == [
        ("exact", "2"), ("exact", "16"), ("L", "2"), ("L", "16")]  # fmt: skip


def test_words_alone_stand_beside_each_other(sweep: Path, tmp_path: Path, capsys, undrawn) -> None:
    chosen = [sweep / "runs" / name for name in ("vbon-2-s1", "vbon-2-s2", "bonbon-4-s1", "bonbon-4-s2")]
    for path, estimator in zip(chosen, ("add_one", "add_one", "harmonic", "harmonic")):
        copy = Path(shutil.copytree(path, tmp_path / path.name))
        config = fixtures.config_text(Path("x"), "vbon", "2", int(path.name[-1]), vbon__estimator=estimator)
        (copy / "config.yaml").write_text(config)
    done = Done(capsys, tmp_path / "out", "ablation", *runs_in(tmp_path), "--by", "vbon.estimator")
    assert [row["vbon.estimator"] for row in done.rows("ablation-vbon.estimator")] == ["add_one", "harmonic"]
    done.require_figures("ablation-vbon.estimator")


def test_a_key_that_does_not_exist_or_does_not_differ_is_refused(sweep: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert "did you mean 'vbon.objective'" in fails(capsys, "ablation", sweep, "--by", "vbon.objectiv", "-o", out)
    assert "vbon.estimator: add_one; there is nothing" in fails(
        capsys, "ablation", sweep, "--by", "vbon.estimator", "-o", out)  # fmt: skip
    assert not out.exists()
