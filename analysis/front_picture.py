"""KL against win rate, reward or the evaluator's reward: a point a run, best-of-N, the front and who stands on it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from . import stats
from .front import pareto_front
from .methods import BON, method_of
from .plots import GREY, INK, legend_below, legend_columns, legend_height, panels, percent
from .points import Point, methods_of
from .stats import Figure

METRICS = {
    "win": "win rate against the reference",
    "reward": "mean reward",
    "evaluator": "mean reward of the evaluator",
}
SHORT = {"win": "win rate", "reward": "reward", "evaluator": "evaluator"}
LINES = ("best-of-N, analytic", "best-of-N, from the pool", "front of all runs")
KL_LABEL = "KL(policy || reference), nats"
FAINT = 0.3  # opacity of a point that another of its own method surpasses
MANY = 60  # points: from here on smaller, with fainter intervals
SMALLEST = 0.05  # nats that an axis shows at least
ROOM = 0.06  # of the drawn range, at each end
Shares = dict[str, tuple[Figure, Figure]]  # method -> its share of the front, the share of its own points
BON_ROW = re.compile(r"bon_(\d+(?:\.\d+)?)\.evaluator")


@dataclass
class Curve:
    """Best-of-N from one pool; [C]."""

    n: np.ndarray
    kl: np.ndarray
    value: np.ndarray
    se: np.ndarray  # NaN: not known


def measured(points: list[Point]) -> list[str]:
    """Of METRICS, those that a run has."""
    return [metric for metric in METRICS if any(metric in point.figures for point in points)]


def bon_curves(points: list[Point], metric: str) -> list[Curve]:
    """Of each pool that the runs were compared with."""
    found: dict[object, Curve] = {}
    for point in points:
        pool = point.evaluation.provenance.sha256.get("pool", point.run.path)
        if pool not in found and (curve := _curve(point, metric)) is not None:
            found[pool] = curve
    return list(found.values())


def _curve(point: Point, metric: str) -> Curve | None:
    bon, table = point.evaluation.bon, point.evaluation.summary
    if metric == "evaluator":  # the evaluation's curve has none, its table has
        rows = sorted((float(match[1]), name.partition(".evaluator")[0]) for name in table
                      if (match := BON_ROW.fullmatch(name)) and np.isfinite(table[name]))  # fmt: skip
        columns = ("kl", "evaluator", "evaluator_se")
        values = [np.array([table.get(f"{row}.{column}", np.nan) for _, row in rows]) for column in columns]
        return Curve(np.array([n for n, _ in rows]), *values) if rows else None
    if not len(bon.get("N", ())):
        return None
    order = np.argsort(bon["N"])
    se = bon["se"][order] if metric == "win" else np.full(len(order), np.nan)
    return Curve(bon["N"][order], bon["kl"][order], bon[metric][order], se)


@contextmanager
def front_figure(points: list[Point], metrics: list[str], shares: dict[str, Shares], kl_max: float | None = None,
                 bon: str = LINES[1]) -> Iterator[Drawing]:  # fmt: skip
    """A panel a metric, side by side, and one legend for them with each method's shares of the fronts. `bon`: what the
    points of best-of-N are called."""
    title = "share of the front by " + " / by ".join(SHORT[metric] for metric in metrics)
    mine, width = methods_of(points), 4.6 if len(metrics) == 1 else 3.9 * len(metrics)
    texts = [f"{method_of(key).label}: {_percents(shares, metrics, key)}" for key in mine]
    columns = legend_columns([*texts, *LINES], width)
    with panels(width, 3.1 + legend_height(len(mine) + 3, columns, title), 1, len(metrics)) as (made, axes):
        for one, metric in zip(axes, metrics):
            draw_front(one, points, metric, kl_max, bon)
        handles, labels = axes[0].get_legend_handles_labels()
        shown = [axes[0].plot([], [], **method_of(key).look.points(7.0))[0] for key in mine]
        legend_below(made, shown + handles, texts + labels, columns, title)
        yield made


def _percents(shares: dict[str, Shares], metrics: list[str], key: str) -> str:
    found = [shares.get(metric, {}).get(key) for metric in metrics]
    return " / ".join("–" if share is None else f"{100 * share[0].value:.0f}" for share in found) + "%"


def draw_front(axes: Axes, points: list[Point], metric: str, kl_max: float | None = None, bon: str = LINES[1]) -> None:
    """One panel without a legend."""
    points = [point for point in points if metric in point.figures]
    kl, value = (np.array([point.mean(name) for point in points]) for name in ("kl", metric))
    limit = kl_max or kl_limit(points)
    low, high = draw_best_of_n(axes, points, metric, limit, bon)
    _draw_line_of_front(axes, kl, value, limit)
    _draw_points(axes, points, metric)
    seen = value[kl <= limit]
    low = min(low, *seen, *_ends(points, metric, "low", limit))
    high = max(high, *seen, *_ends(points, metric, "high", limit))
    axes.set_xlim(-0.02 * limit, limit)
    axes.set_ylim(low - ROOM * (high - low), high + ROOM * (high - low))
    if beyond := int((kl > limit).sum()):
        axes.annotate(f"{beyond} run{'s' if beyond > 1 else ''} beyond {limit:g} nats", (1, 0), (-2, 3), fontsize=7.5,
                      xycoords="axes fraction", textcoords="offset points", ha="right", color=GREY)  # fmt: skip
    if metric == "win":
        axes.yaxis.set_major_formatter(percent)
    axes.set_xlabel(KL_LABEL)
    axes.set_ylabel(METRICS[metric])


def kl_limit(points: list[Point]) -> float:
    """Room for every run and its interval."""
    ends = (found.value if found.high is None else found.high for found in (point.figures["kl"] for point in points))
    return max(SMALLEST, (1 + ROOM / 2) * max(ends))


def _ends(points: list[Point], metric: str, end: str, limit: float) -> list[float]:
    found = (getattr(point.figures[metric], end) for point in points if point.mean("kl") <= limit)
    return [one for one in found if one is not None]


def draw_best_of_n(axes: Axes, points: list[Point], metric: str, limit: float,
                   bon: str = LINES[1]) -> tuple[float, float]:  # fmt: skip
    """Up to a KL of `limit`: the analytic curve where there is one, and what each pool of the runs gives. Returns the
    lowest and highest value drawn."""
    drawn = [np.inf, -np.inf]
    if metric == "win":
        kl = limit * np.linspace(0, 1, 400) ** 2  # it begins like a square root
        axes.plot(kl, stats.win_at_kl(kl), color=INK, linewidth=1.3, zorder=2, label=LINES[0])
        axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle=(0, (2, 3)), zorder=1)
        drawn = [0.5, float(stats.win_at_kl(limit))]
    for at, curve in enumerate(bon_curves(points, metric)):
        inside = curve.kl <= limit
        kl, value = curve.kl[inside], curve.value[inside]
        if not len(kl):
            continue
        label = bon if at == 0 else None
        line = {"linestyle": "" if metric == "win" else "-", "linewidth": 1.0}
        axes.plot(kl, value, **(BON.look.points(5.5) | line), zorder=3, label=label)
        if at == 0:
            _name_points(axes, curve.n[inside], kl, value, limit)
        drawn = [min(drawn[0], float(value.min())), max(drawn[1], float(value.max()))]
    return drawn[0], drawn[1]


def _name_points(axes: Axes, n: np.ndarray, kl: np.ndarray, value: np.ndarray, limit: float) -> None:
    """N beside best-of-N's points, above and left of the curve, where no policy stands; none where they crowd."""
    last = -np.inf
    for one_n, x, y in zip(n, kl, value):
        if x - last > 0.05 * limit and x > 0.1 * limit:
            place = {"textcoords": "offset points", "ha": "right", "va": "bottom", "fontsize": 7.5, "color": GREY}
            axes.annotate(f"N={one_n:g}", (x, y), (-3, 3), **place)
            last = x


