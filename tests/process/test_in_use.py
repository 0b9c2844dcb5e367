"""Migrations are pending, and another process has the database."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import others
from tests.support.aside import backups, pending
from tests.support.digest import logical_digest
from tests.support.files import history, opened, rows, tables, write_migrations
from tests.support.processes import run_entrypoint, run_migrator, running
from tests.support.waiting import until

HOLDERS = {
    "idle": others.idle_connection,
    "reading": others.read_transaction,
    "write-lock": others.write_lock,
}

NEW = "CREATE TABLE fresh (id INTEGER PRIMARY KEY);\nINSERT INTO fresh VALUES (1), (2);\n"


@pytest.fixture(params=["delete", "wal"])
def in_mode(request, database) -> Path:
    """Return the database in each journal mode."""
    with opened(database) as conn:
        assert conn.execute(f"PRAGMA journal_mode = {request.param}").fetchone() == (request.param,)
    return database


def arguments(database: Path, migrations: Path, *args: str) -> tuple[str, ...]:
    """Return the arguments of an `up`."""
    return ("up", "--database", str(database), "--migrations", str(migrations), *args)


@contextmanager
def ending_after(process, seconds: float):
    """Let another process end after a while."""
    timer = threading.Timer(seconds, process.stdin.close)
    timer.start()
    try:
        yield
    finally:
        timer.join()


@pytest.mark.parametrize("holder", HOLDERS)
def test_refused(holder, in_mode, migrations):
    """Exclusive use is waited for, then refused with 69, naming the process, with nothing written."""
    before = logical_digest(in_mode)

    with HOLDERS[holder](in_mode) as other:
        result = run_migrator(*arguments(in_mode, migrations, "--wait-timeout", "0.5"))

    assert 69 == result.code, result.stderr
    end = result.finished
    assert ("refused", "database.in_use") == (end["outcome"], end["reason"])
    assert f"process {other.pid}" in end["error"]
    assert "--in-use allow" in end["hint"]
    assert before == logical_digest(in_mode)
    assert {"users", "notes"} == tables(in_mode)
    assert ["001", "002"] == pending(in_mode, migrations)
    assert [] == backups(in_mode)


@pytest.mark.parametrize("holder", HOLDERS)
def test_refused_at_once(holder, in_mode, migrations):
    """A wait of 0 looks once."""
    with HOLDERS[holder](in_mode):
        result = run_migrator(*arguments(in_mode, migrations, "--wait-timeout", "0"))

    assert 69 == result.code, result.stderr
    assert "database.in_use" == result.finished["reason"]


@pytest.mark.parametrize("holder", HOLDERS)
def test_left_in_time(holder, in_mode, migrations, tmp_path):
    """Once the others have left, the run goes on."""
    with HOLDERS[holder](in_mode) as other:
        arguments_ = arguments(in_mode, migrations, "--wait-timeout", "30")
        with running("migrator", *arguments_, directory=tmp_path) as run:
            waiting = run.wait_for("volume.waiting")
            assert "in use" in waiting["reason"] or "database.in_use" in waiting["reason"]
            other.stdin.close()
            result = run.finish()

    assert 0 == result.code, result.stderr
    assert ["001", "002"] == history(in_mode)
    assert {"users", "notes", "tags", "migrations"} == tables(in_mode)


@pytest.mark.parametrize("in_use", ["wait", "allow"])
def test_restore_needs_it_alone(in_use, in_mode, migrations):
    """`restore` is refused with any `--in-use`, and does not advise another one."""
    given = ("--database", in_mode, "--migrations", migrations)
    assert 0 == run_migrator("up", *given).code
    before = logical_digest(in_mode)
    with others.read_transaction(in_mode):
        more = ("--in-use", in_use, "--wait-timeout", "0")
        result = run_migrator("restore", "latest", *given, *more)

    assert 69 == result.code, result.stderr
    assert "database.in_use" == result.finished["reason"]
    assert "--in-use" not in result.finished["hint"]
    assert before == logical_digest(in_mode)


def test_way_b_refused_too(in_mode, tmp_path):
    """A run on a copy needs the database alone as well."""
    migrations = write_migrations(
        tmp_path / "m", {"001_new.sql": "-- migrate:up transaction:false\n" + NEW}
    )
    with others.read_transaction(in_mode):
        result = run_migrator(*arguments(in_mode, migrations, "--wait-timeout", "0.5"))

    assert 69 == result.code, result.stderr
    assert "--in-use" not in result.finished["hint"]
    assert {"users", "notes"} == tables(in_mode)


# --- --in-use allow --------------------------------------------------------------


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("holder", ["idle", "reading"])
def test_allowed(holder, mode, database, migrations):
    """`--in-use allow` migrates beside others; in rollback mode a reader must leave before the commit."""
    with opened(database) as conn:
        conn.execute(f"PRAGMA journal_mode = {mode}")
    blocked = mode == "delete" and holder == "reading"
    before = logical_digest(database)
    args = arguments(database, migrations, "--in-use", "allow", "--wait-timeout", "0.5")

    with HOLDERS[holder](database) as other:
        result = run_migrator(*args)
        assert other.poll() is None

    if blocked:
        assert 69 == result.code, result.stderr
        assert "database.in_use" == result.finished["reason"]
        assert before == logical_digest(database)
        assert ["001", "002"] == pending(database, migrations)
        assert result.one("restore.finished")["identical"] is None
    else:
        assert 0 == result.code, result.stderr
        assert ["001", "002"] == history(database)
        assert 1 == len(backups(database))
        assert mode == rows(database, "PRAGMA journal_mode")[0][0]


def test_allowed_reader_leaves_in_time(database, migrations, tmp_path):
    """In rollback mode the commit waits for readers to leave, within the budget."""
    args = arguments(database, migrations, "--in-use", "allow", "--wait-timeout", "30")
    with (
        others.read_transaction(database) as other,
        running("migrator", *args, directory=tmp_path) as run,
    ):
        run.wait_for("verify.finished")
        time.sleep(0.3)
        other.stdin.close()
        result = run.finish()

    assert 0 == result.code, result.stderr
    assert ["001", "002"] == history(database)


def test_allowed_beside_a_writer(in_mode, migrations):
    """`--in-use allow` waits for another writer's lock, then ends with 69."""
    before = logical_digest(in_mode)
    args = arguments(in_mode, migrations, "--in-use", "allow", "--wait-timeout", "0.5")

    with others.write_lock(in_mode) as other:
        result = run_migrator(*args)

    assert 69 == result.code, result.stderr
    assert ("refused", "database.in_use") == (result.finished["outcome"], result.finished["reason"])
    assert f"process {other.pid}" in result.finished["error"]
    assert before == logical_digest(in_mode)
    assert ["001", "002"] == pending(in_mode, migrations)


