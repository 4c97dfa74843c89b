"""Tables as Markdown and as CSV."""

import csv
import io

import numpy as np
import pytest

from analysis.stats import Figure
from analysis.tabular import Column, Table, escape_markdown

TABLE = Table(
    [Column("name", "name"), Column("win", "win rate", 2), Column("share", "share", 0, percent=True), Column("n", "N")],
    [["a|b", Figure(0.12345, 0.01, 0.1, 0.15), 0.5, 3], ["c, \"d\"", Figure(np.nan), None, None],
     [None, 0.25, Figure(-0.0001), True]],
    "a *title*",
    ["A <note>."],
)  # fmt: skip


def test_markdown_has_padded_cells_intervals_and_notes() -> None:
    lines = TABLE.to_markdown().split("\n")
    assert lines[0] == r"**a \*title\***" and lines[-2] == "A &lt;note>."
    assert lines[2] == "| name   |          win rate | share |   N |" and lines[3].startswith("| ------ | ----")
    assert lines[4] == r"| a\|b   | 0.12 [0.10, 0.15] |   50% |   3 |"
    assert lines[5] == '| c, "d" |                 – |     – |   – |'
    assert lines[6] == "| –      |              0.25 |    0% | yes |"


def test_csv_keeps_every_digit_and_spreads_intervals() -> None:
    rows = list(csv.DictReader(io.StringIO(TABLE.to_csv())))
    assert list(rows[0]) == ["name", "win", "win_se", "win_low", "win_high", "share", "n"]
    assert rows[0]["name"] == "a|b" and float(rows[0]["win"]) == 0.12345 and float(rows[0]["win_high"]) == 0.15
    assert rows[1]["name"] == 'c, "d"' and rows[1]["win"] == "" and rows[1]["share"] == ""
    assert float(rows[2]["win"]) == 0.25 and rows[2]["win_se"] == "" and float(rows[2]["share"]) == -0.0001
    assert rows[2]["n"] == "true"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b c", "a_b c"), ("_a_", r"\_a\_"), ("a*b", r"a\*b"), ("x\ny|z", r"x y\|z"),
        ("<b>&amp; a < b & c", "&lt;b>&amp;amp; a < b & c"),
        ("[0.1, 0.2]", "[0.1, 0.2]"), ("[a](b)", r"[a]\(b)"), ("\\`~", "\\\\\\`\\~"),
    ],
)  # fmt: skip
def test_texts_cannot_become_markup(text: str, expected: str) -> None:
    assert escape_markdown(text) == expected
