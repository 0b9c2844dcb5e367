"""goose's directories and its table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.formats.support import dump, left_alone, migrator, schema, up, write
from tests.support.files import make_database, rows

FILES = {
    "00001_users.sql": (
        "-- A comment before anything.\n-- +goose Up\n"
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);\n"
        "\n-- +goose Down\nDROP TABLE users;\n"
    ),
    "00002_notes.sql": (
        "-- +goose Up\n"
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT); -- with a comment\n"
        "-- +goose StatementBegin\n"
        "CREATE TRIGGER noted AFTER INSERT ON notes BEGIN\n"
        "  UPDATE users SET name = 'x';\n"
        "END;\n"
        "-- +goose StatementEnd\n"
        "-- +goose Down\nDROP TABLE notes;\n"
    ),
    "00003_undone.sql": (
        "-- +goose Up\r\nALTER TABLE users ADD COLUMN email TEXT;\r\n"
        "-- +goose Down\r\nALTER TABLE users DROP COLUMN email;\r\n"
    ),
    "00004_compact.sql": "-- +goose NO TRANSACTION\n-- +goose Up\nVACUUM;\n-- +goose Down\n",
    "README.md": "No migration.",
    "seed.sql": "A name without a number is no migration to goose.",
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a directory of goose's."""
    return write(tmp_path / "files", FILES)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Return a database as goose leaves it, with version 3 undone."""
    return make_database(tmp_path / "app.db", dump("goose"))


def test_the_rest_is_applied_in_gooses_table(theirs: Path, files: Path) -> None:
    """The newest row of a version counts, and new rows have the columns that goose fills."""
    done = up(theirs, files)
    assert (done.code, done.stdout) == (0, "Applied: 00003, 00004.\n")
    assert (done.one("plan.ready")["format"], done.one("plan.ready")["way"]) == ("goose", "copy")
    query = "SELECT version_id, is_applied FROM goose_db_version ORDER BY id"
    assert rows(theirs, query)[-2:] == [(3, 1), (4, 1)]
    ((stamp,),) = rows(theirs, "SELECT max(tstamp) FROM goose_db_version")
    assert len(stamp) == len("2024-05-01 10:00:00")
    assert migrator("check", theirs, files).code == 0


def test_a_database_made_here_is_the_one_that_goose_makes(
    tmp_path: Path, theirs: Path, files: Path
) -> None:
    """Table, first row and schema are goose's."""
    ours = tmp_path / "ours.db"
    assert up(ours, files).finished["outcome"] == "created"
    up(theirs, files)
    assert schema(ours, without=["goose_db_version"]) == schema(
        theirs, without=["goose_db_version"]
    )
    query = (
        "SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info('goose_db_version')"
    )
    assert rows(ours, query) == rows(theirs, query)
    query = "SELECT id, version_id, is_applied FROM goose_db_version"
    assert rows(ours, query) == [(n + 1, n, 1) for n in range(5)]


def test_down_deletes_gooses_rows(theirs: Path, files: Path) -> None:
    """All rows of a version go, as goose does it."""
    up(theirs, files)
    done = migrator("down", theirs, files, "--to", "1")
    assert (done.code, done.stdout) == (0, "Undone: 00004, 00003, 00002.\n")
    query = "SELECT version_id FROM goose_db_version ORDER BY id"
    assert rows(theirs, query) == [(0,), (1,)]


def test_baseline_and_status_speak_of_gooses_versions(tmp_path: Path, files: Path) -> None:
    """A database without a history gets goose's."""
    script = "".join(
        f"{text};" for text in ("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)",)
    )
    database = make_database(tmp_path / "app.db", script)
    assert migrator("baseline", database, files, "1").code == 0
    status = json.loads(migrator("status", database, files, "--json").stdout)
    assert [each["version"] for each in status["applied"]] == ["00001"]
    assert [each["version"] for each in status["pending"]] == ["00002", "00003", "00004"]
    assert rows(database, "SELECT version_id FROM goose_db_version") == [(0,), (1,)]


UP = "-- +goose Up\n"


