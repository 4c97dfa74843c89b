"""What a run measured at every step, one small panel a metric, all runs in each; held-out evaluations as points."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from . import stats
from .io import Evaluation
from .plots import GREY, data_uri, figure, short_number
from .shown import Shown

MAX_OTHERS = 24  # metrics that only their names describe
MAX_POINTS = 600  # drawn of a curve; more are averaged in groups
SMOOTH_FROM = 60  # steps: from here on a moving average is drawn over the faint curve
Z95 = 1.96
FRAME = (0.18, 0.21, 0.79, 0.66)  # left, bottom, width, height as shares of a panel


@dataclass(frozen=True)
class Panel:
    """`target`: the value at the BoN optimum of N, drawn where all runs share their N."""

    metric: str
    title: str
    log_scale: bool = False
    target: Callable[[float], float] | None = None


GROUPS = {
    "Towards best-of-N": (
        Panel("reward", "reward"),
        Panel("win", "win rate against the pool", target=lambda n: float(stats.bon_win(n))),
        Panel("kl", "KL to the reference, nats", target=lambda n: float(stats.bon_kl(n))),
        Panel("log_f", "log F", target=lambda n: -1 / n),
        Panel("kl_sampled", "KL to the reference, sampled"),
        Panel("kl_to_bon", "KL to best-of-N (monitor), nats", target=lambda n: 0.0),
        Panel("objective", "objective"),
        Panel("log_ratio", "log pi/pi_ref of pool's samples"),
        Panel("reward_sd", "standard deviation of the reward"),
        Panel("floor_share", "share at the floor of log F"),
        Panel("ceiling_share", "share at the ceiling of log F"),
    ),
    "Texts": (
        Panel("entropy", "entropy, nats a token"),
        Panel("length", "length, tokens"),
        Panel("finished", "share that ended by itself"),
        Panel("distinct_words", "distinct words"),
    ),
    "Optimisation": (
        Panel("policy_loss", "policy loss"),
        Panel("direct_loss", "loss of the direct KL gradient"),
        Panel("loss", "loss"),
        Panel("residual", "residual of the regression, nats"),
        Panel("residual_clipped", "share of residuals clipped"),
        Panel("clip_fraction", "clip fraction"),
        Panel("approx_kl", "approximate KL of the update"),
        Panel("ratio_error", "ratio error, first minibatch", log_scale=True),
        Panel("ratio_mean", "mean ratio"),
        Panel("advantage_sd", "standard deviation of the advantage"),
        Panel("value_loss", "value loss"),
        Panel("explained_variance", "explained variance of the critic"),
        Panel("value_clip_fraction", "value clip fraction"),
        Panel("kl_coef", "KL coefficient"),
        Panel("grad_norm", "gradient norm"),
        Panel("learning_rate", "learning rate"),
    ),
}


HELD_OUT: dict[str, Callable[[Evaluation], np.ndarray]] = {
    "kl": lambda evaluation: evaluation.kl.mean(axis=1),
    "win": lambda evaluation: evaluation.win,
    "reward": lambda evaluation: evaluation.rewards["main"].mean(axis=1),
    "length": lambda evaluation: evaluation.length.mean(axis=1),
    "finished": lambda evaluation: evaluation.finished.mean(axis=1),
}


def draw_curves(shown: list[Shown]) -> dict[str, list[tuple[str, str]]]:
    """By group: (title, data URI) of each panel of which any run measured something."""
    drawn: dict[str, list[tuple[str, str]]] = {}
    known = {panel.metric for panels in GROUPS.values() for panel in panels}
    names = {name for one in shown if one.run.metrics is not None for name in one.run.metrics.values}
    others = {"Other": tuple(Panel(name, name) for name in sorted(names - known)[:MAX_OTHERS])}
    for group, panels in (GROUPS | others).items():
        measured = [panel for panel in panels if any(_values(one, panel.metric) is not None for one in shown)]
        if measured:
            drawn[group] = [(panel.title, _draw(panel, shown)) for panel in measured]
    return drawn


def _values(one: Shown, metric: str) -> np.ndarray | None:
    metrics = one.run.metrics
    values = metrics.values.get(metric) if metrics is not None else None
    return values if values is not None and np.isfinite(values).any() else None


def _draw(panel: Panel, shown: list[Shown]) -> str:
    with figure(3.3, 2.1) as (made, axes):
        made.set_layout_engine("none")  # the same frame in every panel
        axes.set_position(FRAME)
        for one in shown:
            values = _values(one, panel.metric)
            if values is not None and one.run.metrics is not None:
                _draw_series(axes, one, one.run.metrics.step, values)
            _draw_evaluations(axes, panel.metric, one)
        if panel.log_scale:
            scale_by_decades(axes)
        draw_target(axes, panel, {one.run.n for one in shown})
        axes.set_title(panel.title)
        axes.set_xlabel("step")
        axes.yaxis.set_major_formatter(short_number)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
        return data_uri(made)


def _draw_series(axes: Axes, one: Shown, step: np.ndarray, values: np.ndarray) -> None:
    there = np.isfinite(values)
    step, values = step[there].astype(np.float64), values[there]
    if len(values) == 1:
        axes.plot(step, values, color=one.look.colour, marker=one.look.marker, linestyle="")
        return
    step, values = _grouped(step), _grouped(values)
    is_long = len(values) >= SMOOTH_FROM
    axes.plot(
        step,
        values,
        color=one.look.colour,
        linestyle="-" if is_long else one.look.dash,
        alpha=0.3 if is_long else 1,
        linewidth=0.8 if is_long else 1.5,
    )
    if is_long:
        width = max(3, len(values) // 20) | 1
        axes.plot(step, moving_average(values, width), color=one.look.colour, linestyle=one.look.dash)


def _grouped(values: np.ndarray) -> np.ndarray:
    """At most MAX_POINTS means of neighbours."""
    if len(values) <= MAX_POINTS:
        return values
    return np.array([part.mean() for part in np.array_split(values, MAX_POINTS)])


def moving_average(values: np.ndarray, width: int) -> np.ndarray:
    """Centred mean over `width` values; over fewer, still centred, near the ends, so that a straight line stays one."""
    at = np.arange(len(values))
    half = np.minimum(width // 2, np.minimum(at, at[::-1]))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[at + half + 1] - sums[at - half]) / (2 * half + 1)


def _draw_evaluations(axes: Axes, metric: str, one: Shown) -> None:
    """Held-out means with 95% intervals, for the metrics that an evaluation has too."""
    if metric not in HELD_OUT:
        return
    for evaluation in one.run.evaluations:
        found = stats.figure(HELD_OUT[metric](evaluation).astype(np.float64), evaluation.bootstrap_seed)
        axes.errorbar(
            evaluation.step,
            found.value,
            Z95 * (found.se or 0),
            fmt=one.look.marker,
            color=one.look.colour,
            markerfacecolor="white",
            markersize=4,
            linewidth=0.9,
            capsize=1.5,
            zorder=4,
        )


def scale_by_decades(axes: Axes) -> None:
    """A logarithmic scale over whole decades; zeros fall out of it, and nothing but zeros leaves it linear."""
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines])
    positive = drawn[drawn > 0]
    if len(positive):
        axes.set_yscale("log", nonpositive="mask")
        low, high = np.floor(np.log10(positive.min())), np.ceil(np.log10(positive.max()))
        axes.set_ylim(10.0**low, 10.0 ** max(high, low + 1))


def draw_target(axes: Axes, panel: Panel, targets: set[float | None]) -> None:
    """Where best-of-N would be; nothing where the runs do not aim at one N."""
    n = next(iter(targets)) if len(targets) == 1 else None
    if panel.target is None or n is None:
        return
    value = panel.target(n)
    axes.axhline(value, color=GREY, linewidth=0.9, linestyle=(0, (3, 2)), zorder=1)
    axes.annotate(
        f"best of {n:.3g}",
        (1, value),
        (0, 2),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=7.5,
        color=GREY,
    )
