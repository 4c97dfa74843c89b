"""Pictures of an ablation: every figure by the key's value, and win rate and reward against KL."""

import math
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from .ablation import POOL_USE, Cell, is_number, order
from .front_picture import KL_LABEL, LINES, METRICS, draw_best_of_n, kl_limit
from .groups import show
from .methods import method_of
from .output import Output
from .plots import (
    MARKERS,
    Look,
    legend_below,
    legend_columns,
    legend_height,
    look_of,
    move_beside,
    name_ticks,
    panels,
    percent,
)
from .points import mean_of
from .pool_time import unit
from .stats import Figure

PANELS = METRICS | {"kl": KL_LABEL}
WIDTH, PANEL = 7.2, 2.6  # inches of a figure, and of a panel from its first to its last value
LOG_FROM = 8.0  # highest over lowest value: from here on an axis of powers of two
FEW_SEEDS = 3  # with fewer no interval is drawn: Student's would fill the panel


@dataclass
class Layout:
    """`x_key`: what the panels have on their x axis; `lines`: cells by label, in the order of the x axis."""

    x_key: str
    x_values: list[Any]
    is_numeric: bool
    lines: dict[str, list[Cell]]


def layout(cells: list[Cell], key: str) -> Layout:
    """The key on the x axis; where its values are words and another key has numbers, that one, and a line a word."""
    values = [dict(cell.others) | {key: cell.value} for cell in cells]
    x_key = key
    if not all(is_number(cell.value) for cell in cells):
        numeric = [name for name, _ in cells[0].others if all(is_number(one[name]) for one in values)]
        x_key = max(numeric, key=lambda name: len({one[name] for one in values}), default=key)
    in_order = sorted(zip(values, cells), key=lambda pair: order(pair[0][x_key]))
    lines: dict[str, list[Cell]] = {}
    for one, cell in in_order:
        rest = [f"{name} = {show(value)}" for name, value in one.items() if name != x_key and value is not None]
        lines.setdefault(", ".join(reversed(rest)), []).append(cell)
    x_values = list({repr(one[x_key]): one[x_key] for one, _ in in_order}.values())
    return Layout(x_key, x_values, all(is_number(value) for value in x_values), lines)


