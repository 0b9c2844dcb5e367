"""Sources of which something is not read: no application is started on what they do not make."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.support.files import history, listing, make_database, tables, write_migrations
from tests.support.processes import run_entrypoint, run_migrator

MADE = "CREATE TABLE made (x);\n"

UNSEEN = [
    "20240101000000_init/migration.sql", "1/up.sql", "V0001.Init.up.sql", "patch1.sql",
    "20240101000000_init.js", "2024_01_01_000000_users.php", "20240101_users.exs",
    "migrations/001_x.sql", "versions/ae1027a6acf1_users.py", "schema.sql",
]  # fmt: skip


@pytest.mark.parametrize("name", UNSEEN)
def test_a_source_in_which_nothing_is_recognised_starts_no_application(volume, tmp_path, name):
    """78 names what lies there, no database comes to be, and every look says the same."""
    source = tmp_path / "source"
    write_migrations((source / name).parent, {Path(name).name: MADE})
    options = ("--database", volume / "app.db", "--migrations", source)
    result = run_entrypoint(*options, "--", "echo", "app")
    assert (78, "", "refused") == (result.code, result.stdout, result.finished["outcome"])
    assert "migrations.bad_name" == result.finished["reason"]
    assert repr(name.split("/")[0]) in result.finished["error"]
    assert {} == listing(volume)
    codes = [run_migrator(each, *options).code for each in ("plan", "check", "verify", "up")]
    assert [78] * 4 == codes
    status = run_migrator("status", *options)
    assert 0 == status.code
    assert repr(name.split("/")[0]) in status.stdout
    assert {} == listing(volume)


def test_what_is_not_read_is_found_with_nothing_pending_too(volume, tmp_path):
    """A migration in a form that is not read, added to a set that was applied, is not passed over."""
    source = write_migrations(tmp_path / "source", {"001_made.sql": MADE})
    options = ("--database", volume / "app.db", "--migrations", source)
    assert 0 == run_entrypoint(*options, "--", "true").code
    before = listing(volume)
    write_migrations(source / "002_more", {"up.sql": "CREATE TABLE more (x);\n"})
    result = run_entrypoint(*options, "--", "echo", "app")
    assert (78, "") == (result.code, result.stdout)
    assert "'002_more'" in result.finished["error"]
    assert before == listing(volume)
    (source / "002_more").rename(source / "_002_more")
    assert 0 == run_entrypoint(*options, "--", "true").code


def test_an_empty_source_is_empty(volume, tmp_path):
    """Documents and hidden files alone are no migrations, and the application is started."""
    source = write_migrations(tmp_path / "source", {"README.md": "", ".gitkeep": ""})
    result = run_entrypoint(
        "--database", volume / "app.db", "--migrations", source, "--", "echo", "app"
    )
    assert (0, "app\n", "up_to_date") == (result.code, result.stdout, result.finished["outcome"])


def test_the_option_that_is_named_for_a_parent_directory_works(volume, tmp_path):
    """Typed as it stands in the message, it leads to the migrations."""
    write_migrations(tmp_path / "the app" / "migrations", {"001_made.sql": MADE})
    options = ("--database", volume / "app.db", "--migrations")
    result = run_entrypoint(*options, tmp_path / "the app")
    (told,) = re.findall(r"`--migrations ([^`]+)`", result.finished["error"])
    assert 0 == run_entrypoint(*options, *shlex.split(told)).code
    assert "made" in tables(volume / "app.db")


@pytest.mark.parametrize(
    "name", ["U1__drop.sql", "0001.create.rollback.sql", "001.undo.create.sql", "001_x.down.sql"]
)
def test_following_the_advice_for_an_undo_script_loses_nothing(volume, tmp_path, name):
    """Renamed as told it is not run, and the table that it drops is there with its rows."""
    database = make_database(
        volume / "app.db", "CREATE TABLE users (id); INSERT INTO users VALUES (1)"
    )
    source = write_migrations(
        tmp_path / "source", {"000_first.sql": MADE, name: "DROP TABLE users;\n"}
    )
    options = ("--database", database, "--migrations", source)
    result = run_migrator("up", *options)
    assert 78 == result.code
    assert {"users"} == tables(database)
    assert [f"_{name}"] == re.findall(r"rename .*?to '([^']+)'", result.finished["error"])
    (source / name).rename(source / f"_{name}")
    assert 0 == run_migrator("up", *options).code
    assert {"users", "made", "migrations"} == tables(database)
    assert ["000"] == history(database)
