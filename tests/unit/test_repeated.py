"""What is known of a statement, a migration or a process is not asked again, and nothing is missed."""

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

from migrator.database import sqlite_locks
from migrator.database.sqlite_locks import SqliteLocks
from migrator.parsing import sql
from migrator.process import state
from migrator.process.signals import Signals
from migrator.process.state import ProcessStates
from migrator.session.authorizer import RefusedError
from migrator.session.guard import Guard, open_guard
from migrator.session.record import Record
from migrator.strategy.in_place import InPlaceSession
from migrator.strategy.on_copy import CopySession
from tests.support.recorder import Recorder

INSERT = "INSERT INTO t VALUES (?)"
CODE: Any = SimpleNamespace(
    is_code=True, wants_cursor=False, wants_path=False, sql_up=None, sql_down=None
)
PLAIN: Any = SimpleNamespace(is_code=False, wants_cursor=False, wants_path=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a database with the tables `t`, with the rows 1 and 2, and `u`."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.executescript(
            "CREATE TABLE t (a UNIQUE); INSERT INTO t VALUES (1), (2); CREATE TABLE u (a);"
        )
    return path


@pytest.fixture
def guard(path: Path) -> Iterator[Guard]:
    """Return a guard in its transaction, in a migration that has executed a statement twice."""
    guard = open_guard(path)
    guard.begin()
    guard.start_migration()
    guard.conn.execute(INSERT, (10,))
    guard.conn.execute(INSERT, (11,))
    yield guard
    guard.rollback()
    guard.close()


def rows(conn: sqlite3.Connection) -> list[Any]:
    """Return what `t` holds."""
    return [row[0] for row in conn.execute("SELECT a FROM t ORDER BY a")]


# --- a statement that is executed again --------------------------------------


