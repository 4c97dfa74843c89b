"""Metrics and evaluations as TensorBoard's event files, by tensorboardX: small, no torch, no tensorflow, optional."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import sleep, time
from typing import Any

import numpy as np

from .errors import InputError, OutputError
from .io import Evaluation, Metrics
from .points import point_of
from .runs import Run, read_run

NAME = "events.out.tfevents.0.vbon"  # always the same, so that writing again replaces it
INSTALL = "'tensorboard' needs tensorboardX: pip install tensorboardX (or vbon-analysis[tensorboard])"
POLL_S = 2.0


def writer_class() -> Any:
    """tensorboardX.SummaryWriter, loaded only when it is needed; InputError that says what to install."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError as fault:
        raise InputError(INSTALL) from fault
    return SummaryWriter


def write_events(run: Run, folder: Path) -> Path:
    """One event file in `folder`: the steps' metrics and times, held-out figures under eval/, the configuration."""
    clock = wall_times(run)
    with _writer(folder, lambda written: written.replace(folder / NAME)) as writer:
        if run.metrics is not None:
            _add_metrics(writer, run.metrics, clock)
        for evaluation in run.evaluations:
            _add_evaluation(writer, run, evaluation, clock.get(evaluation.step, _last(clock)))
        writer.add_text("config.yaml", "    " + run.config_text.replace("\n", "\n    "), walltime=_last(clock))
    return folder / NAME


def follow(runs: dict[Path, Run]) -> None:
    """`runs` by the folder of their event files, as these have them: appends what comes, until all are finished."""
    sizes: dict[Path, int] = {}
    while runs := {folder: run for folder, run in runs.items() if not run.is_finished}:
        sleep(POLL_S)
        for folder, known in runs.items():
            record = known.path / "metrics.jsonl"
            # Before the files are read, so that the last lines are not missed.
            is_finished, size = (known.path / "finished").is_file(), record.stat().st_size if record.is_file() else 0
            if is_finished or size != sizes.get(folder):
                runs[folder], sizes[folder] = read_run(known.path), size
                runs[folder].is_finished = is_finished
                _append(runs[folder], known, folder / NAME)


def _append(run: Run, known: Run, to: Path) -> None:
    """What the run has that it did not have when it was `known`, dated now."""
    last = max(known.metrics.step.tolist(), default=-1) if known.metrics is not None else -1
    steps = [step for step in run.metrics.step.tolist() if step > last] if run.metrics is not None else []
    paths = {evaluation.path for evaluation in known.evaluations}
    evaluations = [evaluation for evaluation in run.evaluations if evaluation.path not in paths]
    if not steps and not evaluations:
        return
    now = time()
    # Not made beside the file: TensorBoard would take it for one more run.
    with _writer(None, lambda written: _add_bytes(written.read_bytes(), to)) as writer:
        if run.metrics is not None:
            _add_metrics(writer, run.metrics, dict.fromkeys(steps, now))
        for evaluation in evaluations:
            _add_evaluation(writer, run, evaluation, now)


@contextmanager
def _writer(folder: Path | None, put: Callable[[Path], object]) -> Iterator[Any]:
    """Of an event file that is made in `folder` (None: anywhere) and, when it is whole, `put` where it belongs."""
    make = writer_class()
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder) as temporary:
            with make(logdir=temporary, max_queue=1000) as writer:
                yield writer
            (written,) = Path(temporary).iterdir()
            put(written)
    except OSError as fault:
        raise OutputError(f"'{fault.filename or folder}' cannot be written: {fault.strerror}") from fault


def _add_bytes(content: bytes, to: Path) -> None:
    with open(to, "ab") as file:
        file.write(content)


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
    record = run.path / "metrics.jsonl"
    if not run.is_finished and record.is_file():
        return record.stat().st_mtime  # the last step's; files with a date come later, if at all
    try:
        return datetime.strptime(run.provenance.created_utc, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def _add_metrics(writer: Any, metrics: Metrics, clock: dict[int, float]) -> None:
    """Of the steps that `clock` has each metric by name; times as their sum over the ranks."""
    columns = dict(metrics.values) | {"episodes": metrics.episodes, "tokens": metrics.tokens}
    columns |= {f"time/{phase}": np.nansum(values, axis=1) for phase, values in metrics.time.items()}
    for name, values in columns.items():
        for step, value in zip(metrics.step.tolist(), values.tolist()):
            if step in clock and np.isfinite(value):
                writer.add_scalar(name, value, step, walltime=clock[step])


def _add_evaluation(writer: Any, run: Run, evaluation: Evaluation, when: float) -> None:
    for name, figure in point_of(run, evaluation).figures.items():
        writer.add_scalar(f"eval/{name}", figure.value, evaluation.step, walltime=when)


def _last(clock: dict[int, float]) -> float:
    return max(clock.values(), default=0.0)
