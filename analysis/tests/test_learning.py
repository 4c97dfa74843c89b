"""`analysis curves` and `analysis timing`: learning curves over seeds, seconds of a step."""

from pathlib import Path

import numpy as np
import pytest

from analysis.io import Metrics
from analysis.learning import chosen_metrics, last_quarter, series_of
from analysis.selection import read_measured
from analysis.step_times import step_times

from . import fixtures, sweeps
from .commands import Done, fails


def test_seeds_are_one_series_over_the_steps_that_all_have(tmp_path: Path) -> None:
    pool = fixtures.write_pool(tmp_path / "pool.h5", num_prompts=2)
    for seed, steps in ((1, 8), (2, 6)):
        sweeps.write_member(tmp_path / f"s{seed}", pool, "vbon", 4, seed, steps=steps)
    rows = fixtures.few(fixtures.metrics_rows(6, seed=2))
    for row in rows[:2]:
        del row["win"]  # not measured at the first two steps of the second seed
    (tmp_path / "s2" / "metrics.h5").unlink()
    (tmp_path / "s2" / "metrics.jsonl").write_text("".join(f"{fixtures.json.dumps(row)}\n" for row in rows))
    (one,) = series_of(read_measured([tmp_path / "s1", tmp_path / "s2"])[0])
    assert one.label == "vBoN" and one.step.tolist() == [1, 2, 3, 4, 5, 6] and one.episodes[-1] == 6 * 64
    values = one.values("win")
    assert values.shape == (2, 6) and np.isnan(values[1, :2]).all() and np.isfinite(values[1, 2:]).all()
    assert values[0].tolist() == [row["win"] for row in fixtures.metrics_rows(8, seed=1)[:6]]
    assert one.values("of_tomorrow") is None


def test_labels_tell_strengths_and_then_what_else_differs(sweep: Path, tmp_path: Path) -> None:
    assert [one.label for one in series_of(read_measured([sweep])[0])] == [
        "vBoN, N = 2", "vBoN, N = 8", "BoNBoN, N = 4", "BoNBoN, N = 8", "PPO, β = 0.1", "PPO, β = 0.5"]  # fmt: skip
    pool = fixtures.write_pool(tmp_path / "pool.h5", num_prompts=2)
    for estimator in ("add_one", "harmonic"):
        sweeps.write_member(tmp_path / estimator, pool, "vbon", 4, 1, vbon__estimator=estimator)
    found = series_of(read_measured([tmp_path / "add_one", tmp_path / "harmonic"])[0])
    labels = ["vBoN, N = 4, estimator = add_one", "vBoN, N = 4, estimator = harmonic"]
    assert sorted(one.label for one in found) == labels


def test_the_last_quarter_leaves_out_what_was_not_measured() -> None:
    values = np.array([[0, 0, 0, 0, 0, 0, 1, 3.0], [9, 9, 9, 9, 9, 9, np.nan, 5], [1] * 6 + [np.nan, np.nan]])
    assert last_quarter(values) == pytest.approx([2, 5, np.nan], nan_ok=True)


def test_curves_are_drawn_against_steps_and_episodes(sweep: Path, tmp_path: Path, capsys) -> None:
    done = Done(capsys, tmp_path / "out", "curves", sweep, "--metric", "win", "kl")
    done.require_figures("curves-steps", "curves-episodes")
    rows = done.rows("curves")
    expected = [np.mean([row["win"] for row in fixtures.metrics_rows(12, seed=seed)[-3:]]) for seed in (1, 2)]
    assert rows[0]["series"] == "vBoN, N = 2" and float(rows[0]["win"]) == pytest.approx(np.mean(expected))
    assert (rows[0]["runs"], rows[0]["steps"], rows[0]["episodes"]) == ("2", "12", "768")
    assert len(done.files) == 6


