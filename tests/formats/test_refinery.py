"""refinery's files and its table, held against databases that refinery itself has made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from migrator.formats.siphash import siphash13
from tests.formats import make_rust_dumps as tools
from tests.formats import rust_sets as sets
from tests.formats.support import (
    Dumps,
    left_alone,
    migrator,
    refused,
    up,
    write,
)
from tests.support.files import make_database, rows

FORMAT = ("--format", "refinery")
DUMPS = Dumps(
    "refinery",
    "refinery_schema_history",
    "version, name, checksum, typeof(version), typeof(applied_on), typeof(checksum)",
)
left, same = DUMPS.left, DUMPS.same


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a directory of refinery's."""
    return write(tmp_path / "files", sets.REFINERY)


@pytest.fixture
def some(tmp_path: Path) -> Path:
    """Return a database as refinery leaves it at version 2."""
    return left(tmp_path, "some")


def test_siphash_is_the_one_of_rust() -> None:
    """Nothing hashes to the number that Rust's own hasher is known for; the dumps have the rest."""
    assert siphash13(b"") == 15130871412783076140


def test_what_refinery_has_begun_is_continued(tmp_path: Path, some: Path, files: Path) -> None:
    """The history decides, the checksums agree, and the database is as refinery makes it."""
    status = json.loads(migrator("status", some, files, "--json").stdout)
    assert (status["format"], status["problems"]) == ("refinery", [])
    assert [each["name"] for each in status["applied"]] == ["create_users", "log_changes"]
    assert [each["file"] for each in status["pending"]] == [
        "later/V10__add_email.sql",
        "V11__rebuild_notes.sql",
    ]
    assert migrator("verify", some, files).code == 0
    assert up(some, files).stdout == "Applied: 10, 11.\n"
    assert same(some, left(tmp_path, "all"))
    assert up(some, files).finished["outcome"] == "up_to_date"


def test_a_database_made_here_is_theirs(tmp_path: Path, files: Path) -> None:
    """Table, types and checksums are refinery's."""
    ours = tmp_path / "ours.db"
    assert up(ours, files, *FORMAT).finished["outcome"] == "created"
    assert same(ours, left(tmp_path, "all"))
    assert rows(ours, "SELECT count(*) FROM refinery_schema_history WHERE applied_on GLOB '*T*Z'")


def test_versions_of_64_bits_are_another_checksum(tmp_path: Path) -> None:
    """`int8-versions` is told by the table, and without one by a version that needs it."""
    files = write(tmp_path / "files", sets.REFINERY_INT8)
    some = left(tmp_path, "int8_some")
    assert migrator("verify", some, files).code == 0
    assert up(some, files).stdout == "Applied: 20230301000000.\n"
    everything = left(tmp_path, "int8_all")
    assert same(some, everything)
    ours = tmp_path / "ours.db"
    assert up(ours, files, *FORMAT).code == 0
    assert same(ours, everything)


def test_a_version_that_the_table_cannot_take_is_refused(some: Path, files: Path) -> None:
    """Refinery without the feature refuses the file as well."""
    write(files, {"V2147483648__big.sql": "CREATE TABLE big (x);"})
    left_alone(
        some, files, reason="migrations.bad_name", told=("V2147483648__big.sql", "2147483647")
    )


def test_an_unversioned_file_may_come_late(tmp_path: Path, files: Path) -> None:
    """A `U` below the highest version is applied, and a `V` is not."""
    database = left(tmp_path, "all")
    write(files, sets.REFINERY_LATE)
    assert up(database, files).stdout == "Applied: 3.\n"
    assert same(database, left(tmp_path, "late"))
    write(files, {"V4__too_late.sql": "CREATE TABLE too_late (x);"})
    refused(up(database, files), "history.out-of-order", "V4__too_late.sql", "11")


def test_a_file_in_rust_is_refused(some: Path, files: Path) -> None:
    """Only the application can run it; nothing is left out without a word."""
    write(files, {"V12__in_rust.rs": "pub fn migration() -> String { String::new() }"})
    refused(up(some, files), "migrations.other_tool", "V12__in_rust.rs", "--migrate-command")


