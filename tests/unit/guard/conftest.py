"""What the tests of the guarded connection are given."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.session.guard import Guard, open_guard
from tests.unit.guard.common import make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a database of one table `t` with the rows 1 and 2."""
    path = tmp_path / "app.db"
    make(path)
    return path


@pytest.fixture
def guard(path: Path) -> Iterator[Guard]:
    """Return a guard in its transaction, with a migration under way."""
    guard = open_guard(path)
    guard.begin()
    guard.start_migration()
    yield guard
    guard.rollback()
    guard.close()


@pytest.fixture
def conn(guard: Guard) -> sqlite3.Connection:
    """Return the connection as a migration sees it."""
    return guard.conn
