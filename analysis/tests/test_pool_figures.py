"""`analysis ks` and `analysis cdf`: the tests against SciPy, the estimates against brute force, and the commands."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats

from analysis import ks, pool_cdf
from analysis.io import read_pool

from . import fixtures
from .commands import Done, fails


@pytest.mark.parametrize("levels", [0, 4])
def test_statistics_and_p_values_are_those_of_scipy_with_and_without_ties(levels: int) -> None:
    draw = np.random.default_rng(levels)
    rewards = draw.standard_normal((20, 90)).cumsum(axis=0) + draw.standard_normal((20, 90))
    rewards = np.round(rewards) if levels else rewards
    for result in ks.run_tests(rewards, [5, 20], 60):
        start = 0 if result.kind == "nested" else result.m
        for row in range(20):
            expected = scipy_stats.ks_2samp(rewards[row, : result.m], rewards[row, start : start + 60], method="exact")
            assert result.statistic[row] == pytest.approx(expected.statistic, abs=1e-12)
            assert result.p[row] == pytest.approx(expected.pvalue, rel=1e-9)


def test_disjoint_subsets_are_taken_where_there_are_samples_enough() -> None:
    rewards = np.random.default_rng(0).standard_normal((3, 70))
    found = [(one.m, one.kind) for one in ks.run_tests(rewards, [5, 10, 20], 60)]
    assert found == [(5, "nested"), (5, "disjoint"), (10, "nested"), (10, "disjoint"), (20, "nested")]


def test_nested_subsets_shrink_the_statistic() -> None:
    rewards = np.random.default_rng(1).standard_normal((1, 60))
    (nested, _) = ks.run_tests(rewards, [20], 40)
    against_rest = scipy_stats.ks_2samp(rewards[0, :20], rewards[0, 20:40]).statistic
    assert nested.statistic[0] == pytest.approx((1 - 20 / 40) * against_rest)


def test_equal_distributions_are_rejected_as_often_as_the_level_says_when_disjoint() -> None:
    rewards = np.random.default_rng(2).standard_normal((800, 260))
    nested, disjoint = ks.run_tests(rewards, [100], 150)
    assert ks.rejection(disjoint).low < 0.05 < ks.rejection(disjoint).high + 0.01  # exact p-values are discrete
    assert ks.rejection(nested).high < 0.02


def test_ties_are_counted_by_pairs() -> None:
    assert ks.tie_share(np.array([[1.0, 1, 2], [1, 2, 3]])) == pytest.approx(1 / 6)
    assert ks.tie_share(np.array([[1.0, 1, 1]])) == 1 and ks.tie_share(np.array([[1.0], [2.0]])) == 0


def test_the_interval_of_a_rejection_is_wilsons() -> None:
    one = ks.Result(5, "nested", np.zeros(50), np.array([0.01] * 3 + [0.5] * 47))
    found, z = ks.rejection(one), 1.959963985
    centre, reach = (0.06 + z**2 / 100) / (1 + z**2 / 50), z / (1 + z**2 / 50) * np.sqrt(0.06 * 0.94 / 50 + z**2 / 1e4)
    assert (found.value, found.low, found.high) == pytest.approx((0.06, centre - reach, centre + reach))


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pool") / "pool.h5"
    fixtures.write_pool(path, num_prompts=9, m=48)
    return path


def test_the_table_of_tests_says_what_it_rests_on(pool: Path, tmp_path: Path, capsys) -> None:
    done = Done(capsys, tmp_path / "out", "ks", pool, "--against", 36, "--sizes", "20,5")
    rows = done.rows("ks")
    assert [(row["m"], row["subset"]) for row in rows] == [("5", "nested"), ("5", "disjoint"), ("20", "nested")]
    assert "No disjoint subsets for m = 20" in done.notes and "--against 28" in done.notes
    text = done.notes_of("ks")
    for expected in ("fewer than 5% are rejected by construction", "exact", "tied pairs"):
        assert expected in text and expected in done.text
    rewards = read_pool(pool).rewards["main"]
    p = [scipy_stats.ks_2samp(row[:5], row[5:41], method="exact").pvalue for row in rewards]
    assert int(rows[1]["rejected"]) == sum(one < 0.05 for one in p)
    done.require_figures("ks")
    assert len(done.files) == 4


def test_default_sizes_are_those_of_the_paper_as_far_as_the_pool_goes(
    pool: Path, tmp_path: Path, capsys, undrawn
) -> None:
    rows = Done(capsys, tmp_path / "out", "ks", pool, "--against", "all", "--reward", "evaluator").rows("ks")
    assert [(row["m"], row["subset"]) for row in rows] == [("5", "nested"), ("20", "nested")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "fewer than --against 600: draw more"),
        (["--against", "1"], "whole number"),
        (["--against", "some"], "whole number"),
        (["--against", "20", "--sizes", "20"], "smaller than --against"),
        (["--against", "4"], "name others"),
        (["--against", "20", "--sizes", "5,x"], "--sizes 5,x"),
        (["--against", "20", "--sizes", "0"], "--sizes 0"),
        (["--reward", "of_tomorrow"], "no reward 'of_tomorrow', but: evaluator, main"),
    ],
)
def test_what_the_pool_cannot_give_is_refused(
    pool: Path, tmp_path: Path, capsys, arguments: list, message: str
) -> None:
    assert message in fails(capsys, "ks", pool, "-o", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_another_file_is_refused(runs, tmp_path: Path, capsys) -> None:
    for command in ("ks", "cdf"):
        evaluation = runs.vbon / "eval" / "step-00000030.h5"
        assert "is a 'vbon.eval' file" in fails(capsys, command, evaluation, "-o", tmp_path / "out")
        assert "does not exist" in fails(capsys, command, tmp_path / "none.h5", "-o", tmp_path / "out")


def test_estimates_are_counts() -> None:
    draw = np.random.default_rng(3)
    samples, at = draw.integers(0, 6, 15).astype(float), np.linspace(-1, 7, 33)
    below = np.array([(samples < x).sum() for x in at])
    assert pool_cdf.f_strict(samples, at) == pytest.approx(below / 15)
    assert pool_cdf.log_f(samples, at) == pytest.approx(np.log((below + 1) / 16))
    other = draw.integers(0, 6, 11).astype(float)
    expected = scipy_stats.ks_2samp(samples, other).statistic
    assert pool_cdf.distance(samples, other) == pytest.approx(expected)
    assert pool_cdf.distance(samples, samples) == 0


def test_subsets_double_up_to_all() -> None:
    assert pool_cdf.default_sizes(600) == [5, 20, 100, 200, 400, 600]
    assert pool_cdf.default_sizes(64) == [5, 20, 64] and pool_cdf.default_sizes(5) == [5]
    assert pool_cdf.default_sizes(4000) == [5, 20, 100, 200, 400, 800, 1600, 4000]


def test_prompts_are_those_of_lowest_middle_and_highest_reward(pool: Path, tmp_path: Path, capsys) -> None:
    found = read_pool(pool)
    means = found.rewards["main"].mean(axis=1)
    rows = {one.kind: one.row for one in pool_cdf.choose(found, found.rewards["main"], None)}
    assert rows == {"adversarial": means.argmin(), "typical": np.argsort(means)[4], "best": means.argmax()}
    two = pool_cdf.choose(found, found.rewards["main"][:2], None)
    assert sorted(one.row for one in two) == [0, 1] and {one.kind for one in two} >= {"adversarial", "best"}
    done = Done(capsys, tmp_path / "out", "cdf", pool)
    table = done.rows("cdf")
    assert [row["m"] for row in table] == ["5", "20", "48"] * 3
    assert [row["kind"] for row in table[::3]] == ["adversarial", "typical", "best"]
    assert float(table[2]["distance"]) == 0 and float(table[0]["floor"]) == pytest.approx(-np.log(6))
    first = found.rewards["main"][rows["adversarial"]]
    assert float(table[0]["distance"]) == pytest.approx(scipy_stats.ks_2samp(first[:5], first).statistic)
    done.require_figures("cdf")


def test_prompts_and_sizes_may_be_named(pool: Path, tmp_path: Path, capsys, undrawn) -> None:
    rows = Done(capsys, tmp_path / "out", "cdf", pool, "--prompts", "103, 100", "--sizes", "4,8").rows("cdf")
    assert [(row["prompt_id"], row["m"], row["kind"]) for row in rows] == [
        ("103", "4", ""), ("103", "8", ""), ("100", "4", ""), ("100", "8", "")]  # fmt: skip
    assert "<script>" in rows[0]["text"] or "film" in rows[-1]["text"]
    for arguments, message in (
        (["--prompts", "7"], "no prompt 7 (its ids: 100 to 108)"),
        (["--prompts", "a"], "--prompts a"),
        (["--sizes", "100"], "has 48 samples"),
    ):
        assert message in fails(capsys, "cdf", pool, "-o", tmp_path / "none", *arguments)
