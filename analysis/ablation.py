"""Runs that differ in one key of their configuration: figures by its value, over seeds (paper, Figures 4 and 6)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .config import lookup
from .errors import InputError
from .groups import differing, flatten, recipes, require_key, show
from .io import PoolHead
from .points import TITLES, Point, interval_kind, mean_of
from .pool_time import pool_time, samples_used
from .tabular import Column, Table

POOL_USE = "pool.use"
FIGURES = ("kl", "win", "efficiency", "reward", "evaluator")
ABOUT = (
    "Means over seeds with Student's 95% interval; where a row has one run, over prompts with a bootstrap interval "
    "(column 'interval'). Rows of one value differ in the keys named beside it."
)
ABOUT_TIME = (
    "Pool: the time that vbon pool took for the training prompts, scaled by m/M to the m samples that the run used; "
    "it was measured for the whole pool of M only."
)


@dataclass
class Cell:
    """Runs that differ in their seed alone."""

    value: Any  # of the key
    others: tuple[tuple[str, Any], ...]  # the keys that differ otherwise
    points: list[Point] = field(default_factory=list)
    seconds: float | None = None  # of the pool, with pool.use


def cells_by(points: list[Point], key: str) -> list[Cell]:
    """In the order of the values; InputError where the key does not exist or has one value."""
    require_key([point.run for point in points], key)
    known = recipes([point.run for point in points])
    configs = [one | {key: value_of(point, key)} for one, point in zip(known, points)]
    if len({repr(config[key]) for config in configs}) < 2:
        raise InputError(f"all of these runs have {key}: {show(configs[0][key])}; there is nothing to compare")
    others = [name for name in differing(configs) if name != key]
    found: dict[str, Cell] = {}
    for point, config in zip(points, configs):
        rest = tuple((name, config.get(name)) for name in others)
        cell = found.setdefault(repr((config[key], rest)), Cell(config[key], rest))
        cell.points.append(point)
    words = list(dict.fromkeys(show(cell.value) for cell in found.values()))  # in the order of the methods

    def place(cell: Cell) -> tuple[Any, ...]:
        return order(cell.value), words.index(show(cell.value)), [order(value) for _, value in cell.others]

    return sorted(found.values(), key=place)


def value_of(point: Point, key: str) -> Any:
    """pool.use is the number of samples used, so that 0, for all, has its place among the others."""
    value = lookup(point.run.config, key, flatten(point.run.config).get(key))
    m = lookup(point.run.config, "pool.samples")
    return samples_used(point.run, m) if key == POOL_USE and isinstance(m, int) else value


def order(value: Any) -> tuple[int, float]:
    """To sort by: numbers by size; words come after them, all alike."""
    return (0, float(value)) if is_number(value) else (1, 0.0)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def add_pool_times(cells: list[Cell]) -> None:
    cache: dict[Path, PoolHead] = {}
    for cell in cells:
        times = [found.seconds for point in cell.points if (found := pool_time(point.run, cache)) is not None]
        cell.seconds = sum(times) / len(times) if times else None


def table(cells: list[Cell], key: str) -> Table:
    others = [name for name, _ in cells[0].others]
    names = [name for name in FIGURES if any(mean_of(cell.points, name) for cell in cells)]
    has_time = any(cell.seconds is not None for cell in cells)
    columns = [Column(key, key, None), *(Column(name, name, None) for name in others), Column("runs", "runs"),
               *(Column(name, TITLES[name]) for name in names), Column("interval", "interval"),
               *([Column("pool_seconds", "pool, s (scaled)", 1)] if has_time else [])]  # fmt: skip
    rows = [[_cell(cell.value), *(_cell(value) for _, value in cell.others), len(cell.points),
             *(mean_of(cell.points, name) for name in names), interval_kind(cell.points),
             *([cell.seconds] if has_time else [])] for cell in cells]  # fmt: skip
    return Table(columns, rows, f"By {key}", [ABOUT, *([ABOUT_TIME] if has_time else [])])


def _cell(value: Any) -> Any:
    return value if is_number(value) else show(value)
