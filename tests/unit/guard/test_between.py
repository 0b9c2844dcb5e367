"""Between two migrations the connection is as new, and its cursors are closed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from migrator.session.authorizer import RefusedError
from migrator.session.guard import Guard, open_guard
from tests.unit.guard.common import INSERT, failing, finish, rows, stored


def test_everything_of_the_connection_is_put_back(guard: Guard) -> None:
    """Settings, factories, handlers, limits and control are as new for the next migration."""
    conn: Any = guard.conn
    settings = {
        "legacy_alter_table": 1, "writable_schema": 1, "ignore_check_constraints": 1,
        "recursive_triggers": 1, "defer_foreign_keys": 1, "reverse_unordered_selects": 1,
        "trusted_schema": 0, "cache_spill": 0, "cell_size_check": 1, "checkpoint_fullfsync": 1,
        "fullfsync": 1, "secure_delete": 0, "cache_size": 17, "busy_timeout": 4711,
        "max_page_count": 4000, "query_only": 1,
    }  # fmt: skip
    before = {name: conn.execute(f"PRAGMA {name}").fetchone()[0] for name in settings}
    calls: list[Any] = []
    for name, value in settings.items():
        conn.execute(f"PRAGMA {name}={value}")
    changed = {name: conn.execute(f"PRAGMA {name}").fetchone()[0] for name in settings}
    conn.execute("PRAGMA case_sensitive_like=1")
    conn.row_factory, conn.text_factory, conn.isolation_level = dict, bytes, None
    conn.set_progress_handler(lambda: calls.append(1), 1)
    conn.set_trace_callback(calls.append)
    conn.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, 500)
    sqlite3.Connection.set_authorizer(conn, None)
    guard.finish_migration()
    calls.clear()

    guard.start_migration()
    found = {name: conn.execute(f"PRAGMA {name}").fetchone()[0] for name in settings}

    assert [] == [name for name in settings if changed[name] == before[name]]
    assert before == found
    assert 1 == conn.execute("SELECT 'a' LIKE 'A'").fetchone()[0]
    assert (sqlite3.Row, str, "") == (conn.row_factory, conn.text_factory, conn.isolation_level)
    assert [] == calls
    assert 500 < conn.getlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH)
    with pytest.raises(RefusedError):
        conn.execute("ATTACH ':memory:' AS other")


def test_a_failed_run_puts_the_connection_back_too(guard: Guard, path: Path) -> None:
    """After a rollback, nothing that a migration has set is in the way of a restore."""
    conn = guard.conn
    conn.execute("PRAGMA query_only=1")
    conn.set_progress_handler(lambda: 1, 1)
    guard.rollback()

    with guard.engine(), closing(sqlite3.connect(":memory:")) as backup:
        backup.executescript("CREATE TABLE t (a); INSERT INTO t VALUES (7)")
        assert 0 == conn.execute("PRAGMA query_only").fetchone()[0]
        backup.backup(conn)
    guard.close()
    assert [7] == stored(path)


def test_secure_delete_fast_is_put_back_as_fast(path: Path) -> None:
    """A setting that is read as a number and set by a word is put back by the word."""
    guard = open_guard(path)
    with guard.engine() as conn:
        conn.execute("PRAGMA secure_delete=FAST")
    guard.begin()
    guard.start_migration()
    guard.conn.execute("PRAGMA secure_delete=1")
    guard.finish_migration()

    with guard.engine() as conn:
        assert 2 == conn.execute("PRAGMA secure_delete").fetchone()[0]
    guard.rollback()
    guard.close()


def test_temporary_objects_are_dropped(guard: Guard) -> None:
    """No temporary table, view, trigger or virtual table of one migration meets the next."""
    guard.conn.executescript("""
        CREATE TEMP TABLE "odd "" name" (id INTEGER PRIMARY KEY AUTOINCREMENT);
        CREATE TEMP VIEW v AS SELECT * FROM t;
        CREATE TEMP TRIGGER x AFTER INSERT ON main.t BEGIN SELECT RAISE(ABORT, 'left over'); END;
        CREATE VIRTUAL TABLE temp.f USING fts5 (a);
        CREATE TEMP TABLE t (shadows);
    """)
    guard.finish_migration()
    guard.start_migration()

    left = guard.conn.execute("SELECT name FROM sqlite_temp_master").fetchall()
    assert {"sqlite_sequence"} >= {row["name"] for row in left}
    guard.conn.execute(INSERT)
    assert [1, 2, 3] == rows(guard.conn)


def test_open_cursors_are_closed(guard: Guard) -> None:
    """A query that was left unfinished does not lock the table for the next migration."""
    conn = guard.conn
    kept = [conn.execute("SELECT * FROM t"), sqlite3.Cursor(conn).execute("SELECT * FROM t")]
    kept[0].fetchone()
    forgotten = (row for row in conn.execute("SELECT * FROM t"))
    next(forgotten)
    guard.finish_migration()
    guard.start_migration()

    conn.execute("DROP TABLE t")

    with pytest.raises(sqlite3.ProgrammingError):
        kept[0].fetchone()


def test_open_blobs_are_closed(guard: Guard) -> None:
    """A blob that was left open can be written by nobody any more."""
    guard.conn.executescript("CREATE TABLE u (a); INSERT INTO u VALUES (zeroblob(10));")
    blob = guard.conn.blobopen("u", "a", 1)
    blob.write(b"x")
    guard.finish_migration()

    with pytest.raises(sqlite3.ProgrammingError):
        blob.write(b"y")


def test_savepoints_left_open_end_with_their_migration(guard: Guard, path: Path) -> None:
    """The next migration cannot roll back to a savepoint of the one before."""
    guard.conn.execute("SAVEPOINT mine")
    guard.conn.execute(INSERT)
    guard.finish_migration()
    guard.start_migration()

    assert "OperationalError: no such savepoint: mine" == failing(guard.conn, "ROLLBACK TO mine")
    assert not guard.conn.in_transaction
    finish(guard)
    assert [1, 2, 3] == stored(path)


def test_functions_of_a_migration_stay(guard: Guard) -> None:
    """A function that a CHECK of the new schema needs is there for the verification."""
    guard.conn.create_function("own", 1, lambda value: value, deterministic=True)
    guard.conn.execute("CREATE TABLE u (a CHECK (own(a) > 0))")
    guard.finish_migration()

    with guard.engine() as conn:
        assert "ok" == conn.execute("PRAGMA integrity_check").fetchone()[0]


def test_what_was_opened_for_a_function_is_closed_with_the_connection(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine asks another connection which functions are SQLite's own, and leaves none open."""
    made: list[sqlite3.Connection] = []
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *a, **k: made.append(connect(*a, **k)) or made[-1]
    )
    guard.conn.create_function("own", 1, lambda value: value)
    guard.finish_migration()
    guard.close()

    assert len(made) == 1
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[0].execute("SELECT 1")


