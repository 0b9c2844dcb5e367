"""Transaction control is acted out as Python has it, within the one transaction."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from migrator.session.guard import Guard, open_guard
from migrator.session.recording import RecordingConnection
from tests.support.digest import logical_digest
from tests.unit.guard.common import INSERT, failing, finish, make, rows, stored, with_block


def _isolation(conn: sqlite3.Connection, level: str | None, *statements: str) -> list[bool]:
    conn.isolation_level = level  # type: ignore[assignment]
    found = []
    for statement in statements:
        conn.execute(statement)
        found.append(conn.in_transaction)
    return found


SCENARIOS: dict[str, Callable[[sqlite3.Connection], Any]] = {
    "rollback undoes rows": lambda c: (c.execute(INSERT), c.rollback(), rows(c))[-1],
    "rollback undoes to the last commit": lambda c: (
        c.execute(INSERT),
        c.commit(),
        c.execute("INSERT INTO t VALUES (4)"),
        c.rollback(),
        rows(c),
    )[-1],
    "rollback without a transaction": lambda c: c.rollback(),
    "commit without a transaction": lambda c: c.commit(),
    "rollback keeps ddl before the first row": lambda c: (
        c.execute("CREATE TABLE u (a)"),
        c.execute("INSERT INTO u VALUES (1)"),
        c.rollback(),
        c.execute("SELECT count(*) FROM u").fetchone()[0],
    )[-1],
    "rollback undoes ddl after the first row": lambda c: (
        c.execute(INSERT),
        c.execute("CREATE TABLE u (a)"),
        c.rollback(),
        failing(c, "SELECT * FROM u"),
    )[-1],
    "in_transaction": lambda c: [
        c.in_transaction,
        c.execute("SELECT 1") and c.in_transaction,
        c.execute(INSERT) and c.in_transaction,
        c.commit() or c.in_transaction,
        c.execute("CREATE TABLE u (a)") and c.in_transaction,
        c.execute("REPLACE INTO t VALUES (5)") and c.in_transaction,
        c.rollback() or c.in_transaction,
        c.execute("WITH n AS (SELECT 6) INSERT INTO t SELECT * FROM n") and c.in_transaction,
        c.execute("/* x */ -- y\n UPDATE t SET a = a") and c.in_transaction,
    ],
    "a failing insert leaves the transaction open": lambda c: (failing(c), c.in_transaction),
    "with block commits": lambda c: (with_block(c, INSERT), c.in_transaction, rows(c)),
    "with block rolls back": lambda c: (with_block(c, INSERT, INSERT), c.in_transaction, rows(c)),
    "alter in a with block, twice": lambda c: (
        with_block(c, "ALTER TABLE t ADD b"),
        with_block(c, "ALTER TABLE t ADD b"),
        rows(c),
    ),
    "raw begin and commit": lambda c: (
        c.execute("BEGIN"),
        c.in_transaction,
        c.execute(INSERT),
        c.execute("COMMIT"),
        c.in_transaction,
        c.rollback(),
        rows(c),
    ),
    "begin, rollback()": lambda c: (
        c.execute("BEGIN IMMEDIATE"),
        c.execute("CREATE TABLE u (a)"),
        c.rollback(),
        failing(c, "SELECT * FROM u"),
    )[-1],
    "begin within a transaction": lambda c: (c.execute(INSERT), failing(c, "BEGIN"))[-1],
    "end transaction": lambda c: (
        c.execute("BEGIN"),
        c.execute(INSERT),
        c.execute("END TRANSACTION"),
        c.rollback(),
        rows(c),
    )[-1],
    "executescript commits first": lambda c: (
        c.execute(INSERT),
        c.executescript("CREATE TABLE u (a); INSERT INTO u VALUES (1)"),
        c.in_transaction,
        c.rollback(),
        rows(c),
    )[2:],
    "executescript begins no transaction": lambda c: (
        c.executescript("INSERT INTO t VALUES (3);"),
        c.in_transaction,
        c.rollback(),
        rows(c),
    )[1:],
    "executescript with a begin left open": lambda c: (
        c.executescript("BEGIN; INSERT INTO t VALUES (3);"),
        c.in_transaction,
        c.rollback(),
        rows(c),
    )[1:],
    "executescript keeps what it did before it failed": lambda c: (
        _script_error(c, "INSERT INTO t VALUES (3); INSERT INTO t VALUES (3);"),
        rows(c),
    ),
    "executescript of something else": lambda c: [
        _script_error(c, 7),
        _script_error(c, "SELECT 1;\0"),
        _script_error(c, ""),
        _script_error(c, "-- only a comment"),
    ],
    "isolation_level None": lambda c: (
        _isolation(c, None, INSERT, "BEGIN", "INSERT INTO t VALUES (4)"),
        c.rollback(),
        rows(c),
    )[::2],
    "isolation_level None commits": lambda c: (
        c.execute(INSERT),
        setattr(c, "isolation_level", None),
        c.in_transaction,
        c.rollback(),
        rows(c),
    )[2:],
    "isolation_level immediate": lambda c: (
        _isolation(c, "immediate", "SELECT 1", INSERT),
        c.isolation_level,
        c.rollback(),
        rows(c),
    ),
    "isolation_level wrong": lambda c: [
        _raised(lambda level=v: setattr(c, "isolation_level", level))  # type: ignore[misc]
        for v in ("X", 1)
    ],
    "savepoint begins a transaction": lambda c: (
        c.execute("SAVEPOINT a"),
        c.in_transaction,
        c.execute(INSERT),
        c.execute("RELEASE a"),
        c.in_transaction,
        c.rollback(),
        rows(c),
    ),
    "savepoint in autocommit": lambda c: (
        _isolation(
            c,
            None,
            "SAVEPOINT a",
            "SAVEPOINT b",
            INSERT,
            "RELEASE b",
            "ROLLBACK TO a",
            "INSERT INTO t VALUES (4)",
            "RELEASE A",
        ),
        rows(c),
    ),
    "savepoint within a transaction": lambda c: (
        c.execute(INSERT),
        c.execute("SAVEPOINT 'a b'"),
        c.execute("INSERT INTO t VALUES (4)"),
        c.execute('ROLLBACK TO "A B"'),
        c.execute("RELEASE [a b]"),
        c.in_transaction,
        c.commit(),
        rows(c),
    )[5::2],
    "rollback() within savepoints": lambda c: (
        c.execute("SAVEPOINT a"),
        c.execute(INSERT),
        c.execute("SAVEPOINT b"),
        c.rollback(),
        c.in_transaction,
        failing(c, "RELEASE a"),
        rows(c),
    )[4:],
    "two savepoints of one name": lambda c: (
        c.execute("SAVEPOINT a"),
        c.execute(INSERT),
        c.execute("SAVEPOINT a"),
        c.execute("INSERT INTO t VALUES (4)"),
        c.execute("ROLLBACK TO a"),
        c.execute("RELEASE a"),
        c.in_transaction,
        c.execute("RELEASE a"),
        c.in_transaction,
        rows(c),
    )[6::2],
    "explain is nothing": lambda c: (
        c.execute("EXPLAIN SAVEPOINT a").fetchall() and None,
        failing(c, "RELEASE a"),
        c.execute("EXPLAIN BEGIN") and c.in_transaction,
    )[1:],
    "executemany": lambda c: (
        c.executemany("INSERT INTO t VALUES (?)", ((n,) for n in (3, 4))).rowcount,
        c.in_transaction,
        c.rollback(),
        rows(c),
    ),
    "executemany fails": lambda c: (
        _raised(lambda: c.executemany("INSERT INTO t VALUES (?)", [(3,), (1,)])),
        c.in_transaction,
        rows(c),
    ),
    "executemany of a select": lambda c: _raised(lambda: c.executemany("SELECT ?", [(3,)])),
    "two statements": lambda c: _raised(lambda: c.execute("SELECT 1; SELECT 2")),
    "no statement": lambda c: [_raised(lambda: c.execute(7)), c.execute("").description],  # type: ignore[arg-type]
    "cursor attributes": lambda c: (
        (k := c.cursor()).execute(INSERT).rowcount,
        k.lastrowid,
        k.execute("SELECT a FROM t").description,
        k.arraysize,
        [tuple(row) for row in k.fetchmany(2)],
        k.connection is c,
    ),
    "returning": lambda c: [tuple(r) for r in c.execute(INSERT + " RETURNING a")],
    "iterdump": lambda c: (c.execute(INSERT), list(c.iterdump()))[-1],
    "a commit in the middle of a query": lambda c: [
        (tuple(row), c.execute("INSERT INTO t VALUES (?)", (row[0] + 10,)) and None, c.commit())
        for row in c.execute("SELECT a FROM t WHERE a < 10")
    ],
}


def shown(value: Any) -> str:
    """Return what a migration has seen, whatever the classes of its cursors are."""
    return re.sub(r"<[\w.]+Cursor object at 0x\w+>", "<cursor>", repr(value))


def _script_error(conn: sqlite3.Connection, script: Any) -> str:
    return _raised(lambda: conn.executescript(script))


def _raised(action: Callable[[], Any]) -> str:
    try:
        action()
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"
    return "passed"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_transaction_control_is_acted_out(guard: Guard, tmp_path: Path, scenario: str) -> None:
    """What a migration sees and leaves is what Python's own connection shows and leaves."""
    native_path = tmp_path / "native.db"
    make(native_path)
    native = sqlite3.connect(native_path)
    native.row_factory = sqlite3.Row
    expected = shown(SCENARIOS[scenario](native))
    native.commit()
    native.close()

    assert expected == shown(SCENARIOS[scenario](guard.conn))
    assert guard.in_transaction
    assert guard.failure(None) is None
    path = Path(guard.conn.execute("PRAGMA database_list").fetchone()["file"])
    finish(guard)
    assert logical_digest(native_path) == logical_digest(path)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_recording_changes_nothing(tmp_path: Path, scenario: str) -> None:
    """A connection that only records (way B) shows and does what Python's own does."""
    seen = []
    for factory in (sqlite3.Connection, RecordingConnection):
        path = tmp_path / f"{factory.__name__}.db"
        make(path)
        with closing(sqlite3.connect(path, factory=factory)) as conn:
            seen.append(shown(SCENARIOS[scenario](conn)))
            conn.commit()
        seen.append(logical_digest(path))

    assert seen[:2] == seen[2:]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`autocommit` came with Python 3.12")
