"""Diesel's directories and its table, held against databases that Diesel itself has made."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.formats import make_rust_dumps as tools
from tests.formats import rust_sets as sets
from tests.formats.support import (
    Dumps,
    content,
    left_alone,
    migrator,
    refused,
    schema,
    up,
    write,
)
from tests.support.files import make_database

FORMAT = ("--format", "diesel")
DUMPS = Dumps("diesel", "__diesel_schema_migrations", "version, typeof(version), typeof(run_on)")
left, noted, same = DUMPS.left, DUMPS.noted, DUMPS.same
LAST = "2023-05-01-000000_rebuild_notes"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a directory of Diesel's."""
    return write(tmp_path / "files", sets.DIESEL)


@pytest.fixture
def some(tmp_path: Path) -> Path:
    """Return a database as Diesel leaves it after two of five."""
    return left(tmp_path, "some")


def test_what_diesel_has_begun_is_continued(tmp_path: Path, some: Path, files: Path) -> None:
    """The history decides; versions are texts without dashes, up to the first `_`."""
    status = json.loads(migrator("status", some, files, "--json").stdout)
    assert (status["format"], status["problems"]) == ("diesel", [])
    assert [each["version"] for each in status["applied"]] == ["20230101000000", "20230201"]
    assert [each["file"] for each in status["pending"]] == [
        "2023-03-01-000000-0000_add_email/up.sql",
        "2023-04-01-000000_compact/up.sql",
        "2023-05-01-000000_rebuild_notes/up.sql",
    ]
    done = up(some, files)
    assert done.stdout == "Applied: 202303010000000000, 20230401000000, 20230501000000.\n"
    assert done.named("plan.ready")[0]["way"] == "copy"
    assert same(some, left(tmp_path, "all"))
    assert up(some, files).finished["outcome"] == "up_to_date"


def test_a_database_made_here_is_theirs(tmp_path: Path, files: Path) -> None:
    """Directories with an `up.sql` are a mark; the table is Diesel's."""
    ours = tmp_path / "ours.db"
    assert up(ours, files).finished["outcome"] == "created"
    assert same(ours, left(tmp_path, "all"))


def test_down_is_their_revert(tmp_path: Path, files: Path) -> None:
    """The row goes, and what `down.sql` says is done; VERSION may be given with its dashes."""
    database = left(tmp_path, "all")
    assert migrator("down", database, files, "--to", "2023-04-01-000000").code == 0
    assert same(database, left(tmp_path, "reverted"))
    refused(migrator("down", database, files), "migrations.no_down", "2023-04-01-000000_compact")


def test_a_way_back_that_fails_is_named(tmp_path: Path, files: Path) -> None:
    """The line is one of the file that was run, and nothing is undone."""
    write(files, {f"{LAST}/down.sql": "SELECT 1;\nDROP TABLE nowhere;\n"})
    database = left(tmp_path, "all")
    before = content(database)
    last = migrator("down", database, files).finished
    assert (last["exit_code"], last["outcome"]) == (80, "failed_restored")
    assert (last["file"], last["line"]) == (f"{LAST}/down.sql", 2)
    assert content(database) == before


def test_an_empty_file_leads_nowhere_back(tmp_path: Path, files: Path) -> None:
    """Diesel does not undo a migration by an empty `down.sql`, which many sets have."""
    write(files, {f"{LAST}/down.sql": ""})
    database = left(tmp_path, "all")
    refused(migrator("down", database, files), "migrations.no_down", LAST)


def test_linked_directories_and_hidden_ones(tmp_path: Path, files: Path) -> None:
    """A mounted ConfigMap has both: links are followed, and what begins with a dot is not seen."""
    (files / "2023-05-01-000000_rebuild_notes").rename(tmp_path / "elsewhere")
    (files / "2023-05-01-000000_rebuild_notes").symlink_to(tmp_path / "elsewhere")
    write(files, {"..2026_11_28/x": "", "lost+found/x": "", ".hidden/up.sql": "SELECT x;"})
    ours = tmp_path / "ours.db"
    assert up(ours, files).code == 0
    assert same(ours, left(tmp_path, "all"))


