"""Runs as a report shows them: what was read, the table made of it, and how it looks in every figure."""

from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from .io import Pool
from .plots import Look, look_of
from .runs import Run, attach_pool, read_run
from .selection import tell_apart
from .tables import PoolView, Row, rows_of, view_of


@dataclass
class Shown:
    run: Run
    view: PoolView | None
    rows: list[Row]
    look: Look
    title: str = ""  # of its samples; "": the run's name

    @property
    def policy(self) -> Row | None:
        return next((row for row in self.rows if row.kind == "policy"), None)


def read_all(paths: list[Path], pool: Path | None) -> list[Shown]:
    """In the order given; `pool` is for all of them. Names that clash get their parent folder's in front."""
    runs = [read_run(path) for path in tqdm(paths, desc="reading runs", unit="run", leave=False, disable=None)]
    tell_apart(runs)
    return show_all(runs, pool)


def show_all(runs: list[Run], pool: Path | None) -> list[Shown]:
    """With their pools, as far as they are found."""
    cache: dict[Path, Pool] = {}
    shown: list[Shown] = []
    for index, run in enumerate(runs):
        attach_pool(run, pool, cache)
        view = view_of(run)
        shown.append(Shown(run, view, rows_of(run, view), look_of(index)))
    return shown
