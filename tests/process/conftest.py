"""Fixtures of several files of tests with real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.exits import start
from tests.support.files import write_migrations
from tests.support.outcomes import assert_succeeded
from tests.support.processes import run_entrypoint


@pytest.fixture
def migrations_of_anybody(open_path: Path) -> Path:
    """Return a directory of migrations that every user can read."""
    return write_migrations(
        open_path / "migrations", {"001_more.sql": "ALTER TABLE users ADD COLUMN more TEXT;"}
    )


@pytest.fixture
def migrated(database: Path, migrations: Path) -> Path:
    """Return the database with both migrations applied."""
    assert_succeeded(start(run_entrypoint, database, migrations), "migrated", 2)
    return database
