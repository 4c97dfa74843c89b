"""The runs that a command looks at: sweeps expanded, and those that cannot be used named and left out."""

from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from .errors import InputError
from .runs import Run, read_run
from .sweep import Entry, expand

EVALUATED = "finished and evaluated ('vbon eval')"
MAX_NAMED = 12


def read_evaluated(paths: list[Path]) -> tuple[list[Run], list[str]]:
    """Finished runs with an evaluation, and what has to be said about the others."""
    runs, notes = _finished(paths)
    notes += _left_out(runs, "not evaluated", lambda run: run.final is None)
    return _require([run for run in runs if run.final is not None], notes, EVALUATED)


def read_evaluated_and_references(paths: list[Path]) -> tuple[list[Run], list[str]]:
    """The same, and folders that hold evaluations of the reference alone."""
    runs, notes = _finished(paths)
    notes += _left_out(runs, "not evaluated", lambda run: run.final is None and not run.references)
    _require([run for run in runs if run.final is not None], notes, EVALUATED)
    return [run for run in runs if run.final is not None or run.references], notes


def read_measured(paths: list[Path]) -> tuple[list[Run], list[str]]:
    """Runs with metrics, finished or not."""
    runs, notes = _read(paths)
    notes += _left_out(runs, "without metrics", lambda run: not has_metrics(run))
    return _require([run for run in runs if has_metrics(run)], notes, "trained (metrics.jsonl or metrics.h5)")


def _finished(paths: list[Path]) -> tuple[list[Run], list[str]]:
    runs, notes = _read(paths)
    notes += _left_out(runs, "not finished", lambda run: not run.is_finished)
    return [run for run in runs if run.is_finished], notes


def has_metrics(run: Run) -> bool:
    return run.metrics is not None and len(run.metrics.step) > 0


def _read(paths: list[Path]) -> tuple[list[Run], list[str]]:
    entries = expand(paths)
    missing = [entry for entry in entries if entry.is_listed and not (entry.path / "config.yaml").is_file()]
    there = [entry for entry in entries if entry not in missing]
    runs = [_named(entry) for entry in tqdm(there, desc="reading runs", unit="run", leave=False, disable=None)]
    tell_apart(runs)
    return runs, [f"Left out, not begun: {_names([entry.name for entry in missing])}."] if missing else []


def _named(entry: Entry) -> Run:
    run = read_run(entry.path)
    run.name, run.overrides = entry.name, entry.overrides
    return run


def tell_apart(runs: list[Run]) -> None:
    """Names that clash get their parent folder's in front."""
    names = [run.name for run in runs]
    for run in runs:
        if names.count(run.name) > 1:
            run.name = f"{run.path.resolve().parent.name}/{run.name}"


def _left_out(runs: list[Run], why: str, is_out: Callable[[Run], bool]) -> list[str]:
    names = [run.name for run in runs if is_out(run)]
    return [f"Left out, {why}: {_names(names)}."] if names else []


def _names(names: list[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _require(runs: list[Run], notes: list[str], what: str) -> tuple[list[Run], list[str]]:
    if not runs:
        raise InputError(f"none of these runs is {what}. {' '.join(notes)}")
    return runs, notes
