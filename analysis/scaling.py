"""How the time of a step depends on the ranks: strong and weak scaling, splits of roles, sizes of chunks."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .config import lookup
from .errors import InputError
from .io import Metrics
from .runs import Run
from .scaling_model import EVERYBODY, Step
from .step_times import StepTimes, step_times
from .tabular import Column, Table
from .timing import PHASES, times_of

BY_RANK = "by_rank"  # what run.reduce is unless it is said
WARM_UP = 1  # first steps of a kind, which allocate and pack weights
HEADER_SIZE = 8  # bytes of a safetensors file that say how long its header is
NEXT_TO_NOTHING = 1e-3  # of a step: phases that take less have no column
ABOUT = (
    "A step: the median after the first one, of the slowest rank. Speed-up and efficiency are against the fewest ranks "
    "of a series. Strong: the same step on more ranks, 1 is a time that falls as ranks grow. Weak: a step that grows "
    "with the ranks, 1 is a time that stays.",
    "Idle: asleep for others, mean over ranks. Communication: sums of gradients and new weights, without waiting.",
)
ABOUT_ROLES = "Means over steps and over the ranks with the same roles; other: what no phase holds."


@dataclass
class Ranks:
    """Those of a run that have the same roles; seconds are means over steps and ranks."""

    roles: str
    count: int
    phases: dict[str, float]  # with "other"
    idle: float


@dataclass
class Measured:
    """One arrangement; of several runs of it the median."""

    ranks: int
    roles: str
    sequences: float  # learned from in a step
    chunk: int  # prompts; 0: as the program chooses
    reduce: str  # how gradients are summed
    updates: int  # a step
    tokens_per_s: float
    seconds: float
    phases: dict[str, float]  # of the rank that spent most in it
    idle: float  # mean over ranks
    communication: float
    groups: list[Ranks]
    gradient_bytes: float | None
    circumstance: dict[str, object]  # what the times hold for
    runs: int = 1

    @property
    def per_rank(self) -> float:
        return self.sequences / self.ranks

    @property
    def step(self) -> Step:
        return Step(self.ranks, self.sequences, self.updates, self.gradient_bytes or 0.0)


@dataclass
class Series:
    kind: str  # strong, weak
    roles: str
    points: list[Measured]  # by ranks, ascending
    apart: list[str]  # what series beside it have otherwise

    @property
    def title(self) -> str:
        first = self.points[0]
        size = f"{first.sequences:.0f}" if self.kind == "strong" else f"{first.per_rank:.0f} a rank"
        return ", ".join([f"{self.kind}, {size}", *[self.roles] * (self.roles != EVERYBODY), *self.apart])

    def efficiency(self, at: Measured) -> float:
        first = self.points[0]
        scaled = first.seconds / at.seconds
        return scaled * first.ranks / at.ranks if self.kind == "strong" else scaled


def measure(run: Run) -> Measured | None:
    """None where its steps measured no time."""
    assert run.metrics is not None
    metrics = run.metrics
    warm = _without_warm_up(metrics)
    found = step_times(warm) if len(metrics.step) > WARM_UP + 1 else {}
    kind = "online" if "online" in found else "offline" if "offline" in found else None
    if kind is None:
        return None
    times: StepTimes = found[kind]
    learned = np.diff(metrics.episodes)[WARM_UP:]
    tokens = np.diff(metrics.tokens)[WARM_UP:]
    ranks = next(iter(metrics.time.values())).shape[1]
    roles = _roles(run, ranks)
    idle = float(np.nanmean(metrics.time["idle"][WARM_UP:])) if "idle" in metrics.time else 0.0
    updates = lookup(run.config, "ppo.epochs", 1) * lookup(run.config, "train.minibatches", 1)
    return Measured(
        ranks=ranks,
        roles=roles,
        sequences=float(np.median(learned[learned > 0])) if (learned > 0).any() else math.nan,
        chunk=lookup(run.config, "train.chunk_prompts", 0) if kind == "online" else 0,
        reduce=lookup(run.config, "run.reduce", BY_RANK),
        updates=updates if kind == "online" else 1,
        tokens_per_s=float(np.median(tokens)) / times.median,
        seconds=times.median,
        phases=times.phases,
        idle=idle,
        communication=times.phases.get("reduce", 0.0) + times.phases.get("publish", 0.0),
        groups=_groups(warm, roles),
        gradient_bytes=_gradient_bytes(run.path),
        circumstance={
            key: lookup(run.config, key)
            for key in ("train.method", "sampling.max_new_tokens", "cluster.threads", "cluster.device")
        },
    )


def _without_warm_up(metrics: Metrics) -> Metrics:
    cut = slice(WARM_UP, None)
    return Metrics(
        step=metrics.step[cut],
        episodes=metrics.episodes[cut],
        tokens=metrics.tokens[cut],
        values={name: values[cut] for name, values in metrics.values.items()},
        time={phase: values[cut] for phase, values in metrics.time.items()},
    )


def _roles(run: Run, ranks: int) -> str:
    """ "all", or "1 rollout, 1 scorer, 2 learner"."""
    said = lookup(run.config, "cluster.roles", "auto")
    if ranks == 1 or said == EVERYBODY:
        return EVERYBODY
    if isinstance(said, dict):
        return ", ".join(f"{said[role]} {role}" for role in ("rollout", "scorer", "learner") if role in said)
    return str(said)


def _groups(metrics: Metrics, roles: str) -> list[Ranks]:
    times = times_of(metrics)
    if times is None:
        return []
    names = [EVERYBODY] * len(times.roles) if roles == EVERYBODY else times.roles
    found = []
    for name in dict.fromkeys(names):
        own = [rank for rank, other in enumerate(names) if other == name]
        phases = {p: float(v[own].mean()) / len(metrics.step) for p, v in times.phases.items()}
        idle = phases.pop("idle", 0.0)
        found.append(Ranks(name, len(own), phases, idle))
    return found


def _gradient_bytes(run: Path) -> float | None:
    """Half of what AdamW's two moments take in the newest checkpoint."""
    states = sorted((run / "checkpoints").glob("step-*/state/optimizer.safetensors"))
    if not states:
        return None
    with open(states[-1], "rb") as file:
        header = int.from_bytes(file.read(HEADER_SIZE), "little")
    values = states[-1].stat().st_size - HEADER_SIZE - header
    if values < 0:
        raise InputError(f"'{states[-1]}' is shorter than it says")
    return values / 2