def test_numbered_files_beside_directories_are_ours(tmp_path: Path) -> None:
    """Diesel ignores files, so that nothing of them would be run without a word."""
    files = write(tmp_path / "files", {"001_a.sql": "SELECT 1;", "002_b/up.sql": "SELECT 2;"})
    refused(up(tmp_path / "app.db", files), "migrations.bad_name", "002_b")


@pytest.mark.parametrize(
    ("text", "way"),
    [
        (None, "in-place"),
        ("run_in_transaction = true\n", "in-place"),
        ("run_in_transaction = false\n", "copy"),
        ("[more]\nof = 'the same file'\n", "copy"),
    ],
)
def test_metadata_says_whether_there_is_a_transaction(
    tmp_path: Path, text: str | None, way: str
) -> None:
    """Without the file there is one; a file without the key says no, as it does to Diesel."""
    files = write(tmp_path / "files", {"1_a/up.sql": "CREATE TABLE a (x);\n"})
    if text is not None:
        write(files, {"1_a/metadata.toml": text})
    database = make_database(tmp_path / "app.db", "CREATE TABLE b (x);")
    plan = json.loads(migrator("plan", database, files, "--json").stdout)
    assert (plan["format"], plan["way"]) == ("diesel", way)


def test_a_file_that_ends_diesels_own_transaction(tmp_path: Path) -> None:
    """What stands between is run outside of one, the rest as Diesel would."""
    text = "COMMIT;\nVACUUM;\nBEGIN;\nCREATE TABLE a (x);\n"
    files = write(tmp_path / "files", {"1_a/up.sql": text})
    database = make_database(tmp_path / "app.db", "CREATE TABLE b (x);")
    done = up(database, files)
    assert (done.code, done.named("plan.ready")[0]["way"]) == (0, "copy")
    assert [row[1] for row in schema(database) if row[0] == "table"] == [
        "__diesel_schema_migrations",
        "a",
        "b",
    ]


