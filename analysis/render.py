"""The sections of a report as HTML. Values come from the other modules; nothing is computed here."""

from . import overview
from .cdf import draw_distribution
from .curves import draw_curves
from .decode import Decoder
from .page import Html, document, el, image, join, minus, section, table
from .picture import draw_picture
from .plots import Look, data_uri, figure
from .samples import Comparison, Sample, compare
from .shown import Shown
from .stats import Figure
from .tables import COLUMNS, Row
from .timing import MAX_RANKS, draw_times, times_of

HEADINGS = {
    "kl": "KL, nats",
    "win": "win rate",
    "efficiency": "efficiency",
    "reward": "reward",
    "evaluator": "evaluator",
    "length": "length",
    "finished": "finished",
}
DIGITS = {"length": 1, "finished": 2}
REWARDS = {"main": "the reward that was trained on", "evaluator": "the evaluator, never trained on"}
PROMPT_SHOWN, HEADING_SHOWN = 48, 400  # characters of a prompt before each of its samples, and above all of them
ABOUT_TABLE = (
    "Means over prompts ± standard error, below them 95% intervals (bootstrap over prompts). Win rate: against the "
    "pool's reference samples, ties half. Efficiency: (win rate − ½) over that of best-of-N at the same KL, where "
    "KL = log N − (N−1)/N and the win rate is N/(N+1) with real N. Figures without an error are exact by "
    "definition; the analytic ones are upper bounds where rewards tie."
)
ABOUT_SAMPLES = (
    "Held-out prompts, evenly spread over the evaluated ones: the first sample of the pool, the best of its first N, "
    "and the first of the policy. None is picked by hand."
)


def render(shown: list[Shown], decoders: list[Decoder | None]) -> str:
    """The whole page."""
    return document(
        f"vbon: {', '.join(one.run.name for one in shown)}",
        _head(shown),
        _comparison(shown),
        _distributions(shown),
        _curves(shown),
        _samples(compare(shown, decoders), all(decoders)),
        _times(shown),
        _configurations(shown),
    )


def run_key(one: Shown) -> Html:
    """The run's name with its colour, dash and marker."""
    return named(one.look, one.run.name)


def named(look: Look, name: str) -> Html:
    """A name with a swatch before it."""
    return el("span", image(swatch(look), "", cls="swatch"), name)


def swatch(look: Look) -> str:
    """Data URI of a piece of line with its marker."""
    with figure(0.36, 0.14) as (made, axes):
        made.set_layout_engine("none")
        made.patch.set_alpha(0)
        axes.set_position((0.02, 0.0, 0.96, 1.0))
        axes.plot([0, 1, 2], [0, 0, 0], color=look.colour, linestyle=look.dash)
        axes.plot([1], [0], **look.points(6))
        axes.set_axis_off()
        return data_uri(made)


def number_cell(found: Figure | None, digits: int) -> Html:
    """The value, its standard error, and its interval below."""
    if found is None:
        return join("–")
    value = f"{found.value:.{digits}f}" + (f" ± {found.se:.{digits}f}" if found.se is not None else "")
    if found.low is None or found.high is None:
        return join(minus(value))
    return join(minus(value), el("span", minus(f"{found.low:.{digits}f} to {found.high:.{digits}f}"), cls="error"))


def ending(text: str, length: int) -> str:
    """The last words of a long text."""
    return text if len(text) <= length else "… " + text[-length:].partition(" ")[2]


def _head(shown: list[Shown]) -> Html:
    """One run: verdict, warnings, facts. Several: what they have in common once, the rest as a table."""
    several = len(shown) > 1
    parts: list[object] = [el("h1", "vbon: ", ", ".join(one.run.name for one in shown))]
    for one in shown:
        verdict, found = overview.verdict(one), overview.warnings(one)
        name = [run_key(one), ": "] if several else None
        box = el("div", el("strong", "Note"), el("ul", [el("li", text) for text in found]), cls="warnings")
        parts += [el("p", name, verdict or "not evaluated yet.", cls="lead"), box if found else None]
    facts = [dict(overview.facts(one)) for one in shown]
    names = list(dict.fromkeys(name for one in facts for name in one))
    common = [name for name in names if len({str(one.get(name)) for one in facts}) == 1]
    differing = [name for name in names if name not in common]
    rows = [("", [run_key(one), *(fact.get(name, "–") for name in differing)]) for one, fact in zip(shown, facts)]
    parts.append(el("dl", [join(el("dt", name), el("dd", facts[0][name])) for name in common], cls="facts"))
    parts.append(table(["run", *differing], rows, cls="words") if several and differing else None)
    return join(*parts)


