"""Flyway's directories and its table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.formats.support import dump, left_alone, migrator, refused, schema, up, write
from tests.support.files import make_database, rows

TABLE = "flyway_schema_history"
VIEW = "DROP VIEW IF EXISTS names;\nCREATE VIEW names AS SELECT name FROM users;\n"
FILES = {
    "V1__create_users.sql": "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);\n",
    "V1_1__add_email.sql": "\ufeffALTER TABLE users ADD COLUMN email TEXT;\r\n-- é\r\n",
    "2024/V2.0__create_notes.sql": (
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);\n"
        "CREATE TRIGGER noted AFTER INSERT ON notes BEGIN\n"
        "  UPDATE users SET name = 'x; y' WHERE 0;\nEND;\n"
    ),
    "2024/U2.0__create_notes.sql": "DROP TABLE notes;\n",
    "V10.sql": "PRAGMA foreign_keys = OFF;\nCREATE TABLE tags (tag TEXT);\n",
    "U10.sql": "DROP TABLE tags;\n",
    "R__names.sql": VIEW,
    "R__all_notes.sql": "DROP VIEW IF EXISTS all_notes;\nCREATE VIEW all_notes AS SELECT * FROM notes;",
    "beforeClean.sql": "DROP TABLE users;\n",
    "README.md": "No migration.",
}
FORMAT = ("--format", "flyway")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a directory of Flyway's."""
    return write(tmp_path / "sql", FILES)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Return a database in which Flyway has applied 1, 1.1 and one repeatable migration."""
    return make_database(tmp_path / "app.db", dump("flyway"))


def history(database: Path) -> list[tuple[Any, ...]]:
    """Return the rows without when they were made, and how long it took."""
    columns = "installed_rank, version, description, type, script, checksum, installed_by, success"
    return rows(database, f"SELECT {columns} FROM {TABLE} ORDER BY installed_rank")


def test_the_rest_is_applied_in_flyways_table(theirs: Path, files: Path) -> None:
    """Versions by their parts, then repeatables by their names, with all columns as Flyway's."""
    done = up(theirs, files)
    assert (done.code, done.stdout) == (0, "Applied: R__all_notes, 2.0, 10.\n")
    assert (done.one("plan.ready")["format"], done.one("plan.ready")["way"]) == (
        "flyway",
        "in-place",
    )
    assert [each["file"] for each in done.named("migration.started")] == [
        "2024/V2.0__create_notes.sql",
        "V10.sql",
        "R__all_notes.sql",
    ]
    assert history(theirs)[3:] == [
        (4, "2.0", "create notes", "SQL", "2024/V2.0__create_notes.sql", -1354110956, "", 1),
        (5, "10", "", "SQL", "V10.sql", 1298954224, "", 1),
        (6, None, "all notes", "SQL", "R__all_notes.sql", -2003591803, "", 1),
    ]
    query = (
        f"SELECT length(installed_on), typeof(execution_time) FROM {TABLE} WHERE installed_rank > 3"
    )
    assert rows(theirs, query) == [(23, "integer")] * 3
    assert migrator("check", theirs, files).code == 0
    assert migrator("verify", theirs, files).code == 0


def test_a_database_made_here_is_the_one_that_flyway_makes(
    tmp_path: Path, theirs: Path, files: Path
) -> None:
    """Table, index and schema are Flyway's; a repeatable migration is nobody else's."""
    ours = tmp_path / "ours.db"
    assert up(ours, files).finished["outcome"] == "created"
    up(theirs, files)
    assert schema(ours) == schema(theirs)
    assert sorted(row[1:] for row in history(ours) if row[1]) == sorted(
        row[1:] for row in history(theirs) if row[1]
    )


def test_versions_alone_may_be_refinerys(tmp_path: Path) -> None:
    """Without a history and without `R__` the names say nothing: `--format` does."""
    files = write(tmp_path / "m", {"V1__a.sql": "CREATE TABLE a (x);"})
    refused(up(tmp_path / "app.db", files), "migrations.bad_name", "--format", "flyway or refinery")
    assert up(tmp_path / "app.db", files, *FORMAT).code == 0
    assert up(tmp_path / "app.db", files).finished["outcome"] == "up_to_date"


