"""Two runs against each other: what their configurations, their evaluations and their learning curves differ in."""

from dataclasses import dataclass

import numpy as np

from . import stats
from .errors import InputError
from .groups import differing, flatten, show
from .io import Evaluation
from .points import TITLES
from .runs import Run
from .stats import Figure
from .tabular import Column, Table

LAST = 0.25  # of the shared steps


def require_comparable(first: Run, second: Run) -> None:
    """InputError where their evaluations do not have the same prompts, temperature and pool: the difference of two
    figures would then be that of two questions."""
    one, other = first.final, second.final
    assert one is not None and other is not None
    if one.setting[0] != other.setting[0]:
        what = "on different prompts"
    elif one.temperature != other.temperature:
        what = f"at different temperatures ({one.temperature:g} and {other.temperature:g})"
    elif one.provenance.sha256.get("pool") != other.provenance.sha256.get("pool"):
        what = "against different pools (pool_sha256 differs)"
    else:
        return
    raise InputError(
        f"'{first.name}' and '{second.name}' were evaluated {what}; evaluate both with the same pool.eval_path "
        "('vbon eval')"
    )


def configuration_table(first: Run, second: Run) -> Table:
    flat = [flatten(run.config) for run in (first, second)]
    rows: list[list] = [[key, *(show(one[key]) if key in one else None for one in flat)] for key in differing(flat)]
    columns = [Column("key", "key"), Column("first", first.name), Column("second", second.name)]
    return Table(columns, rows, "Configurations", [] if rows else ["They are the same."])


def per_prompt(evaluation: Evaluation) -> dict[str, np.ndarray]:
    """[P] of every figure that is a mean over prompts."""
    found = {"kl": evaluation.kl, "win": evaluation.win, "reward": evaluation.rewards["main"],
             "evaluator": evaluation.rewards.get("evaluator"), "length": evaluation.length,
             "finished": evaluation.finished}  # fmt: skip
    return {name: values.astype(np.float64).reshape(len(values), -1).mean(axis=1)
            for name, values in found.items() if values is not None}  # fmt: skip


@dataclass
class Change:
    first: Figure
    second: Figure
    difference: Figure  # second minus first, paired over prompts


def changes(first: Evaluation, second: Evaluation) -> dict[str, Change]:
    """By TITLES; intervals with the resamples of the first one's bootstrap seed."""
    seed, ours, theirs = first.bootstrap_seed, per_prompt(first), per_prompt(second)
    found = {}
    for name in TITLES:
        if name in ours and name in theirs:
            pair = ours[name], theirs[name]
            found[name] = Change(*(stats.figure(one, seed) for one in pair), stats.difference_figure(*pair, seed))
        elif name == "efficiency":
            pairs = [(one["win"], one["kl"]) for one in (ours, theirs)]
            shares = [stats.efficiency_figure(*pair, seed) for pair in pairs]
            change = stats.efficiency_difference(pairs[0], pairs[1], seed)
            if shares[0] is not None and shares[1] is not None and change is not None:
                found[name] = Change(shares[0], shares[1], change)
    return found


def evaluation_table(first: Run, second: Run, found: dict[str, Change]) -> Table:
    rows: list[list] = []
    for name, change in found.items():
        low, high = change.difference.low, change.difference.high
        apart = None if low is None or high is None else not low <= 0 <= high
        rows.append([TITLES[name], change.first, change.second, change.difference, apart])
    columns = [Column("figure", "figure"), Column("first", first.name), Column("second", second.name),
               Column("difference", "difference"), Column("differs", "0 is outside")]  # fmt: skip
    return Table(columns, rows, "Held-out evaluation", [
        f"Difference: {second.name} minus {first.name}, paired over the same prompts, with 95% bootstrap intervals. It "
        "tells these two models apart; whether two methods differ takes several seeds of each."])  # fmt: skip


@dataclass
class Curves:
    """One metric at the steps that both runs have, [S]."""

    step: np.ndarray
    first: np.ndarray
    second: np.ndarray


def shared_curves(first: Run, second: Run) -> dict[str, Curves]:
    """By metric: those that both measured at some shared step."""
    if first.metrics is None or second.metrics is None:
        return {}
    step, one, other = np.intersect1d(first.metrics.step, second.metrics.step, return_indices=True)
    found = {}
    for name, values in first.metrics.values.items():
        if name in second.metrics.values:
            pair = values[one], second.metrics.values[name][other]
            there = np.isfinite(pair[0]) & np.isfinite(pair[1])
            if there.any():
                found[name] = Curves(step[there], pair[0][there], pair[1][there])
    return found


def curve_table(first: Run, second: Run, curves: dict[str, Curves]) -> Table:
    rows: list[list] = []
    for name, one in sorted(curves.items()):
        tail = slice(-max(1, int(len(one.step) * LAST)), None)
        ours, theirs = float(one.first[tail].mean()), float(one.second[tail].mean())
        is_same = bool(np.array_equal(one.first, one.second))
        rows.append([name, len(one.step), ours, theirs, theirs - ours, is_same])
    columns = [Column("metric", "metric"), Column("steps", "shared steps"), Column("first", first.name, None),
               Column("second", second.name, None), Column("difference", "difference", None),
               Column("equal", "equal at every step")]  # fmt: skip
    return Table(columns, rows, "Learning curves, last quarter of the shared steps")
