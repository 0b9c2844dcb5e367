"""SQLite ends the transaction by itself: nothing is executed after it, and the error is known."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from migrator.session.authorizer import RefusedError
from migrator.session.guard import Guard, open_guard
from migrator.session.recording import RecordingConnection
from tests.unit.guard.common import INSERT, failing, stored, with_block


def _interrupt(conn: RecordingConnection) -> None:
    conn.create_function("stop", 0, conn.interrupt)
    with conn.lent():
        conn.execute("INSERT INTO t SELECT stop() FROM t, t, t")


def _full(conn: sqlite3.Connection) -> None:
    pages = conn.execute("PRAGMA page_count").fetchone()[0]
    conn.execute(f"PRAGMA max_page_count={pages + 2}")
    conn.execute("INSERT INTO t VALUES (zeroblob(100000))")


ENDINGS: dict[str, Callable[[Any], Any]] = {
    "insert or rollback": lambda c: c.execute("INSERT OR ROLLBACK INTO t VALUES (1)"),
    "in a script": lambda c: c.executescript("INSERT OR ROLLBACK INTO t VALUES (1)"),
    "update or rollback": lambda c: c.execute("UPDATE OR ROLLBACK t SET a = 1"),
    "executemany": lambda c: c.executemany("INSERT OR ROLLBACK INTO t VALUES (?)", [(7,), (1,)]),
    "raise(rollback)": lambda c: c.executescript(
        "CREATE TRIGGER x BEFORE INSERT ON t BEGIN SELECT RAISE(ROLLBACK, 'no'); END;"
        "INSERT INTO t VALUES (9);"
    ),
    "interrupt": _interrupt,
    "full": _full,
}

AFTERWARDS: dict[str, Callable[[sqlite3.Connection], Any]] = {
    "insert": lambda c: c.execute(INSERT),
    "create": lambda c: c.execute("CREATE TABLE u (a)"),
    "select": lambda c: c.execute("SELECT 1"),
    "begin": lambda c: c.execute("BEGIN"),
    "savepoint": lambda c: c.execute("SAVEPOINT a"),
    "executemany": lambda c: c.executemany("INSERT INTO t VALUES (?)", [(3,)]),
    "script": lambda c: c.executescript("CREATE TABLE u (a);"),
    "commit": lambda c: c.commit(),
    "with": lambda c: with_block(c, INSERT) == "passed",
    "raw cursor": lambda c: sqlite3.Cursor(c).execute(INSERT),
    "raw commit": lambda c: sqlite3.Cursor(c).execute("COMMIT"),
    "blob": lambda c: c.blobopen("t", "a", 1),
    "isolation": lambda c: setattr(c, "isolation_level", None),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_is_executed_once_sqlite_has_ended_the_transaction(
    guard: Guard, path: Path, ending: str
) -> None:
    """After an automatic rollback everything is refused; the first error is the one reported."""
    conn = guard.conn
    conn.execute("INSERT INTO t VALUES (5)")
    with pytest.raises(sqlite3.Error) as first:
        ENDINGS[ending](conn)
    assert guard.ended
    for name, action in AFTERWARDS.items():
        if name == "with":
            assert not action(conn)
            continue
        with pytest.raises(sqlite3.DatabaseError):
            action(conn)
    conn.rollback()

    assert first.value is guard.ended_by
    assert first.value is getattr(guard.failure(RuntimeError("another")), "error", None)
    assert guard.refused is None
    assert not conn.in_transaction
    guard.finish_migration()
    guard.rollback()
    guard.close()
    assert [1, 2] == stored(path)


def test_an_ended_transaction_is_explained_in_each_refusal(conn: sqlite3.Connection) -> None:
    """The message of what is refused afterwards repeats the error that it all began with."""
    with pytest.raises(sqlite3.IntegrityError):
        conn.execute("INSERT OR ROLLBACK INTO t VALUES (1)")

    with pytest.raises(RefusedError, match=r"SQLite ended the transaction: UNIQUE .*: t\.a"):
        conn.execute(INSERT)


def test_an_executemany_under_way_stops_too(guard: Guard, path: Path) -> None:
    """A generator that makes SQLite end the transaction feeds no further row."""
    conn = guard.conn

    def parameters() -> Iterator[tuple[int]]:
        yield (5,)
        failing(conn, "INSERT OR ROLLBACK INTO t VALUES (1)")
        yield (6,)
        yield (7,)

    with pytest.raises(RefusedError, match="SQLite ended the transaction"):
        conn.executemany("INSERT INTO t VALUES (?)", parameters())
    guard.rollback()
    guard.close()

    assert [1, 2] == stored(path)


def test_an_end_that_a_raw_cursor_has_caused_is_noticed(guard: Guard) -> None:
    """Where the guard has not seen the error, it still knows that the transaction is gone."""
    with pytest.raises(sqlite3.IntegrityError):
        sqlite3.Cursor(guard.conn).execute("INSERT OR ROLLBACK INTO t VALUES (1)")

    assert guard.ended
    assert isinstance(guard.ended_by, RefusedError)
    assert guard.failure(None) is not None
    with pytest.raises(RefusedError, match="SQLite ended the transaction"):
        guard.conn.execute(INSERT)


def test_nothing_is_executed_before_and_after_the_run(path: Path) -> None:
    """What a migration has kept of the connection is of no use outside of the transaction."""
    guard = open_guard(path)
    with pytest.raises(RefusedError, match="not open"):
        guard.conn.execute(INSERT)
    guard.begin()
    guard.commit()
    for action in AFTERWARDS.values():
        with pytest.raises((sqlite3.Error, AssertionError)):
            assert action(guard.conn)
    guard.close()

    assert [1, 2] == stored(path)


# --- errors -------------------------------------------------------------------


def test_the_failing_statement_of_a_script_is_known_with_its_line(guard: Guard) -> None:
    """Of a script that fails, the statement and its line in the script are remembered."""
    script = "CREATE TABLE u (a);\n\n-- next\nINSERT INTO u VALUES (1);\nINSERT\n INTO missing;\n"
    with pytest.raises(sqlite3.OperationalError) as caught:
        guard.conn.executescript(script)

    failure = guard.failure(caught.value)
    assert failure is not None
    assert ("INSERT\n INTO missing;", 5) == (failure.text, failure.line)


def test_an_error_while_rows_are_fetched_belongs_to_its_statement(guard: Guard) -> None:
    """A statement that fails after its first row is named as well."""
    statement = "SELECT abs(CASE WHEN a = 2 THEN -9223372036854775808 ELSE a END) FROM t"
    with pytest.raises(sqlite3.OperationalError) as caught:
        guard.conn.execute(statement).fetchall()

    failure = guard.failure(caught.value)
    assert failure is not None
    assert (statement, caught.value) == (failure.text, failure.error)


def test_a_wrapped_error_leads_to_its_statement(guard: Guard) -> None:
    """An exception that a migration makes of SQLite's leads to the statement that failed."""
    try:
        try:
            guard.conn.execute("INSERT INTO t VALUES (1)")
        except sqlite3.Error as error:
            msg = "import failed"
            raise RuntimeError(msg) from error
    except RuntimeError as error:
        failure = guard.failure(error)

    assert failure is not None
    assert "INSERT INTO t VALUES (1)" == failure.text


def test_a_swallowed_error_is_not_what_a_later_exception_is_about(guard: Guard) -> None:
    """An exception that has nothing to do with SQLite has no statement."""
    failing(guard.conn)

    assert guard.failure(ValueError("no")) is None
    assert guard.failure(None) is None


@pytest.mark.parametrize("statement", ["ROLLBACK", "ROLLBACK TO missing"])
def test_a_failing_rollback_does_not_hide_the_first_error(guard: Guard, statement: str) -> None:
    """Where a rollback is refused or fails while an error is handled, the first one is reported."""
    try:
        try:
            guard.conn.execute("INSERT INTO t VALUES (1)")
        except sqlite3.Error:
            guard.conn.execute(statement)
            raise
    except sqlite3.Error as error:
        failure = guard.failure(error)

    assert failure is not None
    assert "UNIQUE constraint failed: t.a" == str(failure.error)
    assert "INSERT INTO t VALUES (1)" == failure.text