@pytest.mark.parametrize("in_use", ["wait", "allow"])
def test_the_hint_of_a_failure_says_what_is_known(in_use, in_mode, migrations):
    """Alone the database was compared; beside others the run is undone, and no more is known."""
    write_migrations(migrations, {"003_bad.sql": "INSERT INTO nowhere VALUES (1);\n"})
    result = run_migrator(*arguments(in_mode, migrations, "--in-use", in_use))
    known = "the database is as it was before this run"
    undone = "what this run had done is undone"
    assert 80 == result.code
    assert result.finished["hint"].endswith(f"; {known if in_use == 'wait' else undone}.")
    identical = result.one("restore.finished")["identical"]
    assert identical is (True if in_use == "wait" else None)


def test_allowed_writer_leaves_in_time(in_mode, migrations, tmp_path):
    """`--in-use allow` goes on when the other writer has finished."""
    args = arguments(in_mode, migrations, "--in-use", "allow", "--wait-timeout", "30")
    with others.write_lock(in_mode) as other, ending_after(other, 0.7):
        result = run_migrator(*args)

    assert 0 == result.code, result.stderr
    assert ["001", "002"] == history(in_mode)


def test_allowed_beside_a_busy_application(in_mode, migrations):
    """Beside an application that writes all the time none of its rows is lost."""
    args = arguments(in_mode, migrations, "--in-use", "allow", "--wait-timeout", "30")
    with others.writing(in_mode) as other:
        result = run_migrator(*args)
        assert other.poll() is None
        time.sleep(0.2)

    assert 0 == result.code, result.stderr
    assert ["001", "002"] == history(in_mode)
    ids = [number for (number,) in rows(in_mode, "SELECT id FROM heartbeat ORDER BY id")]
    assert list(range(1, len(ids) + 1)) == ids
    (saved,) = backups(in_mode)
    assert "001" not in tables(Path(saved["path"]))
    with opened(Path(saved["path"])) as conn:
        (count,) = conn.execute("SELECT count(*) FROM heartbeat").fetchone()
        columns = [row[1] for row in conn.execute("PRAGMA table_info(users)")]
    assert 0 < count <= len(ids)
    assert ["id", "name"] == columns


