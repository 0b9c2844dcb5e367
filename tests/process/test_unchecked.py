"""What SQLite cannot check is not what is broken, and what it can check it checks itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.digest import logical_digest
from tests.support.files import history, opened, rows, tables, write_migrations
from tests.support.processes import Result, run_entrypoint, run_migrator

BOTH = pytest.mark.parametrize("way", ["in-place", "copy"])
HEAD = {"in-place": "-- migrate:up\n", "copy": "-- migrate:up transaction:false\n"}
OUTSIDE = {"in-place": "", "copy": "transactional = False\n"}

FULL_TEXT = (
    "CREATE VIRTUAL TABLE f USING {0} (body); INSERT INTO f VALUES ('hello');"
    "PRAGMA writable_schema = 1;"
    "UPDATE sqlite_schema SET sql = 'CREATE VIRTUAL TABLE f USING {0} (body, tokenize=own)'"
    " WHERE name = 'f';"
)
OWN = {
    "a tokenizer of fts3": FULL_TEXT.format("fts3"),
    "a tokenizer of fts4": FULL_TEXT.format("fts4"),
    "a tokenizer of fts5": FULL_TEXT.format("fts5"),
    "a module": FULL_TEXT.format("fts5").replace("fts5 (body, tokenize=own)", "own (body)"),
    "a collation in an index": "CREATE INDEX i ON users (name COLLATE own);",
    "a collation in a key": "CREATE TABLE o (a COLLATE own PRIMARY KEY);",
    "a collation in a table without rowid": (
        "CREATE TABLE o (a COLLATE own PRIMARY KEY) WITHOUT ROWID;"
        "INSERT INTO o VALUES ('b'), ('A');"
    ),
    "a reference to such a key": (
        "CREATE TABLE o (a COLLATE own PRIMARY KEY) WITHOUT ROWID; INSERT INTO o VALUES ('b');"
        "CREATE TABLE c (a REFERENCES o (a)); INSERT INTO c VALUES ('b'), ('z');"
    ),
    "a function in a CHECK": "CREATE TABLE o (a CHECK (own(a) > 0)); INSERT INTO o VALUES (1);",
    "a function in a generated column": (
        "CREATE TABLE o (a, b AS (own(a))); INSERT INTO o VALUES (1);"
    ),
    "a function in an index": "CREATE INDEX i ON users (own(name));",
    "a function in a partial index": "CREATE INDEX i ON users (name) WHERE own(name);",
}
each_own = pytest.mark.parametrize("kind", OWN)
LEVELS = pytest.mark.parametrize("level", ["quick", "full"])


@contextmanager
def application(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database as an application with a function and a collation of its own does."""
    with opened(path) as conn:
        conn.create_function("own", 1, lambda _: 1, deterministic=True)
        conn.create_collation("own", lambda a, b: (a > b) - (a < b))
        yield conn


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return an empty directory for migrations."""
    return write_migrations(tmp_path / "files", {})


def start(database: Path, files: Path, *more: str) -> Result:
    """Run the entrypoint with an application that says that it runs."""
    return run_entrypoint("--database", database, "--migrations", files, *more, "--", "echo", "app")


def verify(database: Path, files: Path, *more: str) -> Result:
    """Run `migrator verify`."""
    return run_migrator("verify", "--database", database, "--migrations", files, *more)


def undone(result: Result, database: Path, before: str) -> None:
    """Say that a failed run has left everything as before, and all of it pending."""
    assert "app" not in result.stdout
    assert "failed_restored" == result.finished["outcome"]
    assert before == logical_digest(database)
    assert "migrations" not in tables(database)


def sound(database: Path) -> bool:
    """Tell whether SQLite itself, all of it, finds nothing wrong."""
    return [("ok",)] == rows(database, "PRAGMA integrity_check")


# --- what only the application has ------------------------------------------------------


@each_own
@LEVELS
def test_what_only_the_application_has_blocks_no_run(database, files, kind, level):
    """Two releases run beside it, their backups equal the database, `verify` finds no damage."""
    with application(database) as conn:
        conn.executescript(OWN[kind])
    write_migrations(files, {"001_a.sql": "CREATE TABLE made (x);"})
    result = start(database, files, "--verify", level)
    assert (0, "app\n") == (result.code, result.stdout), result.stderr
    for event in result.named("backup.check_incomplete"):
        assert "byte by byte" in event["message"]
    write_migrations(files, {"002_b.sql": HEAD["copy"] + "CREATE TABLE again (x);"})
    result = start(database, files, "--verify", level)
    assert (0, "app\n") == (result.code, result.stdout), result.stderr
    assert ["001", "002"] == history(database)
    verified = verify(database, files, "--verify", level)
    assert 0 == verified.code, verified.stderr
    assert (
        0 == run_migrator("restore", "latest", "--database", database, "--migrations", files).code
    )
    assert ["001"] == history(database)


@each_own
def test_damage_beside_what_cannot_be_checked_is_found(database, files, kind):
    """The other tables are checked all the same: 65 before anything runs, and in `verify`."""
    with application(database) as conn:
        conn.executescript("CREATE TABLE zzz (x); INSERT INTO zzz VALUES (1);")
        page = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'zzz'").fetchone()[0]
        conn.executescript(OWN[kind])
    with database.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    content = database.read_bytes()
    write_migrations(files, {"001_a.sql": "CREATE TABLE made (x);"})
    assert 65 == start(database, files).code
    assert 65 == verify(database, files).code
    assert content == database.read_bytes()


def test_what_cannot_be_checked_is_said(database, files):
    """The backup, the new state and its foreign keys: each is a warning with SQLite's words."""
    with application(database) as conn:
        conn.executescript(OWN["a reference to such a key"])
    write_migrations(files, {"001_a.sql": "CREATE TABLE made (x);"})
    result = start(database, files)
    assert 0 == result.code
    assert "own" in result.one("backup.check_incomplete")["error"]
    said = {
        event["check"]: event["error"]
        for event in result.named("verify.finished")
        if event["level"] == "warning"
    }
    assert {"quick_check", "foreign_key_check"} == set(said)
    assert all("own" in error for error in said.values())
    warned = {event["check"] for event in verify(database, files).named("verify.finished")}
    assert {"quick_check", "foreign_key_check"} == warned


def test_a_backup_that_differs_is_refused_where_sqlite_cannot_check(database, files):
    """A flipped byte in the backup of such a database is found by its checksum."""
    with application(database) as conn:
        conn.executescript(OWN["a collation in an index"])
    write_migrations(files, {"001_a.sql": "CREATE TABLE made (x);"})
    assert 0 == start(database, files).code
    (backup,) = (database.parent / "backups").glob("*.db")
    content = bytearray(backup.read_bytes())
    content[-1] ^= 1
    backup.chmod(0o600)
    backup.write_bytes(content)
    assert 65 == verify(database, files).code
