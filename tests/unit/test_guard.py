"""The guarded connection: one transaction, whatever a migration does to it."""

from __future__ import annotations

import gc
import os
import re
import sqlite3
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from migrator.session.authorizer import RefusedError
from migrator.session.guard import Guard, open_guard
from migrator.session.recording import RecordingConnection
from tests.support.digest import logical_digest

ROOT = Path(__file__).parents[2]

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


# --- opening ----------------------------------------------------------------


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_path_can_be_opened(tmp_path: Path, name: str) -> None:
    """Characters that mean something in a URI are part of the name."""
    make(tmp_path / name)
    guard = open_guard(tmp_path / name)
    guard.begin()
    with guard.engine() as conn:
        conn.execute("INSERT INTO t VALUES (3)")
    guard.commit()
    guard.close()

    assert [1, 2, 3] == stored(tmp_path / name)
    assert [name] == os.listdir(tmp_path)


def test_a_path_of_bytes_that_are_no_text_can_be_opened(tmp_path: Path) -> None:
    """A file name that is not UTF-8 is opened as it is."""
    name = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.db"))
    with closing(sqlite3.connect(os.fsencode(name))):
        name.touch()

    open_guard(name).close()

    assert [b"\xff.db"] == os.listdir(os.fsencode(tmp_path))


def test_a_missing_database_is_not_created(tmp_path: Path) -> None:
    """Opening a database that is not there fails, and leaves nothing behind."""
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        open_guard(tmp_path / "none.db")

    assert [] == os.listdir(tmp_path)


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_exclusive_use_keeps_others_out_until_the_end(path: Path, mode: str) -> None:
    """An exclusive guard holds its lock from the opening on, transaction or not."""
    with closing(sqlite3.connect(path)) as conn:
        conn.execute(f"PRAGMA journal_mode={mode}")
    guard = open_guard(path)
    other = sqlite3.connect(path, timeout=0)

    with pytest.raises(sqlite3.OperationalError, match="locked"):
        rows(other)
    other.close()
    guard.close()

    assert [1, 2] == stored(path)
    assert [path.name] == os.listdir(path.parent)


def test_a_database_in_use_is_busy(path: Path) -> None:
    """Where somebody else reads, exclusive use is refused with SQLITE_BUSY."""
    other = sqlite3.connect(path)
    reading = other.execute("SELECT * FROM t")
    reading.fetchone()

    with pytest.raises(sqlite3.OperationalError) as caught:
        open_guard(path)
    other.close()

    assert sqlite3.SQLITE_BUSY == caught.value.sqlite_errorcode


def test_beside_readers_the_guard_takes_only_the_write_lock(path: Path) -> None:
    """Without exclusive use, readers go on while the run's transaction is open."""
    guard = open_guard(path, exclusive=False)
    guard.begin()

    assert [1, 2] == stored(path)
    with (
        closing(sqlite3.connect(path, timeout=0)) as other,
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        other.execute("INSERT INTO t VALUES (3)")
    guard.rollback()
    guard.close()


def test_an_empty_file_stays_empty(tmp_path: Path) -> None:
    """Proving exclusive use writes nothing, not even the first page of an empty database."""
    path = tmp_path / "empty.db"
    path.touch()

    open_guard(path).close()

    assert 0 == path.stat().st_size


def test_settings_of_the_run(path: Path, tmp_path: Path) -> None:
    """The run syncs as safely as SQLite can, and foreign keys are off."""
    guard = open_guard(path, temporary=tmp_path)

    with guard.engine() as conn:
        found = [
            conn.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "foreign_keys")
        ]
        temporary = conn.execute("PRAGMA temp_store_directory").fetchone()
        conn.execute("PRAGMA temp_store_directory=''")
    guard.close()

    assert [3, 0] == found
    assert (str(tmp_path),) == temporary


# --- transaction control as Python has it -----------------------------------


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


def _isolation(conn: sqlite3.Connection, level: str | None, *statements: str) -> list[bool]:
    conn.isolation_level = level  # type: ignore[assignment]
    found = []
    for statement in statements:
        conn.execute(statement)
        found.append(conn.in_transaction)
    return found


