"""Metrics and evaluations as TensorBoard's event files, by tensorboardX: small, no torch, no tensorflow, optional."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError, OutputError
from .io import Evaluation, Metrics
from .points import point_of
from .runs import Run

NAME = "events.out.tfevents.0.vbon"  # always the same, so that writing again replaces it
INSTALL = "'tensorboard' needs tensorboardX: pip install tensorboardX (or vbon-analysis[tensorboard])"


def writer_class() -> Any:
    """tensorboardX.SummaryWriter, loaded only when it is needed; InputError that says what to install."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError as fault:
        raise InputError(INSTALL) from fault
    return SummaryWriter


def write_events(run: Run, folder: Path) -> Path:
    """One event file in `folder`: the steps' metrics and times, held-out figures under eval/, the configuration."""
    make = writer_class()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder) as temporary:
            with make(logdir=temporary, max_queue=1000) as writer:
                clock = wall_times(run)
                if run.metrics is not None:
                    _add_metrics(writer, run.metrics, clock)
                for evaluation in run.evaluations:
                    _add_evaluation(writer, run, evaluation, clock)
                writer.add_text("config.yaml", "    " + run.config_text.replace("\n", "\n    "), walltime=_last(clock))
            (written,) = Path(temporary).iterdir()
            written.replace(folder / NAME)
    except OSError as fault:
        raise OutputError(f"'{fault.filename or folder}' cannot be written: {fault.strerror}") from fault
    return folder / NAME


def wall_times(run: Run) -> dict[int, float]:
    """Seconds since 1970 at the end of each step, counted back from when the record was written: vbon keeps how long
    steps take, not when they were."""
    if run.metrics is None or not len(run.metrics.step):
        return {}
    total = run.metrics.time.get("total")
    took = np.nan_to_num(total).max(axis=1) if total is not None else np.ones(len(run.metrics.step))
    begin = _written(run) - took.sum()
    return dict(zip(run.metrics.step.tolist(), (begin + np.cumsum(took)).tolist()))


def _written(run: Run) -> float:
    try:
        return datetime.strptime(run.provenance.created_utc, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def _add_metrics(writer: Any, metrics: Metrics, clock: dict[int, float]) -> None:
    """Each metric by name; times as their sum over the ranks."""
    columns = dict(metrics.values) | {"episodes": metrics.episodes, "tokens": metrics.tokens}
    columns |= {f"time/{phase}": np.nansum(values, axis=1) for phase, values in metrics.time.items()}
    for name, values in columns.items():
        for step, value in zip(metrics.step.tolist(), values.tolist()):
            if np.isfinite(value):
                writer.add_scalar(name, value, step, walltime=clock[step])


def _add_evaluation(writer: Any, run: Run, evaluation: Evaluation, clock: dict[int, float]) -> None:
    figures = point_of(run, evaluation).figures
    when = clock.get(evaluation.step, _last(clock))
    for name, figure in figures.items():
        writer.add_scalar(f"eval/{name}", figure.value, evaluation.step, walltime=when)


def _last(clock: dict[int, float]) -> float:
    return max(clock.values(), default=0.0)
