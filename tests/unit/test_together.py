"""The rows of a dump are given to SQLite many at a time, and nothing is different for it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from migrator.database.sqlite_locks import SqliteLocks
from migrator.parsing import sql
from migrator.session import recording
from migrator.session.changes import Deleted
from migrator.session.guard import Guard, open_guard
from migrator.session.together import batches
from migrator.strategy.in_place import InPlaceSession

SCHEMA = """
    CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT NOT NULL);
    CREATE TABLE u (a CHECK (a <> 'never'));
    CREATE TABLE log (a);
    CREATE TABLE ends (a UNIQUE ON CONFLICT ROLLBACK);
    CREATE VIEW v AS SELECT id, a FROM t;
    CREATE TRIGGER through INSTEAD OF INSERT ON v BEGIN
        INSERT INTO t VALUES (NEW.id, NEW.a);
        INSERT INTO u VALUES (NEW.a);
    END;
    CREATE TRIGGER logged AFTER INSERT ON u BEGIN INSERT INTO log VALUES (NEW.a); END;
    CREATE VIRTUAL TABLE words USING fts5 (word);
    CREATE TABLE broken (a);
    CREATE TRIGGER breaks AFTER INSERT ON broken BEGIN INSERT INTO nowhere VALUES (1); END;
"""
NUMBER = 150
"""More than two batches, with the table's own statement before them."""

CODE: Any = SimpleNamespace(is_code=True, wants_cursor=False, sql_up=None, sql_down=None)
PLAIN: Any = SimpleNamespace(is_code=False, wants_cursor=False)


def opened(path: Path) -> Guard:
    """Return a guard in its transaction, in a migration, on a new database of that name."""
    with closing(sqlite3.connect(path)) as conn:
        conn.executescript(SCHEMA)
    guard = open_guard(path)
    guard.begin()
    guard.start_migration()
    return guard


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guard]:
    """Return a guard whose connection takes statements together."""
    guard = opened(tmp_path / "app.db")
    guard.conn.together = True
    yield guard
    guard.rollback()
    guard.close()


def dump(table: str = "t", row: str = "({}, 'the text;')") -> list[str]:
    """Return statements that fill a table."""
    return [f"INSERT INTO {table} VALUES {row.format(number)};" for number in range(NUMBER)]


def outcome(path: Path, script: str, *, together: bool) -> tuple[Any, ...]:
    """Run a script; return its error and where it is, what was recorded and what is there."""
    guard = opened(path)
    guard.conn.together = together
    raised: BaseException | None = None
    try:
        guard.conn.run_statements(sql.split(script))
    except sqlite3.Error as error:
        raised = error
    found = guard.failure(raised)
    record = guard.record
    about = (
        raised and (type(raised), str(raised), raised.sqlite_errorcode),
        found and (found.text, found.line, str(found.error)),
        guard.ended,
        guard.refused and str(guard.refused),
        sorted(record.written),
        list(record.ledger),
    )
    with guard.engine() as conn:
        rows = [
            conn.execute(f"SELECT * FROM {table}").fetchall()
            for table in ("t", "u", "log", "ends", "words")
        ]
    guard.rollback()
    guard.close()
    return *about, rows


# --- one call ---------------------------------------------------------------


