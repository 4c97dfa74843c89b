"""The figures of a run, step by step: metrics.jsonl (the record), or metrics.h5 (made from it) where it is missing."""

from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError
from .h5 import ANY, open_h5
from .io import Metrics, parse_json, read_text

COUNTS = ("step", "episodes", "tokens")
MAX_RANKS = 1 << 16


def read_metrics(jsonl: Path) -> Metrics:
    """metrics.jsonl; a torn last line is left out, as a running or killed writer may leave one."""
    lines = read_text(jsonl).split("\n")[:-1]
    rows = [_parse_row(line, f"line {number} of '{jsonl}'") for number, line in enumerate(lines, start=1)]
    counts = {name: np.array([row[name] for row in rows], dtype=np.int64) for name in COUNTS}
    _require_rising(counts["step"], jsonl)
    values = {name: np.full(len(rows), np.nan) for row in rows for name in row if name not in (*COUNTS, "time")}
    phases = {phase for row in rows for phase in row["time"]}
    ranks = max((len(times) for row in rows for times in row["time"].values()), default=0)
    time = {phase: np.full((len(rows), ranks), np.nan) for phase in sorted(phases)}
    for at, row in enumerate(rows):
        for name in values:
            values[name][at] = row.get(name, np.nan)
        for phase, times in row["time"].items():
            time[phase][at, : len(times)] = times
    return Metrics(**counts, values=values, time=time)


def read_metrics_h5(path: Path) -> Metrics:
    with open_h5(path, "vbon.metrics") as source:
        step = source.array("step", "int64", (ANY,))
        _require_rising(step, path)
        names = [name for name in source.members() if name not in COUNTS and not source.is_group(name)]
        return Metrics(
            step=step,
            episodes=source.array("episodes", "int64", step.shape),
            tokens=source.array("tokens", "int64", step.shape),
            values={name: source.array(name, "float64", step.shape) for name in names},
            time={p: source.array(f"time/{p}", "float64", (len(step), ANY)) for p in source.members("time")},
        )


def _require_rising(step: np.ndarray, path: Path) -> None:
    if (np.diff(step) <= 0).any():
        raise InputError(f"'{path}': its steps do not rise")


def _parse_row(line: str, where: str) -> dict[str, Any]:
    row = parse_json(line, where)
    for name in COUNTS:
        if type(row.get(name)) is not int or not 0 <= row[name] < 1 << 63:
            raise InputError(f"{where}: '{name}' is missing or no count")
    times = row.pop("time", {})
    if not isinstance(times, dict) or not all(isinstance(t, list) and len(t) <= MAX_RANKS for t in times.values()):
        raise InputError(f"{where}: 'time' is no object of lists, one value a rank")
    parsed = {name: value if name in COUNTS else _number(value, where) for name, value in row.items()}
    parsed["time"] = {phase: [_number(value, where) for value in values] for phase, values in times.items()}
    return parsed


def _number(value: Any, where: str) -> float:
    if value is None:
        return np.nan
    if type(value) not in (int, float):
        raise InputError(f"{where}: a metric is neither a number nor null")
    try:
        return float(value) if np.isfinite(float(value)) else np.nan
    except OverflowError:
        return np.nan
