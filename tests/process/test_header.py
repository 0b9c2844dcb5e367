"""What a migration sets in the header of the database is set, or refused: never ignored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from migrator.api import MigrationRunner
from tests.support.digest import logical_digest
from tests.support.files import history, listing, make_database, rows, tables, write_migrations
from tests.support.processes import Result, run_entrypoint, run_migrator

HEAD = {"in-place": "-- migrate:up\n", "copy": "-- migrate:up transaction:false\n"}
BOTH = pytest.mark.parametrize("way", ["in-place", "copy"])


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return an empty directory for migrations."""
    return write_migrations(tmp_path / "files", {})


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """Return where a first install makes its database."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "new.db"


def start(database: Path, files: Path, *more: str) -> Result:
    """Run the entrypoint with an application that says that it runs."""
    return run_entrypoint("--database", database, "--migrations", files, *more, "--", "echo", "app")


def header(path: Path) -> tuple[int, str, int]:
    """Return what a plain connection reads: `auto_vacuum`, `encoding`, `page_size`."""
    names = ("auto_vacuum", "encoding", "page_size")
    return tuple(rows(path, f"PRAGMA {name}")[0][0] for name in names)  # type: ignore[return-value]


FIRST = {
    "PRAGMA auto_vacuum = INCREMENTAL;": (2, "UTF-8", 4096),
    "pragma main.auto_vacuum(1);": (1, "UTF-8", 4096),
    "PRAGMA foreign_keys = ON;\nBEGIN;\nPRAGMA auto_vacuum = 'full';\nCOMMIT;": (1, "UTF-8", 4096),
    "PRAGMA encoding = 'UTF-16be';": (0, "UTF-16be", 4096),
    'PRAGMA encoding = "UTF-16le";\nPRAGMA auto_vacuum = 2;': (2, "UTF-16le", 4096),
    "PRAGMA encoding = 'UTF-8';\nPRAGMA auto_vacuum = 0;": (0, "UTF-8", 4096),
}


@pytest.mark.parametrize("first", FIRST)
@BOTH
def test_what_the_first_file_of_a_new_database_sets_is_set(new, files, first, way):
    """As in SQLite's shell, before the first table, and in the next file as well."""
    write_migrations(
        files,
        {
            "001_a.sql": f"{HEAD[way]}{first}\nCREATE TABLE made (x);\nINSERT INTO made VALUES ('ä');",
            "002_b.sql": "CREATE TABLE more (x);",
        },
    )
    result = start(new, files)
    assert (0, "app\n") == (result.code, result.stdout), result.stderr
    assert FIRST[first] == header(new)
    assert [("ä",)] == rows(new, "SELECT x FROM made")
    assert {"made", "more", "migrations"} == tables(new)
    assert [("ok",)] == rows(new, "PRAGMA integrity_check")


@pytest.mark.parametrize("more", [(), ("--in-use", "allow")], ids=["alone", "beside others"])
@pytest.mark.parametrize("first", FIRST)
def test_a_file_of_zero_bytes_is_a_new_database(new, files, first, more):
    """It has no table either: what its first file sets is set, and undone with all the rest."""
    new.touch()
    write_migrations(
        files, {"001_a.sql": f"{first}\nCREATE TABLE made (x);", "002_b.sql": "no statement;"}
    )
    assert "002" == start(new, files, *more).finished["version"]
    assert b"" == new.read_bytes()
    (files / "002_b.sql").write_text("INSERT INTO made VALUES ('ä');")
    result = start(new, files, *more)
    assert (0, "app\n") == (result.code, result.stdout), result.stderr
    assert FIRST[first] == header(new)
    assert [("ä",)] == rows(new, "SELECT x FROM made")
    assert [("ok",)] == rows(new, "PRAGMA integrity_check")


