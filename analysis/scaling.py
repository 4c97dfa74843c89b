"""How the time of a step depends on the ranks: strong and weak scaling, splits of roles, and a fitted model."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import optimize

from .config import lookup
from .errors import InputError
from .io import Metrics
from .runs import Run
from .step_times import StepTimes, step_times
from .tabular import Column, Table

EVERYBODY = "all"  # roles: every rank has all of them
WARM_UP = 1  # first steps of a kind, which allocate and pack weights
TERMS = ("fixed", "compute", "latency", "bytes")
MEANINGS = {
    "fixed": "seconds of a step that ranks do not share",
    "compute": "seconds a sequence",
    "latency": "seconds a doubling of the ranks",
    "bytes": "seconds a byte of the gradient",
}
ABOUT = (
    "A step: the median after the first one, of the slowest rank. Speed-up and efficiency are against the fewest ranks "
    "of a series. Strong: the same step on more ranks, 1 is a time that falls as ranks grow. Weak: a step that grows "
    "with the ranks, 1 is a time that stays.",
    "Idle: asleep for others, mean over ranks. Communication: sums of gradients and new weights, without waiting.",
)


@dataclass
class Measured:
    """One arrangement; of several runs of it the median."""

    ranks: int
    roles: str
    sequences: float  # learned from in a step
    tokens_per_s: float
    seconds: float
    phases: dict[str, float]  # of the rank that spent most in it
    idle: float  # mean over ranks
    communication: float
    gradient_bytes: float | None
    runs: int = 1

    @property
    def per_rank(self) -> float:
        return self.sequences / self.ranks


@dataclass
class Series:
    kind: str  # strong, weak
    roles: str
    points: list[Measured]  # by ranks, ascending

    @property
    def title(self) -> str:
        first = self.points[0]
        size = f"{first.sequences:.0f}" if self.kind == "strong" else f"{first.per_rank:.0f} a rank"
        return f"{self.kind}, {size}" + ("" if self.roles == EVERYBODY else f", {self.roles}")

    def efficiency(self, at: Measured) -> float:
        first = self.points[0]
        scaled = first.seconds / at.seconds
        return scaled * first.ranks / at.ranks if self.kind == "strong" else scaled


@dataclass
class Model:
    """t = fixed + compute sequences / ranks + latency log2 ranks + bytes gradient (ranks - 1) / ranks; none < 0."""

    terms: dict[str, float]
    gradient_bytes: float
    relative_error: float  # largest of the fitted points
    ranks: list[int]  # fitted on

    def seconds(self, ranks: int, sequences: float) -> float:
        return float(_columns(ranks, sequences, self.gradient_bytes) @ np.array(list(self.terms.values())))


def measure(run: Run) -> Measured | None:
    """None where its steps measured no time."""
    assert run.metrics is not None
    metrics = run.metrics
    found = step_times(_without_warm_up(metrics)) if len(metrics.step) > WARM_UP + 1 else {}
    kind = "online" if "online" in found else "offline" if "offline" in found else None
    if kind is None:
        return None
    times: StepTimes = found[kind]
    learned = np.diff(metrics.episodes)[WARM_UP:]
    tokens = np.diff(metrics.tokens)[WARM_UP:]
    ranks = next(iter(metrics.time.values())).shape[1]
    idle = float(np.nanmean(metrics.time["idle"][WARM_UP:])) if "idle" in metrics.time else 0.0
    return Measured(
        ranks=ranks,
        roles=_roles(run, ranks),
        sequences=float(np.median(learned[learned > 0])) if (learned > 0).any() else math.nan,
        tokens_per_s=float(np.median(tokens)) / times.median,
        seconds=times.median,
        phases=times.phases,
        idle=idle,
        communication=times.phases.get("reduce", 0.0) + times.phases.get("publish", 0.0),
        gradient_bytes=_gradient_bytes(run.path),
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


def _gradient_bytes(run: Path) -> float | None:
    """Half of what AdamW's two moments take in the newest checkpoint."""
    states = sorted((run / "checkpoints").glob("step-*/state/optimizer.safetensors"))
    return states[-1].stat().st_size / 2 if states else None


def together(found: list[Measured]) -> list[Measured]:
    """Runs of one arrangement and size as one, their medians."""
    groups: dict[tuple, list[Measured]] = {}
    for one in found:
        groups.setdefault((one.ranks, one.roles, round(one.sequences, 6)), []).append(one)
    return [
        _median(group) for _, group in sorted(groups.items(), key=lambda item: (item[0][1], item[0][0], item[0][2]))
    ]


def _median(group: list[Measured]) -> Measured:
    def of(name: str) -> float:
        return float(np.median([getattr(one, name) for one in group]))

    phases = sorted({phase for one in group for phase in one.phases})
    return Measured(
        ranks=group[0].ranks,
        roles=group[0].roles,
        sequences=group[0].sequences,
        tokens_per_s=of("tokens_per_s"),
        seconds=of("seconds"),
        phases={phase: float(np.median([one.phases.get(phase, 0.0) for one in group])) for phase in phases},
        idle=of("idle"),
        communication=of("communication"),
        gradient_bytes=group[0].gradient_bytes,
        runs=len(group),
    )