def test_a_repeated_statement_is_asked_about_once(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each further row costs no question of SQLite's, whichever cursor writes it."""
    asked = []
    authorize = Record.authorize
    monkeypatch.setattr(
        Record, "authorize", lambda *question: (asked.append(question), authorize(*question))
    )
    for number in range(100, 200):
        guard.conn.execute(INSERT, (number,))
        guard.conn.cursor().execute("INSERT INTO u VALUES (?)", (number,))
    assert 1 == len(asked)
    assert 104 == len(rows(guard.conn))
    assert {"t", "u"} == guard.record.written


def test_the_next_migration_is_asked_about_anew(guard: Guard) -> None:
    """Its record has the tables that it wrote to itself."""
    guard.finish_migration()
    guard.start_migration()
    guard.conn.execute(INSERT, (12,))
    assert {"t"} == guard.record.written


def test_what_the_engine_has_executed_is_asked_about(guard: Guard) -> None:
    """The engine is not asked, so nothing is known of its statements."""
    guard.conn.execute("INSERT INTO t VALUES (12)")
    with guard.engine() as conn:
        conn.execute("INSERT INTO u VALUES (?)", (1,))
    guard.conn.execute("INSERT INTO u VALUES (?)", (2,))
    assert {"t", "u"} == guard.record.written


def test_a_trigger_made_meanwhile_is_heard_of(guard: Guard) -> None:
    """A changed schema makes SQLite prepare the statement once more, and ask."""
    guard.conn.execute("CREATE TRIGGER x AFTER INSERT ON t BEGIN DELETE FROM u; END")
    guard.conn.execute(INSERT, (12,))
    assert {"t", "u"} <= guard.record.written


def test_a_plain_cursor_is_asked_each_time(guard: Guard, path: Path) -> None:
    """What only a recording cursor knows serves no other one: the transaction may have ended."""
    cursor = sqlite3.Cursor(guard.conn)
    cursor.execute(INSERT, (12,))
    with pytest.raises(sqlite3.IntegrityError):
        cursor.execute("INSERT OR ROLLBACK INTO t VALUES (1)")
    with pytest.raises(sqlite3.DatabaseError):
        cursor.execute(INSERT, (13,))
    guard.close()
    with closing(sqlite3.connect(path)) as conn:
        assert [1, 2] == rows(conn)


def test_nothing_is_repeated_once_sqlite_has_ended_the_transaction(
    guard: Guard, path: Path
) -> None:
    """It would be committed at once, behind the run's back."""
    with pytest.raises(sqlite3.IntegrityError):
        guard.conn.execute("INSERT OR ROLLBACK INTO t VALUES (1)")
    with pytest.raises(RefusedError):
        guard.conn.execute(INSERT, (12,))
    guard.close()
    with closing(sqlite3.connect(path)) as conn:
        assert [1, 2] == rows(conn)


def test_a_repeated_statement_begins_a_transaction_where_python_would(guard: Guard) -> None:
    """After a commit, a rollback undoes what came after it and no more."""
    guard.conn.commit()
    guard.conn.execute(INSERT, (12,))
    guard.conn.rollback()
    assert [1, 2, 10, 11] == rows(guard.conn)


def test_a_forked_process_repeats_nothing(guard: Guard) -> None:
    """It would write into the journal of its parent."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            guard.conn.execute(INSERT, (12,))
        except RefusedError:
            code = 0
        finally:
            os._exit(code)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_nothing_is_repeated_without_the_locks(guard: Guard, path: Path) -> None:
    """Another process may have written meanwhile."""
    guard.open_journal()
    locks = SqliteLocks.note(path, lambda: guard.in_transaction, alone=True)
    guard.watch(locks)
    guard.conn.execute(INSERT, (12,))
    os.close(os.open(path, os.O_RDONLY))
    time.sleep(0.01)
    with pytest.raises(RefusedError, match="locks"):
        guard.conn.execute(INSERT, (13,))
    guard.watch(None)


@pytest.mark.parametrize("script", [False, True], ids=["a statement", "a script"])
def test_what_is_not_repeated_looks_at_the_locks_itself(
    guard: Guard, path: Path, monkeypatch: pytest.MonkeyPatch, script: bool
) -> None:
    """However short ago the last look was: code has run since, and the statement may be long."""
    monkeypatch.setattr(sqlite_locks, "_LATELY", 60.0)
    guard.open_journal()
    guard.watch(SqliteLocks.note(path, lambda: guard.in_transaction, alone=True))
    guard.conn.execute(INSERT, (12,))
    os.close(os.open(path, os.O_RDONLY))
    execute = guard.conn.executescript if script else guard.conn.execute
    with pytest.raises(RefusedError, match="locks"):
        execute("UPDATE t SET a = a + 100")
    guard.watch(None)


def test_the_error_is_the_statements_own(guard: Guard) -> None:
    """A refusal that nobody has heard of is not told of the statement after it."""
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.Cursor(guard.conn).execute("ATTACH ':memory:' AS other")
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        guard.conn.execute(INSERT, (10,))


def test_a_repeated_query_is_one_of_its_own_each_time(guard: Guard) -> None:
    """Two that are under way do not share their rows, and one left halfway locks no table."""
    query = "SELECT a FROM t ORDER BY a"
    for _ in range(3):
        assert 1 == guard.conn.execute(query).fetchone()[0]
    one, two = guard.conn.execute(query), guard.conn.execute(query)
    assert [1, 1, 2, 2] == [each.fetchone()[0] for each in (one, two, one, two)]
    del one, two
    guard.conn.execute("DROP TABLE t")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        guard.conn.execute(query)
    guard.conn.execute("CREATE TABLE t (a, b)")
    guard.conn.execute("INSERT INTO t VALUES (7, 8)")
    assert [7] == rows(guard.conn)


@pytest.mark.parametrize("committed", [False, True])
def test_a_failed_repetition_keeps_the_database_open_for_nobody(
    guard: Guard, path: Path, committed: bool
) -> None:
    """A traceback may live for long, and all that its frames hold."""
    if committed:
        guard.conn.commit()
    with pytest.raises(sqlite3.IntegrityError) as kept:
        guard.conn.execute(INSERT, (10,))
    guard.rollback()
    guard.close()
    with closing(sqlite3.connect(path, timeout=0)) as conn:
        assert [1, 2] == rows(conn)
    assert kept.traceback


def test_a_kept_statement_keeps_no_copy_open(path: Path) -> None:
    """Somebody may keep the connection: the next one has the file to itself all the same."""
    with closing(CopySession(path, None)) as session:
        kept = []
        with session.migration(CODE) as conn:
            kept.append(conn)
            for number in (10, 11, 12):
                conn.execute(INSERT, (number,))
            conn.commit()
        assert [1, 2, 10, 11, 12] == rows(session.conn)


# --- a migration of SQL alone ------------------------------------------------


LASTING = {
    "a pragma": "PRAGMA query_only = 1",
    "a pragma that cannot be read": "PRAGMA case_sensitive_like = 1",
    "a temporary table": "CREATE TEMP TABLE t (shadows)",
    "a temporary virtual table": "CREATE VIRTUAL TABLE temp.t USING fts5 (shadows)",
    "a temporary view": "CREATE TEMP VIEW t AS SELECT 7 AS a",
    "a temporary trigger": (
        "CREATE TEMP TRIGGER x AFTER INSERT ON main.t BEGIN SELECT RAISE(ABORT, 'left'); END"
    ),
    "a savepoint": "SAVEPOINT mine; INSERT INTO t VALUES (12)",
}


@pytest.mark.parametrize("text", LASTING.values(), ids=LASTING)
def test_what_sql_leaves_on_the_connection_is_taken_back(guard: Guard, text: str) -> None:
    """The next migration finds it as new."""
    guard.finish_migration()
    guard.start_migration()
    guard.conn.run_statements(sql.split_lenient(text))
    guard.finish_migration(code=False)
    guard.start_migration()
    guard.conn.execute("INSERT INTO t VALUES ('A')")
    found = guard.conn.execute("SELECT count(*) FROM t WHERE a LIKE 'a'").fetchone()
    assert [1] == list(found)
    with pytest.raises(sqlite3.OperationalError, match="no such savepoint"):
        guard.conn.execute("ROLLBACK TO mine")


def test_a_function_of_code_may_change_the_connection_later(path: Path) -> None:
    """What a `.py` file has registered runs in an `.sql` file, and may have kept the connection."""
    guard = open_guard(path)
    guard.begin()
    session = InPlaceSession(guard)
    with session.migration(CODE) as conn:
        limit = conn.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        conn.create_function(
            "lower_it", 0, lambda: guard.conn.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 3)
        )
    with session.migration(PLAIN) as conn:
        guard.conn.run_statements(sql.split("SELECT lower_it();"))
    with session.migration(PLAIN) as conn:
        assert limit == conn.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
    guard.rollback()
    guard.close()


# --- the process -------------------------------------------------------------


def test_sql_alone_has_no_process_to_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any code has run, nothing of the process is read."""
    looks = []
    surroundings = state.Surroundings
    monkeypatch.setattr(state, "Surroundings", lambda: (looks.append(1), surroundings())[1])
    states = ProcessStates(worker=True)
    for number in range(10):
        with states.isolated(number, code=False):
            pass
    assert [] == looks


def test_what_code_has_left_behind_is_put_back_after_sql(tmp_path: Path) -> None:
    """A function that an `.sql` file calls may change the directory."""
    states, before = ProcessStates(worker=True), os.getcwd()
    with states.isolated("001", code=True):
        pass
    with states.isolated("002", code=False):
        os.chdir(tmp_path)
    assert before == os.getcwd()


def test_a_process_that_a_migration_has_not_changed_is_not_kept(tmp_path: Path) -> None:
    """Ten thousand migrations leave ten thousand times nothing; one that changes it finds it."""
    states, before = ProcessStates(worker=True), os.getcwd()
    for number in range(10):
        with states.isolated(number, code=True):
            pass
    with states.isolated("moves", code=True):
        os.chdir(tmp_path)
    assert ["moves"] == list(states._rooms)
    with states.isolated("moves", code=True):
        assert str(tmp_path) == os.getcwd()
    assert before == os.getcwd()


# --- what was printed, beside what was reported ------------------------------


def started(emit: Any, name: str) -> None:
    """Report that a migration begins."""
    emit("migration.started", "It begins.", version=name, name=name)


def printed(said: Recorder) -> list[tuple[str, str]]:
    """Return what was printed, with the migration that it is told of."""
    return [(each["version"], each["text"]) for each in said.named("migration.output")]


def test_output_is_of_the_migration_that_printed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever pipe the parent is told of first, and however late it reads."""
    from selectors import DefaultSelector

    from migrator.process import supervisor

    select, mine = DefaultSelector.select, os.getpid()

    def late(selector: DefaultSelector, timeout: float | None = None) -> Any:
        if os.getpid() == mine:
            time.sleep(0.05)
        # The output pipe is the one with the higher number.
        return sorted(select(selector, timeout), key=lambda ready: -ready[0].fd)

    monkeypatch.setattr(DefaultSelector, "select", late)
    said = Recorder()

    def task(emit: Any) -> dict[str, Any]:
        for name in ("001", "002", "003"):
            started(emit, name)
            os.write(1, f"from {name}\n".encode())
            emit("migration.finished", "It is done.", version=name, name=name)
        return {}

    supervisor.supervise(task, emit=said, signals=Signals())
    assert [(name, f"from {name}") for name in ("001", "002", "003")] == printed(said)


def test_the_last_words_of_a_worker_are_of_the_migration_that_ended_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both pipes are read only once it is gone."""
    from migrator.process import supervisor

    ended = supervisor._ended

    def at_the_end(watch: Any) -> bool:
        while not ended(watch):
            time.sleep(0.01)
        return True

    monkeypatch.setattr(supervisor, "_ended", at_the_end)
    said = Recorder()

    def task(emit: Any) -> dict[str, Any]:
        started(emit, "001")
        os.write(1, b"the end\n")
        os._exit(3)

    supervisor.supervise(task, emit=said, signals=Signals())
    assert [("001", "the end")] == printed(said)
