"""Learning curves of two runs, and below them their difference."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .curves import SMOOTH_FROM, moving_average
from .differences import Curves
from .learning import DEFAULT_METRICS
from .learning_picture import panel_of
from .output import Output
from .plots import GREY, INK, legend_below, legend_height, look_of, panels, short
from .runs import Run

MAX_PANELS = 4
COLUMN = 2.5  # inches


def save_picture(first: Run, second: Run, curves: dict[str, Curves], output: Output) -> None:
    usual = [name for name in DEFAULT_METRICS if name in curves]
    names = (usual or sorted(curves))[:MAX_PANELS]
    if not names:
        return
    with panels(max(4.6, COLUMN * len(names)), 3.6 + legend_height(3, 3), 2, len(names), sharex="col") as (made, axes):
        for at, name in enumerate(names):
            above, below, one = axes[at], axes[at + len(names)], curves[name]
            for index, (run, values) in enumerate(((first, one.first), (second, one.second))):
                look = look_of(index)
                _draw(above, one.step, values, look.colour, look.dash, short(run.name))
            _draw(below, one.step, one.second - one.first, INK, "-", "difference")
            below.axhline(0, color=GREY, linewidth=0.9, linestyle=(0, (2, 3)))
            above.set_title(panel_of(name).title, fontsize=8.8)
            below.set_xlabel("step")
            below.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
        axes[len(names)].set_ylabel("second − first")
        handles, labels = axes[0].get_legend_handles_labels()
        legend_below(made, handles, labels, 2)
        output.figure("compare-curves", made)


def _draw(axes: Axes, step: np.ndarray, values: np.ndarray, colour: str, dash: object, label: str) -> None:
    """Smoothed over the faint values where they are many."""
    is_long = len(values) >= SMOOTH_FROM
    if is_long:
        axes.plot(step, values, color=colour, linewidth=0.7, alpha=0.3)
    smooth = moving_average(values, max(3, len(values) // 20) | 1) if is_long else values
    axes.plot(step, smooth, color=colour, linestyle=dash, linewidth=1.4, label=label)
