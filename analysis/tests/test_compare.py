"""`analysis compare`: two runs, paired over prompts."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats

from analysis import stats
from analysis.io import read_evaluation

from . import fixtures, sweeps
from .commands import Done, fails


def evaluation(sweep: Path, name: str):
    return read_evaluation(sweep / "runs" / name / "eval" / "final-00000012" / "eval.h5")


def test_differences_are_paired_over_prompts(sweep: Path, tmp_path: Path, capsys) -> None:
    names = "vbon-2-s1", "ppo-0.1-s1"
    done = Done(capsys, tmp_path / "out", "compare", *(sweep / "runs" / name for name in names))
    rows = {row["figure"]: row for row in done.rows("compare-evaluation")}
    one, other = (evaluation(sweep, name) for name in names)
    for figure, first, second in (
        ("win rate", one.win, other.win),
        ("KL, nats", one.kl.mean(axis=1), other.kl.mean(axis=1)),
        ("evaluator", one.rewards["evaluator"].mean(axis=1), other.rewards["evaluator"].mean(axis=1)),
        ("finished", one.finished.mean(axis=1), other.finished.mean(axis=1)),
    ):
        row, change = rows[figure], (second - first).astype(np.float64)
        assert float(row["first"]) == pytest.approx(first.mean()) and float(row["second"]) == pytest.approx(
            second.mean()
        )
        assert float(row["difference"]) == pytest.approx(change.mean(), abs=1e-7)
        assert float(row["difference_se"]) == pytest.approx(scipy_stats.sem(change), rel=1e-5)
        reference = scipy_stats.bootstrap((change,), np.mean, n_resamples=9999, method="percentile", rng=1)
        low, high = reference.confidence_interval
        close = 0.25 * scipy_stats.sem(change)  # quantiles of 2000 resamples
        assert (float(row["difference_low"]), float(row["difference_high"])) == pytest.approx((low, high), abs=close)
        assert row["differs"] == str(not float(row["difference_low"]) <= 0 <= float(row["difference_high"])).lower()
    efficiency = [float(stats.efficiency(e.win.mean(), e.kl.mean(dtype=np.float64))) for e in (one, other)]
    assert float(rows["efficiency"]["difference"]) == pytest.approx(efficiency[1] - efficiency[0])
    keys = {row["key"]: (row["first"], row["second"]) for row in done.rows("compare-configuration")}
    assert keys == {"train.method": ("vbon", "ppo"), "vbon.N": ("2", "none"), "ppo.kl_coef": ("", "0.1")}
    curves = {row["metric"]: row for row in done.rows("compare-curves")}
    assert curves["win"]["equal"] == "true" and float(curves["win"]["difference"]) == 0  # one seed: the same rows
    done.require_figures("compare-curves")
    assert "**Held-out evaluation**" in done.text and len(done.files) == 8


def test_paired_intervals_see_what_unpaired_ones_do_not() -> None:
    draw = np.random.default_rng(0)
    hard = draw.normal(0, 1, 60)  # how hard each prompt is, for both
    first, second = hard + draw.normal(0, 0.05, 60), hard + 0.1 + draw.normal(0, 0.05, 60)
    found = stats.difference_figure(first, second, 3)
    assert 0 < found.low < 0.1 < found.high and found.se < 0.1 * scipy_stats.sem(first)
    kl = np.full(60, float(stats.bon_kl(4.0)))
    win = np.clip(0.6 + 0.1 * hard, 0, 1)
    change = stats.efficiency_difference((win, kl), (win + 0.03, kl), 3)
    assert change.value == pytest.approx(0.03 / 0.3) and change.low == pytest.approx(change.high)
    assert stats.efficiency_difference((win, 0 * kl), (win, kl), 3) is None


def test_a_run_compared_with_its_copy_differs_in_nothing(sweep: Path, tmp_path: Path, capsys, undrawn) -> None:
    shutil.copytree(sweep / "runs" / "vbon-2-s1", tmp_path / "again")
    done = Done(capsys, tmp_path / "out", "compare", sweep / "runs" / "vbon-2-s1", tmp_path / "again")
    assert "They are the same." in done.text
    for row in done.rows("compare-evaluation"):
        assert float(row["difference"]) == 0 and row["differs"] == "false"


def test_without_a_folder_the_tables_are_only_printed(sweep: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    from analysis.__main__ import main

    monkeypatch.chdir(tmp_path)
    runs = [str(sweep / "runs" / name) for name in ("vbon-2-s1", "vbon-2-s2")]
    assert main(["compare", *runs]) == 0 and main(["timing", *runs]) == 0
    assert "vbon-2-s2" in capsys.readouterr().out and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("attributes", "num_prompts", "message"),
    [
        ({"pool_sha256": "7" * 64}, 16, "different pools"),
        ({"temperature": 1.0}, 16, "different temperatures (0.7 and 1)"),
        ({}, 15, "different prompts"),
    ],
)
def test_what_cannot_be_compared_is_refused(sweep, tmp_path, capsys, attributes, num_prompts, message) -> None:
    pool = fixtures.write_pool(tmp_path / "pool.h5", num_prompts=num_prompts)
    sweeps.write_member(tmp_path / "other", pool, "vbon", 2, 1)
    path = tmp_path / "other" / "eval" / "final-00000012" / "eval.h5"
    fixtures.write_evaluation(path, 12, 1.0, pool, **attributes)
    assert message in fails(capsys, "compare", sweep / "runs" / "vbon-2-s1", tmp_path / "other")


def test_two_evaluated_runs_are_needed(sweep: Path, tmp_path: Path, capsys) -> None:
    copy = Path(shutil.copytree(sweep / "runs" / "vbon-2-s1", tmp_path / "run"))
    (copy / "finished").unlink()
    assert "two finished and evaluated runs" in fails(capsys, "compare", sweep / "runs" / "vbon-2-s2", copy)
