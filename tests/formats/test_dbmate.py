"""dbmate's directories and its table, held against dbmate itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.formats.support import (
    content,
    installed,
    left_alone,
    migrator,
    refused,
    run_tool,
    schema,
    up,
    write,
)
from tests.support.files import make_database, rows

FILES = {
    "20240101120000_users.sql": (
        "-- migrate:up\n"
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);\n"
        "INSERT INTO users (name) VALUES ('a;b'), ('it''s');\n"
        "\n"
        "-- migrate:down\n"
        "DROP TABLE users;\n"
    ),
    "20240201120000_notes.sql": (
        "-- migrate:up\r\n"
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, user INTEGER REFERENCES users, text TEXT);\r\n"
        "CREATE TRIGGER noted AFTER INSERT ON notes BEGIN\r\n"
        "  UPDATE users SET name = name || '!' WHERE id = new.user;\r\n"
        "  DELETE FROM users WHERE id < 0;\r\n"
        "END;\r\n"
        "-- migrate:down\r\n"
        "DROP TABLE notes;\r\n"
    ),
    "20240301120000_compact.sql": (
        "-- migrate:up transaction:false\nVACUUM;\n-- migrate:down\nSELECT 1;\n"
    ),
    "20240401120000_email.sql": (
        "-- migrate:up\nALTER TABLE users ADD COLUMN email TEXT;\n"
        "-- migrate:down\nALTER TABLE users DROP COLUMN email;\n"
    ),
}
"""A trigger, line ends of Windows, a `;` in a text, and a VACUUM outside a transaction."""

VERSIONS = [name.partition("_")[0] for name in FILES]


def dbmate(database: Path, migrations: Path, *words: str) -> str:
    """Run dbmate on a database."""
    where = ("--url", f"sqlite:{database}", "--migrations-dir", migrations, "--no-dump-schema")
    return run_tool(installed("dbmate"), *where, *words)


def nothing_pending(database: Path, migrations: Path) -> bool:
    """Tell whether dbmate itself finds nothing to do."""
    return "Pending: 0" in dbmate(database, migrations, "status")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a directory of dbmate's."""
    return write(tmp_path / "files", FILES)


@pytest.fixture
def theirs(tmp_path: Path, files: Path) -> Path:
    """Return a database to which dbmate has applied everything."""
    path = tmp_path / "theirs.db"
    dbmate(path, files, "up")
    return path


@pytest.mark.parametrize("first", range(len(FILES) + 1))
def test_dbmate_applies_some_and_we_the_rest(
    tmp_path: Path, files: Path, theirs: Path, first: int
) -> None:
    """Whoever begins, dbmate finds nothing pending and the schema is the one that it makes."""
    part = write(tmp_path / "part", dict(list(FILES.items())[:first]))
    database = tmp_path / "app.db"
    if first:
        dbmate(database, part, "up")
    done = up(database, files, "--format", "dbmate")
    assert done.code == 0, done.finished
    assert done.finished["applied"] == len(FILES) - first
    assert nothing_pending(database, files)
    assert schema(database) == schema(theirs)
    assert rows(database, "SELECT * FROM schema_migrations ORDER BY 1") == [(v,) for v in VERSIONS]


def test_we_apply_some_and_dbmate_the_rest(tmp_path: Path, files: Path, theirs: Path) -> None:
    """What we leave is what dbmate would have left: it goes on from there."""
    part = write(tmp_path / "part", dict(list(FILES.items())[:2]))
    database = tmp_path / "app.db"
    assert up(database, part, "--format", "dbmate").code == 0
    dbmate(database, files, "up")
    assert content(database) == content(theirs)
    assert up(database, files).finished["outcome"] == "up_to_date"


def test_down_takes_back_what_dbmate_has_applied(tmp_path: Path, files: Path, theirs: Path) -> None:
    """The down sections run, and dbmate applies the same again."""
    before = schema(theirs)
    done = migrator("down", theirs, files, "--to", VERSIONS[0])
    assert done.stdout == f"Undone: {', '.join(reversed(VERSIONS[1:]))}.\n"
    assert rows(theirs, "SELECT version FROM schema_migrations") == [(VERSIONS[0],)]
    dbmate(theirs, files, "up")
    assert schema(theirs) == before


