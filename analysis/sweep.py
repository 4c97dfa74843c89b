"""sweep.json, which `vbon sweep` writes: the runs of a grid, where they lie and which keys make each of them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import InputError
from .io import parse_json, read_text

FILE, FORMAT, NEWEST = "sweep.json", "vbon.sweep", 1


@dataclass(frozen=True)
class Entry:
    """One run. `name` is what tables and pictures call it; `is_listed`: by a sweep, so it may not have begun yet."""

    name: str
    path: Path
    seed: int | None = None
    overrides: dict[str, Any] = field(default_factory=dict)  # "section.key" -> value
    is_listed: bool = False


@dataclass(frozen=True)
class Sweep:
    name: str
    path: Path
    entries: list[Entry]


def is_sweep(path: Path) -> bool:
    return path.name == FILE or (path / FILE).is_file()


def read_sweep(path: Path) -> Sweep:
    """`path`: the folder with sweep.json, or that file."""
    file = path if path.name == FILE else path / FILE
    data = parse_json(read_text(file), f"'{file}'")
    if data.get("format") != FORMAT:
        raise InputError(f"'{file}' is no sweep of vbon (format '{FORMAT}')")
    version = data.get("schema_version")
    if type(version) is not int or not 1 <= version <= NEWEST:
        raise InputError(f"'{file}' has schema version {version}; this program reads versions 1 to {NEWEST}")
    runs = data.get("runs")
    if not isinstance(runs, list) or not runs:
        raise InputError(f"'{file}' lists no runs")
    entries = [_entry(run, file, at) for at, run in enumerate(runs)]
    if len({entry.name for entry in entries}) < len(entries):
        raise InputError(f"'{file}': two runs have one name")
    name = data.get("name")
    return Sweep(name if isinstance(name, str) and name else file.resolve().parent.name, file.parent, entries)


def expand(paths: list[Path]) -> list[Entry]:
    """The runs named, sweeps replaced by theirs; InputError where one is there twice."""
    entries = [entry for path in paths for entry in _entries(path)]
    seen: set[Path] = set()
    for entry in entries:
        if (resolved := entry.path.resolve()) in seen:
            raise InputError(f"a run is named twice: '{entry.path}'")
        seen.add(resolved)
    return entries


def _entries(path: Path) -> list[Entry]:
    return read_sweep(path).entries if is_sweep(path) else [Entry(path.resolve().name, path)]


def _entry(run: Any, file: Path, at: int) -> Entry:
    where = f"'{file}': run {at}"
    if not isinstance(run, dict):
        raise InputError(f"{where} is no object")
    name, folder, seed, overrides = (run.get(key) for key in ("name", "dir", "seed", "overrides"))
    if not isinstance(name, str) or not name:
        raise InputError(f"{where} has no name")
    if Path(name).is_absolute() or ".." in Path(name).parts:  # commands make folders of this name
        raise InputError(f"{where}: '{name}' is a path out of the folder it is used in, no name")
    if not isinstance(folder, str) or not folder or Path(folder).is_absolute():
        raise InputError(f"{where} ('{name}'): 'dir' is no path relative to the sweep's folder")
    if seed is not None and type(seed) is not int:
        raise InputError(f"{where} ('{name}'): 'seed' is no whole number")
    if not isinstance(overrides or {}, dict):
        raise InputError(f"{where} ('{name}'): 'overrides' is no object")
    return Entry(name, file.parent / folder, seed, overrides or {}, is_listed=True)
