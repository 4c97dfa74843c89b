"""Statistics against brute force, closed forms, SciPy, and what vbon's C++ wrote."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate
from scipy import stats as scipy_stats
from scipy.special import xlogy

from analysis import stats
from analysis.io import read_evaluation, read_pool

FILES = Path(__file__).parent / "files"


def test_closed_forms_of_best_of_n() -> None:
    for n in (1.0, 2.0, 3.7, 64.0):
        u = np.linspace(0, 1, 400_001)[1:]
        weight = n * u ** (n - 1)  # of the quantile u
        assert stats.bon_kl(n) == pytest.approx(integrate.trapezoid(xlogy(weight, weight), u), abs=1e-4)
        assert stats.bon_win(n) == pytest.approx(integrate.trapezoid(weight * u, u), abs=1e-5)


def test_the_real_n_of_a_kl() -> None:
    n = np.array([1.001, 1.5, 2, 4, 16, 1000.5, 1e6])
    assert stats.n_of_kl(stats.bon_kl(n)) == pytest.approx(n, rel=1e-9)
    assert stats.n_of_kl(0.0) == 1 and stats.n_of_kl(-1e-9) == 1
    assert stats.win_at_kl(stats.bon_kl(4.0)) == pytest.approx(0.8)


def test_efficiency() -> None:
    assert stats.efficiency(0.8, float(stats.bon_kl(4.0))) == pytest.approx(1)
    assert stats.efficiency(0.65, float(stats.bon_kl(4.0))) == pytest.approx(0.5)
    assert np.isnan(stats.efficiency(0.5, 0.0)) and np.isnan(stats.efficiency(0.51, 1e-4))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_best_of_n_of_a_pool_is_the_mean_over_all_subsets(n: int) -> None:
    rewards = np.array([[0.5, -1, 2, 2, 0, 0.5, 0.5], [1, 2, 3, 4, 5, 6, 7.0]])
    weights, wins = stats.bon_weights(rewards, n), stats.bon_win_of_pool(rewards, n)
    for row in range(2):
        weight, win, count = np.zeros(7), [], 0
        for subset in combinations(range(7), n):
            best = [i for i in subset if rewards[row, i] == max(rewards[row, list(subset)])]
            weight[best] += 1 / len(best)
            others = rewards[row, [i for i in range(7) if i not in subset]]
            top = rewards[row, best[0]]
            win.append(np.mean((top > others) + 0.5 * (top == others)))
            count += 1
        assert weights[row] == pytest.approx(weight / count)
        assert wins[row] == pytest.approx(np.mean(win))


def test_real_n_is_the_best_of_the_pools_own_distribution() -> None:
    rewards = np.array([[3.0, 1, 2, 2]])
    n = 2.5
    first, second, third = (1 / 4) ** n, (3 / 4) ** n - (1 / 4) ** n, 1 - (3 / 4) ** n
    assert stats.bon_weights(rewards, n)[0] == pytest.approx([third, first, second / 2, second / 2])
    ratio = np.array([third * 4, first * 4, second * 2, second * 2])
    assert stats.bon_kl_of_pool(rewards, n)[0] == pytest.approx(np.mean(ratio * np.log(ratio)))
    assert stats.bon_kl_of_pool(rewards, 1.0)[0] == pytest.approx(0)


def test_figures_of_best_of_n_are_those_of_vbon_itself() -> None:
    pool, evaluation = read_pool(FILES / "pool.h5"), read_evaluation(FILES / "eval.h5")
    rewards = pool.rewards["main"].astype(np.float64)
    for at, n in enumerate(evaluation.bon["N"]):
        win = stats.bon_win_of_pool(rewards, n)
        assert win.mean() == pytest.approx(evaluation.bon["win"][at], abs=1e-12)
        assert np.std(win, ddof=1) / np.sqrt(5) == pytest.approx(evaluation.bon["se"][at], abs=1e-12)
        assert stats.bon_kl_of_pool(rewards, n).mean() == pytest.approx(evaluation.bon["kl"][at], abs=1e-12)
        reward = (stats.bon_weights(rewards, n) * rewards).sum(axis=1).mean()
        assert reward == pytest.approx(evaluation.bon["reward"][at], abs=1e-12)
    wins = stats.win_rates(evaluation.rewards["main"], pool.rewards["main"])
    assert wins == pytest.approx(evaluation.win, abs=1e-12)


def test_win_rates_count_every_pair_with_ties_half() -> None:
    draw = np.random.default_rng(0)
    rewards, pool = draw.integers(0, 5, (6, 4)).astype(float), draw.integers(0, 5, (6, 9)).astype(float)
    pairs = [[np.mean([(r > q) + 0.5 * (r == q) for q in row]) for r in mine] for mine, row in zip(rewards, pool)]
    assert stats.win_rates(rewards, pool) == pytest.approx(np.mean(pairs, axis=1))
    assert stats.win_rates(pool, pool).mean() == pytest.approx(0.5)


def test_bootstrap_agrees_with_scipy_and_is_paired() -> None:
    values = np.random.default_rng(1).normal(2, 3, 200)
    found = stats.figure(values, seed=7)
    assert found.value == pytest.approx(values.mean()) and found.se == pytest.approx(scipy_stats.sem(values))
    reference = scipy_stats.bootstrap((values,), np.mean, n_resamples=9999, method="percentile", rng=3)
    low, high = reference.confidence_interval
    # Quantiles of 2000 resamples have a standard error of 0.04 standard errors of the mean at 2.5%.
    assert found.low == pytest.approx(low, abs=0.2 * found.se) and found.high == pytest.approx(high, abs=0.2 * found.se)
    assert stats.figure(values, seed=7) == found and stats.figure(values, seed=8) != found
    shifted = stats.resampled_means(values + 1, 7) - stats.resampled_means(values, 7)
    assert shifted == pytest.approx(np.ones(stats.RESAMPLES))


def test_one_prompt_has_no_error() -> None:
    found = stats.figure(np.array([0.25]), seed=1)
    assert (found.value, found.se, found.low, found.high) == (0.25, None, None, None)
    share = stats.efficiency_figure(np.array([0.8]), np.array([float(stats.bon_kl(4.0))]), seed=1)
    assert share is not None and share.value == pytest.approx(1) and share.se is None