def test_a_repeatable_runs_again_when_its_text_changes(theirs: Path, files: Path) -> None:
    """It is pending then, behind new versions, and the newest row is the one that counts."""
    up(theirs, files)
    write(files, {"R__names.sql": VIEW.replace("SELECT name", "SELECT id, name")})
    write(files, {"V11__more.sql": "CREATE TABLE more (x);\n"})
    assert migrator("check", theirs, files).code == 1
    done = up(theirs, files)
    assert [each["version"] for each in done.named("migration.started")] == [
        "11",
        "R__names",
    ]
    assert [row[2] for row in history(theirs)].count("names") == 2
    assert rows(theirs, "SELECT count(*) FROM pragma_table_info('names')") == [(2,)]
    assert up(theirs, files).finished["outcome"] == "up_to_date"
    # Back to the text of before: it is not the one of the last run.
    write(files, {"R__names.sql": VIEW})
    assert up(theirs, files).stdout == "Applied: R__names.\n"


def test_undo_runs_the_undo_files(theirs: Path, files: Path) -> None:
    """`down` goes from version to version, and notes what it undid as Flyway does."""
    (files / "R__all_notes.sql").unlink()
    up(theirs, files)
    assert migrator("down", theirs, files).stdout == "Undone: 10.\n"
    assert migrator("down", theirs, files).stdout == "Undone: 2.0.\n"
    assert history(theirs)[5:] == [
        (6, "10", "", "UNDO_SQL", "U10.sql", 1742905899, "", 1),
        (7, "2.0", "create notes", "UNDO_SQL", "2024/U2.0__create_notes.sql", -1341628311, "", 1),
    ]
    refused(migrator("down", theirs, files), "migrations.no_down", "V1_1__add_email.sql")
    status = json.loads(migrator("status", theirs, files, "--json").stdout)
    assert [each["version"] for each in status["applied"]] == ["R__names", "1", "1.1"]
    assert [each["version"] for each in status["pending"]] == ["2.0", "10"]
    assert up(theirs, files).stdout == "Applied: 2.0, 10.\n"


def test_a_baseline_is_one_row(tmp_path: Path, theirs: Path, files: Path) -> None:
    """All versions up to the baseline are applied, as for Flyway; none of them can be undone."""
    database = tmp_path / "other.db"
    shutil.copy(theirs, database)
    make_database(database, f"DROP TABLE {TABLE};")
    assert migrator("baseline", database, files, "1.1").code == 0
    assert history(database) == [
        (1, "1.1", "<< Flyway Baseline >>", "BASELINE", "<< Flyway Baseline >>", None, "", 1)
    ]
    assert (
        migrator("baseline", database, files, "V1_1", *FORMAT).finished["outcome"] == "up_to_date"
    )
    write(files, {"U1_1__add_email.sql": "ALTER TABLE users DROP COLUMN email;\n"})
    refused(migrator("down", database, files), "migrations.no_down", "V1_1__add_email.sql")
    assert up(database, files).stdout == "Applied: R__all_notes, R__names, 2.0, 10.\n"


def test_a_baseline_between_rows_notes_each(theirs: Path, files: Path) -> None:
    """Flyway accepts a baseline only before all others; later, each version gets its row."""
    make_database(theirs, "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);")
    assert migrator("baseline", theirs, files, "2").code == 0
    assert history(theirs)[3:] == [
        (4, "2.0", "create notes", "SQL", "2024/V2.0__create_notes.sql", -1354110956, "", 1)
    ]


