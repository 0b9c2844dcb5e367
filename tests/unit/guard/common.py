"""A small database and its rows, and what is tried on the guarded connection."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from migrator.session.guard import Guard

ROOT = Path(__file__).parents[3]

ODD_NAMES = (
    "a?b.db",
    "a#b.db",
    "100%.db",
    "%41.db",
    "a\nb.db",
    "a b'c\".db",
    "ü-日.db",
    "a&mode=ro",
)


def make(path: Path) -> None:
    """Make the database that the tests begin with."""
    with closing(sqlite3.connect(path)) as conn:
        conn.executescript("CREATE TABLE t (a UNIQUE); INSERT INTO t VALUES (1), (2);")


def rows(conn: sqlite3.Connection) -> list[Any]:
    """Return what `t` holds."""
    return sorted(row[0] for row in conn.execute("SELECT a FROM t"))


def stored(path: Path) -> list[Any]:
    """Return what another program finds in `t`."""
    with closing(sqlite3.connect(path)) as conn:
        return rows(conn)


def finish(guard: Guard) -> None:
    """End the migration and commit the run."""
    guard.finish_migration()
    guard.commit()
    guard.close()


def failing(conn: sqlite3.Connection, statement: str = "INSERT INTO t VALUES (1)") -> str:
    """Execute a statement that fails, and return its error as text."""
    try:
        conn.execute(statement)
    except sqlite3.Error as error:
        return f"{type(error).__name__}: {error}"
    return "passed"


def with_block(conn: sqlite3.Connection, *statements: str) -> str:
    """Execute statements in a `with` block; return how it ended."""
    try:
        with conn as entered:
            assert entered is conn
            for statement in statements:
                conn.execute(statement)
    except sqlite3.Error as error:
        return str(error)
    return "passed"


INSERT = "INSERT INTO t VALUES (3)"
