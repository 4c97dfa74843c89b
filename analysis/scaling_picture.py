"""Pictures of scaling: throughput, efficiency and communication against ranks with the model, and where time goes."""

from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from .output import Output
from .plots import GREY, INK, legend_below, legend_columns, legend_height, look_of, panels, percent
from .scaling import Measured, Series, phases_of
from .scaling_model import EVERYBODY, Model, Step, base_of, grow
from .timing import PHASES

WIDTH = 9.0
OTHER = "#b8b8b8"


def save_pictures(
    points: list[Measured], series: list[Series], model: Model | None, asked: list[int], output: Output
) -> None:
    """`asked`: numbers of ranks to predict."""
    if series:
        _save_scaling(series, model, output)
    _save_time(points, output)
    if model is not None:
        _save_prediction(model, max([*asked, *model.ranks]), output)


def _save_scaling(series: list[Series], model: Model | None, output: Output) -> None:
    labels = [*dict.fromkeys(one.title for one in series), "ideal", *["model"] * (model is not None)]
    columns = legend_columns(labels, WIDTH)
    with panels(WIDTH, 2.9 + legend_height(len(labels), columns), 1, 3) as (made, (speed, efficiency, sent)):
        for at, one in enumerate(series):
            look = look_of(at)
            ranks = [p.ranks for p in one.points]
            style = look.points(6.5) | {"linestyle": look.dash, "linewidth": 1.3, "label": one.title}
            speed.plot(ranks, [p.tokens_per_s for p in one.points], **style)
            efficiency.plot(ranks, [one.efficiency(p) for p in one.points], **style)
            sent.plot(ranks, [p.communication / p.seconds for p in one.points], **style)
            first = one.points[0]
            ideal = [first.tokens_per_s * p / first.ranks for p in ranks]
            speed.plot(ranks, ideal, color=GREY, linewidth=0.8, label="ideal" if at == 0 else None)
            if model is not None and one.roles == EVERYBODY:
                _draw_model(efficiency, sent, one, model)
        efficiency.axhline(1, color=GREY, linewidth=0.8)
        for axes in (speed, efficiency, sent):
            every = sorted({p.ranks for one in series for p in one.points})
            axes.set_xscale("log", base=2)
            axes.set_xticks(every, [str(p) for p in every])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("ranks")
        speed.set_yscale("log", base=2)
        speed.yaxis.set_major_formatter("{x:.0f}")
        speed.set_ylabel("tokens a second")
        for axes, name in ((efficiency, "efficiency"), (sent, "communication, share of a step")):
            axes.set_ylabel(name)
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter(percent)
        handles = {
            label: handle for axes in (speed, efficiency) for handle, label in zip(*axes.get_legend_handles_labels())
        }
        shown = [label for label in labels if label in handles]
        legend_below(made, [handles[label] for label in shown], shown, columns)
        output.figure("scaling", made)


def _draw_model(efficiency: Axes, sent: Axes, series: Series, model: Model) -> None:
    first, last = series.points[0], series.points[-1]
    ranks = [first.ranks]
    while ranks[-1] < last.ranks:
        ranks.append(ranks[-1] * 2)
    size = [first.sequences if series.kind == "strong" else first.per_rank * p for p in ranks]
    steps = [Step(p, n, first.updates, first.step.gradient_bytes) for p, n in zip(ranks, size)]
    seconds = [model.seconds(step) for step in steps]
    worth = [seconds[0] / t * (first.ranks / p if series.kind == "strong" else 1) for p, t in zip(ranks, seconds)]
    style = {"color": INK, "linewidth": 0.9, "linestyle": (0, (1, 1.5)), "label": "model"}
    efficiency.plot(ranks, worth, **style)
    sent.plot(ranks, [model.communication(step) for step in steps], **style)


def _save_prediction(model: Model, most: int, output: Output) -> None:
    """Efficiency and communication, up to `most` ranks; grey: beyond what was measured."""
    base = base_of(model)
    ranks = [base.ranks]
    while ranks[-1] < most:
        ranks.append(min(2 * ranks[-1], most))
    with panels(WIDTH * 2 / 3, 2.9, 1, 2) as (made, (efficiency, sent)):
        for at, (kind, grown) in enumerate((("strong", False), ("weak", True))):
            steps = [grow(base, p, grown) for p in ranks]
            look = look_of(at)
            style = {"color": look.colour, "linestyle": look.dash, "linewidth": 1.3, "label": f"{kind}, model"}
            efficiency.plot(ranks, [model.efficiency(base, step) for step in steps], **style)
            sent.plot(ranks, [model.communication(step) for step in steps], **style)
        for axes, name in ((efficiency, "efficiency"), (sent, "communication, share of a step")):
            axes.axvspan(model.ranks[-1], max(ranks[-1], model.ranks[-1]), color=GREY, alpha=0.15, linewidth=0)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:.0f}")
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("ranks")
            axes.set_ylabel(name)
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter(percent)
        efficiency.legend(loc="lower left")
        output.figure("scaling-prediction", made)


def _save_time(points: list[Measured], output: Output) -> None:
    """A bar for the ranks of an arrangement that have the same roles: what they spend in a step, and idle."""
    phases = phases_of(points)
    bars = [(one, group) for one in points for group in one.groups]
    names = [_name(one, group.count if len(one.groups) > 1 else 0, group.roles, points) for one, group in bars]
    columns = legend_columns([*phases, "idle", "whole step"], WIDTH)
    with panels(WIDTH, 0.9 + 0.26 * len(bars) + legend_height(len(phases) + 2, columns), 1, 1) as (made, (axes,)):
        left = [0.0] * len(bars)
        for phase in [*phases, "idle"]:
            width = [group.idle if phase == "idle" else group.phases.get(phase, 0.0) for _, group in bars]
            axes.barh(range(len(bars)), width, left=left, height=0.62, color=PHASES.get(phase, OTHER),
                      edgecolor="white", linewidth=0.6, label=phase)  # fmt: skip
            left = [a + b for a, b in zip(left, width)]
        axes.plot([one.seconds for one, _ in bars], range(len(bars)), "|", color=INK, markersize=11, label="whole step")
        axes.set_yticks(range(len(bars)), names)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("seconds of a step")
        legend_below(made, *axes.get_legend_handles_labels(), columns)
        output.figure("scaling-time", made)


def _name(one: Measured, count: int, roles: str, points: list[Measured]) -> str:
    """ "4 ranks, 128 sequences, chunks of 4: 2 rollout"; what is the same everywhere is left out."""
    words = [f"{one.ranks} rank{'s' * (one.ranks != 1)}", f"{one.sequences:.0f} sequences"]
    if len({p.updates for p in points}) > 1:
        words.append(f"{one.updates} update{'s' * (one.updates != 1)}")
    if len({p.chunk for p in points}) > 1 and one.chunk:
        words.append(f"chunks of {one.chunk}")
    if len({p.reduce for p in points}) > 1:
        words.append(one.reduce)
    return ", ".join(words) + (f": {count} {roles}" if count else "")
