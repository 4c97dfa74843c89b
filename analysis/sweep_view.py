"""Everything that the report of a sweep shows, computed."""

from dataclasses import dataclass
from pathlib import Path

from .front_picture import Shares
from .groups import differing, recipes
from .io import Pool
from .learning import Series, chosen_metrics, series_of
from .methods import method_of
from .pareto import all_shares
from .points import Point, methods_of, points_of, pool_notes, require_one_setting
from .runs import Run, attach_pool, decoders_of
from .samples import Comparison, compare, one_a_method
from .selection import has_metrics
from .shown import Shown
from .stats import n_of_kl
from .step_times import Group, groups_of
from .tables import PoolView, view_of

NUM_PROMPTS = 24  # to read samples of
MAX_CURVES = 6


@dataclass
class SweepView:
    name: str
    runs: list[Run]
    notes: list[str]
    points: list[Point]
    shares: dict[str, Shares]
    pool: PoolView | None  # of the first run
    samples: list[Comparison]  # of the first seed of every configuration
    are_texts: bool
    alike: list[Point]  # of each method the one whose KL is nearest to `alike_kl`
    alike_kl: float
    series: list[Series]
    metrics: list[str]
    times: list[Group]
    keys: list[str]  # in which the configurations differ


def view_sweep(name: str, runs: list[Run], notes: list[str], pool: Path | None, tokenizer: Path | None) -> SweepView:
    points = points_of(runs)
    require_one_setting(points)
    first_seeds = list({point.cell: point for point in reversed(points)}.values())[::-1]
    first = first_seeds[0].run
    cache: dict[Path, Pool] = {}
    attach_pool(first, pool, cache)
    view = view_of(first)
    shown = [Shown(point.run, view if point.run is first else None, [], method_of(point.method).look)
             for point in first_seeds]  # fmt: skip
    decoders = decoders_of([one.run for one in shown], tokenizer)
    alike, kl = one_a_method(first_seeds, None)
    measured = [run for run in runs if has_metrics(run)]
    told = [*notes, *pool_notes(points), *dict.fromkeys(note for point in first_seeds for note in point.run.notes)]
    return SweepView(
        name=name,
        runs=runs,
        notes=told,
        points=points,
        shares=all_shares(points),
        pool=view,
        samples=compare(shown, decoders, NUM_PROMPTS, n=float(n_of_kl(kl))),
        are_texts=all(decoders),
        alike=alike,
        alike_kl=kl,
        series=series_of(measured) if measured else [],
        metrics=chosen_metrics(measured, None)[:MAX_CURVES] if measured else [],
        times=[group for group in groups_of(measured) if any(group.runs)],
        keys=differing(recipes(runs)),
    )


def runs_by_method(view: SweepView) -> dict[str, list[Point]]:
    """The first seed of every configuration, by KL."""
    chosen = {point.cell: point for point in reversed(view.points)}.values()
    return {key: sorted((point for point in chosen if point.method == key), key=lambda point: point.mean("kl"))
            for key in methods_of(view.points)}  # fmt: skip
