"""Learning curves as one figure: a panel a metric, a line a series, against steps or against episodes."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from .curves import GROUPS, SMOOTH_FROM, Panel, draw_target, moving_average, scale_by_decades
from .learning import MAX_LOOKS, Series
from .methods import method_of
from .output import Output
from .plots import legend_below, legend_columns, legend_height, panels

COLUMN, ROW = 2.5, 1.9  # inches
MAX_ACROSS = 3
AXES = {"steps": "step", "episodes": "episodes"}


def save_pictures(series: list[Series], metrics: list[str], output: Output) -> None:
    for axis in AXES:
        with curves_figure(series, metrics, axis) as made:
            output.figure(f"curves-{axis}", made)


@contextmanager
def curves_figure(series: list[Series], metrics: list[str], axis: str = "steps") -> Iterator[Drawing]:
    across = min(MAX_ACROSS, len(metrics))
    rows = -(-len(metrics) // across)
    width = max(4.6, COLUMN * across)
    labels = _legend(series)
    columns = legend_columns(labels, width)
    with panels(width, ROW * rows + 0.2 + legend_height(len(labels), columns), rows, across) as (made, axes):
        for one, metric in zip(axes, metrics):
            draw(one, series, metric, axis)
        for spare in axes[len(metrics) :]:
            spare.set_axis_off()
        add_legend(made, axes[0], labels, columns)
        yield made


def _legend(series: list[Series]) -> dict[str, Series]:
    """One entry a series; where there are many, one a method."""
    if len(series) <= MAX_LOOKS:
        return {one.label: one for one in series}
    return {method_of(one.method).label: one for one in series}


def add_legend(made: Drawing, axes: Axes, entries: dict[str, Series], columns: int) -> None:
    handles = [axes.plot([], [], color=one.look.colour, linestyle=one.look.dash)[0] for one in entries.values()]
    legend_below(made, handles, list(entries), columns)


def panel_of(metric: str) -> Panel:
    known = {panel.metric: panel for group in GROUPS.values() for panel in group}
    return known.get(metric, Panel(metric, metric))


def draw(axes: Axes, series: list[Series], metric: str, axis: str) -> None:
    """Means over seeds, with the range of the seeds behind; smoothed where the steps are many."""
    panel, is_many = panel_of(metric), len(series) > MAX_LOOKS
    for one in series:
        values = one.values(metric)
        if values is None:
            continue
        there = np.isfinite(values).any(axis=0)
        x = (one.step if axis == "steps" else one.episodes)[there].astype(np.float64)
        mean, low, high = _mean_and_range(values[:, there])
        is_long = len(mean) >= SMOOTH_FROM
        width = max(3, len(mean) // 20) | 1
        smooth = (lambda y, w=width: moving_average(y, w)) if is_long else lambda y: y
        look = {"color": one.look.colour, "linestyle": one.look.dash, "linewidth": 0.9 if is_many else 1.5}
        axes.plot(x, smooth(mean), alpha=0.7 if is_many else 1, marker="o" if len(x) == 1 else "", markersize=4, **look)
        if len(values) > 1 and not is_many:
            axes.fill_between(x, smooth(low), smooth(high), color=one.look.colour, alpha=0.15, linewidth=0)
        elif is_long and not is_many:
            axes.plot(x, mean, color=one.look.colour, linewidth=0.7, alpha=0.3)
    if panel.log_scale:
        scale_by_decades(axes)
    draw_target(axes, panel, {run.n for one in series for run in one.runs})
    axes.set_title(panel.title, fontsize=8.8)
    axes.set_xlabel(AXES[axis])
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
    axes.margins(x=0.02)


def _mean_and_range(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Over the runs that measured each step; [runs, S] with at least one each."""
    count = np.isfinite(values).sum(axis=0)
    return np.nansum(values, axis=0) / count, np.nanmin(values, axis=0), np.nanmax(values, axis=0)
