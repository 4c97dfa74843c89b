"""Where the time of a run went: seconds a phase of every rank, and what it slept."""

from dataclasses import dataclass

import numpy as np

from .io import Metrics
from .plots import INK, data_uri, figure

PHASES = {
    "generate": "#0072B2", "score": "#E69F00", "prepare": "#56B4E9", "update": "#D55E00", "reduce": "#8C510A",
    "publish": "#CC79A7", "store": "#009E73", "evaluate": "#7A5195", "other": "#9a9a9a", "idle": "#ececec",
}  # fmt: skip
ROLES = (("generate", "rollout"), ("score", "scorer"), ("update", "learner"))
NOT_PHASES = ("total", "tokens_per_s", "idle")
MAX_RANKS = 32  # drawn
ROLE_SHARE = 0.005  # of a rank's time: less of a phase is no role


@dataclass
class Times:
    """Sums over the steps."""

    phases: dict[str, np.ndarray]  # seconds [R]; with "idle", and "other": what no phase holds of the total
    roles: list[str]  # [R] "rollout, scorer"
    seconds: float  # of the longest rank
    tokens_per_s: float | None  # new tokens learned from a second of the run
    sampling: dict[int, float]  # rank -> median tokens/s over steps, of the ranks that measured any


def times_of(metrics: Metrics | None) -> Times | None:
    if metrics is None or not len(metrics.step) or not metrics.time:
        return None
    phases = {name: np.nansum(values, axis=0) for name, values in metrics.time.items() if name not in NOT_PHASES}
    order = [name for name in PHASES if name in phases] + [name for name in phases if name not in PHASES]
    phases = {name: phases[name] for name in order}
    idle = np.nansum(metrics.time["idle"], axis=0) if "idle" in metrics.time else None
    known = sum(phases.values()) + (0 if idle is None else idle)
    if "total" in metrics.time:
        phases["other"] = np.maximum(0, np.nansum(metrics.time["total"], axis=0) - known)
    if idle is not None:
        phases["idle"] = idle
    if not phases:
        return None
    whole = np.sum(list(phases.values()), axis=0)
    speed = metrics.time.get("tokens_per_s")
    return Times(
        phases=phases,
        roles=[_roles(phases, rank, whole[rank]) for rank in range(len(whole))],
        seconds=float(whole.max(initial=0)),
        tokens_per_s=float(metrics.tokens[-1] / whole.max()) if whole.max(initial=0) > 0 else None,
        sampling={} if speed is None else _medians(speed),
    )


def _roles(phases: dict[str, np.ndarray], rank: int, whole: float) -> str:
    found = [role for phase, role in ROLES if phase in phases and phases[phase][rank] > ROLE_SHARE * whole]
    return ", ".join(found) or "no role"


def _medians(values: np.ndarray) -> dict[int, float]:
    measured = {rank: v[np.isfinite(v) & (v > 0)] for rank, v in enumerate(values.T[:MAX_RANKS].astype(np.float64))}
    return {rank: float(np.median(v)) for rank, v in measured.items() if len(v)}


def draw_times(times: Times) -> str:
    """Data URI: one bar a rank, its phases named where there is room."""
    ranks = min(len(times.roles), MAX_RANKS)
    with figure(7.4, 0.75 + 0.36 * ranks) as (made, axes):
        left = np.zeros(ranks)
        for name, seconds in times.phases.items():
            if not seconds[:ranks].any():
                continue
            colour = PHASES.get(name, "#b8b8b8")
            axes.barh(
                range(ranks),
                seconds[:ranks],
                left=left,
                height=0.62,
                color=colour,
                edgecolor="white",
                linewidth=0.8,
                label=name,
            )
            for rank in range(ranks):
                if seconds[rank] > 0.075 * times.seconds:
                    axes.text(
                        left[rank] + seconds[rank] / 2,
                        rank,
                        name,
                        ha="center",
                        va="center",
                        fontsize=8,
                        color=INK if name in ("idle", "score", "prepare") else "white",
                    )
            left += seconds[:ranks]
        axes.set_yticks(range(ranks), [f"rank {rank}: {times.roles[rank]}" for rank in range(ranks)])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("seconds")
        axes.legend(ncols=9, loc="lower left", bbox_to_anchor=(0, 1), fontsize=8, handlelength=1, columnspacing=1)
        return data_uri(made)
