"""`analysis tensorboard`: event files, read back record by record."""

import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.events import NAME, wall_times
from analysis.io import read_evaluation
from analysis.runs import read_run

from . import fixtures
from .commands import fails


def command(capsys, *arguments: object) -> list[Path]:
    from analysis.__main__ import main

    assert main(["tensorboard", *(str(argument) for argument in arguments)]) == 0
    return [Path(line) for line in capsys.readouterr().out.splitlines()]


def read_events(path: Path) -> list[Any]:
    """TFRecords: length, its checksum, an Event, its checksum; little-endian."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    content, at, found = path.read_bytes(), 0, []
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        found.append(event_pb2.Event.FromString(content[at + 12 : at + 12 + length]))
        at += 12 + length + 4
    assert at == len(content)
    return found


def scalars(events: list[Any]) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for event in events:
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_metrics_and_evaluations_come_back_from_the_events(runs, tmp_path: Path, capsys) -> None:
    pytest.importorskip("tensorboardX")
    (written, _) = command(capsys, runs.vbon, runs.ppo, "-o", tmp_path)
    assert written == tmp_path / "vbon-n4" / NAME and [path.name for path in written.parent.iterdir()] == [NAME]
    events = read_events(written)
    assert events[0].file_version == "brain.Event:2"
    found = scalars(events)
    rows = fixtures.metrics_rows(seed=2)
    for name in ("reward", "kl", "learning_rate", "episodes"):
        assert found[name] == {row["step"]: pytest.approx(row[name], rel=1e-6) for row in rows}
    assert "value_loss" not in found  # never measured
    assert found["time/generate"] == {row["step"]: pytest.approx(sum(row["time"]["generate"])) for row in rows}
    for step in (0, 10, 20, 30):
        evaluation = read_evaluation(runs.vbon / "eval" / f"step-{step:08d}.h5")
        assert found["eval/win"][step] == pytest.approx(evaluation.win.mean(), rel=1e-6)
        assert found["eval/kl"][step] == pytest.approx(evaluation.kl.mean(), rel=1e-5, abs=1e-7)
    clock = [event.wall_time for event in events if any(value.tag == "reward" for value in event.summary.value)]
    assert np.diff(clock) == pytest.approx(8.4) and clock[-1] == pytest.approx(1772366400)  # 2026-03-01 12:00 UTC


def test_writing_again_replaces_the_file(runs, tmp_path: Path, capsys) -> None:
    pytest.importorskip("tensorboardX")
    (written,) = command(capsys, runs.vbon, "-o", tmp_path)
    first = scalars(read_events(written))
    command(capsys, runs.vbon, "-o", tmp_path)
    assert [path.name for path in written.parent.iterdir()] == [NAME] and scalars(read_events(written)) == first


def test_a_sweep_has_a_folder_a_run(sweep: Path, tmp_path: Path, capsys) -> None:
    pytest.importorskip("tensorboardX")
    assert len(command(capsys, sweep, "-o", tmp_path)) == 12
    assert (tmp_path / "ppo-0.1-s2" / NAME).is_file()
    (tmp_path / "file").write_text("")
    assert "cannot be written" in fails(capsys, "tensorboard", sweep, "-o", tmp_path / "file", code=74)


def test_without_the_library_it_says_what_to_install(runs, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert "pip install tensorboardX" in fails(capsys, "tensorboard", runs.vbon, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def under_way(folder: Path, rows: list[dict[str, Any]]) -> None:
    """A run that has got so far, in the middle of a line."""
    folder.mkdir()
    (folder / "config.yaml").write_text(fixtures.config_text(Path("x")))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "epi')


def follow(monkeypatch, capsys, folder: Path, logs: Path, *turns: Callable[[], object]) -> tuple[Path, list[Any]]:
    """What `tensorboard --follow` has written where the next turn is taken whenever it waits."""
    pytest.importorskip("tensorboardX")
    left = iter(turns)
    monkeypatch.setattr("analysis.events.sleep", lambda _: next(left)())
    (written,) = command(capsys, folder, "-o", logs, "--follow")
    assert not list(left) and [path.name for path in written.parent.iterdir()] == [NAME]
    return written, read_events(written)


def test_a_run_is_followed_to_its_end_step_by_step(tmp_path: Path, capsys, monkeypatch) -> None:
    rows = fixtures.few(fixtures.metrics_rows(6))
    record, pool = tmp_path / "run" / "metrics.jsonl", fixtures.write_pool(tmp_path / "pool.h5", num_prompts=2)
    under_way(tmp_path / "run", rows[:3])

    def advance(count: int) -> None:
        record.write_text("".join(json.dumps(row) + "\n" for row in rows[:count]))

    def end() -> None:
        fixtures.write_evaluation(tmp_path / "run" / "eval" / "step-00000006.h5", 6, 1.0, pool)
        (tmp_path / "run" / "finished").write_text("{}\n")

    turns = [lambda: advance(3), lambda: advance(5), lambda: None, lambda: advance(6), end]
    _, events = follow(monkeypatch, capsys, tmp_path / "run", tmp_path / "logs", *turns)
    of_reward = [event for event in events if any(value.tag == "reward" for value in event.summary.value)]
    assert [event.step for event in of_reward] == [1, 2, 3, 4, 5, 6], "each once"
    assert (np.diff([event.wall_time for event in of_reward]) >= 0).all()
    found = scalars(events)
    assert found["reward"] == {row["step"]: pytest.approx(row["reward"], rel=1e-6) for row in rows}
    assert found["eval/win"].keys() == {6}


def test_an_interrupt_ends_following_with_a_whole_file(tmp_path: Path, capsys, monkeypatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    under_way(tmp_path / "run", fixtures.few(fixtures.metrics_rows(3)))
    _, events = follow(monkeypatch, capsys, tmp_path / "run", tmp_path / "logs", interrupt)
    assert scalars(events)["reward"].keys() == {1, 2, 3}


def test_a_finished_run_is_not_waited_for(runs, tmp_path: Path, capsys, monkeypatch) -> None:
    follow(monkeypatch, capsys, runs.vbon, tmp_path)


def test_steps_without_a_clock_still_rise(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(fixtures.config_text(Path("x")))
    (tmp_path / "metrics.jsonl").write_text('{"step":3,"episodes":1,"tokens":1}\n{"step":5,"episodes":1,"tokens":1}\n')
    os.utime(tmp_path / "metrics.jsonl", (100, 100))
    assert wall_times(read_run(tmp_path)) == {3: 99.0, 5: 100.0}, "under way: the last line is new"
    (tmp_path / "finished").write_text("{}\n")
    assert wall_times(read_run(tmp_path)) == {3: -1.0, 5: 0.0}
