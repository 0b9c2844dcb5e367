"""golang-migrate's pairs of files and its one row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.formats.support import dump, left_alone, migrator, refused, schema, up, write
from tests.support.files import make_database, rows

FILES = {
    "1_users.up.sql": "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);",
    "1_users.down.sql": "DROP TABLE users;",
    "2_notes.up.sql": "BEGIN;\nCREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);\nCOMMIT;\n",
    "2_notes.down.sql": "DROP TABLE notes;",
    "10_email.up.sql": "ALTER TABLE users ADD COLUMN email TEXT;\nCREATE INDEX e ON users (email);",
    "10_email.down.sql": "DROP INDEX e;\nALTER TABLE users DROP COLUMN email;",
    "11_one_way.up..sql": "CREATE TABLE tags (tag TEXT);",
    "12_postmigrate.go": "package migrations",
    "README.md": "No migration.",
}
FORMAT = ("--format", "golang-migrate")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a directory of golang-migrate's."""
    return write(tmp_path / "files", FILES)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Return a database as golang-migrate leaves it at version 2."""
    return make_database(tmp_path / "app.db", dump("golang-migrate"))


def position(database: Path) -> list[tuple[object, ...]]:
    """Return the rows of the table, with the types of what is in them."""
    query = "SELECT version, typeof(version), dirty, typeof(dirty) FROM schema_migrations"
    return rows(database, query)


def test_what_is_above_the_version_is_applied(theirs: Path, files: Path) -> None:
    """The history decides; the one row says 11 afterwards, and is not dirty."""
    status = json.loads(migrator("status", theirs, files, "--json").stdout)
    assert status["format"] == "golang-migrate"
    assert [each["name"] for each in status["applied"]] == ["users", "notes"]
    done = up(theirs, files)
    assert (done.code, done.stdout) == (0, "Applied: 10, 11.\n")
    assert position(theirs) == [(11, "integer", 0, "integer")]
    assert up(theirs, files).finished["outcome"] == "up_to_date"


def test_a_database_made_here_is_theirs(tmp_path: Path, theirs: Path, files: Path) -> None:
    """Table and index have the names and the types that golang-migrate gives them."""
    ours = tmp_path / "ours.db"
    assert up(ours, files, *FORMAT).finished["outcome"] == "created"
    up(theirs, files)
    table = ["schema_migrations"]
    assert schema(ours, without=table) == schema(theirs, without=table)
    query = "SELECT name, type, pk FROM pragma_table_info('schema_migrations')"
    assert rows(ours, query) == rows(theirs, query)
    query = "SELECT name, \"unique\" FROM pragma_index_list('schema_migrations')"
    assert rows(ours, query) == rows(theirs, query)


def test_down_moves_the_version_back(theirs: Path, files: Path) -> None:
    """Each step goes to the version below; below the first there is no row."""
    (files / "11_one_way.up..sql").unlink()
    up(theirs, files)
    assert migrator("down", theirs, files).stdout == "Undone: 10.\n"
    assert position(theirs) == [(2, "integer", 0, "integer")]
    assert migrator("down", theirs, files, "--steps", "2").stdout == "Undone: 2, 1.\n"
    assert position(theirs) == []
    assert schema(theirs, without=["schema_migrations"]) == []


def test_a_version_without_a_file_to_undo_it(theirs: Path, files: Path) -> None:
    """`.down.sql` may be missing until it is needed."""
    up(theirs, files)
    refused(migrator("down", theirs, files), "migrations.no_down", "11_one_way.up..sql")


def test_baseline_sets_the_version(tmp_path: Path, files: Path) -> None:
    """One row, whatever is below it."""
    script = (
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);"
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);"
    )
    database = make_database(tmp_path / "app.db", script)
    assert migrator("baseline", database, files, "2", *FORMAT).code == 0
    assert position(database) == [(2, "integer", 0, "integer")]
    assert up(database, files).stdout == "Applied: 10, 11.\n"


def test_a_dirty_version_is_refused(theirs: Path, files: Path) -> None:
    """Whoever left it knows what of it has run; the hint says how that is told."""
    make_database(theirs, "UPDATE schema_migrations SET dirty = 1")
    before = theirs.read_bytes()
    refused(up(theirs, files), "history.broken", "version 2 is dirty", "migrate force 2")
    assert migrator("check", theirs, files).code == 78
    assert theirs.read_bytes() == before


@pytest.mark.parametrize(
    ("script", "reason", "told"),
    [
        ("UPDATE schema_migrations SET version = 99", "history.newer", "99"),
        ("UPDATE schema_migrations SET version = 5", "history.missing", "5"),
        ("UPDATE schema_migrations SET version = 'x'", "history.broken", "'x'"),
        ("ALTER TABLE schema_migrations ADD COLUMN x", "history.not_ours", "version, dirty"),
    ],
)
def test_histories_that_do_not_fit_are_refused(
    theirs: Path, files: Path, script: str, reason: str, told: str
) -> None:
    """Newer, missing, and what golang-migrate never wrote: 78."""
    make_database(theirs, script)
    left_alone(theirs, files, *FORMAT, reason=reason, told=told)


@pytest.mark.parametrize(
    ("name", "reason", "told"),
    [
        ("12_half.down.sql", "migrations.bad_name", "has no `.up.sql`"),
        ("2_again.up.sql", "migrations.duplicate", "2_notes.up.sql"),
        ("12_go.up.json", "migrations.bad_name", "only `.sql`"),
        (f"{2**63}_a.up.sql", "migrations.bad_name", str(2**63 - 1)),
    ],
)
def test_bad_names_are_refused(
    theirs: Path, files: Path, name: str, reason: str, told: str
) -> None:
    """Half a pair, a version twice, no SQL, a version too large."""
    (files / name).write_text("SELECT 1;")
    refused(up(theirs, files, *FORMAT), reason, name, told)


def test_what_no_transaction_allows_runs_on_a_copy(theirs: Path, files: Path) -> None:
    """golang-migrate can be told not to wrap files; here the statements say so."""
    (files / "12_compact.up.sql").write_text("VACUUM;")
    done = up(theirs, files)
    assert (done.code, done.one("plan.ready")["way"]) == (0, "copy")
    assert position(theirs) == [(12, "integer", 0, "integer")]


def test_a_file_that_ends_the_tools_transaction_runs(theirs: Path, files: Path) -> None:
    """What golang-migrate puts around a file is there, unless the file begins its own."""
    switched = "COMMIT;\nPRAGMA journal_mode = WAL;\nBEGIN;\nCREATE TABLE a (b);\n"
    (files / "12_switched.up.sql").write_text(switched)
    own = "PRAGMA foreign_keys = OFF;\nBEGIN;\nCREATE TABLE c (d);\nCOMMIT;\nVACUUM;\n"
    (files / "13_own.up.sql").write_text(own)
    assert up(theirs, files).stdout == "Applied: 10, 11, 12, 13.\n"
    assert rows(theirs, "PRAGMA journal_mode") == [("wal",)]
    assert {"a", "c"} <= {row[1] for row in schema(theirs)}
    assert position(theirs) == [(13, "integer", 0, "integer")]