@pytest.mark.parametrize(
    ("script", "applied"),
    [
        (f"INSERT INTO {TABLE} VALUES (0, NULL, '<< Flyway Schema Creation >>', 'SCHEMA', 'main', NULL, '', 'now', 0, 1);", "R__all_notes, 2.0, 10"),
        (f"DELETE FROM {TABLE} WHERE version IS NOT NULL; INSERT INTO {TABLE} VALUES (9, '1.1', 'b', 'BASELINE', 'b', NULL, '', 'now', 0, 1);", "R__all_notes, 2.0, 10"),
        (f"DELETE FROM {TABLE} WHERE version IS NOT NULL; INSERT INTO {TABLE} VALUES (9, '1.5', 'b', 'BASELINE', 'b', NULL, '', 'now', 0, 1);", "R__all_notes, 2.0, 10"),
        (f"DROP VIEW names; INSERT INTO {TABLE} VALUES (9, NULL, 'names', 'DELETE', 'R__names.sql', NULL, '', 'now', 0, 1);", "R__all_notes, R__names, 2.0, 10"),
        (f"UPDATE {TABLE} SET checksum = NULL WHERE version = '1';", "R__all_notes, 2.0, 10"),
        (f"INSERT INTO {TABLE} VALUES (7, '1.05', 'gone', 'SQL', 'x', 1, '', 'now', 0, 1), (8, '1.05', 'gone', 'DELETE', 'x', 1, '', 'now', 0, 1);", "R__all_notes, 2.0, 10"),
    ],
)  # fmt: skip
def test_rows_of_other_kinds(theirs: Path, files: Path, script: str, applied: str) -> None:
    """Schemas, baselines and what `repair` has deleted count as they do for Flyway."""
    make_database(theirs, script)
    assert up(theirs, files, *FORMAT).stdout == f"Applied: {applied}.\n"


def test_line_ends_and_a_byte_order_mark_are_not_in_the_checksum(theirs: Path, files: Path) -> None:
    """Flyway adds the lines up without their ends."""
    text = FILES["V1_1__add_email.sql"].removeprefix("\ufeff").replace("\r\n", "\n")
    write(files, {"V1_1__add_email.sql": text})
    assert up(theirs, files).code == 0


def test_links_in_a_circle_end(theirs: Path, files: Path) -> None:
    """A directory that links lead back to is read once, and a link to nothing is told."""
    (files / "2024" / "all").symlink_to("..")
    (files / "again").symlink_to(".")
    assert up(theirs, files).code == 0
    (files / "V11__gone.sql").symlink_to("nowhere")
    refused(up(theirs, files), "migrations.unreadable", "V11__gone.sql", "link to nothing")


def test_settings_beside_a_file(theirs: Path, files: Path) -> None:
    """`.conf` says that a migration needs no transaction, or that `${` is no placeholder."""
    write(
        files,
        {
            "V11__compact.sql": "VACUUM;\n",
            "V11__compact.sql.conf": "# compact\nexecuteInTransaction=false\nencoding=UTF-8\n",
            "V12__text.sql": "INSERT INTO tags VALUES ('${name}');\n",
            "V12__text.sql.conf": "placeholderReplacement = false\n",
        },
    )
    done = up(theirs, files)
    assert (done.code, done.one("plan.ready")["way"]) == (0, "copy")
    assert rows(theirs, "SELECT tag FROM tags") == [("${name}",)]


def test_names_that_flyway_passes_over_are_told(theirs: Path, files: Path) -> None:
    """One underscore is no separator, and a baseline migration is for empty databases."""
    write(files, {"V11_x.sql": "SELECT 1;", "B2__all.sql": "SELECT 1;"})
    done = up(theirs, files)
    assert done.code == 0
    assert {each["file"] for each in done.named("migrations.ignored")} == {
        "V11_x.sql",
        "B2__all.sql",
        "beforeClean.sql",
    }