@pytest.mark.parametrize("first", [*FIRST, "PRAGMA page_size = 8192;"])
def test_a_file_of_zero_bytes_is_one_on_a_copy_too(new, files, first):
    """Its pages are published with the header that they have."""
    new.touch()
    write_migrations(files, {"001_a.sql": f"{HEAD['copy']}{first}\nCREATE TABLE made (x);"})
    result = start(new, files)
    assert (0, "app\n") == (result.code, result.stdout), result.stderr
    assert FIRST.get(first, (0, "UTF-8", 8192)) == header(new)
    assert [("ok",)] == rows(new, "PRAGMA integrity_check")


def test_a_page_size_outside_of_a_transaction_is_set(new, files):
    """In a transaction it is refused as ever; outside of one the first file's is taken."""
    text = "PRAGMA page_size = 8192;\nCREATE TABLE made (x);"
    write_migrations(files, {"001_a.sql": HEAD["copy"] + text})
    assert 0 == start(new, files).code
    assert (0, "UTF-8", 8192) == header(new)


def test_the_python_api_sets_it_as_well(new, files):
    """A first install in the caller's process is no other."""
    text = "PRAGMA auto_vacuum = 2;\nPRAGMA encoding = 'UTF-16le';\nCREATE TABLE made (x);"
    write_migrations(files, {"001_a.sql": text})
    runner = MigrationRunner(db_path=str(new), migrations_dir=str(files))
    assert 1 == runner.run_pending_migrations(verbose=False)
    assert (2, "UTF-16le", 4096) == header(new)


LATE = {
    "PRAGMA auto_vacuum = FULL;": "VACUUM",
    "pragma main . Auto_Vacuum(incremental);": "VACUUM",
    "PRAGMA encoding = 'UTF-16';": "first table",
}


@pytest.mark.parametrize("late", LATE)
def test_what_would_be_ignored_is_refused(database, files, late):
    """In a database with tables: 78 before anything is written, with the line and the way out."""
    write_migrations(files, {"001_a.sql": f"CREATE TABLE made (x);\n{late}\n"})
    before = logical_digest(database)
    result = start(database, files)
    assert (78, "migrations.not_transactional", 2) == (
        result.code, result.finished["reason"], result.finished["line"],
    )  # fmt: skip
    assert LATE[late] in result.finished["hint"]
    assert before == logical_digest(database)
    assert not (database.parent / "backups").exists()


@pytest.mark.parametrize("command", ["plan", "check"])
def test_looking_foretells_the_refusal(database, files, command):
    """The same code, reason and line as `up`'s; `status` lists it, and nothing is written."""
    write_migrations(files, {"001_a.sql": "CREATE TABLE made (x);\nPRAGMA auto_vacuum = FULL;\n"})
    before = listing(database.parent)
    options = ("--database", database, "--migrations", files)
    result = run_migrator(command, *options)
    found = {key: result.finished[key] for key in ("exit_code", "reason", "line", "error", "hint")}
    assert (78, "") == (result.code, result.stdout)
    (problem,) = json.loads(run_migrator("status", "--json", *options).stdout)["problems"]
    assert ("migrations.not_transactional", found["error"]) == (problem["kind"], problem["message"])
    assert before == listing(database.parent)
    refused = run_migrator("up", *options).finished
    assert found == {key: refused[key] for key in found}


def test_looking_refuses_no_setting_that_can_be_made(database, files):
    """Of a first install, or of what the database has already."""
    new = database.with_name("new.db")
    write_migrations(files, {"001_a.sql": "PRAGMA auto_vacuum = 2;\nCREATE TABLE made (x);\n"})
    assert 0 == run_migrator("plan", "--database", new, "--migrations", files).code
    assert not new.exists()
    (files / "001_a.sql").write_text("PRAGMA auto_vacuum = 0;\nCREATE TABLE made (x);\n")
    assert 1 == run_migrator("check", "--database", database, "--migrations", files).code


@pytest.mark.parametrize("late", LATE)
def test_behind_the_first_table_of_a_new_database_it_is_refused(new, files, late):
    """What SQLite's shell would ignore there is not taken for set."""
    write_migrations(files, {"001_a.sql": f"CREATE TABLE made (x);\n{late}\n"})
    result = start(new, files)
    assert (78, 2) == (result.code, result.finished["line"])
    assert not new.exists()


