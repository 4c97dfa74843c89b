"""How every figure looks, and figures as data URIs: vector graphics, a colour-blind safe palette (Okabe and Ito) with a
marker and a dash of its own for each run, so that a print without colour can be read.
"""

import base64
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195")
MARKERS = ("o", "D", "^", "v", "P", "X", "*")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (7, 2)), (0, (2, 1)), (0, (6, 1, 1, 1, 1, 1)))
PNG_DPI = 200
MAX_COLUMNS, CHARACTER, HANDLE = 7, 0.066, 0.4  # of a legend: columns, inches of a letter and of what stands before it
MAX_BESIDE = 6  # intervals at one place that are drawn beside each other
INK, GREY, FAINT = "#222222", "#6b6b6b", "#e3e3e3"

STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": "#999999",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "axes.formatter.limits": (-3, 5),
    "axes.formatter.useoffset": False,
    "lines.linewidth": 1.5,
    "text.parse_math": False,  # names and texts come from files
    "svg.fonttype": "path",
    "svg.hashsalt": "vbon",
    "figure.dpi": 96,
}


@dataclass(frozen=True)
class Look:
    """Of one run or method, the same in all figures. `size`: of the marker, 1 is usual."""

    colour: str
    marker: str
    dash: object
    is_open: bool = False
    size: float = 1.0

    def points(self, size: float = 7.0) -> dict[str, Any]:
        """How matplotlib draws its markers, without a line."""
        face, edge = ("white", self.colour) if self.is_open else (self.colour, "white")
        width = 1.3 if self.is_open else 0.7
        if self.marker in "_|+x":  # these are nothing but edge
            edge, width = self.colour, 1.6
        return {"marker": self.marker, "linestyle": "", "color": self.colour, "markerfacecolor": face,
                "markeredgecolor": edge, "markeredgewidth": width, "markersize": size * self.size}  # fmt: skip


def look_of(index: int) -> Look:
    return Look(COLOURS[index % 7], MARKERS[index % 7], DASHES[(index + index // 7) % 7])


def short_number(value: float, _: object = None) -> str:
    """Of a tick: 7.5e−5, not 7.5e-05, and no mathematics, which is not parsed here."""
    return re.sub(r"e([+-])0*", lambda found: "e−" if found[1] == "-" else "e", f"{value:g}").replace("-", "−")


@contextmanager
def figure(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure of inches in our style; saved by data_uri() inside of the block."""
    with matplotlib.rc_context(STYLE):
        made = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(made)
        yield made, made.add_subplot()


@contextmanager
def panels(width: float, height: float, rows: int, columns: int, **more: Any) -> Iterator[tuple[Figure, list[Axes]]]:
    """Several panels, row by row; `more`: for matplotlib's subplots (sharex, sharey, ...)."""
    with matplotlib.rc_context(STYLE):
        made = Figure(figsize=(width, height), layout="constrained")
        made.get_layout_engine().set(w_pad=0.06)
        FigureCanvasSVG(made)
        yield made, made.subplots(rows, columns, squeeze=False, **more).ravel().tolist()


def legend_below(made: Figure, handles: list[Any], labels: list[str], columns: int, title: str = "") -> None:
    """One legend for the whole figure, under its panels, where it can hide nothing."""
    if handles:
        look = {"handlelength": 1.8, "columnspacing": 1.4, "handletextpad": 0.5, "alignment": "left"}
        made.legend(handles, labels, loc="outside lower center", ncols=columns, title=title or None,
                    title_fontsize=8.5, **look)  # fmt: skip


def legend_columns(labels: Iterable[str], width: float) -> int:
    """The most columns that fit into a figure of this width in inches, filled one after the other as a legend's are."""
    texts = list(labels)
    for count in range(min(MAX_COLUMNS, len(texts)), 1, -1):
        columns = [max(map(len, part)) for part in np.array_split(texts, count)]
        if sum(CHARACTER * longest + HANDLE for longest in columns) <= width:
            return count
    return 1


def save_figure(made: Figure, path: str | io.BytesIO, kind: str) -> None:
    """As a file of its own, or its bytes: kind "svg", "png" or "pdf", without the date."""
    undated = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
    made.savefig(path, format=kind, dpi=PNG_DPI, metadata=undated[kind])


def move_beside(axes: Axes, artists: Iterable[Artist], at: int, count: int) -> None:
    """A little to the side, so that `count` intervals at one place do not hide each other. For intervals alone: lines
    that rise would look higher for it."""
    points = 3.5 * (at - (count - 1) / 2) if count <= MAX_BESIDE else 0.0
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    for artist in artists:
        artist.set_transform(axes.transData + ScaledTranslation(points / 72, 0, figure.dpi_scale_trans))


def name_ticks(axes: Axes, places: Iterable[float], names: list[str], width: float) -> None:
    """On the x axis of a panel of this width in inches; slanted where they would meet."""
    places = list(places)
    low, high = axes.transData.transform([(place, 0) for place in (min(places), max(places))])[:, 0]
    at = [axes.transData.transform((place, 0))[0] for place in places]
    gaps = [(b - a) / max(high - low, 1e-9) * width for a, b in pairwise(at)]
    needed = [CHARACTER * (len(a) + len(b) + 2) / 2 for a, b in pairwise(names)]
    is_tight = any(gap < need for gap, need in zip(gaps, needed))
    slant = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if is_tight else {}
    axes.set_xticks(places, names, **slant)


def percent(value: float, _: object = None) -> str:
    """Of a tick."""
    return f"{100 * value:.4g}%".replace("-", "\N{MINUS SIGN}")


def legend_height(entries: int, columns: int, title: str = "") -> float:
    """Inches that such a legend takes."""
    return 0.19 * -(-entries // columns) + (0.2 if title else 0.0)


def data_uri(made: Figure) -> str:
    """The same bytes for the same figure: no date, no random ids."""
    buffer = io.BytesIO()
    made.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def apart(positions: list[float], gap: float) -> list[float]:
    """Positions with neighbours at least `gap` away from each other: in their order, moved downwards only."""
    moved = list(positions)
    ceiling = float("inf")
    for at in sorted(range(len(moved)), key=lambda at: (-moved[at], at)):
        moved[at] = ceiling = min(moved[at], ceiling)
        ceiling -= gap
    return moved


def short(name: str, length: int = 28) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
