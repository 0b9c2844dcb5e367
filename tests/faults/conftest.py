"""What the tests under faults share: the compiled shim, and how much is tried."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.launching import close_launchers
from tests.faults.shim import compiled

POINTS = "SQLITE_ENTRYPOINT_FAULTS"
SEED = "SQLITE_ENTRYPOINT_FAULTS_SEED"


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the compiled shim, and end what was started under it."""
    yield compiled(tmp_path_factory.mktemp("shim"))
    close_launchers()


@pytest.fixture(scope="session")
def points() -> int:
    """Return how many faults are tried in a scene."""
    return int(os.environ.get(POINTS, "10"))


@pytest.fixture(scope="session")
def seed() -> str:
    """Return what chooses among the faults."""
    return os.environ.get(SEED, "1")


@pytest.fixture
def stages(tmp_path: Path) -> Path:
    """Return where a scene is set up."""
    return tmp_path / "stage"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many faults were met, and by what each planted bug was found."""
    scenes = faults = 0
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        noted = dict(getattr(report, "user_properties", ()))
        faults += noted.get("faults", 0)
        scenes += "faults" in noted
        if "found" in noted:
            terminalreporter.write_line(f"planted bug found {noted['found']}")
    if scenes:
        terminalreporter.write_line(f"{faults} faults met in {scenes} scenes")
