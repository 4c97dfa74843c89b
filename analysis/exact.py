"""Runs on a model whose every response is listed (eval.exact): distances without sampling error from what theory says
that each method converges to, and best-of-N itself."""

import re
from dataclasses import replace

import numpy as np

from .errors import InputError
from .front_picture import Shares, front_figure
from .output import Output
from .pareto import FRONT_METRICS
from .points import Point, mean_of
from .stats import Figure
from .tabular import Column, Table

PREFIX = "exact."
BON = re.compile(r"exact\.bon_(\d+(?:\.\d+)?)\.kl")
MEASURED = ("kl", "win", "reward")  # in the place of the sampled ones
DISTANCES = {
    "kl_to_optimum": "KL to its optimum",
    "kl_to_target": "KL to best-of-N of its N",
    "kl_to_nearest_bon": "KL to the nearest best-of-N",
    "effective_n": "N of that",
}
NOTE = (
    "Means over prompts and seeds, in nats, with Student's 95% interval over seeds; every response is listed, so that "
    "nothing is sampled in these figures. Optimum: what theory says that the method's objective is best at, over all "
    "policies; –: no such policy is known. best-of-N of its N: or the target that section vbon names in its place."
)


def exact_points(points: list[Point]) -> list[Point]:
    """The same runs with exact figures; those of best-of-N take the place of the pool's."""
    missing = [point.run.name for point in points if PREFIX + "kl" not in point.evaluation.summary]
    if missing:
        raise InputError(f"'{missing[0]}' has no exact figures: evaluate it with eval.exact (a model small enough to list)")
    return [_exact(point) for point in points]


def _exact(point: Point) -> Point:
    summary = point.evaluation.summary
    figures = {name: Figure(summary[PREFIX + name])
               for name in (*MEASURED, *DISTANCES) if np.isfinite(summary.get(PREFIX + name, np.nan))}  # fmt: skip
    n = sorted((float(found[1]) for name in summary if (found := BON.fullmatch(name))))
    bon = {name: np.array([summary[f"{PREFIX}bon_{one:g}.{name}"] for one in n]) for name in MEASURED}
    bon |= {"N": np.array(n), "se": np.full(len(n), np.nan)}
    return replace(point, figures=figures, evaluation=replace(point.evaluation, bon=bon))


def table(points: list[Point]) -> Table:
    """One row a configuration, over its seeds."""
    names = [name for name in ("kl", "win", *DISTANCES) if any(name in point.figures for point in points)]
    titles = {"kl": "KL, nats", "win": "win rate"} | DISTANCES
    columns = [Column("method", "method"), Column("parameter", "strength"), Column("runs", "runs"),
               *(Column(name, titles[name], 2 if name == "effective_n" else 3) for name in names)]  # fmt: skip
    rows: list[list] = []
    for cell in dict.fromkeys(point.cell for point in points):
        mine = [point for point in points if point.cell == cell]
        rows.append([mine[0].label, mine[0].parameter, len(mine), *(mean_of(mine, name) for name in names)])
    return Table(columns, rows, "Exact distances", [NOTE])


def save_picture(points: list[Point], shares: dict[str, Shares], output: Output) -> None:
    with front_figure(points, list(FRONT_METRICS), shares, bon="best-of-N, exact") as made:
        output.figure("exact", made)
