"""The Pareto front of KL against a value (win rate, reward), and which methods stand on it how often."""

import numpy as np

from . import stats
from .stats import Figure

RESAMPLES = 1000


def pareto_front(kl: np.ndarray, value: np.ndarray) -> np.ndarray:
    """bool [n]: no other point has at most this KL and at least this value, and is better in one of the two.

    Equal points are on the front together.
    """
    order = np.lexsort((-value, kl))  # by KL, the highest value of each first
    kl, value = np.asarray(kl)[order], np.asarray(value)[order]
    starts = np.r_[True, kl[1:] != kl[:-1]]  # of runs of equal KL
    best_here = value[starts][np.cumsum(starts) - 1]
    best_before = np.r_[-np.inf, np.maximum.accumulate(value)[:-1]][starts][np.cumsum(starts) - 1]
    front = np.empty(len(kl), dtype=bool)
    front[order] = (value == best_here) & (value > best_before)
    return front


def shares(methods: np.ndarray, front: np.ndarray, count: int) -> np.ndarray:
    """[2, count] of each method, numbered from 0: its share of the points on the front, and the share of its own points
    that are on it (NaN: it has none)."""
    on_front, all_points = np.bincount(methods[front], minlength=count), np.bincount(methods, minlength=count)
    with np.errstate(invalid="ignore"):
        return np.stack([on_front / max(on_front.sum(), 1), on_front / all_points])


def share_figures(methods: list[str], cells: list[int], kl: np.ndarray, value: np.ndarray,
                  seed: int = 0) -> dict[str, tuple[Figure, Figure]]:  # fmt: skip
    """The shares by method, with intervals over seeds by the parametric bootstrap: the runs of each configuration
    (`cells`) are drawn anew from the normal distribution with the mean and covariance of its seeds, and the front is
    found again. Drawing the runs themselves with replacement would double some and drop others: fewer competitors,
    and shares that are too high. Without an interval where no configuration has two seeds.
    """
    names = list(dict.fromkeys(methods))
    numbers = np.array([names.index(name) for name in methods])
    found = shares(numbers, pareto_front(kl, value), len(names))
    members = [at for cell in dict.fromkeys(cells) if len(at := np.flatnonzero(np.array(cells) == cell)) > 1]
    if not members:
        return {name: (Figure(float(found[0, at])), Figure(float(found[1, at]))) for at, name in enumerate(names)}
    generator = np.random.default_rng(seed)
    drawn = np.empty((RESAMPLES, 2, len(names)))
    for resample in drawn:
        again = redraw(np.stack([kl, value]), members, generator)
        resample[:] = shares(numbers, pareto_front(*again), len(names))
    return {name: (_figure(found[0, at], drawn[:, 0, at]), _figure(found[1, at], drawn[:, 1, at]))
            for at, name in enumerate(names)}  # fmt: skip


def redraw(points: np.ndarray, members: list[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """[2, n] with the runs of each configuration drawn anew; a configuration of one run stays."""
    again = points.copy()
    for at in members:
        mean = points[:, at].mean(axis=1, keepdims=True)
        deviations = (points[:, at] - mean) / np.sqrt(len(at) - 1)  # times its transpose: the covariance
        again[:, at] = mean + deviations @ generator.standard_normal((len(at), len(at)))
    return again


def _figure(value: float, drawn: np.ndarray) -> Figure:
    return Figure(float(value), float(np.std(drawn, ddof=1)), *stats.interval(drawn))