@pytest.mark.parametrize("late", LATE)
def test_in_a_py_file_it_is_refused_when_it_is_executed(database, files, late):
    """80, also where the exception is swallowed; everything is as before."""
    text = f"""
        def up(conn):
            conn.execute("CREATE TABLE made (x)")
            try:
                conn.execute({late!r})
            except Exception:
                pass
        """
    write_migrations(files, {"001_a.py": text})
    before = logical_digest(database)
    result = start(database, files)
    assert 80 == result.code
    assert "is refused" in result.finished["error"]
    assert LATE[late] in result.finished["hint"]
    assert before == logical_digest(database)
    assert "migrations" not in tables(database)


def test_what_the_database_has_already_is_no_error(tmp_path, files):
    """Nor is FULL in place of INCREMENTAL, which SQLite takes at any time."""
    path = make_database(
        tmp_path / "data" / "app.db", "CREATE TABLE t (x);", auto_vacuum=2, encoding="'UTF-16be'"
    )
    same = "PRAGMA encoding = 'UTF-16be';\nPRAGMA auto_vacuum = 2;\n"
    code = """
        def up(conn):
            conn.execute("PRAGMA encoding = 'utf-16be'")
            conn.execute("PRAGMA page_size = 4096")
            conn.execute("PRAGMA auto_vacuum = FULL")
        """
    write_migrations(files, {"001_a.sql": same, "002_b.py": code})
    result = start(path, files)
    assert (0, "app\n") == (result.code, result.stdout), result.stderr
    assert (1, "UTF-16be", 4096) == header(path)


@pytest.mark.parametrize("vacuum", ["VACUUM;\n", ""])
@pytest.mark.parametrize("kind", ["sql", "py"])
def test_on_a_copy_auto_vacuum_is_set_with_a_vacuum(database, files, vacuum, kind):
    """The way out of the hint works; where the migration has forgotten the VACUUM, it is done."""
    text = f"{HEAD['copy']}PRAGMA auto_vacuum = INCREMENTAL;\n{vacuum}CREATE TABLE made (x);"
    if kind == "py":
        run = "".join(f"    conn.execute({each!r})\n" for each in text.split("\n")[1:] if each)
        text = f"transactional = False\ndef up(conn):\n{run}"
    write_migrations(files, {f"001_a.{kind}": text})
    result = start(database, files)
    assert (0, "app\n") == (result.code, result.stdout), result.stderr
    assert 2 == header(database)[0]
    assert 3 == rows(database, "SELECT count(*) FROM users")[0][0]
    assert [("ok",)] == rows(database, "PRAGMA integrity_check")


@pytest.mark.parametrize("kind", ["sql", "py"])
def test_on_a_copy_an_encoding_that_is_ignored_fails(database, files, kind):
    """No VACUUM changes it: 80, and everything is as before."""
    text = f"{HEAD['copy']}PRAGMA encoding = 'UTF-16';"
    if kind == "py":
        text = (
            "transactional = False\ndef up(conn):\n    conn.execute(\"PRAGMA encoding = 'UTF-16'\")"
        )
    write_migrations(files, {f"001_a.{kind}": text})
    before = logical_digest(database)
    result = start(database, files)
    assert 80 == result.code
    assert "first table" in result.finished["hint"]
    assert before == logical_digest(database)


def test_an_applied_file_is_not_held_to_it(database, files):
    """What an earlier version has ignored in it blocks nothing."""
    write_migrations(files, {"001_a.sql": "CREATE TABLE a (x);"})
    assert 0 == start(database, files).code
    write_migrations(files, {"002_b.sql": "CREATE TABLE made (x);"})
    (files / "001_a.sql").write_text("PRAGMA auto_vacuum = 1;\nCREATE TABLE a (x);")
    assert 0 == start(database, files, "--accept", "changed").code
    assert ["001", "002"] == history(database)
