"""Run folders that several tests look at; made once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from . import fixtures


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
