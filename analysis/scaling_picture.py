"""Pictures of scaling: throughput and efficiency against ranks with the model, and where the time of a step goes."""

from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from .output import Output
from .plots import GREY, INK, legend_below, legend_columns, legend_height, look_of, panels, percent
from .scaling import EVERYBODY, Measured, Model, Series
from .timing import PHASES

WIDTH = 7.2


def save_pictures(points: list[Measured], series: list[Series], model: Model | None, output: Output) -> None:
    if series:
        _save_scaling(series, model, output)
    _save_time(points, output)


def _save_scaling(series: list[Series], model: Model | None, output: Output) -> None:
    labels = [one.title for one in series]
    columns = legend_columns([*labels, "ideal", "model"], WIDTH)
    with panels(WIDTH, 2.9 + legend_height(len(labels) + 2, columns), 1, 2) as (made, (speed, efficiency)):
        for at, one in enumerate(series):
            look = look_of(at)
            ranks = [p.ranks for p in one.points]
            style = look.points(6.5) | {"linestyle": look.dash, "linewidth": 1.3, "label": one.title}
            speed.plot(ranks, [p.tokens_per_s for p in one.points], **style)
            efficiency.plot(ranks, [one.efficiency(p) for p in one.points], **style)
            first = one.points[0]
            ideal = [first.tokens_per_s * p / first.ranks for p in ranks]
            speed.plot(ranks, ideal, color=GREY, linewidth=0.8, label="ideal" if at == 0 else None)
            if model is not None and one.roles == EVERYBODY:
                _draw_model(efficiency, one, model, at == 0)
        efficiency.axhline(1, color=GREY, linewidth=0.8)
        for axes in (speed, efficiency):
            every = sorted({p.ranks for one in series for p in one.points})
            axes.set_xscale("log", base=2)
            axes.set_xticks(every, [str(p) for p in every])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("ranks")
        speed.set_yscale("log", base=2)
        speed.yaxis.set_major_formatter("{x:.0f}")
        speed.set_ylabel("tokens a second")
        efficiency.set_ylabel("efficiency")
        efficiency.set_ylim(bottom=0)
        efficiency.yaxis.set_major_formatter(percent)
        handles = {
            label: handle for axes in (speed, efficiency) for handle, label in zip(*axes.get_legend_handles_labels())
        }
        legend_below(made, list(handles.values()), list(handles), columns)
        output.figure("scaling", made)


def _draw_model(axes: Axes, series: Series, model: Model, named: bool) -> None:
    first, last = series.points[0], series.points[-1]
    ranks = [first.ranks]
    while ranks[-1] < last.ranks:
        ranks.append(ranks[-1] * 2)
    size = [first.sequences if series.kind == "strong" else first.per_rank * p for p in ranks]
    seconds = [model.seconds(p, n) for p, n in zip(ranks, size)]
    worth = [seconds[0] / t * (first.ranks / p if series.kind == "strong" else 1) for p, t in zip(ranks, seconds)]
    axes.plot(ranks, worth, color=INK, linewidth=0.9, linestyle=(0, (1, 1.5)), label="model" if named else None)


def _save_time(points: list[Measured], output: Output) -> None:
    """A bar an arrangement: the longest phase of any rank, idle as the mean over ranks."""
    phases = [phase for phase in PHASES if phase != "idle" and any(one.phases.get(phase, 0) > 0 for one in points)]
    names = [f"{one.ranks} ({one.roles}), {one.sequences:.0f}" for one in points]
    columns = legend_columns([*phases, "idle", "whole step"], WIDTH)
    with panels(WIDTH, 0.9 + 0.3 * len(points) + legend_height(len(phases) + 2, columns), 1, 1) as (made, (axes,)):
        left = [0.0] * len(points)
        for phase in [*phases, "idle"]:
            width = [one.idle if phase == "idle" else one.phases.get(phase, 0.0) for one in points]
            axes.barh(range(len(points)), width, left=left, height=0.62, color=PHASES[phase], edgecolor="white",
                      linewidth=0.6, label=phase)  # fmt: skip
            left = [a + b for a, b in zip(left, width)]
        axes.plot(
            [one.seconds for one in points], range(len(points)), "|", color=INK, markersize=11, label="whole step"
        )
        axes.set_yticks(range(len(points)), names)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("seconds of a step")
        legend_below(made, *axes.get_legend_handles_labels(), columns)
        output.figure("scaling-time", made)
