"""The report of a sweep as HTML: the Pareto picture and the table first, then samples by prompt and method, curves,
times and configurations. Values come from sweep_view.py.
"""

from typing import Any

from . import overview, pareto
from .front_picture import SHORT, front_figure, measured
from .groups import flatten, show
from .learning_picture import curves_figure
from .methods import method_of
from .page import Html, document, el, image, join, section, table_of
from .plots import data_uri, save_figure
from .points import Point, methods_of
from .render import swatch
from .sample_browser import View, browser, rules
from .step_times import table as time_table
from .sweep_view import SweepView, runs_by_method
from .tabular import Column, Table

WRAPPED = "numbers wrapped"
ABOUT_FRONT = (
    "A point a run, with 95% intervals over prompts. Faint: another run of the same method has at most its KL and at "
    "least its value. Dark edge: on the front of all runs. Best-of-N needs N samples an answer, the others one."
)
ABOUT_SAMPLES = (
    "Held-out prompts, evenly spread over the evaluated ones. Reference: the pool's first sample. Best of N: of its "
    "first N, where N has the median KL of the runs. Policies: their first sample, of the first seed. None is picked "
    "by hand."
)
ABOUT_CURVES = "Training samples of each step: means over seeds, with the range of the seeds behind."


def render_sweep(view: SweepView) -> str:
    """The whole page."""
    keys = methods_of(view.points)
    looks = {method_of(key).label: _key(at, key) for at, key in enumerate(keys)}
    views = _views(view, looks)
    return document(
        f"vbon: sweep {view.name}",
        _head(view),
        _front(view, looks),
        _configurations(view, looks),
        _samples(view, views, looks),
        _curves(view),
        _times(view),
        _settings(view),
        rules=rules(len(view.samples), len(views)) + _swatches(keys),
    )


def _key(at: int, key: str) -> Html:
    """A method's name with its swatch."""
    return el("span", method_of(key).label, cls=f"key-{at}")


def _swatches(keys: list[str]) -> str:
    """Each image once, however often its method is named."""
    return "".join(f'.key-{at}::before {{ content: url("{swatch(method_of(key).look)}"); margin-right: 7px; }}\n'
                   for at, key in enumerate(keys))  # fmt: skip


def save_front(view: SweepView, path: str, kind: str) -> None:
    """The picture of the page as a file of its own."""
    with front_figure(view.points, list(pareto.FRONT_METRICS), view.shares) as made:
        save_figure(made, path, kind)


def verdict(view: SweepView, metric: str) -> str:
    """Who stands on the front, in one sentence."""
    found = sorted(view.shares[metric].items(), key=lambda item: -item[1][0].value)
    parts = []
    for key, (share, _) in found:
        if share.value > 0:
            interval = (
                f" ({share.low:.0%} to {share.high:.0%})" if share.low is not None and share.high is not None else ""
            )
            parts.append(f"{method_of(key).label} {share.value:.0%}{interval}")
    return f"Of the front of KL and {SHORT[metric]}: {', '.join(parts)}."


def _head(view: SweepView) -> Html:
    final, methods = view.points[0].evaluation, methods_of(view.points)
    seeds = sorted({point.seed for point in view.points if point.seed is not None})
    count = len({point.cell for point in view.points})
    text = (
        f"{_count(len(view.points), 'run')} of {_count(len(methods), 'method')} in {_count(count, 'configuration')}, "
        f"evaluated on {len(final.win)} held-out prompts × {final.num_samples} samples."
    )
    pool = f"M = {view.pool.m} samples a prompt" if view.pool is not None else None
    first = view.points[0].run
    facts = [("seeds", ", ".join(map(str, seeds))), ("sampling", overview.sampling(first.config)), ("pool", pool),
             ("made by", overview.versions(first.provenance)), ("written", _when(view))]  # fmt: skip
    box = el("div", el("strong", "Note"), el("ul", [el("li", note) for note in view.notes]), cls="warnings")
    return join(
        el("h1", "vbon: sweep ", view.name),
        el("p", text, cls="lead"),
        [el("p", verdict(view, metric), cls="lead") for metric in pareto.FRONT_METRICS if len(methods) > 1],
        box if view.notes else None,
        el("dl", [join(el("dt", name), el("dd", value)) for name, value in facts if value], cls="facts"),
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number != 1 else "")


