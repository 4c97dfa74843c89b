"""Reward distributions before and after training, and of best-of-N by the pool's weights."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from . import stats
from .plots import GREY, data_uri, figure, short
from .shown import Shown

GRID = 400  # points that a distribution is drawn by
BON_DASHES = ((0, (4, 1.5, 1, 1.5)), (0, (8, 2)), (0, (1, 1.2)))


def draw_distribution(shown: list[Shown], reward: str, title: str) -> str | None:
    """Data URI of P(reward <= x) before (pool), after (evaluation) and for BoN from the pool; None: no such reward."""
    having = [(one, one.run.final) for one in shown if one.run.final is not None and reward in one.run.final.rewards]
    if not having:
        return None
    with figure(4.7, 3.2) as (made, axes):
        _draw_before(axes, [one for one, _ in having], reward)
        for one, final in having:
            look = {"color": one.look.colour, "linestyle": one.look.dash, "label": short(one.run.name)}
            _draw(axes, final.rewards[reward].ravel(), None, look)
        axes.set_title(title)
        axes.set_xlabel("reward")
        axes.set_ylabel("share of samples up to here")
        axes.set_ylim(0, 1.01)
        axes.legend(loc="best", handlelength=2.6)
        return data_uri(made)


def weighted_cdf(values: np.ndarray, weights: np.ndarray | None, grid: np.ndarray) -> np.ndarray:
    """P(value <= x) at each x of the grid; weights None: equal."""
    order = np.argsort(values, kind="stable")
    mass = np.cumsum(np.ones(len(values)) if weights is None else weights[order])
    return np.concatenate([[0.0], mass])[np.searchsorted(values[order], grid, "right")] / mass[-1]


def _draw_before(axes: Axes, having: list[Shown], reward: str) -> None:
    """The reference, and BoN at each N that a run is compared with, of each pool once."""
    seen: set[object] = set()
    for one in having:
        values, main = (one.view.reward(reward), one.view.reward()) if one.view else (None, None)
        if one.view is None or values is None or main is None:
            continue
        for n in (None, *(row.n for row in one.rows if row.kind == "bon")):
            if (key := (one.view.pool.path, n)) in seen:
                continue
            seen.add(key)
            weights = None if n is None else stats.bon_weights(main, n).ravel()
            label = "reference" if n is None else f"best of {n:.3g}, from the pool"
            dash = "-" if n is None else BON_DASHES[len(seen) % len(BON_DASHES)]
            _draw(axes, values.ravel(), weights, {"color": GREY, "linestyle": dash, "label": label})


def _draw(axes: Axes, values: np.ndarray, weights: np.ndarray | None, look: dict[str, Any]) -> None:
    grid = np.linspace(values.min(), values.max(), GRID)
    axes.plot(grid, weighted_cdf(values, weights, grid), drawstyle="steps-post", **look)