INSERT = "INSERT INTO t VALUES (3)"

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


# --- what is refused ----------------------------------------------------------


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


# --- SQLite ends the transaction by itself ------------------------------------


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


# --- between two migrations -----------------------------------------------------


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


# --- children that a migration forks ---------------------------------------------

FORKING = """
import ctypes, multiprocessing, os, sqlite3, sys
from migrator.session.guard import open_guard

path, way, planted, journal = sys.argv[1:5]
guard = open_guard(path)
if planted == "planted":
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(guard.conn))
guard.begin()
guard.start_migration()
conn = guard.conn
conn.execute("PRAGMA cache_size=5")
conn.execute("UPDATE big SET b = zeroblob(900)")
assert os.path.getsize(journal) > 100_000

def use():
    for action in (lambda: conn.execute("SELECT 1"), lambda: conn.execute("DELETE FROM big"),
                   guard.begin, guard.commit, conn.commit):
        try:
            action()
        except sqlite3.OperationalError as error:
            assert "forked" in str(error), error
        else:
            os.abort()
    conn.close()
    guard.close()

def child():
    if way == "use":
        use()
    if way == "exception":
        raise RuntimeError("in the child")
    if way == "os._exit":
        os._exit(0)
    sys.exit(0)

if way == "multiprocessing":
    process = multiprocessing.get_context("fork").Process(target=use)
    process.start()
    process.join()
    status = process.exitcode
else:
    pid = os.fork()
    if pid == 0:
        child()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert status == (1 if way == "exception" else 0), status
kept = os.path.exists(journal)
conn.execute("INSERT INTO big VALUES (0, 'end')")
guard.finish_migration()
guard.commit()
guard.close()
print("journal kept" if kept else "journal lost")
"""

WAYS = ("sys.exit", "exception", "os._exit", "multiprocessing", "use")


def fork(
    path: Path, way: str, planted: str = "", mode: str = "DELETE"
) -> tuple[subprocess.CompletedProcess[str], str]:
    """Let a child of a migration end in some way; return the run, and what became of the file."""
    journal = f"{path}{'-wal' if mode == 'WAL' else '-journal'}"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute(f"PRAGMA journal_mode={mode}")
        conn.execute("CREATE TABLE big (a, b)")
        conn.executemany("INSERT INTO big VALUES (?, zeroblob(800))", [(n,) for n in range(1, 501)])
        conn.commit()
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(path), way, planted, journal],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    with closing(sqlite3.connect(path)) as conn:
        try:
            check = conn.execute("PRAGMA integrity_check").fetchone()[0]
            wide = conn.execute("SELECT count(*) FROM big WHERE length(b) = 900").fetchone()[0]
        except sqlite3.DatabaseError as error:
            return done, str(error)
    return done, f"{check} {wide}"


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.parametrize("way", WAYS)
def test_a_forked_child_does_no_harm_when_it_ends(path: Path, way: str, mode: str) -> None:
    """However a child ends, or uses what it inherited, its parent's transaction goes on."""
    done, state = fork(path, way, mode=mode)

    assert (0, "journal kept\n") == (done.returncode, done.stdout), done.stderr
    assert "ok 500" == state


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.parametrize("way", ["sys.exit", "exception"])
def test_without_the_measure_a_child_damages_the_database(path: Path, way: str, mode: str) -> None:
    """The test above has teeth: without the extra reference the child rolls its parent back."""
    done, state = fork(path, way, "planted", mode)

    assert ("journal kept\n", "ok 500") != (done.stdout, state)


def test_a_closed_guard_is_given_back(path: Path) -> None:
    """Closing takes the extra reference back: runs in one process leave nothing behind."""
    guard = open_guard(path)
    guard.begin()
    guard.start_migration()
    guard.conn.execute(INSERT)
    guard.finish_migration()
    reference = weakref.ref(guard.conn)
    guard.close()
    guard.close()
    del guard
    gc.collect()

    assert reference() is None
