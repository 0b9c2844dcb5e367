"""sqlx's files and its table, held against databases that sqlx itself has made."""

from __future__ import annotations

import hashlib
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
from tests.support.files import make_database, rows

FORMAT = ("--format", "sqlx")
DUMPS = Dumps(
    "sqlx",
    "_sqlx_migrations",
    "version, description, success, checksum, typeof(version), typeof(installed_on),"
    " typeof(success), typeof(checksum), typeof(execution_time)",
)
left, noted, same = DUMPS.left, DUMPS.noted, DUMPS.same


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a directory of sqlx's, with a way back for each."""
    return write(tmp_path / "files", sets.SQLX)


@pytest.fixture
def some(tmp_path: Path) -> Path:
    """Return a database as sqlx leaves it at the second of four."""
    return left(tmp_path, "some")


def test_what_sqlx_has_begun_is_continued(tmp_path: Path, some: Path, files: Path) -> None:
    """The history decides, the checksums agree, and the database is as sqlx makes it."""
    status = json.loads(migrator("status", some, files, "--json").stdout)
    assert (status["format"], status["problems"]) == ("sqlx", [])
    assert [each["name"] for each in status["applied"]] == ["create_users", "log-changes"]
    assert [each["file"] for each in status["pending"]] == [
        "20230301000000_add_email.up.sql",
        "20230401000000_rebuild_notes.up.sql",
    ]
    assert migrator("verify", some, files).code == 0
    assert up(some, files).stdout == "Applied: 20230301000000, 20230401000000.\n"
    assert same(some, left(tmp_path, "all"))
    assert rows(some, "SELECT count(*) FROM _sqlx_migrations WHERE execution_time > 0") == [(4,)]
    assert up(some, files).finished["outcome"] == "up_to_date"


def test_a_database_made_here_is_theirs(tmp_path: Path, files: Path) -> None:
    """Table, types and checksums are sqlx's."""
    ours = tmp_path / "ours.db"
    assert up(ours, files, *FORMAT).finished["outcome"] == "created"
    assert same(ours, left(tmp_path, "all"))


def test_down_is_their_revert(tmp_path: Path, files: Path) -> None:
    """The row goes, and what `.down.sql` says is done."""
    database = left(tmp_path, "all")
    assert migrator("down", database, files).stdout == "Undone: 20230401000000.\n"
    assert same(database, left(tmp_path, "reverted"))
    assert migrator("down", database, files, "--steps", "3").code == 0
    assert [row[1] for row in schema(database)] == [
        "sqlite_autoindex__sqlx_migrations_1",
        "_sqlx_migrations",
    ]
    assert noted(database) == []


def test_a_pragma_that_a_transaction_ignores(tmp_path: Path, some: Path, files: Path) -> None:
    """The journal mode that the database has already fails in no transaction of sqlx's."""
    text = "PRAGMA journal_mode = WAL;\nCREATE TABLE journal (x);\n"
    write(files, {"20230501000000_journal.sql": text})
    make_database(some, "PRAGMA journal_mode = WAL")
    assert up(some, files).code == 0
    assert rows(some, "PRAGMA journal_mode") == [("wal",)]


def test_a_way_back_that_fails_is_named(tmp_path: Path, files: Path) -> None:
    """The line is one of the file that was run, and nothing is undone."""
    name = "20230401000000_rebuild_notes.down.sql"
    write(files, {name: "SELECT 1;\nDROP TABLE nowhere;\n"})
    database = left(tmp_path, "all")
    before = content(database)
    last = migrator("down", database, files).finished
    assert (last["exit_code"], last["outcome"]) == (80, "failed_restored")
    assert (last["file"], last["line"]) == (name, 2)
    assert name in last["error"]
    assert content(database) == before


def test_files_without_a_way_back(tmp_path: Path) -> None:
    """Versions are numbers, `-- no-transaction` is a mark, and what sqlx ignores is ignored."""
    files = write(tmp_path / "files", sets.SQLX_SIMPLE)
    ours = tmp_path / "ours.db"
    plan = json.loads(migrator("plan", ours, files, "--json").stdout)
    assert (plan["format"], plan["way"]) == ("sqlx", "copy")
    assert up(ours, files).stdout == "Applied: 1, 2, 10, 11, 12, 13.\n"
    assert same(ours, left(tmp_path, "simple"))
    refused(migrator("down", ours, files), "migrations.no_down", "13_journal.sql")


def test_a_file_that_sqlx_has_begun_is_a_mark(tmp_path: Path) -> None:
    """`sqlx migrate add` writes a comment; without it, or a history, plain files are ours."""
    text = "-- Add migration script here\nCREATE TABLE a (x);\n"
    files = write(tmp_path / "files", {"1_a.sql": text})
    assert (
        json.loads(migrator("plan", tmp_path / "a.db", files, "--json").stdout)["format"] == "sqlx"
    )
    write(files, {"1_a.sql": "CREATE TABLE a (x);\n"})
    plan = json.loads(migrator("plan", tmp_path / "a.db", files, "--json").stdout)
    assert plan["format"] == "native"
    write(files, {"1_a.sql": text, "2_b.py": "def up(conn): pass\n"})
    plan = json.loads(migrator("plan", tmp_path / "a.db", files, "--json").stdout)
    assert plan["format"] == "native"


