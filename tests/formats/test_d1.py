"""Wrangler's directories for D1, and its table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.formats.support import dump, left_alone, migrator, refused, schema, up, write
from tests.support.files import make_database, rows

TABLE = "d1_migrations"
USERS = "-- Migration number: 0001 \t 2024-05-01T10:00:00.000Z\nCREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);\n"
FILES = {
    "0001_users.sql": USERS,
    "0002_notes.sql": "CREATE TABLE notes (id INTEGER PRIMARY KEY, user REFERENCES users (id))",
    "0010_rebuilt.sql": (
        "PRAGMA defer_foreign_keys = true;\n"
        "CREATE TABLE new_users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);\n"
        "INSERT INTO new_users SELECT id, coalesce(name, '') FROM users;\n"
        "DROP TABLE users;\nALTER TABLE new_users RENAME TO users;\n"
        "PRAGMA defer_foreign_keys = false;\n"
    ),
    "9_between.sql": "CREATE TABLE tags (tag TEXT);",
    "last.sql": "CREATE TRIGGER t AFTER INSERT ON tags BEGIN\n  DELETE FROM tags WHERE tag = ';';\nEND;",
    "README.md": "No migration.",
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a directory of Wrangler's."""
    return write(tmp_path / "migrations", FILES)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Return a database in which Wrangler has applied the first two."""
    return make_database(tmp_path / "app.db", dump("d1"))


def test_the_rest_is_applied_in_wranglers_table(theirs: Path, files: Path) -> None:
    """Files run by their numbers, and rows have their whole names."""
    make_database(theirs, "INSERT INTO users VALUES (1, NULL); INSERT INTO notes VALUES (1, 1);")
    done = up(theirs, files)
    assert (done.code, done.stdout) == (0, "Applied: 9, 0010, last.\n")
    assert (done.one("plan.ready")["format"], done.one("plan.ready")["way"]) == ("d1", "in-place")
    made = rows(theirs, f"SELECT id, name, length(applied_at) FROM {TABLE} ORDER BY id")
    assert made == [
        (1, "0001_users.sql", 19),
        (2, "0002_notes.sql", 19),
        (3, "9_between.sql", 19),
        (4, "0010_rebuilt.sql", 19),
        (5, "last.sql", 19),
    ]
    assert rows(theirs, "SELECT * FROM notes") == [(1, 1)]
    assert migrator("check", theirs, files).code == 0
    assert migrator("verify", theirs, files).code == 0


def test_a_database_made_here_is_the_one_that_wrangler_makes(
    tmp_path: Path, theirs: Path, files: Path
) -> None:
    """Names alone are no marks, so that a first install is told whose they are."""
    ours = tmp_path / "ours.db"
    done = up(ours, files, "--format", "d1")
    assert done.finished["outcome"] == "created"
    up(theirs, files)
    tables = [TABLE, "sqlite_sequence"]
    assert schema(ours, without=tables) == schema(theirs, without=tables)
    query = f"SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info('{TABLE}')"
    assert rows(ours, query) == rows(theirs, query)
    query = f"SELECT name FROM {TABLE} ORDER BY id"
    assert rows(ours, query) == rows(theirs, query)


@pytest.mark.parametrize("version", ["0001", "0001_users", "0001_users.sql"])
def test_baseline_takes_number_and_name(tmp_path: Path, files: Path, version: str) -> None:
    """VERSION is the number, the name or the file."""
    database = make_database(tmp_path / "app.db", USERS)
    assert migrator("baseline", database, files, version, "--format", "d1").code == 0
    assert rows(database, f"SELECT name FROM {TABLE}") == [("0001_users.sql",)]
    status = json.loads(migrator("status", database, files, "--json").stdout)
    assert (status["format"], status["applied"][0]["version"]) == ("d1", "0001")
    assert [each["version"] for each in status["pending"]] == ["0002", "9", "0010", "last"]


def test_a_number_may_be_had_by_two(tmp_path: Path) -> None:
    """After a merge two files have a number: both run, each called by its whole name."""
    files = write(
        tmp_path / "m", {f"0001_{each}.sql": f"CREATE TABLE {each} (x);" for each in ("b", "a")}
    )
    database = tmp_path / "app.db"
    done = up(database, files, "--format", "d1")
    assert (done.code, done.stdout) == (0, "Applied: 0001_a, 0001_b.\n")
    query = f"SELECT name FROM {TABLE} ORDER BY id"
    assert rows(database, query) == [("0001_a.sql",), ("0001_b.sql",)]


def test_there_is_no_way_down(theirs: Path, files: Path) -> None:
    """D1's migrations do not say how they are undone."""
    refused(migrator("down", theirs, files), "migrations.no_down", "0002_notes.sql")


@pytest.mark.parametrize(
    ("file", "text", "reason", "told"),
    [
        ("0011_a.sql", "CREATE TABLE a (x\n", "migrations.syntax", ("0011_a.sql, line 1",)),
        ("0011_a.sql", "\nCOMMIT;\n", "migrations.transaction", ("0011_a.sql, line 2",)),
        ("0001_b.sql", "SELECT 1;", "history.out-of-order", ("0001_b.sql",)),
        ("0011_a.sql/x", "", "migrations.bad_name", ("0011_a.sql", "directory")),
    ],
)
def test_bad_files_are_refused(
    theirs: Path, files: Path, file: str, text: str, reason: str, told: tuple[str, ...]
) -> None:
    """File, line and what to do are named, and nothing is written."""
    write(files, {file: text})
    left_alone(theirs, files, "--format", "d1", reason=reason, told=told)


@pytest.mark.parametrize(
    ("script", "reason", "told"),
    [
        (f"INSERT INTO {TABLE} (name) VALUES ('zzz.sql');", "history.newer", "zzz"),
        (f"INSERT INTO {TABLE} (name) VALUES ('0003_gone.sql');", "history.missing", "0003_gone"),
        (f"INSERT INTO {TABLE} (name) VALUES (NULL);", "history.broken", "None"),
        (f"ALTER TABLE {TABLE} ADD COLUMN extra;", "history.not_ours", "extra"),
    ],
)
def test_histories_that_do_not_fit_are_refused(
    theirs: Path, files: Path, script: str, reason: str, told: str
) -> None:
    """Newer, missing, rows and tables that Wrangler never made: 78, and nothing is written."""
    make_database(theirs, script)
    left_alone(theirs, files, "--format", "d1", reason=reason, told=told)


def test_wranglers_history_decides_where_drizzle_made_the_files(theirs: Path, files: Path) -> None:
    """Drizzle Kit's journal beside them says who wrote the files, the table who runs them."""
    write(files, {"meta/_journal.json": '{"entries": []}'})
    done = up(theirs, files)
    assert (done.code, done.one("plan.ready")["format"]) == (0, "d1")