def test_allowed_and_failing(in_mode, tmp_path):
    """A run beside others that fails is rolled back; whether all is as before nobody can know."""
    migrations = write_migrations(
        tmp_path / "m", {"001_new.sql": NEW, "002_fails.sql": "INSERT INTO nowhere VALUES (1);"}
    )
    before = logical_digest(in_mode)
    args = arguments(in_mode, migrations, "--in-use", "allow", "--wait-timeout", "5")

    with others.idle_connection(in_mode):
        result = run_migrator(*args)

    assert 80 == result.code, result.stderr
    restored = result.one("restore.finished")
    assert ("rollback", None) == (restored["method"], restored["identical"])
    assert before == logical_digest(in_mode)
    assert ["001", "002"] == pending(in_mode, migrations)


@pytest.mark.parametrize("holder", ["idle", "reading", None])
def test_allow_refuses_way_b(holder, in_mode, tmp_path):
    """A run on a copy would overwrite what others write: 69 at once, with the way out."""
    migrations = write_migrations(
        tmp_path / "m", {"001_new.sql": "-- migrate:up transaction:false\n" + NEW}
    )
    before = logical_digest(in_mode)
    args = arguments(in_mode, migrations, "--in-use", "allow", "--wait-timeout", "30")

    if holder is None:
        result = run_migrator(*args)
    else:
        with HOLDERS[holder](in_mode):
            result = run_migrator(*args)

    assert 69 == result.code, result.stderr
    assert result.named("volume.waiting") == []
    assert "--in-use wait" in result.finished["hint"]
    assert before == logical_digest(in_mode)
    assert ["001"] == pending(in_mode, migrations)
    assert [] == backups(in_mode)


def test_restore_needs_the_database_alone(in_mode, migrations):
    """`restore` waits for exclusive use, then ends with 69, and nothing is replaced."""
    assert 0 == run_migrator(*arguments(in_mode, migrations)).code
    new = logical_digest(in_mode)
    given = ("--database", in_mode, "--migrations", migrations, "--wait-timeout", "0.5")

    with others.idle_connection(in_mode):
        result = run_migrator("restore", "latest", *given)

    assert 69 == result.code, result.stderr
    assert new == logical_digest(in_mode)
    assert 0 == run_migrator("restore", "latest", *given).code
    assert ["001", "002"] == pending(in_mode, migrations)


def test_down_needs_the_database_alone(in_mode, migrations):
    """`down` waits for exclusive use, then ends with 69, and nothing is undone."""
    assert 0 == run_migrator(*arguments(in_mode, migrations)).code
    new = logical_digest(in_mode)
    given = ("--database", in_mode, "--migrations", migrations, "--wait-timeout", "0.5")

    with others.read_transaction(in_mode):
        result = run_migrator("down", *given)

    assert 69 == result.code, result.stderr
    assert new == logical_digest(in_mode)
    assert ["001", "002"] == history(in_mode)