def _comparison(shown: list[Shown]) -> Html | None:
    if not any(one.rows for one in shown):
        return None
    alt = "KL against win rate: the runs beside best-of-N, analytic and from the pool"
    is_evaluated = any(one.run.final for one in shown)
    picture = el("figure", image(draw_picture(shown), alt), cls="picture") if is_evaluated else None
    return section("KL and win rate", picture, _table(shown), note=ABOUT_TABLE)


def _table(shown: list[Shown]) -> Html:
    """Rows that runs share (the reference, BoN of one N and pool) once."""
    columns = [name for name in COLUMNS if any(name in row.figures for one in shown for row in one.rows)]
    rows: list[tuple[str, list[object]]] = []
    seen: set[object] = set()
    for one in shown:
        pool = one.view.pool.path if one.view else one.run.path
        for row in one.rows:
            key = (row.kind, row.n, None if row.kind == "bon_analytic" else pool)
            if row.kind == "policy" or key not in seen:
                cells = [number_cell(row.figures.get(name), DIGITS.get(name, 3)) for name in columns]
                rows.append((row.kind, [_row_name(row, one, len(shown) > 1), *cells]))
            seen.add(key)
    return table(["", *(HEADINGS[name] for name in columns)], rows, cls="numbers")


def _row_name(row: Row, one: Shown, several: bool) -> object:
    if row.kind == "policy":
        return run_key(one) if several else "policy, one sample"
    n = f"{row.n:.3g}" if row.n is not None else "N"
    return {"bon": f"best of {n}, from the pool", "bon_analytic": f"best of {n}, analytic"}.get(row.kind, row.kind)


def _distributions(shown: list[Shown]) -> Html | None:
    drawn = [(title, draw_distribution(shown, name, title)) for name, title in REWARDS.items()]
    figures = [el("figure", image(uri, f"Distribution before and after: {title}")) for title, uri in drawn if uri]
    note = "Held-out prompts. Before: the pool's reference samples. After: samples of the policy."
    return section("Rewards before and after", el("div", figures, cls="pair"), note=note) if figures else None


def _curves(shown: list[Shown]) -> Html | None:
    groups = draw_curves(shown)
    if not groups:
        return None
    parts: list[object] = [el("p", [run_key(one) for one in shown], cls="key") if len(shown) > 1 else None]
    for name, panels in groups.items():
        drawn = [el("figure", image(uri, f"{title} over the steps")) for title, uri in panels]
        parts += [el("h3", name), el("div", drawn, cls="panels")]
    note = "Lines: training samples of each step. Open marks: evaluations on held-out prompts, with 95% intervals."
    return section("Training", *parts, note=note)


def _samples(found: list[Comparison], are_texts: bool) -> Html | None:
    cards = []
    for one in found:
        start = ending(one.prompt, PROMPT_SHOWN)
        columns = el("div", [_sample(sample, start if are_texts else "") for sample in one.samples], cls="columns")
        cards.append(el("article", el("h3", ending(one.prompt, HEADING_SHOWN)), columns, cls="prompt"))
    return section("Samples", el("div", cards, cls="samples"), note=ABOUT_SAMPLES) if cards else None


def _sample(sample: Sample, start: str) -> Html:
    figures = f"reward {sample.reward:.3f}"
    figures += f", evaluator {sample.evaluator:.3f}" if sample.evaluator is not None else ""
    figures += "" if sample.finished else ", cut at the length limit"
    text = el("p", el("span", start, cls="given"), sample.text)
    return el("div", el("h4", sample.title), text, el("p", minus(figures), cls="figures"), cls="sample")


def _times(shown: list[Shown]) -> Html | None:
    parts = []
    for one in shown:
        times, metrics = times_of(one.run.metrics), one.run.metrics
        if times is None or metrics is None:
            continue
        text = f"{metrics.tokens[-1]:,} new tokens in {metrics.episodes[-1]:,} samples, {times.seconds:,.0f} s"
        text += f": {times.tokens_per_s:,.0f} tokens/s with all phases and waits." if times.tokens_per_s else "."
        if len(times.roles) > MAX_RANKS:
            text += f" The first {MAX_RANKS} of {len(times.roles)} ranks are drawn."
        if times.sampling:
            by_rank = ", ".join(f"rank {rank}: {speed:,.0f}" for rank, speed in list(times.sampling.items())[:8])
            text += f" Median tokens/s as ranks measured them: {by_rank}."
        name = el("h3", run_key(one)) if len(shown) > 1 else None
        bars = image(draw_times(times), f"Seconds a phase of every rank of {one.run.name}")
        parts.append(el("figure", name, bars, el("figcaption", text), cls="picture"))
    return section("Time by role", *parts) if parts else None


def _configurations(shown: list[Shown]) -> Html:
    parts = [
        el("details", el("summary", f"{one.run.name}: config.yaml"), el("pre", one.run.config_text)) for one in shown
    ]
    return section("Configuration", *parts)
