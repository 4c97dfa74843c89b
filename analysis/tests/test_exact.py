"""`analysis exact`: distances of runs whose every response was listed, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from analysis.exact import exact_points
from analysis.io import read_evaluation
from analysis.points import points_of
from analysis.selection import read_evaluated

from . import fixtures, sweeps
from .commands import Done, fails


def write(folder: Path, method: str, n: float, seed: int, pool: dict, **exact: float) -> None:
    """A run whose evaluation listed every response."""
    sweeps.write_member(folder, pool, method, n, seed)
    path = folder / "eval" / "final-00000012" / "eval.h5"
    figures = {f"exact.{name.replace('__', '.')}": value for name, value in exact.items()}
    fixtures.add_to_summary(path, figures | {"exact.bon_2.kl": 0.19, "exact.bon_2.win": 0.66, "exact.bon_2.reward": 0.5,
                                             "exact.bon_16.kl": 1.8, "exact.bon_16.win": 0.94, "exact.bon_16.reward": 2.0})  # fmt: skip


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    pool = fixtures.write_pool(tmp_path / "pool.h5", num_prompts=5)
    for seed, kl in ((1, 0.2), (2, 0.3)):
        write(tmp_path / "runs" / f"vbon-s{seed}", "vbon", 2, seed, pool, kl=kl, win=0.6, reward=0.4, kl_to_optimum=kl / 10,
              kl_to_target=kl / 10, kl_to_nearest_bon=0.01, effective_n=1.9)  # fmt: skip
    write(tmp_path / "runs" / "jbond-s1", "jbond", 1, 1, pool, kl=0.5, win=0.7, reward=0.6, kl_to_nearest_bon=0.05,
          effective_n=3.0)  # fmt: skip
    return tmp_path / "runs"


def test_exact_figures_take_the_place_of_sampled_ones(listed: Path, tmp_path: Path, capsys) -> None:
    done = Done(capsys, tmp_path / "out", "exact", *sorted(listed.iterdir()))
    rows = {row["method"]: row for row in done.rows("exact")}
    assert float(rows["vBoN"]["kl"]) == pytest.approx(0.25) and float(rows["vBoN"]["kl_to_optimum"]) == pytest.approx(0.025)
    assert float(rows["vBoN"]["effective_n"]) == pytest.approx(1.9) and rows["vBoN"]["runs"] == "2"
    assert rows["J-BOND"]["kl_to_optimum"] == "" and float(rows["J-BOND"]["kl_to_nearest_bon"]) == pytest.approx(0.05)
    done.require_figures("exact")
    points = exact_points(points_of(read_evaluated([*listed.iterdir()])[0]))
    for point in points:
        assert point.evaluation.bon["N"].tolist() == [2, 16] and point.evaluation.bon["kl"].tolist() == [0.19, 1.8]
        sampled = read_evaluation(point.run.path / "eval" / "final-00000012" / "eval.h5")
        assert point.mean("kl") != pytest.approx(sampled.kl.mean()) and np.isnan(point.mean("evaluator"))


def test_runs_that_were_not_listed_are_refused(listed: Path, tmp_path: Path, capsys) -> None:
    sweeps.write_member(tmp_path / "sampled", fixtures.write_pool(tmp_path / "pool.h5", num_prompts=5), "vbon", 4, 1)
    assert "eval.exact" in fails(capsys, "exact", tmp_path / "sampled", "-o", tmp_path / "out")
