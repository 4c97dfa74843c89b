"""HTML from values: every text is escaped unless it is Html already, so that nothing in a file can become markup.

The page is one file: images are data URIs, the style is inline, and its own policy forbids scripts and other resources.
"""

import re
from html import escape
from importlib import resources
from typing import Any

from .tabular import Cell, Column, Table, shown


class Html(str):
    """Text that is markup already. Only this module makes it."""


def el(name: str, /, *children: Any, **attributes: Any) -> Html:
    """<name ...>children</name>; None is left out, lists are flattened; `cls` stands for class, `_` for `-`."""
    return Html(f"<{name}{_attributes(attributes)}>{''.join(_flat(children))}</{name}>")


def join(*children: Any) -> Html:
    return Html("".join(_flat(children)))


def void(name: str, /, **attributes: Any) -> Html:
    """<name ...>, an element that holds nothing."""
    return Html(f"<{name}{_attributes(attributes)}>")


def image(data_uri: str, alt: str, **attributes: Any) -> Html:
    return void("img", src=data_uri, alt=alt, **attributes)


def table(head: list[Any], rows: list[tuple[str, list[Any]]], cls: str) -> Html:
    """`rows`: (class, cells), the first cell names the row. Wide tables scroll inside their box."""
    header = el("tr", [el("th", cell, scope="col") for cell in head])
    body = [_table_row(kind, cells) for kind, cells in rows]
    return el("div", el("table", el("thead", header), el("tbody", body), cls=cls), cls="scroll", tabindex="0")


def table_of(made: Table, cls: str = "numbers", keys: dict[str, Any] | None = None) -> Html:
    """A table of tabular.py with its notes; `keys`: what stands for a text of the first column."""
    is_text = [all(isinstance(row[at], str | bool | None) for row in made.rows) for at in range(len(made.columns))]
    head = [el("th", column.title, scope="col", cls="text" if text else "")
            for column, text in zip(made.columns, is_text)]  # fmt: skip
    body = []
    for row in made.rows:
        first = (keys or {}).get(str(row[0]), _cell(row[0], made.columns[0]))
        cells = [el("td", _cell(cell, column), cls="text" if text else "")
                 for cell, column, text in zip(row[1:], made.columns[1:], is_text[1:])]  # fmt: skip
        body.append(el("tr", el("th", first, scope="row"), cells))
    whole = el("table", el("thead", el("tr", head)), el("tbody", body), cls=cls)
    return join(el("div", whole, cls="scroll", tabindex="0"), [el("p", note, cls="note") for note in made.notes])


def minus(text: str) -> str:
    """With a minus sign for the hyphens, and none before a zero."""
    return re.sub(r"-(?=0\.0*(?![0-9]))", "", text).replace("-", "−")


def _cell(cell: Cell, column: Column) -> Html:
    """An interval stands below its value."""
    text = shown(cell, column)
    if isinstance(cell, str):
        return join(text)
    value, _, interval = text.partition(" [")
    return join(minus(value), el("span", minus(interval.rstrip("]").replace(", ", " to ")), cls="error")
                if interval else None)  # fmt: skip


def section(title: str, *children: Any, note: Any = None) -> Html:
    return el("section", el("h2", title), el("p", note, cls="note") if note else None, *children)


def document(title: str, *children: Any, rules: str = "") -> str:
    """`rules`: further CSS, of our own making: nothing in it may come from a file."""
    style = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = join(
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        el("title", title),
        Html(f"<style>\n{style}{rules}</style>"),
    )
    return f'<!DOCTYPE html>\n<html lang="en">\n{el("head", head)}\n{el("body", el("main", *children))}\n</html>\n'


def _table_row(kind: str, cells: list[Any]) -> Html:
    return el("tr", el("th", cells[0], scope="row"), [el("td", cell) for cell in cells[1:]], cls=kind)


def _attributes(attributes: dict[str, Any]) -> str:
    named = ((("class" if name == "cls" else name.replace("_", "-")), value) for name, value in attributes.items())
    return "".join(f' {name}="{escape(str(value))}"' for name, value in named if value not in (None, ""))


def _flat(children: Any) -> list[str]:
    if children is None:
        return []
    if isinstance(children, list | tuple):
        return [text for child in children for text in _flat(child)]
    return [children if isinstance(children, Html) else escape(str(children))]
