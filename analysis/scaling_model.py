"""A model of a step's time, fitted on what was measured; `vbon plan --model` reads what it writes and uses the same.

    t = fixed + compute n / p + update u + latency log2 p + bytes u 2 g (p - 1) / p

p ranks that do everything, n sequences and u updates a step, g bytes of gradient: what a rank of a ring sends. No term
is negative. Steps of another model, length or machine have other terms.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

from .tabular import Column, Table

EVERYBODY = "all"  # roles: every rank has all of them
TERMS = ("fixed", "compute", "update", "latency", "bytes")
MEANINGS = {
    "fixed": "seconds of a step that ranks do not share",
    "compute": "seconds a sequence",
    "update": "seconds an update",
    "latency": "seconds a doubling of the ranks",
    "bytes": "seconds a byte that a rank sends",
}
COMMUNICATION = ("latency", "bytes")
FORMULA = "fixed + compute n/p + update u + latency log2 p + bytes u 2 g (p-1)/p"
NEGLIGIBLE = 1e-300


@dataclass(frozen=True)
class Step:
    """Of `ranks` that all do everything."""

    ranks: int
    sequences: float
    updates: int
    gradient_bytes: float

    @property
    def columns(self) -> np.ndarray:
        p = self.ranks
        sent = self.updates * 2 * self.gradient_bytes * (p - 1) / p
        return np.array([1.0, self.sequences / p, self.updates, math.log2(p), sent])


@dataclass
class Fitted:
    step: Step
    measured: float  # seconds
    predicted: float

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


@dataclass
class Model:
    terms: dict[str, float]
    points: list[Fitted]

    def seconds(self, step: Step) -> float:
        return float(step.columns @ np.array([self.terms[name] for name in TERMS]))

    def communication(self, step: Step) -> float:
        """Share of the step's time."""
        parts = dict(zip(TERMS, step.columns * [self.terms[name] for name in TERMS]))
        return float(sum(parts[name] for name in COMMUNICATION)) / self.seconds(step)

    @property
    def ranks(self) -> list[int]:
        return sorted({point.step.ranks for point in self.points})

    @property
    def relative_error(self) -> float:
        return max(abs(point.error) for point in self.points)

    def efficiency(self, base: Step, at: Step) -> float:
        """Of sequences a second and rank, against `base`."""
        speed = at.sequences / (at.ranks * self.seconds(at))
        return speed / (base.sequences / (base.ranks * self.seconds(base)))

    def is_measured(self, ranks: int) -> bool:
        return ranks <= self.ranks[-1]


def fit(steps: list[Step], seconds: list[float]) -> Model | None:
    """Least squares of relative errors; None where the steps are too few for a model. A term that the steps cannot
    tell from another is left to it: updates to fixed where all steps have as many, bytes to latency where no gradient
    is known."""
    if len(set(steps)) < 3 or len({step.ranks for step in steps}) < 2:
        return None
    matrix = np.array([step.columns for step in steps])
    if len({step.updates for step in steps}) == 1:
        matrix[:, TERMS.index("update")] = 0
    measured = np.array(seconds)
    scale = np.maximum(matrix.max(axis=0), NEGLIGIBLE)  # so that the solver sees numbers of one size
    # Relative errors count, or the longest step alone would decide.
    solution, _ = optimize.nnls(matrix / scale / measured[:, None], np.ones(len(steps)))
    model = Model(dict(zip(TERMS, (solution / scale).tolist())), [])
    model.points = [Fitted(step, one, model.seconds(step)) for step, one in zip(steps, seconds)]
    return model


def to_json(model: Model, circumstance: dict[str, Any]) -> str:
    """What `vbon plan --model` reads. `circumstance`: keys of the configuration that the terms hold for."""
    steps = [point.step for point in model.points]
    says = {
        "format": "vbon.scaling",
        "schema_version": 1,
        "formula": FORMULA,
        "terms": model.terms,
        "ranks": model.ranks,
        "sequences": [min(step.sequences for step in steps), max(step.sequences for step in steps)],
        "gradient_bytes": float(np.median([step.gradient_bytes for step in steps])),
        "relative_error": model.relative_error,
        "measured_with": circumstance,
    }
    return json.dumps(says, indent=1) + "\n"


def residuals(model: Model) -> Table:
    columns = [Column("ranks", "ranks"), Column("sequences", "sequences", 0), Column("updates", "updates"),
               Column("measured_s", "measured, seconds", 3), Column("model_s", "model, seconds", 3),
               Column("error", "error", percent=True, digits=1)]  # fmt: skip
    rows: list[list] = [
        [p.step.ranks, p.step.sequences, p.step.updates, p.measured, p.predicted, p.error] for p in model.points
    ]
    terms = [f"{name} {value:.3g} ({MEANINGS[name]})" for name, value in model.terms.items()]
    formula = f"t = {FORMULA}; p ranks that do everything, n sequences, u updates, g bytes of gradient"
    return Table(columns, rows, "The model and what it was fitted on", [formula, f"Terms: {'; '.join(terms)}."])


def base_of(model: Model) -> Step:
    """What predictions start from: the largest step of the fewest ranks."""
    return max(
        (p.step for p in model.points if p.step.ranks == model.ranks[0]), key=lambda one: (one.sequences, -one.updates)
    )


def grow(base: Step, ranks: int, weak: bool) -> Step:
    """The same step on more ranks, or one that grows with them."""
    sequences = base.sequences * ranks / base.ranks if weak else base.sequences
    return Step(ranks, sequences, base.updates, base.gradient_bytes)


def prediction(model: Model, ranks: list[int]) -> Table:
    """The largest step measured on the fewest ranks, on more of them (strong), and grown with them (weak)."""
    base = base_of(model)
    columns = [Column("ranks", "ranks"), Column("range", "range"), Column("strong_s", "strong, seconds", 3),
               Column("strong", "efficiency", 2),
               Column("strong_communication", "communication", percent=True, digits=0),
               Column("weak_s", "weak, seconds", 3), Column("weak", "efficiency", 2),
               Column("weak_communication", "communication", percent=True, digits=0)]  # fmt: skip
    rows: list[list] = []
    for p in ranks:
        row: list = [p, "measured" if model.is_measured(p) else "beyond"]
        for step in (grow(base, p, False), grow(base, p, True)):
            row += [model.seconds(step), model.efficiency(base, step), model.communication(step)]
        rows.append(row)
    updates = f"{base.updates} update{'s' * (base.updates != 1)}"
    where = f"{base.ranks} rank{'s' * (base.ranks != 1)}"
    title = f"What the model says of {base.sequences:.0f} sequences on {where}, {updates} a step"
    beyond = (
        f"Measured up to {model.ranks[-1]} ranks: what lies beyond is the model's word, on the network of these runs. "
        f"Largest error on what was measured {100 * model.relative_error:.0f}%."
    )
    return Table(columns, rows, title, [beyond])
