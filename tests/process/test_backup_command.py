"""`migrator backup`: a verified backup at once, whatever uses the database meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import others
from tests.support.digest import logical_digest
from tests.support.files import make_database, opened, rows, tables, write_migrations
from tests.support.outcomes import assert_failed, assert_succeeded
from tests.support.processes import Result, run_migrator

FIRST = {"001_made.sql": "CREATE TABLE made (id INTEGER PRIMARY KEY); INSERT INTO made VALUES (1);"}


@pytest.fixture
def applied(tmp_path: Path) -> tuple[Path, Path]:
    """Return a database with one applied migration, and the migrations."""
    database = tmp_path / "data" / "app.db"
    database.parent.mkdir()
    migrations = write_migrations(tmp_path / "m", FIRST)
    assert run("up", database, migrations).code == 0
    return database, migrations


def run(command: str, database: Path, migrations: Path, *more: str) -> Result:
    """Run a command of `migrator`."""
    return run_migrator(command, "--database", database, "--migrations", migrations, *more)


def listed(database: Path, migrations: Path) -> list[dict[str, Any]]:
    """Return what `backups --json` says, newest first."""
    result = run_migrator("backups", "--json", "--database", database, "--migrations", migrations)
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_it_prints_the_path_of_a_backup_with_its_facts(applied: tuple[Path, Path]) -> None:
    """The copy is the database as it is, `backups` and `verify` know it, nothing else changes."""
    database, migrations = applied
    before = logical_digest(database)
    result = run("backup", database, migrations)

    assert_succeeded(result, "backed_up")
    path = Path(result.stdout.strip())
    assert path.parent == database.parent / "backups"
    assert logical_digest(path) == before == logical_digest(database)
    (facts,) = listed(database, migrations)
    assert (facts["path"], facts["reason"], facts["version"]) == (str(path), "manual", "001")
    assert run("verify", database, migrations).code == 0


@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
def test_beside_an_application_that_writes(applied: tuple[Path, Path], wal: bool) -> None:
    """The backup is one moment of it: every row up to the last one, and a sound structure."""
    database, migrations = applied
    with opened(database) as conn:
        conn.execute(f"PRAGMA journal_mode = {'wal' if wal else 'delete'}")
    with others.writing(database) as application:
        result = run("backup", database, migrations)
        assert application.poll() is None

    assert_succeeded(result, "backed_up")
    path = Path(result.stdout.strip())
    ids = [number for (number,) in rows(path, "SELECT id FROM heartbeat ORDER BY id")]
    assert ids == list(range(1, len(ids) + 1))
    assert len(ids) >= 1
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    there = rows(database, "SELECT count(*) FROM heartbeat")[0][0]
    assert there >= len(ids)


def test_what_is_only_in_the_wal_is_in_the_backup(applied: tuple[Path, Path]) -> None:
    """Ten committed rows that a killed application never checkpointed."""
    database, migrations = applied
    others.leave_wal(database)
    result = run("backup", database, migrations)
    assert_succeeded(result, "backed_up")
    path = Path(result.stdout.strip())
    assert rows(path, "SELECT count(*) FROM in_wal") == [(10,)]


def test_a_state_that_has_a_backup_needs_no_second_one(applied: tuple[Path, Path]) -> None:
    """It is found and named again; a run that stands on it makes it its own."""
    database, migrations = applied
    first, again = (run("backup", database, migrations) for _ in range(2))
    assert first.stdout == again.stdout
    assert len(again.named("backup.reused")) == 1
    assert run_migrator("restore", "latest", "--database", database).code == 64

    write_migrations(migrations, {"002_more.sql": "CREATE TABLE more (id INTEGER)"})
    upgraded = run("up", database, migrations)
    assert upgraded.code == 0
    assert len(upgraded.named("backup.reused")) == 1
    (facts,) = listed(database, migrations)
    assert (facts["path"], facts["reason"]) == (first.stdout.strip(), "up")


def test_it_is_never_what_latest_means(applied: tuple[Path, Path]) -> None:
    """`restore latest` goes back before the last run, whatever was backed up since."""
    database, migrations = applied
    write_migrations(migrations, {"002_more.sql": "CREATE TABLE more (id INTEGER)"})
    assert run("up", database, migrations).code == 0
    assert run("backup", database, migrations).code == 0
    assert run("restore", database, migrations, "latest").code == 0
    assert "more" not in tables(database)


def test_backups_on_a_timer_do_not_fill_the_volume(applied: tuple[Path, Path]) -> None:
    """`--backup-keep` holds for them; the newest one and what `latest` means stay."""
    database, migrations = applied
    write_migrations(migrations, {"002_more.sql": "CREATE TABLE more (id INTEGER)"})
    assert run("up", database, migrations).code == 0
    made = []
    for number in range(4):
        with opened(database) as conn:
            conn.execute("INSERT INTO made VALUES (?)", (number + 10,))
        result = run("backup", database, migrations, "--backup-keep", "2")
        made.append(Path(result.stdout.strip()).name)

    names = [(each["name"], each["reason"]) for each in listed(database, migrations)]
    assert [name for name, reason in names if reason == "manual"] == made[:-3:-1]
    assert [reason for _, reason in names] == ["manual", "manual", "up"]
    result = run("backup", database, migrations, "--backup-keep", "0")
    assert Path(result.stdout.strip()).exists()


def test_a_database_without_a_history_is_backed_up_too(tmp_path: Path) -> None:
    """No migrations and no history: whatever a person has, a copy can be had."""
    database = make_database(
        tmp_path / "app.db", "CREATE TABLE theirs (a); CREATE TABLE migrations (x)"
    )
    result = run("backup", database, tmp_path / "nowhere")
    assert_succeeded(result, "backed_up")
    (facts,) = listed(database, tmp_path / "nowhere")
    assert (facts["version"], facts["reason"]) == (None, "manual")
    assert tables(Path(facts["path"])) == {"theirs", "migrations"}
    assert tables(database) == {"theirs", "migrations"}


def test_what_cannot_be_backed_up(applied: tuple[Path, Path], tmp_path: Path) -> None:
    """Without a database 69, damaged 65, locked for longer than the budget 69; nothing is left."""
    database, migrations = applied
    result = run("backup", tmp_path / "none.db", migrations, "--wait-timeout", "0")
    assert_failed(result, 69, "database.missing")
    with others.other_process(EXCLUSIVE, database):
        result = run("backup", database, migrations, "--wait-timeout", "1")
    assert_failed(result, 69, "database.in_use")
    with opened(database) as conn:
        (root,) = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'made'").fetchone()
        (size,) = conn.execute("PRAGMA page_size").fetchone()
    with database.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * 100)
    assert_failed(run("backup", database, migrations), 65, "database.damaged")
    assert [each for each in (database.parent / "backups").iterdir() if each.suffix == ".db"] == []


EXCLUSIVE = """
conn.execute("BEGIN EXCLUSIVE")
ready()
sys.stdin.read()
"""
