"""What the tests under faults share: the compiled shim, and how much is tried."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.shim import compiled

POINTS = "SQLITE_ENTRYPOINT_FAULTS"
SEED = "SQLITE_ENTRYPOINT_FAULTS_SEED"


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the compiled shim."""
    return compiled(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="session")
def points() -> int | None:
    """Return how many faults are tried in a scene; None for all."""
    wanted = os.environ.get(POINTS, "5")
    return None if wanted == "all" else int(wanted)


@pytest.fixture(scope="session")
def seed() -> str:
    """Return what chooses among the faults."""
    return os.environ.get(SEED, "1")


@pytest.fixture
def stages(tmp_path: Path) -> Iterator[Path]:
    """Return where a scene is set up."""
    yield tmp_path / "stage"