def test_rollback_undoes_nothing_of_the_migration_before(guard: Guard) -> None:
    """What one migration left uncommitted is not the next one's to roll back."""
    guard.conn.execute(INSERT)
    guard.finish_migration()
    guard.start_migration()
    guard.conn.rollback()

    assert [1, 2, 3] == rows(guard.conn)


def test_the_engine_is_neither_refused_nor_recorded(guard: Guard) -> None:
    """Within `engine()` rows are plain, nothing is refused, and the record stays as it is."""
    guard.conn.row_factory = lambda *_: "a migration's"
    with guard.engine() as conn:
        conn.execute(INSERT)
        assert [(1,), (2,), (3,)] == conn.execute("SELECT a FROM t ORDER BY a").fetchall()
        with pytest.raises(sqlite3.IntegrityError):
            conn.execute(INSERT)

    assert set() == guard.record.written
    assert guard.record.failed is None
    assert not guard.conn.in_transaction
    assert "a migration's" == guard.conn.execute("SELECT 1").fetchone()


def test_an_unfinished_query_does_not_outlive_the_guard(path: Path) -> None:
    """Closing gives the lock back, though somebody still holds a cursor amid its rows."""
    guard = open_guard(path)
    guard.begin()
    guard.start_migration()
    kept = guard.conn.execute("SELECT * FROM t")
    guard.commit()
    guard.close()

    assert [1, 2] == stored(path)
    assert kept is not None


# --- cursors --------------------------------------------------------------------


class Plain(sqlite3.Cursor):
    """A cursor class of a migration's own."""

    def shout(self) -> str:
        """Return what the class adds."""
        return "own"


@pytest.mark.parametrize("factory", [sqlite3.Cursor, Plain])
def test_cursors_of_ones_own_class_are_guarded(guard: Guard, factory: type) -> None:
    """A cursor class of a migration's own is what it was, and guarded."""
    cursor = guard.conn.cursor(factory)
    cursor.execute(INSERT)

    assert isinstance(cursor, factory)
    assert guard.conn.in_transaction
    assert {"t"} == guard.record.written
    assert not hasattr(cursor, "shout") or "own" == cursor.shout()
    assert type(cursor) is type(guard.conn.cursor(factory=factory))


def test_a_factory_that_is_no_class_is_an_error(conn: sqlite3.Connection) -> None:
    """A factory that makes cursors the guard cannot see is refused with the way out."""
    with pytest.raises(TypeError, match=r"must be a subclass of sqlite3\.Cursor"):
        conn.cursor(lambda connection: sqlite3.Cursor(connection))  # noqa: PLW0108


def test_a_list_is_executed_in_one_call(guard: Guard) -> None:
    """`executemany` hands a list on as it is: no code runs between two rows."""
    parameters = [(3,), (4,)]

    assert guard.conn._watched(parameters) is parameters
