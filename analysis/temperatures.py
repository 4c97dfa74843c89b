"""Evaluations at several sampling temperatures and on several sets of prompts, a line a method (paper, Figure 5)."""

from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np

from .config import lookup
from .groups import cells
from .io import Evaluation
from .points import TITLES, Point, group_labels, mean_of, point_of
from .runs import Run, config_of
from .stats import Figure, over_seeds
from .tabular import Column, Table

FIGURES = ("evaluator_win", "evaluator", "win", "reward", "kl")
OF_EVALUATION = ("sampling.temperature", "prompts.eval", "pool.eval_path")  # keys that change no policy
ABOUT = (
    "Win rate: against reference samples drawn at the same temperature, so that the reference itself has 0.5 at each. "
    "Means over seeds (of training and of sampling) with Student's 95% interval; of one evaluation over prompts, with "
    "a bootstrap interval.",
    "Best-of-N: from the pool of the same temperature. A method's line: runs that differ in nothing but their seed and "
    "in what they are evaluated on.",
)


@dataclass
class Line:
    """One configuration on one set of prompts: its evaluations by temperature."""

    method: str  # a key of METHODS
    label: str
    points: dict[float, list[Point]] = field(default_factory=dict)

    @property
    def n(self) -> float | None:
        return next(iter(self.points.values()))[0].n

    def figure(self, temperature: float, name: str) -> Figure | None:
        return mean_of(self.points[temperature], name) if temperature in self.points else None


@dataclass
class Set:
    """One set of prompts. `reference`, `best_of_n`: by (temperature, figure)."""

    name: str
    lines: list[Line]
    temperatures: list[float]
    reference: dict[tuple[float, str], Figure] = field(default_factory=dict)
    best_of_n: dict[tuple[float, str], Figure] = field(default_factory=dict)
    n: float | None = None  # of best_of_n: the N that all lines aim at, where they have one


def sets_of(runs: list[Run]) -> list[Set]:
    """In the order in which the runs name them, that of their own evaluation first."""
    trained = [run for run in runs if run.final is not None]
    groups = [[trained[at] for at in members] for members in cells(trained, OF_EVALUATION)]
    label = {id(run): name for name, group in zip(group_labels(groups), groups) for run in group}
    found: dict[tuple[str, ...], list[tuple[str, Point]]] = {}
    for run in trained:
        for evaluation in newest(run):
            found.setdefault(evaluation.setting[0], []).append((label[id(run)], point_of(run, evaluation)))
    names = _tell_apart([name_of(members[0][1].evaluation) for members in found.values()])
    references = [evaluation for run in runs for evaluation in run.references]
    return [_set(name, members, references) for name, members in zip(names, found.values())]


def newest(run: Run) -> list[Evaluation]:
    """Of each prompts, temperature and seed of sampling the evaluation of the last step."""
    found: dict[object, Evaluation] = {}
    for evaluation in sorted([*run.evaluations, *run.others], key=lambda one: one.step):
        found[(evaluation.setting, evaluation.evaluation_seed)] = evaluation
    last = max((evaluation.step for evaluation in found.values()), default=0)
    return [evaluation for evaluation in found.values() if evaluation.step == last]


def name_of(evaluation: Evaluation) -> str:
    """The prompts file that it was made with, without folder and ending."""
    said = lookup(config_of(evaluation), "prompts.eval")
    return PurePath(str(said)).stem if said else "prompts " + evaluation.provenance.sha256.get("prompts", "")[:8]


def _tell_apart(names: list[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name} ({at + 1})" for at, name in enumerate(names)]


def _set(name: str, members: list[tuple[str, Point]], references: list[Evaluation]) -> Set:
    lines: dict[str, Line] = {}
    for label, point in members:
        line = lines.setdefault(label, Line(point.method, label))
        line.points.setdefault(point.evaluation.temperature, []).append(point)
    points = [point for _, point in members]
    found = Set(name, list(lines.values()), sorted({point.evaluation.temperature for point in points}))
    aims = {line.n for line in lines.values() if line.n is not None}
    found.n = aims.pop() if len(aims) == 1 else None
    for temperature in found.temperatures:
        here = [point.evaluation for point in points if point.evaluation.temperature == temperature]
        same = [one for one in references if one.setting == here[0].setting]
        _add(found.reference, temperature, [_reference(one) for one in same] or [_told(one) for one in here])
        if found.n is not None:
            _add(found.best_of_n, temperature, [_best_of_n(one, found.n) for one in here])
    return found


def _add(into: dict[tuple[float, str], Figure], temperature: float, found: list[dict[str, float]]) -> None:
    """Over different seeds or pools; equal ones count once."""
    for name in {name for one in found for name in one}:
        values = sorted({one[name] for one in found if name in one and np.isfinite(one[name])})
        if values:
            into[temperature, name] = over_seeds(np.array(values))


def _reference(evaluation: Evaluation) -> dict[str, float]:
    rewards = {"reward": "main", "evaluator": "evaluator"}
    return {name: float(evaluation.rewards[key].mean(dtype=np.float64)) for name, key in rewards.items()
            if key in evaluation.rewards}  # fmt: skip


def _told(evaluation: Evaluation) -> dict[str, float]:
    """The reference's row of the evaluation's own table: its pool."""
    table = evaluation.summary
    return {name: table[f"reference.{name}"] for name in ("reward", "evaluator") if f"reference.{name}" in table}


def _best_of_n(evaluation: Evaluation, n: float) -> dict[str, float]:
    """From the curve and, for the evaluator, the table; {}: this N is not among them."""
    curve, found = evaluation.bon, {}
    for at in np.flatnonzero(curve.get("N", np.empty(0)) == n)[:1]:
        found = {name: float(curve[name][at]) for name in ("win", "reward")}
    rows = {name: f"bon_{n:g}.{name}" for name in ("evaluator", "evaluator_win")}
    return found | {name: evaluation.summary[row] for name, row in rows.items() if row in evaluation.summary}


def table(sets: list[Set]) -> Table:
    names = [name for name in FIGURES
             if any(line.figure(t, name) for one in sets for line in one.lines for t in one.temperatures)]  # fmt: skip
    columns = [Column("prompts", "prompts"), Column("method", "method"), Column("N", "N", None),
               Column("beta", "β", None), Column("temperature", "temperature", None), Column("runs", "evaluations"),
               *(Column(name, TITLES[name]) for name in names)]  # fmt: skip
    rows: list[list] = []
    for one in sets:
        for t in one.temperatures:
            reference = {"win": Figure(0.5), "evaluator_win": Figure(0.5), "kl": Figure(0.0)}
            rows.append([one.name, "reference", None, None, t, None,
                         *(one.reference.get((t, name), reference.get(name)) for name in names)])  # fmt: skip
        for t in one.temperatures if one.best_of_n else []:
            rows.append([one.name, "best-of-N", one.n, None, t, None,
                         *(one.best_of_n.get((t, name)) for name in names)])  # fmt: skip
        for line in one.lines:
            for t in sorted(line.points):
                first = line.points[t][0]
                name = first.label if line.label.startswith(first.label) else line.label  # N and β stand beside it
                rows.append([one.name, name, first.n, first.beta, t, len(line.points[t]),
                             *(line.figure(t, name) for name in names)])  # fmt: skip
    return Table(columns, rows, "By sampling temperature", list(ABOUT))