@pytest.mark.parametrize(
    ("file", "text", "reason", "told"),
    [
        ("V11__a.sql", "\nSELECT '${name}';\n", "migrations.other_tool", ("V11__a.sql, line 2", "${name}", "placeholderReplacement=false")),
        ("R__a.sql", "-- ${flyway:timestamp}\n", "migrations.other_tool", ("R__a.sql, line 1",)),
        ("U10.sql", "${", "migrations.other_tool", ("U10.sql, line 1",)),
        ("V11__a.sql", "CREATE TABLE a (x\n", "migrations.syntax", ("V11__a.sql, line 1",)),
        ("deep/V11__a.sql", "\xff", "migrations.encoding", ("deep/V11__a.sql",)),
        ("V11__a.java", "", "migrations.other_tool", ("V11__a.java", "--migrate-command")),
        ("V11__a.sh", "", "migrations.other_tool", ("V11__a.sh",)),
        ("R__a.py", "", "migrations.other_tool", ("R__a.py",)),
        ("beforeMigrate.sql", "", "migrations.other_tool", ("beforeMigrate.sql", "callback")),
        ("afterEachMigrateStatement__a.sql", "", "migrations.other_tool", ("callback",)),
        ("B3__a.sql", "", "migrations.other_tool", ("B3__a.sql", "baseline migration")),
        ("U3__a.sql", "", "migrations.bad_name", ("U3__a.sql", "version 3")),
        ("V01.0__a.sql", "", "migrations.duplicate", ("V01.0__a.sql", "V1__create_users.sql")),
        ("deep/R__names.sql", "SELECT 1;", "migrations.duplicate", ("R__names.sql",)),
        ("V1_0_5__a.sql", "", "history.out-of-order", ("V1_0_5__a.sql",)),
        ("V1__create_users.sql", "CREATE TABLE users (id);", "history.changed", ("V1__create_users.sql",)),
        ("V10.sql.conf", "shouldExecute=false", "migrations.other_tool", ("V10.sql.conf, line 1",)),
        ("V10.sql.conf", "\nexecuteInTransaction=maybe", "migrations.directive", ("V10.sql.conf, line 2",)),
        ("V10.sql.conf", "encoding=UTF-16", "migrations.directive", ("'UTF-16'",)),
    ],
)  # fmt: skip
def test_bad_files_are_refused(
    theirs: Path, files: Path, file: str, text: str, reason: str, told: tuple[str, ...]
) -> None:
    """File, line and what to do are named, and nothing is written."""
    (files / file).parent.mkdir(exist_ok=True)
    (files / file).write_bytes(text.encode("latin-1"))
    left_alone(theirs, files, *FORMAT, reason=reason, told=told)


def test_a_placeholder_of_what_is_applied_is_in_nobodys_way(theirs: Path, files: Path) -> None:
    """Flyway has put the value in; only what is pending cannot be run without it."""
    write(files, {"V1__create_users.sql": "-- ${owner}\n"})
    assert up(theirs, files, "--accept", "changed").code == 0


def test_vacuum_in_a_transaction_is_refused(theirs: Path, files: Path) -> None:
    """Where the settings ask for a transaction, the hint has the line that asks for none."""
    write(files, {"V11__a.sql": "VACUUM;", "V11__a.sql.conf": "executeInTransaction=true"})
    told = ("V11__a.sql, line 1", "`executeInTransaction=false` into V11__a.sql.conf")
    refused(up(theirs, files), "migrations.not_transactional", *told)


@pytest.mark.parametrize(
    ("script", "reason", "told"),
    [
        (f"INSERT INTO {TABLE} VALUES (9, '2.0', 'x', 'SQL', 'V2.0__x.sql', 1, '', 'now', 0, 0);", "history.broken", "flyway repair"),
        (f"INSERT INTO {TABLE} VALUES (9, '2.x', 'x', 'SQL', 'x', 1, '', 'now', 0, 1);", "history.broken", "'2.x'"),
        (f"INSERT INTO {TABLE} VALUES (9, '11', 'later', 'SQL', 'x', 1, '', 'now', 0, 1);", "history.newer", "11_later"),
        (f"INSERT INTO {TABLE} VALUES (9, '11', 'b', 'BASELINE', 'b', NULL, '', 'now', 0, 1);", "history.newer", "it has 11,"),
        (f"INSERT INTO {TABLE} VALUES (9, '1.05', 'gone', 'JDBC', 'x', 1, '', 'now', 0, 1);", "history.missing", "1.05_gone"),
        (f"INSERT INTO {TABLE} VALUES (9, NULL, 'gone too', 'SQL', 'x', 1, '', 'now', 0, 1);", "history.missing", "R__gone_too"),
        (f"ALTER TABLE {TABLE} DROP COLUMN script;", "history.not_ours", "installed_by"),
    ],
)  # fmt: skip
def test_histories_that_do_not_fit_are_refused(
    theirs: Path, files: Path, script: str, reason: str, told: str
) -> None:
    """Failed, newer, missing, rows and tables that Flyway never made: 78, nothing is written."""
    make_database(theirs, script)
    left_alone(theirs, files, *FORMAT, reason=reason, told=told)
