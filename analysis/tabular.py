"""A table that is written twice: as Markdown for people and as CSV, with every digit, for programs."""

import csv
import io
import math
import re
from dataclasses import dataclass, field

from .stats import Figure

Cell = str | int | float | bool | Figure | None
NOTHING = "–"
HTML = re.compile(r"<(?=[A-Za-z/!?])|&(?=[A-Za-z#])")  # where they begin a tag or an entity
MARKUP = re.compile(r"[\\`*|~]|(?<!\w)_|_(?!\w)|(?<=\])[(\[:]")  # of Markdown; "a_b" and "[a]" are none


@dataclass(frozen=True)
class Column:
    """`key`: its name in CSV, where an interval takes columns of its own (key_se, key_low, key_high). `digits` after
    the point; None: as many as are needed. `percent`: shares are shown times 100 (CSV keeps the share)."""

    key: str
    title: str
    digits: int | None = 3
    percent: bool = False


@dataclass
class Table:
    columns: list[Column]
    rows: list[list[Cell]] = field(default_factory=list)
    title: str = ""
    notes: list[str] = field(default_factory=list)

    def to_markdown(self) -> str:
        """Cells are padded, so that it can be read as it is too."""
        cells = [[escape_markdown(shown(cell, column)) for cell, column in zip(row, self.columns)] for row in self.rows]
        head = [escape_markdown(column.title) for column in self.columns]
        is_text = [all(isinstance(row[at], str | bool | None) for row in self.rows) for at in range(len(head))]
        widths = [max(3, *(len(row[at]) for row in [head, *cells])) for at in range(len(head))]
        rule = ["-" * width if text else "-" * (width - 1) + ":" for text, width in zip(is_text, widths)]
        lines = [_line(row, widths, is_text) for row in [head, rule, *cells]]
        parts = [f"**{escape_markdown(self.title)}**\n"] if self.title else []
        parts.append("\n".join(lines) + "\n")
        parts += [f"{escape_markdown(note)}\n" for note in self.notes]
        return "\n".join(parts)

    def to_csv(self) -> str:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        spread = [self._is_spread(at) for at in range(len(self.columns))]
        writer.writerow([name for column, wide in zip(self.columns, spread) for name in _names(column.key, wide)])
        for row in self.rows:
            writer.writerow([value for cell, wide in zip(row, spread) for value in _values(cell, wide)])
        return buffer.getvalue()

    def _is_spread(self, at: int) -> bool:
        return any(isinstance(row[at], Figure) and row[at].se is not None for row in self.rows)


def shown(cell: Cell, column: Column) -> str:
    """For people: "0.672 [0.650, 0.694]"."""
    if isinstance(cell, Figure):
        value = _number(cell.value, column)
        if cell.low is None or cell.high is None or not math.isfinite(cell.value):
            return value
        return f"{value} [{_number(cell.low, column)}, {_number(cell.high, column)}]"
    if cell is None:
        return NOTHING
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return _number(cell, column)
    return str(cell)


def escape_markdown(text: str) -> str:
    """One line in which nothing is markup."""
    text = HTML.sub(lambda found: {"<": "&lt;", "&": "&amp;"}[found[0]], MARKUP.sub(r"\\\g<0>", text))
    return " ".join(text.split())


def _number(value: float, column: Column) -> str:
    if not math.isfinite(value):
        return NOTHING
    value, mark = (100 * value, "%") if column.percent else (value, "")
    text = f"{value:.6g}" if column.digits is None else f"{value:.{column.digits}f}"
    return (text[1:] if text.strip("-0.") == "" and text.startswith("-") else text) + mark


def _line(row: list[str], widths: list[int], is_text: list[bool]) -> str:
    cells = [cell.ljust(width) if text else cell.rjust(width) for cell, width, text in zip(row, widths, is_text)]
    return f"| {' | '.join(cells)} |"


def _names(key: str, is_spread: bool) -> list[str]:
    return [key, f"{key}_se", f"{key}_low", f"{key}_high"] if is_spread else [key]


def _values(cell: Cell, is_spread: bool) -> list[object]:
    one = cell if isinstance(cell, Figure) else Figure(cell) if isinstance(cell, float) else None
    if one is None:
        first: object = "" if cell is None else str(cell).lower() if isinstance(cell, bool) else cell
        return [first, "", "", ""] if is_spread else [first]
    values = [one.value, one.se, one.low, one.high] if is_spread else [one.value]
    return ["" if value is None or not math.isfinite(value) else repr(float(value)) for value in values]