def _draw_line_of_front(axes: Axes, kl: np.ndarray, value: np.ndarray, limit: float) -> None:
    front = pareto_front(kl, value)
    order = np.argsort(kl[front])
    x, y = kl[front][order], value[front][order]
    look = {"color": GREY, "linewidth": 0.9, "drawstyle": "steps-post", "zorder": 2.5, "alpha": 0.8}
    axes.plot(np.r_[x, limit], np.r_[y, y[-1]], linestyle=(0, (4, 2)), label=LINES[2], **look)


def _draw_points(axes: Axes, points: list[Point], metric: str) -> None:
    """Faint where another point of the same method is better, with a dark edge on the front of all."""
    is_many = len(points) > MANY
    size, bar = (5.5, 0.25) if is_many else (7.0, 0.5)
    on_front = _front_of(points, metric)
    for rank, key in enumerate(reversed(methods_of(points))):  # the first method lies on top
        mine = [at for at, point in enumerate(points) if point.method == key]
        look, is_best = method_of(key).look, _front_of([points[at] for at in mine], metric)
        for at, best in zip(mine, is_best):
            opacity, height = (1.0, 6) if best else (FAINT, 4)
            x, y = points[at].figures["kl"], points[at].figures[metric]
            bars = {"ecolor": look.colour, "elinewidth": 0.9, "alpha": bar * opacity, "zorder": 4 + 0.05 * rank}
            axes.errorbar(x.value, y.value, xerr=_reach(x), yerr=_reach(y), fmt="none", **bars)
            edge = {"markeredgecolor": INK, "markeredgewidth": 0.9} if on_front[at] and not look.is_open else {}
            axes.plot(x.value, y.value, **(look.points(size) | edge), alpha=opacity, zorder=height + 0.05 * rank)


def _front_of(points: list[Point], metric: str) -> np.ndarray:
    return pareto_front(*(np.array([point.mean(name) for point in points]) for name in ("kl", metric)))


def _reach(found: Figure) -> list[list[float]] | None:
    """Of the interval, below and above the value."""
    if found.low is None or found.high is None:
        return None
    return [[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]]
