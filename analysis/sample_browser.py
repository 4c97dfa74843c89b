"""Samples by prompt and method, a part of a page that needs no script: hidden radio buttons say which prompt and which
view is shown; rules of CSS, made here for as many of them as there are, show it.
"""

from dataclasses import dataclass

from .page import Html, el, minus, void
from .render import ending
from .samples import Comparison, Sample

LIST_CHARACTERS, HEADING_CHARACTERS, START_CHARACTERS = 64, 600, 48
PRINTED = 8  # prompts


@dataclass
class View:
    """`runs`: of whom it shows samples, in this order; `shows`: the samples of the pool come before them."""

    title: Html | str
    runs: list[str]
    note: str = ""


def browser(found: list[Comparison], views: list[View], titles: dict[str, Html], are_texts: bool) -> Html:
    """`titles` of samples by run; those of the pool have their own."""
    prompts = [f"prompt-{at}" for at in range(len(found))]
    shows = [f"view-{at}" for at in range(len(views))]
    buttons = [_radio("prompt", name, at == 0, found[at].prompt) for at, name in enumerate(prompts)]
    buttons += [_radio("view", name, at == 0, f"view {at + 1}") for at, name in enumerate(shows)]
    tabs = [el("label", view.title, **{"for": name}) for name, view in zip(shows, views)]
    entries = [el("label", _start(one.prompt, LIST_CHARACTERS), **{"for": name}, title=one.prompt[:HEADING_CHARACTERS])
               for name, one in zip(prompts, found)]  # fmt: skip
    notes = [el("p", view.note, cls=f"note {name}") for name, view in zip(shows, views) if view.note]
    cards = [_prompt(name, one, views, shows, titles, are_texts) for name, one in zip(prompts, found)]
    return el("div", buttons, el("div", tabs, cls="tabs"), el("div", notes, cls="notes"),
              el("div", el("div", entries, cls="prompts"), el("div", cards, cls="cards"), cls="reading"),
              cls="browser")  # fmt: skip


def rules(num_prompts: int, num_views: int) -> str:
    """CSS for so many of them."""
    lines = [".browser .cards > article, .browser .cards .view, .browser .notes > p { display: none; }"]
    for at in range(num_prompts):
        lines += [
            _shown(f"prompt-{at}", f".reading .cards > .prompt-{at}", "block"),
            *_marked(f"prompt-{at}", ".reading"),
        ]
    for at in range(num_views):
        lines += [_shown(f"view-{at}", f".reading .cards .view-{at}", "grid"), *_marked(f"view-{at}", ".tabs"),
                  _shown(f"view-{at}", f".notes > .view-{at}", "block")]  # fmt: skip
    lines.append(f"@media print {{ .browser .cards > article:nth-child(-n+{PRINTED}) {{ display: block; }} }}")
    return "\n".join(lines) + "\n"


def _shown(button: str, what: str, how: str) -> str:
    return f"#{button}:checked ~ {what} {{ display: {how}; }}"


def _marked(button: str, inside: str) -> list[str]:
    """The label of the button that is chosen, and of the one that the keyboard is at."""
    label = f'~ {inside} label[for="{button}"]'
    return [f"#{button}:checked {label} {{ background: #e9eef5; color: #000; }}",
            f"#{button}:focus-visible {label} {{ outline: 2px solid #0072b2; }}"]  # fmt: skip


def _radio(group: str, name: str, is_first: bool, label: str) -> Html:
    checked = {"checked": "checked"} if is_first else {}
    return void("input", type="radio", name=group, id=name, aria_label=label[:HEADING_CHARACTERS], **checked)


def _prompt(name: str, one: Comparison, views: list[View], shows: list[str], titles: dict[str, Html],
            are_texts: bool) -> Html:  # fmt: skip
    of_pool = [sample for sample in one.samples if not sample.run]
    of_run: dict[str, Sample] = {sample.run: sample for sample in reversed(one.samples) if sample.run}
    start = ending(one.prompt, START_CHARACTERS) if are_texts else ""
    blocks = []
    for show, view in zip(shows, views):
        mine = [of_run[run] for run in view.runs if run in of_run]
        cards = [_card(sample, titles.get(sample.run, sample.title), start) for sample in [*of_pool, *mine]]
        blocks.append(el("div", cards, cls=f"columns view {show}"))
    return el("article", el("h3", ending(one.prompt, HEADING_CHARACTERS)), blocks, cls=f"prompt {name}")


def _card(sample: Sample, title: Html | str, start: str) -> Html:
    figures = f"reward {sample.reward:.2f}"
    figures += f", evaluator {sample.evaluator:.2f}" if sample.evaluator is not None else ""
    figures += "" if sample.finished else ", cut at the length limit"
    return el("div", el("h4", title), el("p", el("span", start, cls="given"), sample.text),
              el("p", minus(figures), cls="figures"), cls="sample")  # fmt: skip


def _start(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rpartition(" ")[0] + " …"
