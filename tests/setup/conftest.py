"""The set-up's Python scripts are programs, not a package: their folder is put where imports look."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "jobs" / "data"))


@pytest.fixture
def root() -> Path:
    return ROOT