def _when(view: SweepView) -> str:
    times = sorted(point.evaluation.provenance.created_utc for point in view.points)
    return times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}"


def _front(view: SweepView, looks: dict[str, Html]) -> Html:
    figures = []
    for metrics in (list(pareto.FRONT_METRICS), ["evaluator"]):
        if set(metrics) <= set(measured(view.points)):
            with front_figure(view.points, metrics, view.shares) as made:
                alt = f"KL against {' and '.join(SHORT[metric] for metric in metrics)} of every run"
                figures.append(el("figure", image(data_uri(made), alt), cls="wide" if len(metrics) > 1 else "picture"))
    shares = table_of(pareto.share_table(view.points, view.shares), WRAPPED, looks)
    more = el("details", el("summary", "By the evaluator, never trained on"), figures[1]) if figures[1:] else None
    return section("KL, win rate and reward", figures[0], more, shares, note=ABOUT_FRONT)


def _configurations(view: SweepView, looks: dict[str, Html]) -> Html:
    runs = table_of(pareto.run_table(view.points), WRAPPED, looks)
    table = table_of(pareto.configuration_table(view.points), WRAPPED, looks)
    return section("Configurations", table, el("details", el("summary", f"All {len(view.points)} runs"), runs))


def _views(view: SweepView, looks: dict[str, Html]) -> list[View]:
    """All methods at one KL, then each method's configurations."""
    by_method = runs_by_method(view)
    note = f"Of each method the configuration whose KL is nearest to {view.alike_kl:.3g} nats, the median of all."
    alike = View(f"all methods, KL ≈ {view.alike_kl:.2g}", [point.run.name for point in view.alike], note)
    own = [View(looks[method_of(key).label], [point.run.name for point in points]) for key, points in by_method.items()]
    return [alike, *own] if len(own) > 1 else own


def _samples(view: SweepView, views: list[View], looks: dict[str, Html]) -> Html | None:
    if not view.samples:
        return None
    titles = {point.run.name: _title(point, looks[point.label]) for point in view.points}
    return section("Samples", browser(view.samples, views, titles, view.are_texts), note=ABOUT_SAMPLES)


def _title(point: Point, key: Html) -> Html:
    return join(key, el("span", f" {point.parameter}, KL {point.mean('kl'):.2f}", cls="plain"))


def _curves(view: SweepView) -> Html | None:
    if not view.metrics:
        return None
    with curves_figure(view.series, view.metrics) as made:
        return section(
            "Training", el("figure", image(data_uri(made), "Learning curves"), cls="wide"), note=ABOUT_CURVES
        )


def _times(view: SweepView) -> Html | None:
    return section("Time of a step", table_of(time_table(view.times), WRAPPED)) if view.times else None


def _settings(view: SweepView) -> Html:
    """What differs as a table, what all have in common as a list."""
    flat = [flatten(point.run.config) for point in view.points]
    columns = [Column("run", "run"), *(Column(key, key) for key in view.keys)]
    rows: list[list[Any]] = [[point.run.name, *(show(one.get(key)) for key in view.keys)]
                             for point, one in zip(view.points, flat)]  # fmt: skip
    common = [f"{key}: {show(value)}" for key, value in flat[0].items()
              if all(key in one and repr(one[key]) == repr(value) for one in flat)]  # fmt: skip
    return section(
        "Settings",
        el("details", el("summary", f"What differs ({len(view.keys)} keys)"), table_of(Table(columns, rows), "words")),
        el(
            "details", el("summary", f"What all runs have in common ({len(common)} keys)"), el("pre", "\n".join(common))
        ),
    )
