"""Evaluated runs as points of tables and pictures: the method, its strength, the seed, and figures with intervals."""

from dataclasses import dataclass

import numpy as np

from . import stats
from .config import lookup
from .errors import InputError
from .groups import cells
from .io import Evaluation
from .methods import in_order, method_key, method_of
from .runs import Run
from .stats import Figure
from .tables import policy_row

# Where a configuration keeps the strength of a method that evaluations know no N of.
BETA_KEYS = ("{}.beta", "ppo.kl_coef")
N_KEYS = ("{}.N", "{}.n", "vbon.N")
TITLES = {"kl": "KL, nats", "win": "win rate", "efficiency": "efficiency", "reward": "reward",
          "evaluator": "evaluator", "length": "length", "finished": "finished"}  # fmt: skip


@dataclass
class Point:
    """`cell`: number of its configuration; points that differ in their seed alone share it."""

    run: Run
    evaluation: Evaluation
    method: str  # a key of METHODS
    n: float | None
    beta: float | None
    seed: int | None
    figures: dict[str, Figure]  # by TITLES: those measured
    cell: int = 0

    @property
    def label(self) -> str:
        return method_of(self.method).label

    @property
    def parameter(self) -> str:
        return parameter_text(self.n, self.beta)

    def mean(self, name: str) -> float:
        """NaN: not measured."""
        return self.figures[name].value if name in self.figures else np.nan


def points_of(runs: list[Run]) -> list[Point]:
    """Of the final evaluation of each run, sorted by method, strength and seed."""
    points = [point_of(run, run.final) for run in runs if run.final is not None]
    for number, members in enumerate(cells([point.run for point in points])):
        for at in members:
            points[at].cell = number
    rank = {key: at for at, key in enumerate(in_order({point.method for point in points}))}
    return sorted(points, key=lambda p: (rank[p.method], p.n or 0, p.beta or 0, p.seed or 0, p.run.name))


def point_of(run: Run, evaluation: Evaluation) -> Point:
    key = method_key(run)
    n, beta = strength_of(run, evaluation)
    return Point(run, evaluation, key, n, beta, evaluation.training_seed, policy_row(evaluation).figures)


def parameter_text(n: float | None, beta: float | None) -> str:
    """ "N = 4" or "β = 0.1"; "" where the files do not say."""
    return f"N = {n:.4g}" if n is not None else f"β = {beta:.3g}" if beta is not None else ""


def strength_of(run: Run, evaluation: Evaluation | None) -> tuple[float | None, float | None]:
    """N and beta: those of the evaluation, else those of the configuration. Methods on the reward itself have no N."""
    told_n, told_beta = (evaluation.n, evaluation.beta) if evaluation is not None else (1.0, 0.0)
    if method_of(method_key(run)).parameter == "beta":
        return None, told_beta if told_beta > 0 else _first(run, BETA_KEYS)
    n = told_n if told_n > 1 else _first(run, N_KEYS)
    n = run.n if n is None else n
    return n, 1 / (n - 1) if n is not None and n > 1 else told_beta or None


def _first(run: Run, keys: tuple[str, ...]) -> float | None:
    values = (lookup(run.config, key.format(run.method)) for key in keys)
    return next((float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)), None)


def group_labels(groups: list[list[Run]]) -> list[str]:
    """Of runs by configuration: the method, its strength where the method has several groups, and the name of a run
    where even that does not tell two apart."""
    methods = [method_of(method_key(group[0])).label for group in groups]
    strengths = [parameter_text(*strength_of(group[0], group[0].final)) for group in groups]
    labels = [method if methods.count(method) == 1 else f"{method}, {strength}".rstrip(", ")
              for method, strength in zip(methods, strengths)]  # fmt: skip
    return [label if labels.count(label) == 1 else group[0].name for label, group in zip(labels, groups)]


def mean_of(points: list[Point], name: str) -> Figure | None:
    """Over seeds; of one run its own figure, with the interval over prompts. None where a run did not measure it."""
    found = [point.figures[name] for point in points if name in point.figures]
    if len(found) < len(points):
        return None
    return found[0] if len(found) == 1 else stats.over_seeds(np.array([one.value for one in found]))


def interval_kind(points: list[Point]) -> str:
    """What the interval of mean_of() goes over."""
    return "seeds" if len(points) > 1 else "prompts"


def require_one_setting(points: list[Point]) -> None:
    """InputError where evaluations were made on other prompts or at other temperatures than the first."""
    first = points[0]
    for point in points[1:]:
        one, other = point.evaluation, first.evaluation
        if one.setting[0] != other.setting[0]:
            raise InputError(
                f"'{point.run.name}' was evaluated on other prompts than '{first.run.name}', so their figures cannot "
                "be compared; name runs that were evaluated on the same prompts"
            )
        if one.temperature != other.temperature:
            raise InputError(
                f"'{point.run.name}' was sampled at temperature {one.temperature:g}, '{first.run.name}' at "
                f"{other.temperature:g}; name runs of one temperature, or use 'analysis temperatures'"
            )


def pool_notes(points: list[Point]) -> list[str]:
    pools = {point.evaluation.provenance.sha256.get("pool") for point in points}
    if len(pools) == 1:
        return []
    return [f"The runs were compared with {len(pools)} pools of the same prompts: their win rates differ by the "
            "noise of the pools too."]  # fmt: skip


def methods_of(points: list[Point]) -> list[str]:
    return in_order({point.method for point in points})
