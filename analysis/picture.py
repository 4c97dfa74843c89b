"""The KL-versus-win-rate picture: best-of-N as a curve and from the pool, every run with its path over training."""

import numpy as np
from matplotlib.axes import Axes

from . import stats
from .plots import GREY, INK, apart, data_uri, figure, save_figure, short
from .shown import Shown

WIDTH, HEIGHT = 7.6, 4.7  # inches
CHARACTER = 0.0145  # width of one of a run's name, as a share of the axes
DEFAULT_N = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
MAX_NAMES = 8  # runs that are named beside their points; more get a legend
MAX_NAME = 26  # characters
Z95 = 1.96


def draw_picture(shown: list[Shown]) -> str:
    """Data URI of the picture."""
    with figure(WIDTH, HEIGHT) as (made, axes):
        _picture(axes, [one for one in shown if one.run.final is not None])
        return data_uri(made)


def save_picture(shown: list[Shown], path: str, kind: str) -> None:
    """The picture as a file of its own: kind "svg", "png" or "pdf"."""
    with figure(WIDTH, HEIGHT) as (made, axes):
        _picture(axes, [one for one in shown if one.run.final is not None])
        save_figure(made, path, kind)


def bon_points(one: Shown) -> dict[str, np.ndarray]:
    """N, kl, win and se of BoN from the pool: the evaluation's own curve, else computed from the pool; {}: neither."""
    curve = one.run.final.bon if one.run.final else {}
    if len(curve.get("N", ())):
        return {name: curve[name] for name in ("N", "kl", "win", "se")}
    rewards = one.view.reward() if one.view else None
    if rewards is None or rewards.shape[1] < 2:
        return {}
    n = np.array([n for n in DEFAULT_N if 2 * n <= rewards.shape[1]], dtype=np.float64)
    wins = [stats.bon_win_of_pool(rewards, one_n) for one_n in n]
    error = [np.std(win, ddof=1) / np.sqrt(len(win)) if len(win) > 1 else np.nan for win in wins]
    kl = [stats.bon_kl_of_pool(rewards, one_n).mean() for one_n in n]
    return {"N": n, "kl": np.array(kl), "win": np.array([win.mean() for win in wins]), "se": np.array(error)}


def _picture(axes: Axes, shown: list[Shown]) -> None:
    is_named = len(shown) <= MAX_NAMES
    limit = _kl_limit(shown, is_named)
    kl = limit * np.linspace(0, 1, 400) ** 2  # the curve begins like a square root
    win = stats.win_at_kl(kl)
    axes.plot(kl, win, color=INK, linewidth=1.4, zorder=2)
    above = {"textcoords": "offset points", "ha": "right", "va": "bottom"}
    axes.annotate("best-of-N, analytic", (limit, win[-1]), (0, 3), **above)
    axes.annotate("reference", (limit, 0.5), (0, 2), color=GREY, **above)
    axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle=(0, (2, 3)), zorder=1)
    _draw_bon(axes, shown, limit)
    reach = [_draw_run(axes, one, is_named) for one in shown]
    low, high = min([0.5, *(low for low, _ in reach)]), max([win[-1], *(high for _, high in reach)])
    axes.set_xlim(-0.02 * limit, limit)
    axes.set_ylim(low - 0.04, min(1.01, high + 0.04))
    if is_named:
        _name_runs(axes, shown)
    axes.legend(loc="lower right")
    axes.set_xlabel("KL(policy || reference), nats")
    axes.set_ylabel("win rate against the reference")


def _kl_limit(shown: list[Shown], is_named: bool) -> float:
    """Room for every evaluation with its name, and for every BoN that a run is compared with."""
    values = [0.3]
    for one in shown:
        room = CHARACTER * min(MAX_NAME, len(one.run.name)) + 0.02 if is_named else 0.05
        values += [float(e.kl.mean(dtype=np.float64)) * 1.05 for e in one.run.evaluations]
        for row in one.rows:
            if (kl := row.figures.get("kl")) is not None:
                values.append(kl.value / (1 - room) if row.kind == "policy" else kl.value * 1.1)
    return max(values)


def _draw_bon(axes: Axes, shown: list[Shown], limit: float) -> None:
    """Each pool's points once; those of the first are labelled with their N."""
    seen: set[object] = set()
    for one in shown:
        points = bon_points(one)
        pool = one.run.final.provenance.sha256.get("pool", id(one)) if one.run.final else None
        if not points or pool in seen:
            continue
        inside = (points["kl"] <= limit) & (points["N"] > 1)
        n, kl, win, se = (points[name][inside] for name in ("N", "kl", "win", "se"))
        label = None if seen else "best-of-N, from the pool (95% interval)"
        look = {"markerfacecolor": "white", "markersize": 5, "linewidth": 1, "capsize": 2, "zorder": 3}
        axes.errorbar(kl, win, Z95 * se, fmt="s", color=GREY, label=label, **look)
        if not seen:
            for one_n, x, y in zip(n, kl, win):
                axes.annotate(f"N={one_n:g}", (x, y), (7, -10), textcoords="offset points", fontsize=8, color=GREY)
        seen.add(pool)


def _draw_run(axes: Axes, one: Shown, is_named: bool) -> tuple[float, float]:
    """Path over training and the final point; returns the lowest and highest win rate drawn."""
    assert one.policy is not None
    kl = np.array([e.kl.mean(dtype=np.float64) for e in one.run.evaluations])
    win = np.array([e.win.mean() for e in one.run.evaluations])
    look = one.look
    axes.plot(kl, win, color=look.colour, linestyle=look.dash, linewidth=1.1, alpha=0.75, zorder=3)
    axes.plot(kl[:-1], win[:-1], look.marker, color=look.colour, markersize=3.2, alpha=0.75, zorder=3)
    x, y = one.policy.figures["kl"], one.policy.figures["win"]
    bars = {
        f"{axis}err": [[max(0.0, f.value - f.low)], [max(0.0, f.high - f.value)]]
        for axis, f in (("x", x), ("y", y))
        if f.low is not None and f.high is not None
    }
    edge = {"markersize": 8, "markeredgecolor": "white", "markeredgewidth": 0.8}
    label = None if is_named else short(one.run.name, MAX_NAME)
    axes.errorbar(
        x.value,
        y.value,
        **bars,
        fmt=look.marker,
        color=look.colour,
        linewidth=1.4,
        capsize=2.5,
        zorder=5,
        label=label,
        **edge,
    )
    return min(float(win.min()), y.low or 1.0), max(float(win.max()), y.high or 0.0)


def _name_runs(axes: Axes, shown: list[Shown]) -> None:
    """Names right of the final points and a little lower, moved apart where they would meet."""
    finals = [(one, one.policy.figures["kl"].value, one.policy.figures["win"].value) for one in shown if one.policy]
    (low, high), right = axes.get_ylim(), axes.get_xlim()[1]
    places = apart([win - 0.04 * (high - low) for _, _, win in finals], 0.05 * (high - low))
    axes.set_ylim(min([low, *(place - 0.05 * (high - low) for place in places)]), high)
    for (one, kl, _), place in zip(finals, places):
        name = short(one.run.name, MAX_NAME)
        axes.text(kl + 0.012 * right, place, name, color=one.look.colour, va="center", fontweight="bold", zorder=6)
