"""Run folders and a sweep that several tests look at; made once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from . import fixtures, sweeps


@dataclass
class Runs:
    folder: Path
    pool: Path
    block: dict[str, Any]  # what is in the pool
    vbon: Path
    ppo: Path


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    block = fixtures.write_pool(folder / "pool.h5")
    fixtures.write_run(folder / "vbon-n4", folder / "pool.h5", block)
    fixtures.write_run(folder / "ppo", folder / "pool.h5", block, method="ppo", n="null", seed=3, gain=0.6)
    return Runs(folder, folder / "pool.h5", block, folder / "vbon-n4", folder / "ppo")


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods, two strengths each, two seeds."""
    methods = {"vbon": [2.0, 8.0], "ppo": [0.1, 0.5], "bonbon": [4.0, 8.0]}
    return sweeps.write_sweep(tmp_path_factory.mktemp("sweep"), methods, [1, 2])


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that look at texts and numbers: pictures are made up, but stay empty. Most of a report's time."""

    def save(_: Figure, to: Any, format: str, **__: Any) -> None:
        content = b"\x89PNG" if format == "png" else b'<svg xmlns="http://www.w3.org/2000/svg"/>'
        to.write(content) if hasattr(to, "write") else Path(to).write_bytes(content)

    monkeypatch.setattr(Figure, "savefig", save)