def test_files_in_rust_are_a_mark(tmp_path: Path) -> None:
    """Without a history they say whose the files are, which those in SQL alone do not."""
    files = write(tmp_path / "files", {"V1__a.rs": "", "V2__b.sql": "CREATE TABLE b (x);"})
    refused(up(tmp_path / "new.db", files), "migrations.other_tool", "V1__a.rs")


@pytest.mark.parametrize(
    ("name", "text", "reason", "told"),
    [
        ("V1.5__dotted.sql", "SELECT 1;", "migrations.bad_name", "whole numbers"),
        ("V99999999999999999999__a.sql", "SELECT 1;", "migrations.bad_name", "larger"),
        ("deep/V02__again.sql", "SELECT 1;", "migrations.duplicate", "V2__log_changes.sql"),
        ("V12__cut.sql", "SELECT 'open;\n", "migrations.syntax", "V12__cut.sql"),
        ("V12__latin.sql", "SELECT '\udce9';", "migrations.encoding", "line': 1"),
        ("V2__log_changes.sql", "SELECT 2;", "history.changed", "V2__log_changes.sql"),
    ],
)
def test_files_that_refinery_refuses_are_refused(
    some: Path, files: Path, name: str, text: str, reason: str, told: str
) -> None:
    """Before anything is written, with the file."""
    write(files, {name: text})
    left_alone(some, files, reason=reason, told=told)


@pytest.mark.parametrize(
    ("script", "reason", "told"),
    [
        ("UPDATE refinery_schema_history SET version = 99", "history.newer", "99"),
        (
            "UPDATE refinery_schema_history SET version = 5 WHERE version = 2",
            "history.missing",
            "5",
        ),
        (
            "UPDATE refinery_schema_history SET version = 'x' WHERE version = 1",
            "history.broken",
            "'x'",
        ),
        ("UPDATE refinery_schema_history SET checksum = '-1'", "history.broken", "checksum"),
        ("UPDATE refinery_schema_history SET checksum = '1'", "history.changed", "V1__create"),
        ("UPDATE refinery_schema_history SET checksum = NULL", "history.broken", "checksum"),
        ("ALTER TABLE refinery_schema_history ADD COLUMN x", "history.not_ours", "applied_on"),
    ],
)
def test_histories_that_do_not_fit_are_refused(
    some: Path, files: Path, script: str, reason: str, told: str
) -> None:
    """Newer, missing, changed, and what refinery never wrote: 78, and nothing is written."""
    make_database(some, script.replace(" SET version = 99", " SET version = 97 + version"))
    left_alone(some, files, *FORMAT, reason=reason, told=told)


def test_there_is_no_way_back(some: Path, files: Path) -> None:
    """Refinery undoes nothing."""
    refused(migrator("down", some, files), "migrations.no_down", "V2__log_changes.sql")


def test_baseline_notes_what_is_there(tmp_path: Path, files: Path) -> None:
    """As refinery's own `--fake` does: rows, and nothing run."""
    database = make_database(tmp_path / "app.db", sets.USERS)
    assert migrator("baseline", database, files, "1", *FORMAT).code == 0
    assert up(database, files).stdout == "Applied: 2, 10, 11.\n"
    assert same(database, left(tmp_path, "all"))


@pytest.mark.skipif(
    shutil.which("refinery") is None,
    reason="needs refinery, which tests/formats/make_rust_dumps.py says how to build",
)
def test_refinery_and_we_take_turns(tmp_path: Path, files: Path) -> None:
    """Whoever begins, the other goes on, and then neither finds anything pending."""
    theirs, ours = tmp_path / "theirs.db", tmp_path / "ours.db"
    tools.refinery(theirs, files, "-t", "2")
    assert up(theirs, files).stdout == "Applied: 10, 11.\n"
    later = {"later/V10__add_email.sql", "V11__rebuild_notes.sql"}
    for name in later:
        (files / name).rename(tmp_path / Path(name).name)
    assert up(ours, files, *FORMAT).stdout == "Applied: 1, 2.\n"
    for name in later:
        (tmp_path / Path(name).name).rename(files / name)
    tools.refinery(ours, files)
    everything = left(tmp_path, "all")
    for database in (theirs, ours):
        assert "no migrations to apply" in tools.refinery(database, files)
        assert up(database, files).finished["outcome"] == "up_to_date"
        assert same(database, everything)
