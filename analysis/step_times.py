"""Seconds of a training step by phase and role, runs or methods side by side; the time of the pool (paper, 5.2)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import stats
from .config import lookup
from .io import Metrics, PoolHead
from .methods import in_order, method_key, method_of
from .pool_time import PoolTime, pool_time
from .runs import Run
from .stats import Figure
from .tabular import Column, Table
from .timing import NOT_PHASES, PHASES, ROLES, times_of

MAX_RUNS = 6  # each in a column of its own; more are put together by method
KINDS = {"online": "samples and learns", "offline": "learns from the pool"}
ROLE_NAMES = tuple(role for _, role in ROLES)
PHASE_ROLE = {phase: role for phase, role in ROLES} | {"prepare": "learner", "reduce": "learner", "evaluate": "learner"}
ABOUT = (
    "Means over the steps of a kind, in seconds. A phase: of the rank that spent most in it. Idle: mean of the ranks "
    "of a role, asleep for others. Whole step: of the slowest rank; phases of different ranks overlap, so they do not "
    "add up to it. Several runs of a method: their mean, of the whole step with Student's 95% interval.",
    "Pool: the log F table, made once for any number of runs; scaled by m/M where a run used m of its M samples.",
)
NEXT_TO_NOTHING = 1e-3  # seconds of idling that are not shown


@dataclass
class StepTimes:
    """Of the steps of one kind of one run."""

    steps: int
    whole: float  # seconds, mean
    median: float
    phases: dict[str, float]
    idle: dict[str, float]  # by role


def step_times(metrics: Metrics) -> dict[str, StepTimes]:
    """By kind: online steps sample, offline ones (a warm start, offline methods) learn from the pool alone."""
    times = times_of(metrics)
    if times is None or "total" not in metrics.time:
        return {}
    generate = metrics.time.get("generate", np.zeros((len(metrics.step), 1)))
    is_online = np.nan_to_num(generate).sum(axis=1) > 0
    roles = {role: [at for at, held in enumerate(times.roles) if role in held] for role in ROLE_NAMES}
    found = {"online": _of_steps(metrics, is_online, roles), "offline": _of_steps(metrics, ~is_online, roles)}
    return {kind: one for kind, one in found.items() if one is not None}


def _of_steps(metrics: Metrics, rows: np.ndarray, roles: dict[str, list[int]]) -> StepTimes | None:
    if not rows.any():
        return None
    time = {phase: np.nan_to_num(values[rows]) for phase, values in metrics.time.items()}
    whole = time["total"].max(axis=1)
    phases = {phase: float(values.mean(axis=0).max()) for phase, values in time.items() if phase not in NOT_PHASES}
    idle = {role: float(time["idle"][:, ranks].mean()) for role, ranks in roles.items() if ranks and "idle" in time}
    return StepTimes(int(rows.sum()), float(whole.mean()), float(np.median(whole)), phases, idle)


@dataclass
class Group:
    """One column: a run, or the runs of a method."""

    title: str
    method: str
    runs: list[dict[str, StepTimes]]
    pools: list[PoolTime]  # of the runs that learn from one
    without: bool = False  # a run that does, but whose pool tells no time

    def figure(self, kind: str, value: Callable[[StepTimes], float | None]) -> Figure | None:
        """Over the runs that have such steps."""
        found = [value(one[kind]) for one in self.runs if kind in one]
        known = [one for one in found if one is not None]
        return stats.over_seeds(np.array(known)) if known else None


def groups_of(runs: list[Run]) -> list[Group]:
    cache: dict[Path, PoolHead] = {}
    by_title: dict[str, Group] = {}
    rank = in_order({method_key(run) for run in runs})
    for run in sorted(runs, key=lambda run: rank.index(method_key(run))):
        key = method_key(run)
        title = run.name if len(runs) <= MAX_RUNS else method_of(key).label
        group = by_title.setdefault(title, Group(title, key, [], []))
        assert run.metrics is not None
        group.runs.append(step_times(run.metrics))
        if needs_pool(run):
            pool = pool_time(run, cache)
            group.pools += [pool] if pool is not None else []
            group.without |= pool is None
    return list(by_title.values())


def needs_pool(run: Run) -> bool:
    """Whether it learns from one; a configuration may name a pool that nothing is learned from."""
    if lookup(run.config, "train.warm_start", 0):
        return True
    has_anchor = run.method == "jbond" or (run.method == "bond" and lookup(run.config, "bond.quantile") == "anchor")
    return run.method != "ppo" and not has_anchor


def table(groups: list[Group]) -> Table:
    """Rows (kind of step, what, role), a column a group."""
    rows: list[list] = []
    if any(len(group.runs) > 1 for group in groups):
        rows.append(["", "runs", "", *(len(group.runs) for group in groups)])
    for kind in KINDS:
        having = [one[kind] for group in groups for one in group.runs if kind in one]
        if having:
            rows += _rows(kind, having, groups)
    if any(group.pools for group in groups):
        rows += _pool_rows(groups)
    columns = [Column("step", "step"), Column("what", "seconds of"), Column("role", "role"),
               *(Column(group.title, group.title) for group in groups)]  # fmt: skip
    kinds = "; ".join(f"{kind}: {meaning}" for kind, meaning in KINDS.items())
    return Table(columns, rows, "Where a step's time goes", [f"Steps are {kinds}. {ABOUT[0]}", ABOUT[1]])


def _rows(kind: str, having: list[StepTimes], groups: list[Group]) -> list[list]:
    known = [phase for phase in PHASES if any(phase in one.phases for one in having)]
    known += sorted({phase for one in having for phase in one.phases} - set(PHASES))
    spent = [phase for phase in known if any(one.phases.get(phase, 0) > 0 for one in having)]
    whole = [group.figure(kind, lambda one: one.whole) for group in groups]
    rows: list[list] = [
        [kind, "(number of steps)", "", *(_mean([one[kind].steps for one in g.runs if kind in one]) for g in groups)],
        [kind, "whole step", "", *whole],
        [kind, "whole step, median", "", *_means(groups, kind, lambda one: one.median)],
    ]
    for phase in spent:
        role = PHASE_ROLE.get(phase, "all")
        rows.append([kind, phase, role, *_means(groups, kind, lambda one, phase=phase: one.phases.get(phase))])
    for role in ROLE_NAMES:
        if any(one.idle.get(role, 0) > NEXT_TO_NOTHING for one in having):
            rows.append([kind, "idle", role, *_means(groups, kind, lambda one, role=role: one.idle.get(role))])
    ppo = [at for at, group in enumerate(groups) if group.method == "ppo" and whole[at] is not None]
    if len(ppo) == 1 and len(groups) > 1:
        rows.append([kind, "(whole step, times that of PPO)", "", *(_ratio(one, whole[ppo[0]]) for one in whole)])
    return rows


def _means(groups: list[Group], kind: str, value: Callable[[StepTimes], float | None]) -> list[float | None]:
    figures = [group.figure(kind, value) for group in groups]
    return [None if figure is None else figure.value for figure in figures]


def _pool_rows(groups: list[Group]) -> list[list]:
    seconds = [_mean([pool.seconds for pool in group.pools]) for group in groups]
    samples = [_mean([pool.used for pool in group.pools]) for group in groups]
    prompts = [_mean([pool.pool.prompts for pool in group.pools]) for group in groups]
    kinds = ["online" if any("online" in one for one in group.runs) else "offline" for group in groups]
    steps = [group.figure(kind, lambda one: one.whole) for group, kind in zip(groups, kinds)]
    many = [None if one is None else _ratio(Figure(one), step) for one, step in zip(seconds, steps)]
    return [
        ["pool", "(prompts)", "", *prompts],
        ["pool", "(samples a prompt)", "", *samples],
        ["pool", "whole pool", "", *seconds],
        ["pool", "(as long as so many steps)", "", *many],
    ]


def _mean(values: list) -> float | int | None:
    """A whole number where all are equal."""
    if not values:
        return None
    return values[0] if len(set(values)) == 1 else float(np.mean(values))


def _ratio(one: Figure | None, base: Figure | None) -> float | None:
    return None if one is None or base is None or base.value <= 0 else one.value / base.value