@pytest.mark.parametrize(
    ("name", "text", "reason", "told"),
    [
        ("5_a.sql", "SELECT 1;\n", "migrations.directive", ("5_a.sql, line 1", "+goose Up")),
        ("5_a.sql", f"SELECT 1;\n{UP}", "migrations.directive", ("line 1", "before")),
        ("5_a.sql", f"{UP}SELECT 1\n", "migrations.directive", ("line 2", "`;`")),
        (
            "5_a.sql",
            f"{UP}-- +goose StatementBegin\nSELECT 1;\n",
            "migrations.directive",
            ("line 2",),
        ),
        ("5_a.sql", f"{UP}-- +goose StatementEnd\n", "migrations.directive", ("line 2",)),
        ("5_a.sql", f"{UP}{UP}", "migrations.directive", ("line 2", "wrong place")),
        ("5_a.sql", "-- +goose Down\nSELECT 1;\n", "migrations.directive", ("line 1",)),
        ("5_a.sql", "-- +goose up\nSELECT 1;\n", "migrations.directive", ("not known",)),
        (
            "5_a.sql",
            f"{UP}-- +goose ENVSUB ON\nINSERT INTO users (name) VALUES ('${{NAME}}');\n",
            "migrations.directive",
            ("line 2", "ENVSUB", "--migrate-command"),
        ),
        (
            "5_a.sql",
            f"{UP}CREATE TRIGGER t AFTER INSERT ON users BEGIN\n  SELECT 1;\nEND;\n",
            "migrations.syntax",
            ("line 2",),
        ),
        (
            "5_a.sql",
            f"{UP}VACUUM;\n",
            "migrations.not_transactional",
            ("line 2", "-- +goose NO TRANSACTION"),
        ),
        ("5_a.go", "package migrations\n", "migrations.other_tool", ("5_a.go", "Go")),
        ("00002_b.sql", UP, "migrations.duplicate", ("00002_b.sql", "00002_notes.sql")),
        ("0_a.sql", UP, "migrations.bad_name", ("0_a.sql", "from 1")),
        (f"{2**63}_a.sql", UP, "migrations.bad_name", (str(2**63 - 1),)),
    ],
)
def test_bad_files_are_refused_when_they_are_read(
    theirs: Path, files: Path, name: str, text: str, reason: str, told: tuple[str, ...]
) -> None:
    """File, line and what to do are named, and nothing is written."""
    (files / name).write_text(text)
    left_alone(theirs, files, "--format", "goose", reason=reason, told=told)


def test_an_unfinished_end_of_down_does_not_stop_up(theirs: Path, files: Path) -> None:
    """Going up, goose does not ask for the last `;` below `-- +goose Down`; `down` runs it."""
    (files / "5_a.sql").write_text(f"{UP}CREATE TABLE a (b);\n-- +goose Down\nDROP TABLE a\n")
    assert up(theirs, files).code == 0
    assert ("table", "a", "a", "CREATE TABLE a (b)") in schema(theirs)
    assert migrator("down", theirs, files).code == 0
    assert "a" not in [row[1] for row in schema(theirs)]


@pytest.mark.parametrize(
    "text",
    [
        "PRAGMA journal_mode = WAL;\nCREATE TABLE a (b);\n",
        "PRAGMA page_size = 4096;\nCREATE TABLE a (b);\n",
        "COMMIT;\nVACUUM;\nBEGIN;\nCREATE TABLE a (b);\n",
        "COMMIT;\nPRAGMA foreign_keys = OFF;\nBEGIN;\nCREATE TABLE a (b);\n",
    ],
)
def test_what_gooses_own_transaction_allows_runs(theirs: Path, files: Path, text: str) -> None:
    """A PRAGMA that has its value already, and a file that ends the transaction, run as they are."""
    make_database(theirs, "PRAGMA journal_mode = WAL;")
    (files / "5_a.sql").write_text(UP + text)
    done = up(theirs, files)
    assert (done.code, done.stdout) == (0, "Applied: 00003, 00004, 5.\n")
    assert ("table", "a", "a", "CREATE TABLE a (b)") in schema(theirs)
    assert rows(theirs, "PRAGMA journal_mode") == [("wal",)]


def test_tests_in_go_are_no_migrations(theirs: Path, files: Path) -> None:
    """`_test.go` is passed over, as goose does."""
    (files / "5_a_test.go").write_text("package migrations\n")
    assert up(theirs, files).code == 0


@pytest.mark.parametrize(
    ("script", "reason", "told"),
    [
        ("INSERT INTO goose_db_version VALUES (9, 9, 1, 'x');", "history.newer", "9"),
        ("DELETE FROM goose_db_version WHERE version_id = 1;", "history.out-of-order", "00001"),
        ("INSERT INTO goose_db_version VALUES (9, 'x', 1, '');", "history.broken", "'x'"),
        ("ALTER TABLE goose_db_version DROP COLUMN tstamp;", "history.not_ours", "tstamp"),
    ],
)
def test_histories_that_do_not_fit_are_refused(
    theirs: Path, files: Path, script: str, reason: str, told: str
) -> None:
    """Newer, missing below an applied one, rows and tables that goose never made: 78."""
    make_database(theirs, script)
    left_alone(theirs, files, "--format", "goose", reason=reason, told=told)
