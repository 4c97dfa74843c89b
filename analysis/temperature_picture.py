"""Win rate and reward, by the evaluator where there is one, by sampling temperature: a row a figure, a column a set of prompts."""

from matplotlib.axes import Axes

from .front_picture import METRICS
from .methods import BON, METHODS, method_of
from .output import Output
from .plots import Look, legend_below, legend_columns, legend_height, look_of, move_beside, name_ticks, panels, percent
from .stats import Figure
from .temperatures import Line, Set

LABELS = METRICS | {"evaluator_win": "win rate by the evaluator"}
COLUMN, ROW = 3.6, 2.6  # inches
WIN_RATES = ("win", "evaluator_win")
FEW_SEEDS = 3  # with fewer no interval is drawn


def looks_of(sets: list[Set]) -> dict[str, Look]:
    """By label: that of the method; where a method has several lines, those of runs."""
    lines = {line.label: line.method for one in sets for line in one.lines}
    is_shared = len(set(lines.values())) < len(lines)
    return {label: look_of(at) if is_shared else method_of(key).look for at, (label, key) in enumerate(lines.items())}


def save_picture(sets: list[Set], output: Output) -> None:
    def has(name: str) -> bool:
        return any(line.figure(t, name) for one in sets for line in one.lines for t in one.temperatures)

    metrics = ["evaluator_win" if has("evaluator_win") else "win", "evaluator" if has("evaluator") else "reward"]
    looks, width = looks_of(sets), max(4.6, COLUMN * len(sets))
    columns = legend_columns([*looks, "best-of-N, from the pool"], width)
    height = ROW * len(metrics) + 0.3 + legend_height(len(looks) + 2, columns)
    with panels(width, height, len(metrics), len(sets), sharex=True, sharey="row") as (made, axes):
        for row, metric in enumerate(metrics):
            for column, one in enumerate(sets):
                _draw(axes[row * len(sets) + column], one, metric, looks)
            axes[row * len(sets)].set_ylabel(LABELS[metric])
            if metric in WIN_RATES:
                axes[row * len(sets)].yaxis.set_major_formatter(percent)
        temperatures = sorted({t for one in sets for t in one.temperatures})
        for one in axes:
            name_ticks(one, temperatures, [f"{t:g}" for t in temperatures], COLUMN - 0.8)
        if len(temperatures) == 1:
            axes[0].set_xlim(temperatures[0] - 0.2, temperatures[0] + 0.2)
        for column, one in enumerate(sets):
            axes[column].set_title(one.name)
            axes[(len(metrics) - 1) * len(sets) + column].set_xlabel("sampling temperature")
        handles = dict(zip(*reversed(axes[0].get_legend_handles_labels())))
        for other in axes:  # a method may be missing in the first panel
            handles = dict(zip(*reversed(other.get_legend_handles_labels()))) | handles
        legend_below(made, list(handles.values()), list(handles), columns)
        output.figure("temperatures", made)


def _draw(axes: Axes, one: Set, metric: str, looks: dict[str, Look]) -> None:
    reference = METHODS["reference"]
    known = {t: one.reference.get((t, metric), Figure(0.5) if metric in WIN_RATES else None) for t in one.temperatures}
    _draw_line(axes, {t: found for t, found in known.items() if found}, reference.look, "reference (SFT)")
    best = {t: one.best_of_n[t, metric] for t in one.temperatures if (t, metric) in one.best_of_n}
    if best and one.n is not None:
        _draw_line(axes, best, BON.look, f"best-of-{one.n:g}, from the pool")
    for at, line in enumerate(one.lines):
        _draw_method(axes, line, metric, looks[line.label], at, len(one.lines))


def _draw_line(axes: Axes, found: dict[float, Figure], look: Look, label: str, height: float = 3.0) -> None:
    if found:
        style = look.points(6.5) | {"linestyle": look.dash, "linewidth": 1.3}
        axes.plot(list(found), [one.value for one in found.values()], **style, label=label, zorder=height)


def _draw_method(axes: Axes, line: Line, metric: str, look: Look, at: int, count: int) -> None:
    found = {t: one for t in sorted(line.points) if (one := line.figure(t, metric)) is not None}
    _draw_line(axes, found, look, line.label, 4 - 0.1 * at)  # the first method lies on top
    for t, one in found.items():
        seeds = len(line.points[t])
        if one.low is not None and one.high is not None and (seeds == 1 or seeds >= FEW_SEEDS):
            bar = axes.plot([t, t], [one.low, one.high], color=look.colour, linewidth=1.1, zorder=2.5)
            move_beside(axes, bar, at, count)