# --- locked, with nothing pending ------------------------------------------------------

EXCLUSIVE = """
conn.execute("BEGIN EXCLUSIVE")
ready()
sys.stdin.read()
conn.execute("ROLLBACK")
"""


def test_start_waits_for_readers_to_be_let_in(database, migrations, tmp_path):
    """A start with nothing pending waits where a writer keeps readers out, and then goes on."""
    assert 0 == run_migrator(*arguments(database, migrations)).code
    given = ("--database", database, "--migrations", migrations, "--wait-timeout", "30")
    with others.other_process(EXCLUSIVE, database) as other:
        args = (*given, "--", "echo", "application")
        with running("entrypoint", *args, directory=tmp_path) as start:
            start.wait_for("volume.waiting")
            other.stdin.close()
            result = start.finish()

    assert (0, "application\n") == (result.code, result.stdout), result.stderr
    assert "up_to_date" == result.finished["outcome"]


def test_start_gives_up_where_readers_are_kept_out(database, migrations):
    """At the end of the budget that is 69, naming the process."""
    assert 0 == run_migrator(*arguments(database, migrations)).code
    given = ("--database", database, "--migrations", migrations, "--wait-timeout", "0.5")
    with others.other_process(EXCLUSIVE, database) as other:
        result = run_entrypoint(*given, "--", "echo", "application")
        looked = run_migrator("status", *given[:4])
        checked = run_migrator("check", *given[:4])

    assert (69, "") == (result.code, result.stdout), result.stderr
    assert "database.in_use" == result.finished["reason"]
    assert f"process {other.pid}" in result.finished["error"]
    assert (0, 69) == (looked.code, checked.code)


def test_waiting_start_waits_for_readers_to_be_let_in(database, migrations, tmp_path):
    """So does `--migrate wait`."""
    assert 0 == run_migrator(*arguments(database, migrations)).code
    given = ("--database", database, "--migrations", migrations, "--wait-timeout", "30")
    with others.other_process(EXCLUSIVE, database) as other:
        args = (*given, "--migrate", "wait", "--", "echo", "application")
        with running("entrypoint", *args, directory=tmp_path) as start:
            start.wait_for("volume.waiting")
            other.stdin.close()
            result = start.finish()

    assert (0, "application\n") == (result.code, result.stdout), result.stderr


def test_killed_beside_others(in_mode, tmp_path):
    """A run beside others that is killed leaves the old state to them, and the next start goes on."""
    go = tmp_path / "go"
    text = f"""
        import pathlib, time

        def up(conn):
            conn.execute("CREATE TABLE half (id INTEGER)")
            conn.executemany("INSERT INTO half VALUES (?)", [(n,) for n in range(20000)])
            while not pathlib.Path({str(go)!r}).exists():
                time.sleep(0.01)
        """
    migrations = write_migrations(tmp_path / "m", {"001_half.py": text})
    args = arguments(in_mode, migrations, "--in-use", "allow", "--wait-timeout", "20")
    before = logical_digest(in_mode)
    with others.idle_connection(in_mode):
        with running("migrator", *args, directory=tmp_path) as run:
            run.wait_for("migration.started")
            (worker,) = run.children()
            time.sleep(0.2)
            run.send(signal.SIGKILL)
            run.process.wait(10)
            until(lambda: not Path(f"/proc/{worker}").exists(), "the worker lives on")
        assert before == logical_digest(in_mode)
        go.touch()
        result = run_migrator(*args)

    assert 0 == result.code, result.stderr
    assert "discarded" == result.one("recovery.finished")["outcome"]
    assert ["001"] == history(in_mode)
    assert [(20000,)] == rows(in_mode, "SELECT count(*) FROM half")
