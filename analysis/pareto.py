"""Which runs give the most for their KL: the table of all runs, the share of each method, and the pictures."""

import numpy as np

from .front import pareto_front, share_figures
from .front_picture import SHORT, Shares, bon_curves, front_figure, measured
from .methods import method_of
from .output import Output
from .points import TITLES, Point, mean_of, methods_of
from .tabular import Column, Table

FRONT_METRICS = ("win", "reward")
FIGURES = ("kl", "win", "efficiency", "reward", "evaluator")
SEEDS_NOTE = (
    "Intervals of shares: 95% over seeds, by a parametric bootstrap (the runs of each configuration are drawn anew "
    "from the normal distribution with the mean and covariance of its seeds, and the front is found again)."
)


def all_shares(points: list[Point]) -> dict[str, Shares]:
    """By metric."""
    found = {}
    for metric in measured(points):
        kl, value, having = _columns(points, metric)
        found[metric] = share_figures([p.method for p in having], [p.cell for p in having], kl, value)
    return found


def fronts(points: list[Point]) -> dict[str, np.ndarray]:
    """By metric, bool [points]; a run without the metric is on no front."""
    found = {}
    for metric in measured(points):
        kl, value, _ = _columns(points, metric)
        found[metric] = np.zeros(len(points), dtype=bool)
        found[metric][[metric in point.figures for point in points]] = pareto_front(kl, value)
    return found


def _columns(points: list[Point], metric: str) -> tuple[np.ndarray, np.ndarray, list[Point]]:
    having = [point for point in points if metric in point.figures]
    kl, value = (np.array([point.mean(name) for point in having]) for name in ("kl", metric))
    return kl, value, having


def run_table(points: list[Point]) -> Table:
    """One row a run."""
    on_front = fronts(points)
    figures = [name for name in FIGURES if any(name in point.figures for point in points)]
    columns = [Column("method", "method"), Column("N", "N", None), Column("beta", "β", None),
               Column("seed", "seed"), *(Column(name, TITLES[name]) for name in figures),
               *(Column(f"front_{name}", f"front: {SHORT[name]}") for name in on_front),
               Column("run", "run")]  # fmt: skip
    rows = [[point.label, point.n, point.beta, point.seed, *(point.figures.get(name) for name in figures),
             *(bool(found[at]) for found in on_front.values()), point.run.name]
            for at, point in enumerate(points)]  # fmt: skip
    return Table(columns, rows, "KL, win rate and reward of every run", [
        "Means over prompts with 95% intervals (bootstrap over prompts). Win rate: against the pool's reference "
        "samples, ties half. Efficiency: (win rate − ½) over that of best-of-N at the same KL. Front: no other run "
        "has at most this KL and at least this value, and is better in one."])  # fmt: skip


def configuration_table(points: list[Point]) -> Table:
    """One row a configuration, over its seeds; how many of them are on each front."""
    on_front = fronts(points)
    names = [name for name in FIGURES if any(name in point.figures for point in points)]
    columns = [Column("method", "method"), Column("parameter", "strength"), Column("runs", "runs"),
               *(Column(name, TITLES[name]) for name in names),
               *(Column(f"front_{name}", f"on the front: {SHORT[name]}") for name in on_front)]  # fmt: skip
    rows: list[list] = []
    for cell in dict.fromkeys(point.cell for point in points):
        at = [number for number, point in enumerate(points) if point.cell == cell]
        mine = [points[number] for number in at]
        counts = [int(found[at].sum()) for found in on_front.values()]
        rows.append([mine[0].label, mine[0].parameter, len(mine), *(mean_of(mine, name) for name in names),
                     *(f"{count} of {len(mine)}" for count in counts)])  # fmt: skip
    return Table(columns, rows, "KL, win rate and reward of every configuration", [
        "Means over seeds with Student's 95% interval; of one run over prompts, with a bootstrap interval. Win rate: "
        "against the pool's reference samples, ties half. Efficiency: (win rate − ½) over that of best-of-N at the "
        "same KL."])  # fmt: skip


def share_table(points: list[Point], shares: dict[str, Shares]) -> Table:
    """One row a method."""
    counts = {metric: int(found.sum()) for metric, found in fronts(points).items()}
    columns = [Column("method", "method"), Column("runs", "runs"),
               *(column for metric in shares for column in (
                   Column(f"{metric}_share", f"share of the front, {SHORT[metric]}", 0, percent=True),
                   Column(f"{metric}_own", "of its own runs", 0, percent=True)))]  # fmt: skip
    rows = [[method_of(key).label, sum(point.method == key for point in points),
             *(figure for found in shares.values() for figure in found.get(key, (None, None)))]
            for key in methods_of(points)]  # fmt: skip
    points_text = ", ".join(f"{count} by {SHORT[metric]}" for metric, count in counts.items())
    has_intervals = any(one.se is not None for found in shares.values() for pair in found.values() for one in pair)
    notes = [f"Runs on the front: {points_text}. Best-of-N itself and the reference do not count."]
    return Table(columns, rows, "Who stands on the Pareto front", notes + ([SEEDS_NOTE] if has_intervals else []))


def bon_table(points: list[Point]) -> Table | None:
    """Best-of-N from the pools that the runs were compared with."""
    rows: list[list] = []
    for metric in measured(points):
        for pool, curve in enumerate(bon_curves(points, metric), start=1):
            rows += [[SHORT[metric], pool, *row] for row in zip(
                *(column.tolist() for column in (curve.n, curve.kl, curve.value, curve.se)))]  # fmt: skip
    columns = [Column("figure", "figure"), Column("pool", "pool"), Column("N", "N", None), Column("kl", "KL, nats"),
               Column("value", "value"), Column("se", "standard error")]  # fmt: skip
    return Table(columns, rows, "Best-of-N from the pool") if rows else None


def save_pictures(points: list[Point], shares: dict[str, Shares], output: Output, kl_max: float | None) -> None:
    """`pareto`: win rate and reward side by side; and each metric by itself, at the size of one column."""
    with front_figure(points, list(FRONT_METRICS), shares, kl_max) as made:
        output.figure("pareto", made)
    for metric in measured(points):
        with front_figure(points, [metric], shares, kl_max) as made:
            output.figure(f"pareto-{metric}", made)
