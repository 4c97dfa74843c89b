"""The Pareto front and the shares of it against brute force."""

import numpy as np
import pytest

from analysis.front import pareto_front, redraw, share_figures, shares


def brute_front(kl: np.ndarray, value: np.ndarray) -> list[bool]:
    n = range(len(kl))
    return [not any(kl[j] <= kl[i] and value[j] >= value[i] and (kl[j] < kl[i] or value[j] > value[i]) for j in n)
            for i in n]  # fmt: skip


@pytest.mark.parametrize("levels", [3, 8, 1000])
def test_the_front_is_that_of_all_pairs_with_and_without_ties(levels: int) -> None:
    draw = np.random.default_rng(levels)
    for size in (1, 2, 3, 7, 40):
        for _ in range(40):
            kl, value = draw.integers(0, levels, (2, size)).astype(float)
            assert pareto_front(kl, value).tolist() == brute_front(kl, value)


def test_a_value_that_is_no_better_than_at_a_smaller_kl_is_not_on_the_front() -> None:
    assert pareto_front(np.array([0.0, 1, 2, 3]), np.array([0.5, 0.7, 0.7, 0.6])).tolist() == [True, True, False, False]
    assert pareto_front(np.array([1.0, 1, 1]), np.array([2.0, 2, 1])).tolist() == [True, True, False]


def test_shares_count_points() -> None:
    front = np.array([True, False, True, True, False])
    of_front, of_own = shares(np.array([0, 0, 1, 0, 2]), front, 3)
    assert of_front == pytest.approx([2 / 3, 1 / 3, 0]) and of_own == pytest.approx([2 / 3, 1, 0])


def test_redrawn_runs_have_the_mean_and_covariance_of_their_seeds() -> None:
    points = np.array([[1.0, 1.2, 0.9, 5.0], [0.5, 0.7, 0.55, 0.9]])
    members, generator = [np.array([0, 1, 2])], np.random.default_rng(0)
    drawn = np.stack([redraw(points, members, generator) for _ in range(4000)])
    assert (drawn[:, :, 3] == points[:, 3]).all()
    assert drawn[:, :, 0].mean(axis=0) == pytest.approx(points[:, :3].mean(axis=1), abs=0.01)
    assert np.cov(drawn[:, :, 1].T) == pytest.approx(np.cov(points[:, :3]), rel=0.1)
    assert np.corrcoef(drawn[:, 0, 0], drawn[:, 0, 1])[0, 1] == pytest.approx(0, abs=0.06)


def test_intervals_of_shares_come_from_seeds_alone() -> None:
    kl, value = np.array([1.0, 1.1, 2.0, 2.2, 3.0]), np.array([0.6, 0.65, 0.62, 0.75, 0.7])
    methods = ["a", "a", "b", "b", "c"]
    found = share_figures(methods, [0, 0, 1, 1, 2], kl, value)
    assert found["a"][0].value == pytest.approx(2 / 3) and found["b"][1].value == 0.5 and found["c"][0].value == 0
    for pair in found.values():
        for one in pair:
            assert 0 <= one.low <= one.high <= 1
    assert found["b"][0].low < found["b"][0].high
    assert share_figures(methods, [0, 0, 1, 1, 2], kl, value) == found  # the same numbers again
    alone = share_figures(methods, [0, 1, 2, 3, 4], kl, value)
    assert alone["a"][0].value == found["a"][0].value and alone["a"][0].low is None
    far = share_figures(["a", "a", "b"], [0, 0, 1], np.array([1.0, 1.001, 9.0]), np.array([0.9, 0.901, 0.1]))
    assert (far["b"][0].low, far["b"][0].high) == (0, 0)  # no noise of these seeds puts it on the front
