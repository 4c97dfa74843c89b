"""Evaluated runs as points of tables and pictures: the method, its strength, the seed, and figures with intervals."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from . import stats
from .config import lookup
from .errors import InputError
from .groups import cells, differing, recipes, show
from .io import Evaluation
from .methods import METHODS, in_order, method_key, method_of
from .runs import Run
from .stats import Figure
from .tables import policy_row

STRENGTH_KEYS = {"vbon.N", "vbon.beta", *(method.beta_key for method in METHODS.values())}
MAX_KEYS = 3  # named of those that tell two configurations of one strength apart
TITLES = {"kl": "KL, nats", "win": "win rate", "efficiency": "efficiency", "reward": "reward",
          "evaluator": "evaluator", "evaluator_win": "win rate by the evaluator", "length": "length",
          "finished": "finished"}  # fmt: skip


@dataclass
class Point:
    """`cell`: number of its configuration; points that differ in their seed alone share it, and `parameter`."""

    run: Run
    evaluation: Evaluation
    method: str  # a key of METHODS
    n: float | None
    beta: float | None
    seed: int | None
    figures: dict[str, Figure]  # by TITLES: those measured
    parameter: str  # its strength in words
    cell: int = 0

    @property
    def label(self) -> str:
        return method_of(self.method).label

    def mean(self, name: str) -> float:
        """NaN: not measured."""
        return self.figures[name].value if name in self.figures else np.nan


def points_of(runs: list[Run]) -> list[Point]:
    """Of the final evaluation of each run, sorted by method, strength and seed."""
    points = [point_of(run, run.final) for run in runs if run.final is not None]
    for point, text in zip(points, strengths([point.run for point in points])):
        point.parameter = text
    for number, members in enumerate(cells([point.run for point in points])):
        for at in members:
            points[at].cell = number
    rank = {key: at for at, key in enumerate(in_order({point.method for point in points}))}
    return sorted(points, key=lambda p: (rank[p.method], p.n or 0, p.beta or 0, p.seed or 0, p.run.name))


def point_of(run: Run, evaluation: Evaluation) -> Point:
    key = method_key(run)
    n, beta = strength_of(run, evaluation)
    figures = policy_row(evaluation).figures
    return Point(run, evaluation, key, n, beta, evaluation.training_seed, figures, parameter_text(n, beta))


def parameter_text(n: float | None, beta: float | None) -> str:
    """ "N = 4" or "β = 0.1"; "" where the files do not say."""
    return f"N = {n:.4g}" if n is not None else f"β = {beta:.3g}" if beta is not None else ""


def strength_of(run: Run, evaluation: Evaluation | None) -> tuple[float | None, float | None]:
    """N and beta: those of the evaluation, else those of the configuration. Methods on the reward itself have no N."""
    told_n, told_beta = (evaluation.n, evaluation.beta) if evaluation is not None else (1.0, 0.0)
    method = method_of(method_key(run))
    if method.parameter == "beta":
        said = lookup(run.config, method.beta_key)
        return None, told_beta if told_beta > 0 else float(said) if isinstance(said, int | float) else None
    if method.parameter == "":
        return None, None
    n = told_n if told_n > 1 else run.n
    return n, 1 / (n - 1) if n is not None and n > 1 else told_beta or None


def strengths(runs: list[Run]) -> list[str]:
    """Of each run in words: N or beta and, where several configurations of a method share it, what else differs."""
    texts = [parameter_text(*strength_of(run, run.final)) for run in runs]
    configs = recipes(runs)
    by_method: dict[str, list[int]] = {}
    for at, run in enumerate(runs):
        by_method.setdefault(method_key(run), []).append(at)
    for members in by_method.values():
        if len({texts[at] for at in members}) == len({repr(sorted(configs[at].items())) for at in members}):
            continue
        keys = [key for key in differing([configs[at] for at in members]) if key not in STRENGTH_KEYS]
        usual = {key: Counter(show(configs[at].get(key)) for at in members).most_common(1)[0][0] for key in keys}
        for at in members:
            values = {key: show(configs[at].get(key)) for key in keys}
            if len(keys) > MAX_KEYS:  # what sets this one apart from most
                values = {key: value for key, value in values.items() if value != usual[key]}
            more = [f"{key.rpartition('.')[2]} = {value}" for key, value in list(values.items())[:MAX_KEYS]]
            texts[at] = ", ".join([texts[at], *more] if texts[at] else more)
    return texts


def group_labels(groups: list[list[Run]]) -> list[str]:
    """Of runs by configuration: the method, its strength where the method has several groups, and the name of a run
    where even that does not tell two apart."""
    firsts = [group[0] for group in groups]
    methods = [method_of(method_key(run)).label for run in firsts]
    labels = [method if methods.count(method) == 1 else f"{method}, {strength}".rstrip(", ")
              for method, strength in zip(methods, strengths(firsts))]  # fmt: skip
    return [label if labels.count(label) == 1 else run.name for label, run in zip(labels, firsts)]


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
