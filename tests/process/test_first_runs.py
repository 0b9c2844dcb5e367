"""The first run on a database that was there before, or beside another one."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from migrator import MigrationRunner
from tests.support.digest import logical_digest
from tests.support.files import history, listing, make_database, tables, write_migrations
from tests.support.processes import run_entrypoint, run_migrator

BOOKS = "CREATE TABLE books (id INTEGER PRIMARY KEY);\n"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return migrations whose first one the application had made itself."""
    return write_migrations(
        tmp_path / "migrations",
        {"001_initial.sql": BOOKS, "002_tags.sql": "CREATE TABLE tags (x);\n"},
    )


def test_tables_that_are_there_already_are_told_of_baseline(volume, files):
    """80 leaves the database as it was; the hint's command, as typed, takes it over."""
    database = make_database(volume / "app.db", BOOKS)
    before = logical_digest(database)
    options = ("--database", database, "--migrations", files)
    result = run_entrypoint(*options, "--", "echo", "app")
    assert (80, "", "failed_restored") == (result.code, result.stdout, result.finished["outcome"])
    assert before == logical_digest(database)
    words = shlex.split(result.finished["hint"].split("`")[1])
    assert ["migrator", "baseline", "001"] == words[:3]
    assert 0 == run_migrator(*words[1:]).code
    again = run_entrypoint(*options, "--", "echo", "app")
    assert (0, "app\n") == (again.code, again.stdout)
    assert ["001", "002"] == history(database)
    assert {"books", "tags", "migrations"} == tables(database)


def test_looking_at_tables_without_a_history_names_baseline(volume, files):
    """`status` and `plan` print a command that works as typed; with a history it is gone."""
    database = make_database(volume / "app.db", BOOKS)
    options = ("--database", database, "--migrations", files)
    facts = json.loads(run_migrator("status", "--json", *options).stdout)
    assert [] == facts["problems"]
    printed = [run_migrator(command, *options).stdout for command in ("status", "plan")]
    assert [True, True] == [facts["hint"] in each for each in printed]
    assert 1 == run_migrator("check", *options).code
    words = shlex.split(facts["hint"].split("`")[1])
    assert ["migrator", "baseline", "001"] == words[:3]
    assert 0 == run_migrator(*words[1:]).code
    assert ["001"] == history(database)
    assert "migrator baseline" not in run_migrator("status", *options).stdout


def test_a_failure_beside_a_history_names_no_baseline(volume, files):
    """Where something is noted as applied, a table that is there is the migration's mistake."""
    options = ("--database", volume / "app.db", "--migrations", files)
    assert 0 == run_migrator("up", *options).code
    write_migrations(files, {"003_again.sql": BOOKS})
    result = run_migrator("up", *options)
    assert 80 == result.code
    assert "baseline" not in result.finished["hint"]
    assert ["001", "002"] == history(volume / "app.db")


def test_a_database_beside_a_missing_one_is_named(volume, files):
    """`plan` and `status` name it by its first bytes; the first install warns and goes on."""
    make_database(volume / "library.data", BOOKS)
    make_database(volume / "other.sqlite3", BOOKS)
    (volume / "notes.db").write_text("no database")
    options = ("--database", volume / "app.db", "--migrations", files)
    before = listing(volume)
    for command in ("plan", "status"):
        out = run_migrator(command, *options).stdout
        assert "'library.data', 'other.sqlite3'" in out
        assert "MIGRATOR_DATABASE" in out
        assert "notes.db" not in out
        facts = json.loads(run_migrator(command, "--json", *options).stdout)
        assert ["library.data", "other.sqlite3"] == facts["beside"]
    assert before == listing(volume)
    result = run_entrypoint(*options, "--", "echo", "app")
    assert (0, "app\n", "created") == (result.code, result.stdout, result.finished["outcome"])
    event = result.one("database.missing")
    assert ("warning", ["library.data", "other.sqlite3"]) == (event["level"], event["beside"])
    again = run_entrypoint(*options)
    assert [] == again.named("database.missing")


def test_a_first_install_alone_names_nothing(volume, files):
    """An empty directory, and what is no database, is no reason for a warning."""
    (volume / "app.log").write_text("x" * 100)
    result = run_entrypoint("--database", volume / "app.db", "--migrations", files)
    assert 0 == result.code
    assert [] == result.named("database.missing")


def test_in_the_callers_process_no_file_beside_is_opened(volume, files, monkeypatch):
    """Closing one would drop the locks of the application on it: its ending has to do."""
    from migrator.inspect import beside

    make_database(volume / "library.sqlite3", BOOKS)
    make_database(volume / "library.data", BOOKS)
    monkeypatch.setattr(beside, "_begins_as_one", lambda path: pytest.fail(f"{path} was opened"))
    names = []
    told = beside.databases_beside
    monkeypatch.setattr(
        "migrator.strategy.new_file.databases_beside",
        lambda *args, **given: names.append(told(*args, **given)) or names[-1],
    )
    assert 2 == MigrationRunner(volume / "app.db", files).run_pending_migrations(verbose=False)
    assert [("library.sqlite3",)] == names