def series_of(points: list[Measured]) -> list[Series]:
    """Every set of at least two numbers of ranks that shares a step's size, or its size a rank."""
    found = []
    for kind, size in (("strong", lambda one: one.sequences), ("weak", lambda one: one.per_rank)):
        groups: dict[tuple, list[Measured]] = {}
        for one in points:
            # Splits of roles differ at every number of ranks: only the kind of split is the same.
            split = EVERYBODY if one.roles == EVERYBODY else "split roles"
            groups.setdefault((split, round(size(one), 6)), []).append(one)
            if one.ranks == 1:  # where every split begins
                groups.setdefault(("split roles", round(size(one), 6)), []).append(one)
        for (roles, _), group in sorted(groups.items()):
            fastest = {ranks: min((p for p in group if p.ranks == ranks), key=lambda p: p.seconds)
                       for ranks in sorted({p.ranks for p in group})}  # fmt: skip
            if len(fastest) > 1:
                found.append(Series(kind, roles, list(fastest.values())))
    return found


def fit(points: list[Measured]) -> Model | None:
    """On arrangements where every rank does everything; None where they are too few for a model."""
    used = [one for one in points if one.roles == EVERYBODY and math.isfinite(one.sequences)]
    if len({(one.ranks, one.sequences) for one in used}) < 3 or len({one.ranks for one in used}) < 2:
        return None
    size = float(np.median([one.gradient_bytes or 0.0 for one in used]))
    matrix = np.array([_columns(one.ranks, one.sequences, size) for one in used])
    seconds = np.array([one.seconds for one in used])
    scale = np.maximum(matrix.max(axis=0), 1e-300)  # so that the solver sees numbers of one size
    # Relative errors count, or the longest step alone would decide.
    solution, _ = optimize.nnls(matrix / scale / seconds[:, None], np.ones(len(used)))
    terms = dict(zip(TERMS, (solution / scale).tolist()))
    model = Model(terms, size, 0.0, sorted({one.ranks for one in used}))
    fitted = np.array([model.seconds(one.ranks, one.sequences) for one in used])
    model.relative_error = float(np.abs(fitted / seconds - 1).max())
    return model


def _columns(ranks: int, sequences: float, gradient_bytes: float) -> np.ndarray:
    return np.array([1.0, sequences / ranks, math.log2(ranks), gradient_bytes * (ranks - 1) / ranks])


def table(points: list[Measured], series: list[Series]) -> Table:
    columns = [Column("ranks", "ranks"), Column("roles", "roles"), Column("sequences", "sequences", 0),
               Column("runs", "runs"), Column("seconds", "seconds", 2), Column("tokens_per_s", "tokens/s", 0),
               Column("strong", "strong efficiency", 2), Column("weak", "weak efficiency", 2),
               Column("idle", "idle", percent=True, digits=0),
               Column("communication", "communication", percent=True, digits=1)]  # fmt: skip
    rows: list[list] = []
    for one in points:
        shares = [one.idle / one.seconds, one.communication / one.seconds]
        worth = [_efficiency(one, series, kind) for kind in ("strong", "weak")]
        rows.append([one.ranks, one.roles, one.sequences, one.runs, one.seconds, one.tokens_per_s, *worth, *shares])
    return Table(columns, rows, "A step by ranks", list(ABOUT))


def _efficiency(one: Measured, series: list[Series], kind: str) -> float | None:
    found = [s for s in series if s.kind == kind and one in s.points and one is not s.points[0]]
    return found[0].efficiency(one) if found else None


def prediction(model: Model, points: list[Measured], ranks: list[int]) -> Table:
    """The largest step measured by one rank, on more ranks (strong), and grown with them (weak)."""
    base = max((one for one in points if one.ranks == 1), key=lambda one: one.sequences, default=None)
    if base is None:
        raise InputError("a prediction needs a run on one rank")
    columns = [Column("ranks", "ranks"), Column("strong_s", "strong, seconds", 2), Column("strong", "efficiency", 2),
               Column("weak_s", "weak, seconds", 2), Column("weak", "efficiency", 2)]  # fmt: skip
    one = model.seconds(1, base.sequences)
    rows: list[list] = []
    for p in ranks:
        strong, weak = model.seconds(p, base.sequences), model.seconds(p, base.sequences * p)
        rows.append([p, strong, one / (p * strong), weak, one / weak])
    terms = "; ".join(f"{name} {value:.3g} ({MEANINGS[name]})" for name, value in model.terms.items())
    beyond = (
        f"Measured up to {max(model.ranks)} ranks: what lies beyond is the model's word, on the network of these runs."
    )
    title = f"What the model says of {base.sequences:.0f} sequences a step"
    return Table(columns, rows, title, [f"Model: {terms}. Largest error {100 * model.relative_error:.0f}%.", beyond])