@pytest.mark.parametrize("value", [True, False, -1])
def test_autocommit_is_acted_out(guard: Guard, tmp_path: Path, value: int) -> None:
    """Python 3.12's `autocommit` shows and does what it does on a connection of Python's own."""
    native_path = tmp_path / "native.db"
    make(native_path)

    def act(conn: Any) -> list[Any]:
        seen: list[Any] = [conn.autocommit, conn.in_transaction]
        conn.autocommit = value
        seen += [conn.autocommit, conn.in_transaction]
        conn.execute(INSERT)
        seen.append(conn.in_transaction)
        conn.rollback()
        seen += [conn.in_transaction, rows(conn)]
        conn.execute("INSERT INTO t VALUES (4)")
        conn.executescript("INSERT INTO t VALUES (5)")
        seen += [conn.in_transaction, with_block(conn, "INSERT INTO t VALUES (6)", INSERT)]
        conn.commit()
        seen += [conn.in_transaction, _raised(lambda: setattr(conn, "autocommit", 2))]
        conn.autocommit = sqlite3.LEGACY_TRANSACTION_CONTROL  # type: ignore[attr-defined,unused-ignore]
        return [*seen, rows(conn)]

    with closing(sqlite3.connect(native_path)) as native:
        expected = act(native)

    assert expected == act(guard.conn)
    assert guard.in_transaction


def test_nothing_is_committed_before_the_end_of_the_run(path: Path) -> None:
    """No commit of a migration reaches the file: a rollback of the run undoes all of it."""
    before = logical_digest(path)
    guard = open_guard(path)
    guard.begin()
    guard.start_migration()
    conn = guard.conn
    conn.execute(INSERT)
    conn.commit()
    conn.execute("BEGIN")
    conn.execute("COMMIT")
    conn.executescript("COMMIT; CREATE TABLE u (a); END;")
    with conn:
        conn.execute("INSERT INTO t VALUES (4)")
    conn.isolation_level = None
    sqlite3.Connection.commit(conn)
    sqlite3.Cursor(conn).execute("COMMIT")
    guard.finish_migration()
    guard.rollback()
    guard.close()

    assert before == logical_digest(path)


def test_what_was_not_committed_is_kept_at_the_end(guard: Guard, path: Path) -> None:
    """A migration that returns without a commit has succeeded like any other."""
    guard.conn.execute(INSERT)
    guard.conn.execute("SAVEPOINT left_open")
    finish(guard)

    assert [1, 2, 3] == stored(path)