def test_the_history_decides(tmp_path: Path, files: Path, theirs: Path) -> None:
    """Without `--format`, dbmate's table says whose files they are; `status` and `plan` say so."""
    (files / "20240501120000_tags.sql").write_text(
        "-- migrate:up\nCREATE TABLE tags (tag TEXT);\n-- migrate:down\nDROP TABLE tags;\n"
    )
    status = json.loads(migrator("status", theirs, files, "--json").stdout)
    assert (status["format"], len(status["applied"]), status["problems"]) == ("dbmate", 4, [])
    assert status["applied"][0]["name"] == "users"
    plan = json.loads(migrator("plan", theirs, files, "--json").stdout)
    assert (plan["format"], [each["version"] for each in plan["pending"]]) == (
        "dbmate",
        ["20240501120000"],
    )
    assert migrator("check", theirs, files).code == 1
    done = up(theirs, files)
    assert done.one("plan.ready")["format"] == "dbmate"
    assert migrator("check", theirs, files).code == 0
    assert migrator("verify", theirs, files).code == 0
    assert nothing_pending(theirs, files)
    assert "migrations" not in {row[1] for row in schema(theirs)}


def test_without_a_history_sections_are_ours(tmp_path: Path, files: Path) -> None:
    """`-- migrate:up` alone is no mark of dbmate's: it is ours as well."""
    database = tmp_path / "app.db"
    assert up(database, files).one("plan.ready")["format"] == "native"
    assert rows(database, "SELECT count(*) FROM migrations") == [(4,)]


def test_what_fails_is_undone(tmp_path: Path, files: Path, theirs: Path) -> None:
    """A failing migration leaves dbmate's database as it was, and says file, line, statement."""
    (files / "20240501120000_bad.sql").write_text("-- migrate:up\nDROP TABLE nowhere;\n")
    before = theirs.read_bytes()
    done = up(theirs, files)
    failed = done.one("migration.failed")
    assert (done.code, failed["line"], failed["statement"]) == (80, 2, "DROP TABLE nowhere;")
    assert theirs.read_bytes() == before


def test_a_database_is_taken_into_dbmates_history(tmp_path: Path, files: Path) -> None:
    """`baseline` notes versions in dbmate's own table."""
    database = make_database(tmp_path / "app.db", "CREATE TABLE users (id INTEGER, name TEXT);")
    done = migrator("baseline", database, files, VERSIONS[0], "--format", "dbmate")
    assert done.code == 0, done.finished
    assert rows(database, "SELECT * FROM schema_migrations") == [(VERSIONS[0],)]


@pytest.mark.parametrize(
    ("version", "reason"),
    [("20990101000000", "history.newer"), ("20240115000000", "history.missing")],
)
def test_versions_without_files_are_refused(
    files: Path, theirs: Path, version: str, reason: str
) -> None:
    """A version above the files is newer, one between them is missing."""
    with_one = make_database(theirs, f"INSERT INTO schema_migrations VALUES ('{version}');")
    (files / "20240601120000_new.sql").write_text("-- migrate:up\nSELECT 1;\n")
    refused(up(with_one, files), reason, version)


def test_a_file_between_applied_ones_is_out_of_order(files: Path, theirs: Path) -> None:
    """It is refused until that is accepted; then dbmate finds nothing pending."""
    (files / "20240115000000_late.sql").write_text(
        "-- migrate:up\nCREATE TABLE late (x);\n-- migrate:down\nDROP TABLE late;\n"
    )
    refused(up(theirs, files), "history.out-of-order", "20240115000000_late.sql")
    assert up(theirs, files, "--accept", "out-of-order").code == 0
    assert nothing_pending(theirs, files)


@pytest.mark.parametrize(
    ("name", "text", "reason", "told"),
    [
        ("5_a.sql", "CREATE TABLE a (x);\n", "migrations.directive", "5_a.sql"),
        ("5_a.sql", "DROP TABLE a;\n-- migrate:up\n", "migrations.directive", "5_a.sql, line 1"),
        ("5_a.sql", "-- migrate:up\nVACUUM;\n", "migrations.not_transactional", "line 2"),
        ("5_a.sql", "-- migrate:up\nSELECT 'a;\n", "migrations.syntax", "line 2"),
        ("20240101120000_twice.sql", "-- migrate:up\n", "migrations.duplicate", "20240101120000"),
    ],
)
def test_bad_files_are_refused_when_they_are_read(
    files: Path, theirs: Path, name: str, text: str, reason: str, told: str
) -> None:
    """File and line are named, and nothing is written."""
    (files / name).write_text(text)
    left_alone(theirs, files, "--accept", "out-of-order", reason=reason, told=told)


def test_a_table_of_another_shape_is_refused(tmp_path: Path, files: Path) -> None:
    """What is called like dbmate's table and is not it belongs to the application."""
    database = make_database(tmp_path / "app.db", "CREATE TABLE schema_migrations (a, b);")
    refused(up(database, files, "--format", "dbmate"), "history.not_ours", "schema_migrations")


def test_another_name_of_the_table(tmp_path: Path, files: Path) -> None:
    """`--history-table` is dbmate's `--migrations-table`."""
    database = tmp_path / "app.db"
    done = up(database, files, "--format", "dbmate", "--history-table", "done")
    assert done.code == 0, done.finished
    assert "Pending: 0" in dbmate(database, files, "--migrations-table", "done", "status")