def test_its_settings_are_kept(tmp_path: Path) -> None:
    """`sqlx.toml` names the table, and the characters that no checksum counts."""
    files = write(tmp_path / "set" / "migrations", sets.SQLX_SIMPLE)
    write(files.parent, sets.SQLX_TOML)
    theirs = left(tmp_path, "settings")
    assert up(theirs, files).finished["outcome"] == "up_to_date"
    assert migrator("verify", theirs, files).code == 0
    ours = tmp_path / "ours.db"
    assert up(ours, files).finished["outcome"] == "created"
    assert same(ours, theirs, "noted")


def test_other_settings_are_no_mark(tmp_path: Path) -> None:
    """`sqlx.toml` has settings of queries as well, which say nothing of migrations."""
    files = write(tmp_path / "set" / "migrations", {"1_a.sql": "CREATE TABLE a (x);\n"})
    for text, known in (("[common]\n", "native"), ("[migrate]\n", "sqlx")):
        write(files.parent, {"sqlx.toml": text})
        plan = json.loads(migrator("plan", tmp_path / "new.db", files, "--json").stdout)
        assert plan["format"] == known


@pytest.mark.parametrize(
    ("text", "reason", "told"),
    [
        ("[migrate\n", "migrations.syntax", "line 1"),
        ("a = 1\n\udcff = 2\n", "migrations.encoding", "line 2"),
        ("migrate = 3\n", "migrations.syntax", "`migrate`"),
        ('[migrate]\ntable-name = "foo.bar"\n', "migrations.syntax", "foo.bar"),
        ("[migrate]\ntable-name = 3\n", "migrations.syntax", "`table-name`"),
        ('[migrate]\ncreate-schemas = ["foo"]\n', "migrations.syntax", "'foo'"),
        ('[migrate]\nignored-chars = ["ab"]\n', "migrations.syntax", "one character"),
        ('[migrate]\nignored-chars = "a"\n', "migrations.syntax", "list of strings"),
        ("a = " + "[" * 5000, "migrations.syntax", "sqlx.toml"),
        ("a = " + "1" * 5000, "migrations.syntax", "sqlx.toml"),
        ("#" * 20_000, "migrations.syntax", "16384 bytes"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_settings_that_cannot_be_kept_are_refused(
    tmp_path: Path, text: str, reason: str, told: str
) -> None:
    """A table of another schema, and a file that nobody has meant: 78, and no database."""
    files = write(tmp_path / "files", sets.SQLX)
    (files / "sqlx.toml").write_bytes(text.encode(errors="surrogateescape"))
    database = tmp_path / "app.db"
    done = up(database, files, *FORMAT)
    refused(done, reason, told, "sqlx.toml")
    assert not database.exists()


def test_settings_in_a_pipe_are_not_waited_for(tmp_path: Path) -> None:
    """What is no regular file is refused at once."""
    files = write(tmp_path / "files", sets.SQLX)
    os.mkfifo(files / "sqlx.toml")
    refused(up(tmp_path / "app.db", files, *FORMAT), "migrations.syntax", "no regular file")


@pytest.mark.parametrize(
    ("name", "text", "reason", "told"),
    [
        ("x_a.sql", "SELECT 1;", "migrations.bad_name", "number before the first `_`"),
        ("9223372036854775808_a.sql", "", "migrations.bad_name", "9223372036854775807"),
        (f"{'9' * 200}_a.sql", "", "migrations.bad_name", "9223372036854775807"),
        ("020230201000000_again.sql", "", "migrations.duplicate", "log-changes"),
        ("20230201000000_other.down.sql", "", "migrations.duplicate", "Give each file a number"),
        ("20230501000000_half.down.sql", "", "migrations.bad_name", "no file that upgrades"),
        ("20230501000000_cut.sql", "SELECT 'open;\n", "migrations.syntax", "line': 1"),
        ("20230501000000_latin.sql", "\n'\udce9';", "migrations.encoding", "line': 2"),
        ("20230501000000_v.sql", "VACUUM;", "migrations.not_transactional", "-- no-transaction"),
        ("20230301000000_add_email.down.sql", "'", "migrations.syntax", "add_email.down.sql"),
        ("20230101000000_create_users.up.sql", "SELECT 1;", "history.changed", "create_users"),
        ("20230115000000_late.sql", "SELECT 1;", "history.out-of-order", "late"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_files_that_do_not_fit_are_refused(
    some: Path, files: Path, name: str, text: str, reason: str, told: str
) -> None:
    """What sqlx refuses is refused, and what it would only find when it runs."""
    write(files, {name: text})
    left_alone(some, files, reason=reason, told=told)


@pytest.mark.parametrize(
    ("script", "reason", "told"),
    [
        ("UPDATE _sqlx_migrations SET success = 0 WHERE version = 20230201000000", "history.broken", "20230201000000 was started"),
        ("UPDATE _sqlx_migrations SET version = 99 + version", "history.missing", "20230101000099"),
        ("INSERT INTO _sqlx_migrations SELECT 20990101000000, '', '', 1, x'', 0", "history.newer", "2099"),
        ("UPDATE _sqlx_migrations SET version = 'x' WHERE version = 20230101000000", "history.broken", "'x'"),
        ("UPDATE _sqlx_migrations SET checksum = 'x'", "history.broken", "BLOB"),
        ("UPDATE _sqlx_migrations SET checksum = x'00'", "history.changed", "create_users.up.sql"),
        ("ALTER TABLE _sqlx_migrations DROP COLUMN checksum", "history.not_ours", "execution_time"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_histories_that_do_not_fit_are_refused(
    some: Path, files: Path, script: str, reason: str, told: str
) -> None:
    """Half applied, newer, missing, changed, and what sqlx never wrote: 78, nothing written."""
    make_database(some, script)
    left_alone(some, files, *FORMAT, reason=reason, told=told)
    assert migrator("check", some, files, *FORMAT).code == 78


def test_a_table_that_was_filled_by_hand_is_not_recognised(some: Path, files: Path) -> None:
    """Where no checksum can be sqlx's, the history is told, and nothing is taken for changed."""
    make_database(some, "UPDATE _sqlx_migrations SET checksum = x'00'")
    write(files, {"20230101000000_create_users.up.sql": "SELECT 1;"})
    for half in files.glob("*.down.sql"):
        half.unlink()
    for up_file in files.glob("*.up.sql"):
        up_file.rename(files / up_file.name.replace(".up.sql", ".sql"))
    refused(up(some, files), "history.foreign", "sqlx (table '_sqlx_migrations')")


def test_baseline_notes_what_is_there(tmp_path: Path, files: Path) -> None:
    """As `sqlx migrate run` would, with the time that it notes before one is known."""
    database = make_database(tmp_path / "app.db", sets.USERS)
    assert migrator("baseline", database, files, "20230101000000", *FORMAT).code == 0
    assert rows(database, "SELECT version, execution_time FROM _sqlx_migrations") == [
        (20230101000000, -1)
    ]
    assert up(database, files).code == 0
    assert same(database, left(tmp_path, "all"))


@pytest.mark.skipif(
    shutil.which("sqlx") is None,
    reason="needs sqlx, which tests/formats/make_rust_dumps.py says how to build",
)
def test_sqlx_and_we_take_turns(tmp_path: Path, files: Path) -> None:
    """Whoever begins, the other goes on and back, and then neither finds anything pending."""
    theirs, ours = tmp_path / "theirs.db", tmp_path / "ours.db"
    tools.sqlx(theirs, files, "run", "--target-version", "20230201000000")
    assert up(theirs, files).stdout == "Applied: 20230301000000, 20230401000000.\n"
    some = write(tmp_path / "some", tools.first(sets.SQLX, 4))
    assert up(ours, some, *FORMAT).stdout == "Applied: 20230101000000, 20230201000000.\n"
    tools.sqlx(ours, files, "run")
    everything, reverted = left(tmp_path, "all"), left(tmp_path, "reverted")
    for database in (theirs, ours):
        assert "pending" not in tools.sqlx(database, files, "info")
        assert up(database, files).finished["outcome"] == "up_to_date"
        assert same(database, everything)
    tools.sqlx(theirs, files, "revert")
    assert migrator("down", ours, files).code == 0
    assert same(theirs, reverted)
    assert same(ours, reverted)


def test_rows_may_go_without_a_word_in_the_file(tmp_path: Path) -> None:
    """A file whose checksum sqlx compares is left as it is: the hint names the option."""
    first = "CREATE TABLE a (b NOT NULL);\nINSERT INTO a VALUES (1), (2);\n"
    smaller = (
        "CREATE TABLE c (b NOT NULL);\nINSERT INTO c SELECT b FROM a WHERE b > 1;\n"
        "DROP TABLE a;\nALTER TABLE c RENAME TO a;\n"
    )
    database, files = tmp_path / "app.db", write(tmp_path / "files", {"1_first.sql": first})
    assert up(database, files, *FORMAT).code == 0
    (files / "2_smaller.sql").write_text(smaller)
    lost = up(database, files)
    assert (lost.code, lost.finished["reason"]) == (81, "rows.lost")
    assert "`--row-guard off` (MIGRATOR_ROW_GUARD)" in lost.finished["hint"]
    assert up(database, files, "--row-guard", "off").stdout == "Applied: 2.\n"
    assert rows(database, "SELECT b FROM a") == [(2,)]
    ((checksum,),) = rows(database, "SELECT checksum FROM _sqlx_migrations WHERE version = 2")
    assert checksum == hashlib.sha384(smaller.encode()).digest()
