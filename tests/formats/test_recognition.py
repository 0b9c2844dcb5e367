"""Whose migrations they are: the history decides, then marks, else they are ours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from migrator.formats.tools import TOOLS, tool
from migrator.options.types import FORMATS
from tests.formats.support import migrator, up, write
from tests.support.files import make_database, rows
from tests.support.processes import run_migrator

PLAIN = {"1_a.sql": "-- migrate:up\n-- +goose Up\nCREATE TABLE a (x);\n"}
BOTH = """
    CREATE TABLE schema_migrations (version varchar(128) primary key);
    INSERT INTO schema_migrations VALUES ('1');
    CREATE TABLE goose_db_version (id INTEGER PRIMARY KEY AUTOINCREMENT,
        version_id INTEGER NOT NULL, is_applied INTEGER NOT NULL,
        tstamp TIMESTAMP DEFAULT (datetime('now')));
    INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, 1), (1, 1);
    """


def test_the_option_names_every_tool() -> None:
    """`--format` has a value for each tool of the table, and the table a tool for each value."""
    assert {"auto", "native", *TOOLS} == set(FORMATS)


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_says_what_it_is(name: str, tmp_path: Path) -> None:
    """Its name is the option's, its table the one by which it is looked for."""
    found = tool(name, tmp_path, tmp_path / "app.db")
    assert (found.name, found.table) == (name, TOOLS[name][2])
    assert found.title
    assert found.proven
    assert found.form
    assert found.undoes


def test_two_histories_that_the_files_fit_are_64(tmp_path: Path) -> None:
    """Both tools are named, and so is the option that decides."""
    database = make_database(tmp_path / "app.db", BOTH)
    files = write(tmp_path / "m", PLAIN)
    done = up(database, files)
    last = done.finished
    assert (done.code, last["reason"]) == (64, "usage")
    assert "dbmate (schema_migrations)" in last["error"]
    assert "goose (goose_db_version)" in last["error"]
    assert "`--format dbmate` or `--format goose`" in last["hint"]
    assert migrator("check", database, files).code == 64
    status = json.loads(migrator("status", database, files, "--json").stdout)
    assert "goose" in status["problems"][0]["message"]
    assert up(database, files, "--format", "goose").finished["outcome"] == "up_to_date"


def test_files_that_do_not_fit_a_history_leave_it_alone(tmp_path: Path) -> None:
    """Beside another tool's table, files that cannot be that tool's are ours, and refused."""
    database = make_database(tmp_path / "app.db", BOTH)
    files = write(tmp_path / "m", {"001_a.py": "def up(conn):\n    pass\n"})
    done = up(database, files)
    assert (done.code, done.finished["reason"]) == (78, "history.foreign")


def test_our_own_history_decides_first(tmp_path: Path) -> None:
    """A database that was taken over from another tool goes on with our history."""
    database = make_database(tmp_path / "app.db", BOTH + "CREATE TABLE a (x);")
    files = write(tmp_path / "m", {"1_a.sql": "CREATE TABLE a (x);\n"})
    done = migrator("baseline", database, files, "1", "--format", "native")
    assert done.code == 0, done.finished
    (files / "2_b.sql").write_text("CREATE TABLE b (x);\n")
    done = up(database, files)
    assert (done.code, done.one("plan.ready")["format"]) == (0, "native")
    assert rows(database, "SELECT version FROM migrations ORDER BY 1") == [("1",), ("2",)]
    assert rows(database, "SELECT count(*) FROM goose_db_version") == [(2,)]


def test_a_mark_decides_without_a_history(tmp_path: Path) -> None:
    """`-- +goose Up` is nobody else's; a database that does not exist is made with its table."""
    database = tmp_path / "app.db"
    files = write(tmp_path / "m", {"1_a.sql": "-- +goose Up\nCREATE TABLE a (x);\n"})
    assert json.loads(migrator("plan", database, files, "--json").stdout)["format"] == "goose"
    assert up(database, files).finished["outcome"] == "created"
    assert rows(database, "SELECT max(version_id) FROM goose_db_version") == [(1,)]


@pytest.mark.parametrize(
    ("name", "tools"),
    [
        ("1_a.up.sql", "golang-migrate or sqlx"),
        ("V1__a.sql", "flyway or refinery"),
        ("0001-a.sql", "fastmigrate"),
        ("20240101000000_a/migration.sql", "prisma or drizzle"),
    ],
)
def test_names_that_several_tools_give_are_told(tmp_path: Path, name: str, tools: str) -> None:
    """Where nothing says whose they are, the refusal says with which option it is said."""
    files = write(tmp_path / "m", {name: "CREATE TABLE a (x);\n"})
    done = up(tmp_path / "app.db", files)
    assert (done.code, done.finished["reason"]) == (78, "migrations.bad_name")
    assert f"migrations of {tools}" in done.finished["hint"]
    assert "`--format`" in done.finished["hint"]


