"""Learning curves of runs as series: those that differ in their seed alone are one, a mean with the range of seeds."""

from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from . import stats
from .errors import InputError
from .groups import cells
from .io import Metrics
from .methods import in_order, method_key, method_of
from .plots import Look, look_of
from .points import group_labels, strength_of
from .runs import Run
from .tabular import Column, Table

DEFAULT_METRICS = ("reward", "win", "kl", "log_f", "kl_to_bon", "entropy", "length", "loss", "grad_norm")
MAX_LOOKS = 7  # series that have a look of their own; more have that of their method
LAST = 0.25  # of the steps, whose mean the table has


@dataclass
class Series:
    label: str
    method: str  # a key of METHODS
    look: Look
    runs: list[Run]
    step: np.ndarray  # [S], those that all its runs have
    episodes: np.ndarray  # [S]

    def values(self, metric: str) -> np.ndarray | None:
        """[runs, S]; None where no run measured it."""
        found = [_at(run.metrics, metric, self.step) for run in self.runs]
        stacked = np.stack([one if one is not None else np.full(len(self.step), np.nan) for one in found])
        return stacked if np.isfinite(stacked).any() else None


def series_of(runs: list[Run]) -> list[Series]:
    """Sorted by method and strength. Labels say the strength where a method has several, and the run where even that
    does not tell two apart."""
    groups = [[runs[at] for at in members] for members in cells(runs)]
    keys = in_order({method_key(run) for run in runs})
    groups.sort(key=lambda group: (keys.index(method_key(group[0])), *_strength(group[0])))
    labels = group_labels(groups)
    methods = [method_key(group[0]) for group in groups]
    is_own = len(set(methods)) < len(methods) <= MAX_LOOKS
    looks = [look_of(at) if is_own else method_of(key).look for at, key in enumerate(methods)]
    return [_series(*one) for one in zip(labels, methods, looks, groups)]


def _strength(run: Run) -> tuple[float, float]:
    n, beta = strength_of(run, run.final)
    return n or 0.0, beta or 0.0


def _series(label: str, method: str, look: Look, runs: list[Run]) -> Series:
    metrics = [run.metrics for run in runs if run.metrics is not None]
    step = metrics[0].step
    for other in metrics[1:]:
        step = np.intersect1d(step, other.step)
    return Series(label, method, look, runs, step, metrics[0].episodes[np.isin(metrics[0].step, step)])


def _at(metrics: Metrics | None, name: str, step: np.ndarray) -> np.ndarray | None:
    if metrics is None or name not in metrics.values:
        return None
    return metrics.values[name][np.isin(metrics.step, step)]


def chosen_metrics(runs: list[Run], asked: list[str] | None) -> list[str]:
    """Those asked for, or the usual ones that any run measured; InputError for a name that no run has."""
    known = sorted({name for run in runs if run.metrics is not None for name in run.metrics.values})
    for name in asked or []:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(known)}"
            raise InputError(f"no run has the metric '{name}'; {hint}")
    found = list(dict.fromkeys(asked)) if asked else [name for name in DEFAULT_METRICS if name in known]
    if not found:
        raise InputError("none of the usual metrics was measured; name some: --metric")
    return found


def last_quarter(values: np.ndarray) -> np.ndarray:
    """[runs] means over the last quarter of the steps [runs, S]; NaN where nothing was measured there."""
    tail = values[:, -max(1, int(values.shape[1] * LAST)) :]
    counts = np.isfinite(tail).sum(axis=1)
    return np.where(counts > 0, np.nansum(tail, axis=1) / np.maximum(counts, 1), np.nan)


def table(series: list[Series], metrics: list[str]) -> Table:
    columns = [Column("series", "runs of"), Column("runs", "runs"), Column("steps", "steps"),
               Column("episodes", "episodes"), *(Column(name, name, None) for name in metrics)]  # fmt: skip
    rows: list[list] = []
    for one in series:
        cells_of: list = [one.label, len(one.runs), len(one.step), int(one.episodes[-1]) if len(one.step) else 0]
        for name in metrics:
            values = one.values(name)
            means = last_quarter(values) if values is not None and values.shape[1] else np.array([np.nan])
            cells_of.append(stats.over_seeds(means) if np.isfinite(means).all() else None)
        rows.append(cells_of)
    return Table(columns, rows, "The last quarter of training", [
        "Means over the last quarter of the steps and, where there are several runs, over seeds with Student's 95% "
        "interval. Training samples, not held-out ones."])  # fmt: skip