def together(found: list[Measured]) -> list[Measured]:
    """Runs of one arrangement and size as one, their medians."""
    groups: dict[tuple, list[Measured]] = {}
    for one in found:
        key = (one.roles, one.ranks, round(one.sequences, 6), one.updates, one.chunk, one.reduce, str(one.circumstance))
        groups.setdefault(key, []).append(one)
    return [_median(group) for _, group in sorted(groups.items(), key=lambda item: item[0])]


def _median(group: list[Measured]) -> Measured:
    def of(name: str) -> float:
        return float(np.median([getattr(one, name) for one in group]))

    first = group[0]
    return Measured(
        ranks=first.ranks,
        roles=first.roles,
        sequences=first.sequences,
        chunk=first.chunk,
        reduce=first.reduce,
        updates=first.updates,
        tokens_per_s=of("tokens_per_s"),
        seconds=of("seconds"),
        phases=_medians([one.phases for one in group]),
        idle=of("idle"),
        communication=of("communication"),
        groups=_median_groups([one.groups for one in group]),
        gradient_bytes=first.gradient_bytes,
        circumstance=first.circumstance,
        runs=len(group),
    )


def _medians(found: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for one in found for name in one)
    return {name: float(np.median([one.get(name, 0.0) for one in found])) for name in names}


def _median_groups(runs: list[list[Ranks]]) -> list[Ranks]:
    by_roles: dict[str, list[Ranks]] = {}
    for run in runs:
        for group in run:
            by_roles.setdefault(group.roles, []).append(group)
    return [
        Ranks(roles, same[0].count, _medians([one.phases for one in same]), float(np.median([g.idle for g in same])))
        for roles, same in by_roles.items()
    ]


