"""Threads that outlive their migration and go on interrupting its connection."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.digest import logical_digest
from tests.support.files import history, rows, tables, write_migrations
from tests.support.outcomes import assert_failed, assert_succeeded
from tests.support.processes import run_migrator, run_script

KEPT = """
    import sqlite3, threading
    kept = []

    BEGIN

    def up(conn):
        conn.execute("CREATE TABLE made (id)")
        conn.executemany("INSERT INTO made VALUES (?)", [(i,) for i in range(100000)])
        OPEN
        begin(conn)
    """
IN_PYTHON = """
    def begin(conn):
        def again_and_again():
            while True:
                conn.interrupt()

        threading.Thread(target=again_and_again, daemon=True).start()
        threading.Event().wait(0.05)
    """
OPEN = "kept.append(conn.execute('SELECT id FROM made')); kept[0].fetchone()"
LEFT = pytest.mark.parametrize("left", ["pass", OPEN], ids=["nothing open", "a cursor open"])
WAYS = pytest.mark.parametrize("way", ["in-place", "copy"])
UP = pytest.mark.parametrize("program", ["command", "API"])

API = """
    import sys
    from migrator import MigrationRunner
    from migrator.errors import MigratorError

    database, directory = sys.argv[1:3]
    try:
        print(MigrationRunner(database, directory, in_use="wait").run_pending_migrations(False))
    except MigratorError as error:
        print(error.exit_code, error.message)
    """


def written(directory: Path, way: str, left: str, begin: str = IN_PYTHON) -> Path:
    """Write one migration that begins a thread which never stops interrupting."""
    text = KEPT.replace("OPEN", left).replace("    BEGIN\n", begin)
    if way == "copy":
        text = f"\n    transactional = False{text}"
    return write_migrations(directory, {"001_kept.py": text})


@WAYS
@LEFT
@UP
def test_a_thread_that_goes_on_interrupting_interrupts_nothing_of_the_runs(
    way: str, left: str, program: str, database: Path, tmp_path: Path
) -> None:
    """`conn.interrupt()` for ever, after `up` has returned: the migration is applied."""
    directory = written(tmp_path / "m", way, left)
    if program == "API":
        done = run_script(API, database, directory)
        assert (done.stdout.split(), done.returncode) == (["1"], 0), done.stderr
    else:
        result = run_migrator("up", "--database", database, "--migrations", directory)
        assert_succeeded(result, "migrated", 1)
    assert history(database) == ["001"]
    assert rows(database, "SELECT count(*) FROM made") == [(100000,)]
    assert rows(database, "PRAGMA integrity_check") == [("ok",)]


@WAYS
def test_a_single_interrupt_of_an_open_query_is_the_migrations(
    way: str, database: Path, tmp_path: Path
) -> None:
    """One that comes while the migration has the connection fails it, by name."""
    before = logical_digest(database)
    text = """
        import sqlite3
        kept = []

        def up(conn):
            conn.execute("CREATE TABLE made (id)")
            conn.execute("INSERT INTO made VALUES (1), (2)")
            kept.append(conn.execute("SELECT id FROM made"))
            kept[0].fetchone()
            conn.interrupt()
            conn.execute("DELETE FROM made")
        """
    marked = text if way == "in-place" else f"\n        transactional = False{text}"
    directory = write_migrations(tmp_path / "m", {"001_once.py": marked})
    result = run_migrator("up", "--database", database, "--migrations", directory)
    end = assert_failed(result, 80, "migration.failed", "failed_restored")
    assert "001_once" in end["error"]
    assert logical_digest(database) == before
    assert "made" not in tables(database)


@WAYS
@LEFT
def test_an_interrupt_past_the_connection_is_the_migrations_failure(
    way: str, left: str, database: Path, tmp_path: Path
) -> None:
    """What SQLite itself is told for ever fails the migration, and no disk is blamed."""
    before = logical_digest(database)
    past = IN_PYTHON.replace("conn.interrupt()", "sqlite3.Connection.interrupt(conn)")
    directory = written(tmp_path / "m", way, left, begin=past)
    result = run_migrator("up", "--database", database, "--migrations", directory)
    if result.code != 0:
        end = assert_failed(result, 80, "migration.failed", "failed_restored")
        assert "interrupt" in end["error"]
        assert logical_digest(database) == before
    else:
        assert history(database) == ["001"]
    assert rows(database, "PRAGMA integrity_check") == [("ok",)]


def test_a_rollback_that_is_interrupted_is_settled_by_the_parent(
    database: Path, tmp_path: Path
) -> None:
    """The engine's own ROLLBACK is interrupted, as seen on busy machines: no disk is blamed."""
    before = logical_digest(database)
    # A thread only hits it now and then.
    text = """
        import sqlite3
        from migrator.recovery import rollback

        def interrupted(*_):
            error = sqlite3.OperationalError("interrupted")
            error.sqlite_errorcode = sqlite3.SQLITE_INTERRUPT
            raise error

        def up(conn):
            conn.execute("CREATE TABLE made (id)")
            rollback._roll_back = interrupted
            raise ValueError("why")
        """
    directory = write_migrations(tmp_path / "m", {"001_kept.py": text})
    result = run_migrator("up", "--database", database, "--migrations", directory)
    end = assert_failed(result, 80, "migration.failed", "failed_restored")
    assert "why" in end["error"]
    assert [each["outcome"] for each in result.named("recovery.finished")] == ["discarded"]
    assert logical_digest(database) == before
    assert not (database.parent / "app.db.migrator/state.json").exists()


IN_THE_CALLERS_PROCESS = """
    import sqlite3, sys
    from migrator import MigrationRunner
    from migrator.errors import MigratorError
    from migrator.recovery import rollback

    def interrupted(*_):
        error = sqlite3.OperationalError("interrupted")
        error.sqlite_errorcode = sqlite3.SQLITE_INTERRUPT
        raise error

    rollback._roll_back = interrupted
    try:
        MigrationRunner(sys.argv[1], sys.argv[2]).run_pending_migrations(False)
    except MigratorError as error:
        print(error.exit_code)
    """


def test_without_a_parent_the_journal_undoes_it_and_the_next_run_goes_on(
    database: Path, tmp_path: Path
) -> None:
    """The Python API closes its connection, which rolls back; what it noted, the next run clears."""
    before = logical_digest(database)
    text = "def up(conn):\n    conn.execute('CREATE TABLE made (id)')\n"
    directory = write_migrations(tmp_path / "m", {"001_kept.py": f"{text}    raise ValueError\n"})
    assert run_script(IN_THE_CALLERS_PROCESS, database, directory).stdout == "80\n"
    assert logical_digest(database) == before
    write_migrations(directory, {"001_kept.py": text})
    result = run_migrator("up", "--database", database, "--migrations", directory)
    assert_succeeded(result, "migrated", 1)
    assert not (database.parent / "app.db.migrator/state.json").exists()