def save_pictures(cells: list[Cell], key: str, output: Output) -> None:
    """Each figure by the key's value, and win rate and reward against KL with a colour a value."""
    plan = layout(cells, key)
    names = [name for name in PANELS if any(mean_of(cell.points, name) for cell in cells)]
    looks = {label: look_of(at) for at, label in enumerate(plan.lines)}
    rows = -(-len(names) // 2)
    columns = legend_columns(looks, WIDTH)
    legend = legend_height(len(looks), columns) if len(looks) > 1 else 0.0
    with panels(WIDTH, (2.5 if plan.is_numeric else 2.8) * rows + 0.2 + legend, rows, 2) as (made, axes):
        for one, name in zip(axes, names):
            _draw_by_value(one, plan, name, looks, key)
        for spare in axes[len(names) :]:
            spare.set_axis_off()
        if key == POOL_USE and plan.x_key == key:
            _name_pool_times(axes[:2], plan)
        if len(looks) > 1:
            legend_below(made, *axes[0].get_legend_handles_labels(), columns)
        output.figure(f"ablation-{key}", made)
    _save_against_kl(cells, key, output)


def _draw_by_value(axes: Axes, plan: Layout, name: str, looks: dict[str, Look], key: str) -> None:
    for number, (label, line) in enumerate(plan.lines.items()):
        having = [cell for cell in line if mean_of(cell.points, name)]
        drawn = _draw_line(axes, [_place(plan, cell, key) for cell in having], having, name, looks[label], label)
        move_beside(axes, drawn, number, len(plan.lines))
    if plan.is_numeric and plan.x_values[0] > 0 and plan.x_values[-1] / plan.x_values[0] >= LOG_FROM:
        axes.set_xscale("log", base=2)
    if not plan.is_numeric:
        axes.set_xlim(-0.4, len(plan.x_values) - 0.6)
    places = plan.x_values if plan.is_numeric else range(len(plan.x_values))
    name_ticks(axes, places, [show(value) for value in plan.x_values], PANEL)
    axes.xaxis.set_minor_locator(NullLocator())
    if name == "win":
        axes.yaxis.set_major_formatter(percent)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel(plan.x_key)
    axes.set_ylabel(PANELS[name])


def _draw_line(axes: Axes, x: list[float], cells: list[Cell], name: str, look: Look, label: str) -> list[Artist]:
    """Means with intervals; of several seeds each as a short dash. Returns the intervals and dashes."""
    found = [mean_of(cell.points, name) or Figure(math.nan) for cell in cells]
    style = look.points(6.5) | {"linestyle": look.dash, "linewidth": 1.3}
    axes.plot(x, [one.value for one in found], **style, label=label, zorder=4)
    drawn: list[Artist] = []
    for at, cell, one in zip(x, cells, found):
        count = len(cell.points)
        if count > 1:
            seeds = [point.mean(name) for point in cell.points]
            drawn += axes.plot([at] * count, seeds, "_", color=look.colour, markersize=6, alpha=0.55, zorder=3)
        if one.low is not None and one.high is not None and (count == 1 or count >= FEW_SEEDS):
            drawn += axes.plot([at, at], [one.low, one.high], color=look.colour, linewidth=1.1, zorder=3.5)
    return drawn


def _place(plan: Layout, cell: Cell, key: str) -> float:
    value = (dict(cell.others) | {key: cell.value})[plan.x_key]
    return float(value) if plan.is_numeric else float(plan.x_values.index(value))


def _name_pool_times(axes: list[Axes], plan: Layout) -> None:
    """A second x axis above, with the time that the pool took."""
    times = {cell.value: cell.seconds for line in plan.lines.values() for cell in line if cell.seconds is not None}
    if not times:
        return
    name, size = unit(max(times.values()))
    for one in axes:
        above = one.secondary_xaxis("top")
        above.set_xticks(list(times), [f"{seconds / size:.2g}" for seconds in times.values()])
        above.xaxis.set_minor_locator(NullLocator())
        above.set_xlabel(f"time of the pool, {name} (scaled)", fontsize=8)


def _look(key: str, value: str, at: int) -> Look:
    """Of a value: that of the method where the key is the method; open where all filled ones are taken."""
    if key == "train.method":
        return method_of(value).look
    return replace(look_of(at), is_open=at >= len(MARKERS))


def _save_against_kl(cells: list[Cell], key: str, output: Output) -> None:
    values = list(dict.fromkeys(show(cell.value) for cell in cells))
    labels = [f"{key.rpartition('.')[2]} = {value}" for value in values]
    columns = legend_columns([*LINES[:2], *labels], WIDTH)
    with panels(WIDTH, 3.1 + legend_height(len(values) + 2, columns), 1, 2) as (made, axes):
        for one, metric in zip(axes, ("win", "reward")):
            points = [point for cell in cells for point in cell.points]
            limit = kl_limit(points)
            draw_best_of_n(one, points, metric, limit)
            for at, (value, label) in enumerate(zip(values, labels)):
                mine = [p for cell in cells if show(cell.value) == value for p in cell.points]
                x, y = ([p.mean(name) for p in mine] for name in ("kl", metric))
                one.plot(x, y, **_look(key, value, at).points(5.5), zorder=5 - 0.1 * at, label=label)
            one.set_xlim(-0.02 * limit, limit)
            one.set_xlabel(KL_LABEL)
            one.set_ylabel(METRICS[metric])
            if metric == "win":
                one.yaxis.set_major_formatter(percent)
        legend_below(made, *axes[0].get_legend_handles_labels(), columns)
        output.figure(f"ablation-{key}-kl", made)