def test_a_dump_costs_a_call_for_many_rows(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each further row costs no call of its own."""
    calls: list[str] = []
    executescript, execute = recording._executescript, recording._execute

    def script(cursor: sqlite3.Cursor, text: str) -> object:
        calls.append(text)
        return executescript(cursor, text)

    def one(cursor: sqlite3.Cursor, text: str, parameters: Any) -> object:
        calls.append(text)
        return execute(cursor, text, parameters)

    monkeypatch.setattr(recording, "_executescript", script)
    monkeypatch.setattr(recording.RecordingConnection._run, "__defaults__", (None, one))
    guard.conn.run_statements(sql.split("\n".join(dump())))
    assert 3 == len(calls)
    assert "".join(dump()) == "".join(calls)


def test_only_what_inserts_into_one_table_is_given_together() -> None:
    """The tables' names are compared whole, and each statement is in one list, in order."""
    script = """
        CREATE TABLE x (a);
        INSERT INTO x VALUES (1); insert into x VALUES (2); INSERT INTO x VALUES (3);
        INSERT INTO x VALUES (4); INSERT INTO xy VALUES (1); INSERT INTO xy(a) VALUES (2);
        INSERT INTO "a(b" VALUES (1); INSERT INTO "a(c" VALUES (1); INSERT INTO "a(c" VALUES (2);
        INSERT OR ROLLBACK INTO x VALUES (5); INSERT OR ROLLBACK INTO x VALUES (6);
        DELETE FROM x; DELETE FROM x;
    """
    statements = sql.split(script)
    found = [*batches(statements)]
    assert [1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1, 1] == [len(batch) for batch in found]
    assert list(statements) == [each for batch in found for each in batch]


def test_a_long_statement_is_given_alone() -> None:
    """What one call is given stays below what SQLite takes at once."""
    long = "INSERT INTO x VALUES ('" + "x" * 5000 + "');"
    short = "INSERT INTO x VALUES ('x');"
    lengths = [len(each) for each in batches(sql.split(long + long + short + short + long))]
    assert [1, 1, 2, 1] == lengths


# --- what is the same -------------------------------------------------------

WRONG = {
    "a constraint": "INSERT INTO t VALUES (3, 'twice');",
    "another constraint": "INSERT INTO t VALUES (NULL, NULL);",
    "no SQL": "INSERT INTO t VALUES (1,, 2);",
    "no table of that name": "INSERT INTO t VALUES ((SELECT a FROM nothing), 'x');",
    "no column of that name": "INSERT INTO t VALUES (missing, 'x');",
    "too many values": "INSERT INTO t VALUES (1000, 'x', 'x');",
    "too few rows": "INSERT INTO t VALUES (1000, 'x'), (1001);",
    "no function of that name": "INSERT INTO t VALUES (unknown(1), 'x');",
    "SQL's own error": "INSERT INTO t VALUES (1000, abs(-9223372036854775808));",
}


@pytest.mark.parametrize("at", [0, 1, 63, 64, NUMBER - 1])
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_the_error_names_its_statement(tmp_path: Path, wrong: str, at: int) -> None:
    """Wherever in a batch it is, with the line and with the rows that came before it."""
    lines = dump()
    lines[3] = "INSERT INTO t VALUES (3, 'once');"
    lines.insert(max(at, 4) if "twice" in wrong else at, wrong)
    script = "\n".join(lines)
    found = outcome(tmp_path / "together.db", script, together=True)
    assert outcome(tmp_path / "alone.db", script, together=False) == found
    assert (wrong, lines.index(wrong) + 1) == found[1][:2]


SAME = {
    "nothing wrong": "\n".join(dump()),
    "two that are no SQL": "\n".join([*dump()[:70], *["INSERT INTO t VALUES (;"] * 3]),
    "a row twice, then no SQL": "\n".join([*dump()[:9], dump()[0], "INSERT INTO t VALUES (;"]),
    "many with too few values": "\n".join([*dump()[:9], *["INSERT INTO t VALUES (NULL);"] * 5]),
    "a view": "\n".join(dump("v")),
    "a view, and a row twice": "\n".join([*dump("v"), dump("v")[5], dump("v")[6]]),
    "a table with a trigger": "\n".join(dump("u", "('{}')")),
    "a check behind a view": "\n".join([*dump("v"), "INSERT INTO v VALUES (1000, 'never');"]),
    "a trigger that cannot be compiled": "\n".join(dump("broken", "({})")),
    "a virtual table": "\n".join(dump("words", "('word {}')")),
    "a virtual table, and no SQL": "\n".join(
        [*dump("words", "('word {}')"), "INSERT INTO words VALUES (;"]
    ),
    "a virtual table, and too many values": "\n".join(
        [*dump("words", "('word {}')"), "INSERT INTO words VALUES (1, 2);"]
    ),
    "the end of the transaction": "\n".join([*dump("ends", "({})"), *dump("ends", "({})")]),
    "the end of the transaction, and no SQL": "\n".join(
        [*dump("ends", "({})")[:5], "INSERT INTO ends VALUES (1);", "INSERT INTO ends VALUES (;"]
    ),
    "rows that are given back": "\n".join(
        f"INSERT INTO t VALUES ({n}, 'x') RETURNING id, a;" for n in range(NUMBER)
    ),
    "a table of its own": "CREATE TABLE mine (a);\n" + "\n".join(dump("mine", "({})")),
    "the history's own commands": "BEGIN;\n" + "\n".join(dump()) + "\nCOMMIT;",
    "rows deleted between": "\n".join([*dump()[:50], "DELETE FROM t;", *dump()[50:]]),
    "no semicolon at the end": "\n".join(dump()).removesuffix(";"),
    "comments between": "\n-- a; comment\n/* and ' another */".join(dump()),
}


@pytest.mark.parametrize("script", SAME.values(), ids=SAME)
def test_nothing_else_is_different(tmp_path: Path, script: str) -> None:
    """The rows, the error with its place, what was written, and whether the transaction is open."""
    found = outcome(tmp_path / "together.db", script, together=True)
    assert outcome(tmp_path / "alone.db", script, together=False) == found


def test_a_batch_commits_nothing(guard: Guard, tmp_path: Path) -> None:
    """`executescript` begins with a COMMIT, and the run's transaction stays open."""
    guard.conn.run_statements(sql.split("\n".join(dump())))
    assert guard.in_transaction
    guard.rollback()
    guard.close()
    with closing(sqlite3.connect(tmp_path / "app.db")) as conn:
        assert (0,) == conn.execute("SELECT count(*) FROM t").fetchone()


def test_what_comes_after_a_batch_is_recorded_by_itself(guard: Guard) -> None:
    """Also after one that failed and was swallowed."""
    with pytest.raises(sqlite3.IntegrityError):
        guard.conn.run_statements(sql.split("\n".join([*dump(), dump()[0]])))
    assert not guard.record.together
    guard.conn.run_statements(sql.split("\n".join(dump("u", "({})"))))
    assert not guard.record.together
    assert None is guard.record.line
    guard.conn.execute("DELETE FROM t")
    (deleted,) = guard.record.ledger
    assert isinstance(deleted, Deleted)
    assert "t" == deleted.table


def test_nothing_is_written_once_the_locks_are_lost_within_a_batch(
    guard: Guard, tmp_path: Path
) -> None:
    """The statement after it is refused, by its own line."""
    path = tmp_path / "app.db"
    guard.open_journal()
    guard.watch(SqliteLocks.note(path, lambda: guard.in_transaction, alone=True))

    def lose(number: int) -> int:
        if number == 20:
            os.close(os.open(path, os.O_RDONLY))
            time.sleep(0.01)
        return number

    guard.conn.create_function("lose", 1, lose)
    with pytest.raises(sqlite3.Error, match="locks"):
        guard.conn.run_statements(sql.split("\n".join(dump("t", "(lose({}), 'x')"))))
    failed = guard.record.failed
    assert failed is not None
    assert (dump("t", "(lose({}), 'x')")[21], 22) == (failed.text, failed.line)
    guard.watch(None)
    with guard.engine() as conn:
        assert (21,) == conn.execute("SELECT count(*) FROM t").fetchone()


def test_a_rehearsal_measures_each_statement(guard: Guard) -> None:
    """None of them is hidden behind another."""
    measured = []

    def measure(cursor: Any, statement: Any, parameters: Any, call: Any) -> None:
        measured.append(statement)
        call(cursor, statement, parameters)

    guard.conn.measure = measure
    guard.conn.run_statements(sql.split("\n".join(dump())))
    assert dump() == measured


# --- whose statements -------------------------------------------------------


@pytest.mark.parametrize("worker", [True, False])
def test_only_a_run_of_sql_alone_in_a_worker_takes_statements_together(
    tmp_path: Path, worker: bool
) -> None:
    """A signal's exception would be lost in the caller's process; a function may execute more."""
    guard = opened(tmp_path / "app.db")
    session = InPlaceSession(guard, worker=worker)
    found = []
    for script in (PLAIN, PLAIN, CODE, PLAIN):
        with session.migration(script):
            found.append(guard.conn.together)
    assert [worker, worker, False, False] == found
    guard.rollback()
    guard.close()
