"""`--rehearse`: a start runs only what its rehearsal let through."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path

import pytest

from migrator import MigrationRunner
from tests.support.digest import logical_digest
from tests.support.files import history, make_database, tables, write_migrations
from tests.support.outcomes import assert_failed, assert_succeeded
from tests.support.processes import run_entrypoint, run_migrator, running

FIRST = {"001_made.sql": "CREATE TABLE made (id INTEGER PRIMARY KEY); INSERT INTO made VALUES (1);"}


@pytest.fixture
def options(tmp_path: Path) -> tuple[str, ...]:
    """Return the options that name a database without history, and its one migration."""
    (tmp_path / "data").mkdir()
    make_database(tmp_path / "data" / "app.db", "CREATE TABLE theirs (id); ")
    write_migrations(tmp_path / "m", FIRST)
    return ("--database", str(tmp_path / "data" / "app.db"), "--migrations", str(tmp_path / "m"))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return the path of the database."""
    return tmp_path / "data" / "app.db"


def test_a_start_rehearses_and_then_runs(options: tuple[str, ...], database: Path) -> None:
    """First the copy, then the database, and the application last."""
    result = run_entrypoint(*options, "--rehearse", "--", "echo", "started")
    assert (result.code, result.stdout) == (0, "started\n")
    assert result.finished["outcome"] == "migrated"
    names = [name for name in result.names if name != "migration.started"]
    assert names.index("rehearsal.finished") < names.index("backup.started")
    rehearsed = [bool(each.get("rehearsal")) for each in result.named("migration.finished")]
    assert rehearsed == [True, False]
    assert history(database) == ["001"]
    assert not list(database.parent.glob("app.db.migrator/rehears*"))


def test_what_the_rehearsal_refuses_never_begins(
    options: tuple[str, ...], database: Path, tmp_path: Path
) -> None:
    """The code is the run's, the outcome that nothing has begun, and there is no backup."""
    write_migrations(tmp_path / "m", {"002_bad.sql": "DELETE FROM made;\nSELECT * FROM nowhere;"})
    before = logical_digest(database)
    result = run_entrypoint(*options, "--rehearse", "--", "echo", "started")
    end = assert_failed(result, 80, "migration.failed", "refused")
    assert end["error"].startswith("The rehearsal has failed: Migration 002_bad.sql, line 2")
    assert result.stdout == ""
    assert logical_digest(database) == before
    assert os.listdir(database.parent) == ["app.db"]
    assert result.named("backup.started") == []


def test_what_is_lost_unsaid_never_begins(
    options: tuple[str, ...], database: Path, tmp_path: Path
) -> None:
    """A check that fails on the copy is 81, with nothing begun."""
    assert run_migrator("up", *options).code == 0
    lossy = (
        "CREATE TABLE n (id INTEGER PRIMARY KEY); DROP TABLE made; ALTER TABLE n RENAME TO made;"
    )
    write_migrations(tmp_path / "m", {"002_loses.sql": lossy})
    result = run_migrator("up", *options, "--rehearse")
    assert_failed(result, 81, "rows.lost", "refused")
    assert history(database) == ["001"]


def test_with_nothing_pending_nothing_is_rehearsed(options: tuple[str, ...]) -> None:
    """A start that has nothing to do copies nothing."""
    assert run_migrator("up", *options).code == 0
    result = run_entrypoint(*options, "--rehearse")
    assert_succeeded(result, "up_to_date")
    assert not [name for name in result.names if name.startswith("rehearsal")]


def test_a_first_install_is_rehearsed_too(options: tuple[str, ...], database: Path) -> None:
    """It is built twice: once to be thrown away."""
    database.unlink()
    result = run_migrator("up", *options, "--rehearse")
    assert_succeeded(result, "created", applied=1)
    assert len(result.named("rehearsal.finished")) == 1
    assert "made" in tables(database)


@pytest.mark.parametrize(("value", "rehearses"), [("true", 1), ("TRUE", 1), ("false", 0), ("", 0)])
def test_the_variable(options: tuple[str, ...], value: str, rehearses: int) -> None:
    """`MIGRATOR_REHEARSE` says the same as the flag; empty it counts as not set."""
    result = run_entrypoint(*options, env={"MIGRATOR_REHEARSE": value})
    assert_succeeded(result, "migrated", applied=1)
    assert len(result.named("rehearsal.finished")) == rehearses


@pytest.mark.parametrize("value", ["yes", "1", "on"])
def test_a_variable_that_says_neither_is_a_mistake(options: tuple[str, ...], value: str) -> None:
    """What could be meant as true is not guessed at."""
    result = run_entrypoint(*options, env={"MIGRATOR_REHEARSE": value})
    end = assert_failed(result, 64, "usage")
    assert "expected true or false" in end["error"]


def test_a_value_for_the_flag_is_a_mistake(options: tuple[str, ...]) -> None:
    """It is a switch."""
    assert run_migrator("up", *options, "--rehearse=true").code == 64


def test_files_that_change_after_the_rehearsal_are_not_run(
    options: tuple[str, ...], database: Path, tmp_path: Path
) -> None:
    """What would run is no longer what was rehearsed: 78, with nothing begun."""
    write_migrations(
        tmp_path / "m",
        {
            "002_changes.py": f"""
                def up(conn):
                    with open({str(tmp_path / "m" / "003_next.sql")!r}, "a") as file:
                        file.write("DROP TABLE theirs;")
            """,
            "003_next.sql": "CREATE TABLE next (id);",
        },
    )
    result = run_migrator("up", *options, "--rehearse")
    assert_failed(result, 78, "rehearsal.differs")
    assert tables(database) == {"theirs"}


def test_a_stop_is_obeyed_while_the_run_waits_after_the_rehearsal(
    options: tuple[str, ...], database: Path, tmp_path: Path
) -> None:
    """The rehearsal over, the start waits as any other, and can be ended."""
    write_migrations(
        tmp_path / "m",
        {
            "002_waits.py": f"""
                import os, time

                def up(conn):
                    while not os.path.exists({str(tmp_path / "go")!r}):
                        time.sleep(0.01)
            """
        },
    )
    home = database.parent / "app.db.migrator"
    with running("migrator", "up", *options, "--rehearse", directory=tmp_path) as run:
        run.wait_for("migration.started")
        with (home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (tmp_path / "go").touch()
            run.wait_for("lock.waiting")
            result = run.stop()
    assert_failed(result, 128 + signal.SIGTERM, "signal")
    assert tables(database) == {"theirs"}


def test_what_a_killed_run_has_left_is_settled_first(
    options: tuple[str, ...], database: Path, tmp_path: Path
) -> None:
    """The rehearsal begins where the run will."""
    slow = tmp_path / "m" / "002_slow.py"
    slow.write_text("import time\n\ndef up(conn):\n    time.sleep(60)\n")
    with running("migrator", "up", *options, directory=tmp_path) as run:
        run.wait_for("migration.started")
        run.send(signal.SIGKILL)
        run.process.wait(10)
    slow.write_text("def up(conn):\n    pass\n")
    result = run_migrator("up", *options, "--rehearse")
    assert_succeeded(result, "migrated", applied=2)
    names = result.names
    assert names.index("recovery.finished") < names.index("rehearsal.started")


def test_the_python_api_has_no_rehearsal(tmp_path: Path) -> None:
    """The runner says so instead of ignoring it."""
    with pytest.raises(TypeError, match="migrator rehearse"):
        MigrationRunner(tmp_path / "app.db", rehearse=True)
