"""HTML from values: every text is escaped unless it is Html already, so that nothing in a file can become markup.

The page is one file: images are data URIs, the style is inline, and its own policy forbids scripts and other resources.
"""

from html import escape
from importlib import resources
from typing import Any


class Html(str):
    """Text that is markup already. Only this module makes it."""


def el(name: str, *children: Any, **attributes: Any) -> Html:
    """<name ...>children</name>; None is left out, lists are flattened; `cls` stands for class, `_` for `-`."""
    return Html(f"<{name}{_attributes(attributes)}>{''.join(_flat(children))}</{name}>")


def join(*children: Any) -> Html:
    return Html("".join(_flat(children)))


def image(data_uri: str, alt: str, **attributes: Any) -> Html:
    return Html(f"<img{_attributes({'src': data_uri, 'alt': alt} | attributes)}>")


def table(head: list[Any], rows: list[tuple[str, list[Any]]], cls: str) -> Html:
    """`rows`: (class, cells), the first cell names the row. Wide tables scroll inside their box."""
    header = el("tr", [el("th", cell, scope="col") for cell in head])
    body = [_table_row(kind, cells) for kind, cells in rows]
    return el("div", el("table", el("thead", header), el("tbody", body), cls=cls), cls="scroll", tabindex="0")


def section(title: str, *children: Any, note: Any = None) -> Html:
    return el("section", el("h2", title), el("p", note, cls="note") if note else None, *children)


def document(title: str, *children: Any) -> str:
    style = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = join(
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        el("title", title),
        Html(f"<style>\n{style}</style>"),
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
