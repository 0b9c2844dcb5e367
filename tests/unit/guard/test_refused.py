"""What a migration may not do to the run's transaction."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from migrator.session.authorizer import RefusedError
from migrator.session.guard import Guard
from tests.unit.guard.common import INSERT, rows

REFUSED = {
    "ROLLBACK": "rollback",
    "rollback transaction": "rollback",
    "VACUUM": "transactional = False",
    "VACUUM INTO '/nowhere/x.db'": "transactional = False",
    "PRAGMA journal_mode=WAL": "transactional = False",
    "PRAGMA main.Journal_Mode(off)": "transactional = False",
    "PRAGMA locking_mode=NORMAL": "transactional = False",
    "PRAGMA temp_store_directory='/tmp'": "transactional = False",
    "ATTACH ':memory:' AS other": "transactional = False",
    "DETACH main": "transactional = False",
    "SAVEPOINT _Migrator_tx": "another name",
}


@pytest.mark.parametrize("statement", REFUSED)
@pytest.mark.parametrize("way", ["execute", "cursor", "executescript", "raw cursor"])
def test_what_would_end_atomicity_is_refused(guard: Guard, way: str, statement: str) -> None:
    """A refused statement says why and what to do, and fails the run though it is swallowed."""
    if way == "raw cursor" and statement.startswith("VACUUM"):
        pytest.skip("SQLite itself refuses it")
    conn = guard.conn
    conn.execute(INSERT)
    run: dict[str, Callable[[str], Any]] = {
        "execute": conn.execute,
        "cursor": conn.cursor().execute,
        "executescript": conn.executescript,
        "raw cursor": sqlite3.Cursor(conn).execute,
    }
    with pytest.raises(sqlite3.DatabaseError) as caught:
        run[way](statement)

    assert guard.refused is not None
    assert REFUSED[statement] in guard.refused.hint
    assert [1, 2, 3] == rows(conn)
    if way != "raw cursor":
        assert guard.refused is caught.value
        assert statement == guard.refused.statement
        failure = guard.failure(None)
        assert failure is not None
        assert (statement, guard.refused) == (failure.text, failure.error)


@pytest.mark.parametrize(
    "statement",
    [
        "PRAGMA foreign_keys=ON",
        "PRAGMA synchronous=OFF",
        "PRAGMA page_size=4096",
        "PRAGMA auto_vacuum=NONE",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "PRAGMA wal_checkpoint",
        "PRAGMA temp_store=MEMORY",
    ],
)
def test_what_has_no_effect_in_a_transaction_is_ignored(guard: Guard, statement: str) -> None:
    """Settings that SQLite ignores or refuses inside a transaction neither act nor fail."""
    name = statement.removeprefix("PRAGMA ").split("=")[0]
    before = guard.conn.execute(f"PRAGMA {name}").fetchall()
    with guard.engine() as conn:
        conn.execute("CREATE TEMP TABLE open_the_temporary_database (a)")

    guard.conn.execute(statement)

    assert [tuple(r) for r in before] == [tuple(r) for r in guard.conn.execute(f"PRAGMA {name}")]
    assert guard.failure(None) is None


@pytest.mark.parametrize(
    "statement",
    ["PRAGMA page_size=1024", "PRAGMA auto_vacuum=FULL", "PRAGMA encoding='UTF-16'"],
)
def test_what_sqlite_would_ignore_of_the_header_is_refused(guard: Guard, statement: str) -> None:
    """A setting that the database does not take is no setting: the run fails."""
    with pytest.raises(RefusedError, match="would ignore it"):
        guard.conn.execute(statement)

    assert guard.refused is not None


@pytest.mark.parametrize(
    "statement",
    ["PRAGMA journal_mode", "PRAGMA foreign_keys", "PRAGMA user_version=7", "PRAGMA optimize"],
)
def test_reading_settings_is_allowed(guard: Guard, statement: str) -> None:
    """What only reads, or belongs to the database, is let through."""
    guard.conn.execute(statement).fetchall()

    assert guard.refused is None


def _backup(conn: sqlite3.Connection) -> None:
    with closing(sqlite3.connect(":memory:")) as target:
        conn.backup(target)


METHODS: dict[str, Callable[[sqlite3.Connection], Any]] = {
    "close": lambda c: c.close(),
    "set_authorizer": lambda c: c.set_authorizer(None),
    "backup": _backup,
    "deserialize": lambda c: c.deserialize(b""),
}


@pytest.mark.parametrize("method", METHODS)
def test_methods_that_would_take_the_connection_are_refused(guard: Guard, method: str) -> None:
    """A migration may not close, replace, unguard or copy the run's connection."""
    with pytest.raises(RefusedError, match=f"may not call {method}"):
        METHODS[method](guard.conn)

    failure = guard.failure(None)
    assert failure is not None
    assert ("", guard.refused) == (failure.text, failure.error)
    assert [1, 2] == rows(guard.conn)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`setconfig` came with Python 3.12")
def test_foreign_keys_stay_off_by_setconfig_too(guard: Guard) -> None:
    """`setconfig` cannot turn foreign keys on inside the transaction, as the pragma cannot."""
    guard.conn.setconfig(1002, True)  # type: ignore[attr-defined,unused-ignore]  # noqa: FBT003

    assert 0 == guard.conn.execute("PRAGMA foreign_keys").fetchone()[0]
    with pytest.raises(RefusedError):
        guard.conn.setconfig(1009, True)  # type: ignore[attr-defined,unused-ignore]  # noqa: FBT003


def test_what_is_refused_keeps_sqlites_error_code(conn: sqlite3.Connection) -> None:
    """A refusal is an OperationalError with the code of SQLite's own "not authorized"."""
    with pytest.raises(sqlite3.OperationalError) as caught:
        conn.execute("ATTACH ':memory:' AS other")

    assert sqlite3.SQLITE_AUTH == caught.value.sqlite_errorcode