def test_a_registry_is_of_no_other_tool(tmp_path: Path) -> None:
    """A file with a factory is ours: `--format` of a directory beside it is 64."""
    path = tmp_path / "registry.py"
    path.write_text("def create_migration_runner(db_path):\n    pass\n")
    done = run_migrator(
        "up", "--database", tmp_path / "app.db", "--migrations", path, "--format", "goose"
    )
    assert (done.code, done.finished["reason"]) == (64, "usage")


def test_new_makes_no_file_among_another_tools(tmp_path: Path) -> None:
    """`migrator new` writes our files only."""
    files = write(tmp_path / "m", {"1_a.sql": "-- +goose Up\nSELECT 1;\n"})
    done = run_migrator("new", "b", "--migrations", files)
    assert done.code == 64
    assert "goose" in done.stderr
    assert [path.name for path in files.iterdir()] == ["1_a.sql"]


@pytest.mark.parametrize("wal", [False, True])
def test_a_killed_application_does_not_hide_the_history(tmp_path: Path, wal: bool) -> None:
    """A database that has to be recovered first is still recognised as the tool's."""
    database = make_database(tmp_path / "app.db", BOTH, wal=wal)
    make_database(database, "DROP TABLE schema_migrations; CREATE TABLE big (x);")
    make_database(
        database,
        "INSERT INTO big WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 9999)"
        " SELECT randomblob(100) FROM n;",
    )
    torn = tmp_path / "torn.db"
    _leave_a_journal(database, torn, wal=wal)
    files = write(tmp_path / "m", {**PLAIN, "2_b.sql": "-- +goose Up\nCREATE TABLE b (x);\n"})
    done = up(torn, files)
    assert done.code == 0, done.finished
    assert rows(torn, "SELECT version_id FROM goose_db_version ORDER BY 1") == [(0,), (1,), (2,)]
    assert rows(torn, "SELECT count(*) FROM big WHERE x IS NULL") == [(0,)]


def _leave_a_journal(database: Path, torn: Path, *, wal: bool) -> None:
    """Copy a database with what a writer had beside it in the middle of a transaction."""
    import sqlite3

    conn = sqlite3.connect(database, isolation_level=None)
    conn.execute("PRAGMA cache_size = 1")
    conn.execute("BEGIN")
    conn.execute("UPDATE big SET x = NULL")
    for end in ("", "-wal" if wal else "-journal"):
        shutil.copy(f"{database}{end}", f"{torn}{end}")
    conn.close()


@pytest.mark.parametrize(
    ("tool_name", "file", "text"),
    [
        ("dbmate", "001_.sql", "-- migrate:up\nCREATE TABLE a (x);\n"),
        ("dbmate", "001.sql", "-- migrate:up\nCREATE TABLE a (x);\n"),
        ("goose", "001_.sql", "-- +goose Up\nCREATE TABLE a (x);\n"),
        ("golang-migrate", "001_.up.sql", "CREATE TABLE a (x);\n"),
        ("sqlx", "1_.sql", "CREATE TABLE a (x);\n"),
        ("diesel", "001_/up.sql", "CREATE TABLE a (x);\n"),
        ("fastmigrate", "0001-.sql", "CREATE TABLE a (x);\n"),
    ],
)
def test_a_file_that_is_a_number_alone_is_called_by_it(
    tmp_path: Path, tool_name: str, file: str, text: str
) -> None:
    """Events and results always have a name, also where the tool needs none."""
    files = write(tmp_path / "m", {file: text})
    database = tmp_path / "app.db"
    done = up(database, files, "--format", tool_name)
    started = done.one("migration.started")
    assert (done.code, started["name"]) == (0, started["version"])
    assert up(database, files, "--format", tool_name).finished["outcome"] == "up_to_date"
    if tool_name == "sqlx":
        assert rows(database, "SELECT description FROM _sqlx_migrations") == [("",)]


def test_down_over_a_version_without_file_and_name_calls_it_by_its_version(tmp_path: Path) -> None:
    """The table of dbmate keeps no names."""
    database = tmp_path / "app.db"
    mark = "-- migrate:up\nCREATE TABLE {0} (x);\n-- migrate:down\nDROP TABLE {0};\n"
    files = write(tmp_path / "m", {f"{n}_{n}.sql": mark.format(f"t{n}") for n in (1, 2)})
    assert up(database, files, "--format", "dbmate").code == 0
    (files / "2_2.sql").unlink()
    last = migrator("down", database, files).finished
    assert last["exit_code"] == 78
    assert last["error"] == "Migration 2 is applied and has no file here any more."


def test_another_format_on_a_database_of_ours_is_told_the_right_one(tmp_path: Path) -> None:
    """The option in the hint works: the table alone would not."""
    database = tmp_path / "app.db"
    files = write(tmp_path / "m", {"001_a.sql": "CREATE TABLE a (x);\n"})
    assert up(database, files).code == 0
    write(files, {"002_b.sql": "CREATE TABLE b (x);\n"})
    last = up(database, files, "--format", "sqlx").finished
    assert (last["exit_code"], last["reason"]) == (78, "history.foreign")
    options = last["hint"].split("`")[1].split()
    assert options[:2] == ["--format", "native"]
    assert up(database, files, *options).finished["outcome"] == "migrated"