def series_of(points: list[Measured]) -> list[Series]:
    """Every set of at least two numbers of ranks that shares circumstance, chunks, updates, sums and a step's size, or
    its size a rank."""
    found = []
    told = [_told(one) for one in points]
    apart = {key for words in told for key in words if len({words[key] for words in told}) > 1}
    for kind, size in (("strong", lambda one: one.sequences), ("weak", lambda one: one.per_rank)):
        groups: dict[tuple, list[Measured]] = {}
        for one in points:
            # Splits of roles differ at every number of ranks: only the kind of split is the same.
            split = EVERYBODY if one.roles == EVERYBODY else "split roles"
            key = (round(size(one), 6), one.updates, one.chunk, one.reduce, str(one.circumstance))
            groups.setdefault((split, *key), []).append(one)
            if one.ranks == 1:  # where every split begins
                groups.setdefault(("split roles", *key), []).append(one)
        for (roles, *_), group in sorted(groups.items()):
            fastest = {ranks: min((p for p in group if p.ranks == ranks), key=lambda p: p.seconds)
                       for ranks in sorted({p.ranks for p in group})}  # fmt: skip
            if len(fastest) > 1:
                words = _told(group[0])
                found.append(Series(kind, roles, list(fastest.values()), [words[key] for key in words if key in apart]))
    return found


def _told(one: Measured) -> dict[str, str]:
    """What may tell a series apart, in words."""
    words = {"updates": f"{one.updates} update{'s' * (one.updates != 1)}", "reduce": one.reduce}
    return words | {key: f"{key.rpartition('.')[2]} {value}" for key, value in one.circumstance.items()}


def table(points: list[Measured], series: list[Series]) -> Table:
    columns = [Column("ranks", "ranks"), Column("roles", "roles"), Column("sequences", "sequences", 0),
               Column("updates", "updates"), Column("chunk", "prompts a chunk"), Column("reduce", "sums"),
               Column("runs", "runs"), Column("seconds", "seconds", 3), Column("tokens_per_s", "tokens/s", 0),
               Column("strong", "strong efficiency", 2), Column("weak", "weak efficiency", 2),
               Column("idle", "idle", percent=True, digits=0),
               Column("communication", "communication", percent=True, digits=1)]  # fmt: skip
    rows: list[list] = []
    for one in points:
        shares = [one.idle / one.seconds, one.communication / one.seconds]
        worth = [_efficiency(one, series, kind) for kind in ("strong", "weak")]
        rows.append([one.ranks, one.roles, one.sequences, one.updates, one.chunk or None, one.reduce, one.runs,
                     one.seconds, one.tokens_per_s, *worth, *shares])  # fmt: skip
    return Table(columns, rows, "A step by ranks", list(ABOUT))


def _efficiency(one: Measured, series: list[Series], kind: str) -> float | None:
    found = [s for s in series if s.kind == kind and one in s.points and one is not s.points[0]]
    return found[0].efficiency(one) if found else None


def phases_of(points: list[Measured]) -> list[str]:
    """Those that take time in any of them, in the order of a step."""
    known = [phase for phase in PHASES if phase != "idle"]
    known += sorted({phase for one in points for group in one.groups for phase in group.phases} - set(known))
    return [phase for phase in known if any(g.phases.get(phase, 0) > NEXT_TO_NOTHING * one.seconds
                                            for one in points for g in one.groups)]  # fmt: skip


def roles_table(points: list[Measured]) -> Table:
    """Time and idle by role: a row for the ranks of an arrangement that have the same roles."""
    phases = phases_of(points)
    columns = [Column("ranks", "ranks"), Column("split", "split"), Column("sequences", "sequences", 0),
               Column("updates", "updates"), Column("chunk", "prompts a chunk"), Column("reduce", "sums"),
               Column("roles", "ranks that are"), Column("count", "so many"), *(Column(phase, phase, 3) for phase in phases), Column("idle", "idle", 3),
               Column("idle_share", "idle, share", percent=True, digits=0)]  # fmt: skip
    rows: list[list] = []
    for one in points:
        for group in one.groups:
            whole = sum(group.phases.values()) + group.idle
            rows.append([one.ranks, one.roles, one.sequences, one.updates, one.chunk or None, one.reduce, group.roles,
                         group.count, *(group.phases.get(phase, 0.0) for phase in phases), group.idle,
                         group.idle / whole if whole > 0 else None])  # fmt: skip
    return Table(columns, rows, "Seconds of a step by role", [ABOUT_ROLES])