@pytest.mark.parametrize(
    ("text", "reason", "told"),
    [
        ("run_in_transaction = maybe\n", "migrations.syntax", "line 1"),
        ("a = 1\nrun_in_transaction = 'no'\n", "migrations.syntax", "neither true nor false"),
        ("a = 1\n\udcff = 2\n", "migrations.encoding", "line 2"),
        ("a = " + "[" * 5000, "migrations.syntax", "metadata.toml"),
        ("a = " + "{a=" * 5000, "migrations.syntax", "metadata.toml"),
        ("a = " + "1" * 5000, "migrations.syntax", "metadata.toml"),
        ("a." * 8000 + "a = 1", "", ""),
        ("a." * 80_000 + "a = 1", "migrations.syntax", "16384 bytes"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_hostile_metadata(some: Path, files: Path, text: str, reason: str, told: str) -> None:
    """What is no TOML, or is made to be slow, is refused before anything is written."""
    (files / LAST / "metadata.toml").write_bytes(text.encode(errors="surrogateescape"))
    before = some.read_bytes()
    done = up(some, files)
    if reason:
        refused(done, reason, told, f"{LAST}/metadata.toml")
        assert some.read_bytes() == before
    else:
        assert done.code == 0


def test_metadata_that_is_a_directory(some: Path, files: Path) -> None:
    """What is no regular file is refused, whatever it is."""
    (files / LAST / "metadata.toml").mkdir()
    refused(up(some, files), "migrations.syntax", "no regular file")


def test_metadata_in_a_pipe_is_not_waited_for(some: Path, files: Path) -> None:
    """What is no regular file is refused at once."""
    os.mkfifo(files / LAST / "metadata.toml")
    refused(up(some, files), "migrations.syntax", "no regular file")


@pytest.mark.parametrize(
    ("name", "text", "reason", "told"),
    [
        ("2023-06-01_empty/down.sql", "", "migrations.bad_name", "no such file"),
        ("_a/up.sql", "SELECT 1;", "migrations.bad_name", "begin with a version"),
        ("2023-06-01\n_a/up.sql", "SELECT 1;", "migrations.bad_name", "begin with a version"),
        ("20230501-000000_again/up.sql", "SELECT 1;", "migrations.duplicate", LAST),
        ("2023-06-01_cut/up.sql", "SELECT 'open;\n", "migrations.syntax", "2023-06-01_cut/up.sql"),
        (f"{LAST}/down.sql", "SELECT 'open;\n", "migrations.syntax", f"{LAST}/down.sql"),
        ("2023-06-01_latin/up.sql", "\n'\udce9';", "migrations.encoding", "line': 2"),
        ("2023-06-01_c/up.sql", "COMMIT; VACUUM;", "migrations.transaction", "no BEGIN"),
        ("2023-06-01_v/up.sql", "VACUUM;", "migrations.not_transactional", "metadata.toml"),
        ("2023-01-15_late/up.sql", "SELECT 1;", "history.out-of-order", "2023-01-15_late"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_files_that_do_not_fit_are_refused(
    some: Path, files: Path, name: str, text: str, reason: str, told: str
) -> None:
    """With the file, before anything is written."""
    write(files, {name: text})
    left_alone(some, files, reason=reason, told=told)


def test_a_link_to_nothing_is_refused(some: Path, files: Path) -> None:
    """To Diesel it is a directory that cannot be read."""
    (files / "2023-06-01_gone").symlink_to(files / "nowhere")
    refused(up(some, files), "migrations.bad_name", "2023-06-01_gone")


@pytest.mark.parametrize(
    ("script", "reason", "told"),
    [
        ("UPDATE __diesel_schema_migrations SET version = '9' || version", "history.newer", "920230201"),
        ("UPDATE __diesel_schema_migrations SET version = '20230115'", "history.missing", "20230115"),
        ("UPDATE __diesel_schema_migrations SET version = x'3031'", "history.broken", "not text"),
        ("ALTER TABLE __diesel_schema_migrations ADD COLUMN x", "history.not_ours", "run_on"),
    ],
)  # fmt: skip
def test_histories_that_do_not_fit_are_refused(
    some: Path, files: Path, script: str, reason: str, told: str
) -> None:
    """Newer, missing, and what Diesel never wrote: 78, and nothing is written."""
    if "'20230115'" in script or "x'" in script:
        script += " WHERE version = '20230201'"
    make_database(some, script)
    left_alone(some, files, *FORMAT, reason=reason, told=told)
    assert migrator("check", some, files, *FORMAT).code == 78


def test_baseline_notes_what_is_there(tmp_path: Path, files: Path) -> None:
    """A row for each version up to the one named, as Diesel would have written it."""
    database = make_database(tmp_path / "app.db", sets.USERS)
    assert migrator("baseline", database, files, "2023-01-01-000000").code == 0
    assert noted(database) == [("20230101000000", "text", "text")]
    assert up(database, files).code == 0
    assert same(database, left(tmp_path, "all"))


@pytest.mark.skipif(
    shutil.which("diesel") is None,
    reason="needs diesel, which tests/formats/make_rust_dumps.py says how to build",
)
def test_diesel_and_we_take_turns(tmp_path: Path) -> None:
    """Whoever begins, the other goes on and back, and then neither finds anything pending."""
    some = write(tmp_path / "some" / "migrations", tools.first(sets.DIESEL, 4))
    files = write(tmp_path / "all" / "migrations", sets.DIESEL)
    theirs, ours = tmp_path / "theirs.db", tmp_path / "ours.db"
    tools.diesel(theirs, some, "run")
    assert up(theirs, files).code == 0
    assert up(ours, some).stdout == "Applied: 20230101000000, 20230201.\n"
    tools.diesel(ours, files, "run")
    everything, reverted = left(tmp_path, "all"), left(tmp_path, "reverted")
    for database in (theirs, ours):
        assert tools.diesel(database, files, "pending") == "false\n"
        assert up(database, files).finished["outcome"] == "up_to_date"
        assert same(database, everything)
    tools.diesel(theirs, files, "revert")
    assert migrator("down", ours, files).code == 0
    assert same(theirs, reverted)
    assert same(ours, reverted)