def test_an_unfinished_run_has_curves_and_a_wrong_name_gets_the_nearest(sweep: Path, tmp_path: Path, capsys) -> None:
    fixtures.write_metrics(tmp_path / "run", fixtures.few(fixtures.metrics_rows(70)))
    (tmp_path / "run" / "config.yaml").write_text(fixtures.config_text(Path("x")))
    Done(capsys, tmp_path / "out", "curves", tmp_path / "run").require_figures("curves-steps")
    assert "did you mean 'reward'" in fails(capsys, "curves", sweep, "-o", tmp_path / "x", "--metric", "rewards")
    assert "there are: kl, reward, win" in fails(capsys, "curves", sweep, "-o", tmp_path / "x", "--metric", "zzz")
    runs = read_measured([tmp_path / "run"])[0]
    assert chosen_metrics(runs, None) == ["reward", "win", "kl"] and chosen_metrics(runs, ["kl", "kl"]) == ["kl"]


def metrics(time: dict[str, list[list[float]]]) -> Metrics:
    count = np.arange(len(next(iter(time.values()))))
    return Metrics(count, count, count, {}, {phase: np.array(values, float) for phase, values in time.items()})


def test_times_are_means_over_the_steps_of_a_kind() -> None:
    found = step_times(metrics({
        "generate": [[0, 0], [4, 0], [2, np.nan]],
        "update": [[0, 5], [0, 3], [0, 1]],
        "idle": [[5, 0], [0, 2], [0, 4]],
        "total": [[5, 5], [4, 5], [2, 5.5]],
        "tokens_per_s": [[9, 9], [9, 9], [9, 9]],
    }))  # fmt: skip
    online, offline = found["online"], found["offline"]
    assert (online.steps, online.whole, online.median) == (2, 5.25, 5.25)
    assert online.phases == {"generate": 3, "update": 2}
    assert online.idle == {"rollout": 0, "learner": 3}
    assert (offline.steps, offline.whole, offline.phases["update"], offline.idle["rollout"]) == (1, 5, 5, 5)
    assert step_times(metrics({"update": [[1.0]]})) == {}  # no total: what a step took is not known


def table_of(text: str) -> dict[tuple[str, str, str], list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.split("\n") if line.startswith("|")]
    return {tuple(row[:3]): row[3:] for row in rows}


def test_runs_stand_side_by_side_with_ppo_and_the_pool(sweep: Path, tmp_path: Path, capsys) -> None:
    chosen = [sweep / "runs" / name for name in ("ppo-0.1-s1", "vbon-2-s1")]
    done = Done(capsys, tmp_path / "out", "timing", *chosen)
    rows = table_of(done.text)
    assert rows["step", "seconds of", "role"] == ["vbon-2-s1", "ppo-0.1-s1"]
    assert rows["online", "(number of steps)", ""] == ["12", "12"]
    assert rows["online", "whole step", ""] == ["8.400", "8.400"]
    assert rows["online", "generate", "rollout"] == ["4.000", "4.000"]
    assert rows["online", "idle", "scorer"] == ["7.200", "7.200"]
    assert rows["online", "(whole step, times that of PPO)", ""] == ["1.000", "1.000"]
    assert rows["pool", "(prompts)", ""] == ["4", "–"]  # PPO needs no pool
    assert rows["pool", "(samples a prompt)", ""] == ["32", "–"] and "note" not in done.notes
    assert rows["pool", "whole pool", ""] == ["12.500", "–"]
    assert rows["pool", "(as long as so many steps)", ""] == ["1.488", "–"]
    assert done.files == {"timing.md", "timing.csv"} and not [key for key in rows if key[0] == "offline"]


def test_many_runs_are_put_together_by_method(sweep: Path, tmp_path: Path, capsys) -> None:
    rows = table_of(Done(capsys, tmp_path / "out", "timing", sweep).text)
    assert rows["step", "seconds of", "role"] == ["vBoN", "BoNBoN", "PPO"] and rows["", "runs", ""] == ["4"] * 3


def test_runs_without_times_are_refused(tmp_path: Path, capsys) -> None:
    (tmp_path / "config.yaml").write_text(fixtures.config_text(Path("x")))
    (tmp_path / "metrics.jsonl").write_text('{"step":1,"episodes":1,"tokens":1,"reward":1}\n')
    assert "measured the time" in fails(capsys, "timing", tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    assert "is trained" in fails(capsys, "timing", tmp_path)
