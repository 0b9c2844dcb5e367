"""fastmigrate's directories and its number, held against fastmigrate itself."""

from __future__ import annotations

import json
import shutil
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
from tests.support.processes import run_migrator

FILES = {
    "0001-users.sql": (
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);\r\n"
        "INSERT INTO users (name) VALUES ('a;b'), ('it''s'), ('gone');\r\n"
    ),
    "0002-fill.py": """
import sqlite3
import sys
from dataclasses import dataclass

import helper


@dataclass
class Note:
    user: int
    text: str


def main() -> int:
    with sqlite3.connect(sys.argv[1]) as conn:
        conn.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, user INTEGER, text TEXT)")
        notes = [Note(*row) for row in conn.execute("SELECT id, upper(name) FROM users")]
        for note in notes:
            conn.execute(
                "INSERT INTO notes (user, text) VALUES (?, ?)", (note.user, helper.mark(note.text))
            )
    conn.execute("DELETE FROM users WHERE name = 'gone'")
    conn.commit()
    conn.execute("DELETE FROM users")  # never committed
    return 0


if __name__ == "__main__":
    sys.exit(main())
""",
    "0004-notes.sql": (
        "BEGIN;\n"
        "CREATE TRIGGER noted AFTER INSERT ON notes BEGIN\n"
        "  UPDATE users SET name = name || '!' WHERE id = new.user;\n"
        "END;\n"
        "COMMIT;\n"
        "PRAGMA foreign_keys = ON;\n"
        "VACUUM;\n"
    ),
    "0010-email.sql": "ALTER TABLE users ADD COLUMN email TEXT",
    "helper.py": "def mark(text):\n    return f'<{text}>'\n",
    "notes.sql": "no migration",
}
"""A script that opens the database by itself, a gap, a VACUUM, and two files that are no migrations."""

VERSIONS = ["0001", "0002", "0004", "0010"]


def fastmigrate(database: Path, migrations: Path) -> None:
    """Run fastmigrate on a database, which it makes where there is none."""
    where = ("--db", database, "--config_path", database.with_name("none"))
    if not database.exists():
        run_tool(installed("fastmigrate_create_db"), *where)
    run_tool(installed("fastmigrate_run_migrations"), *where, "--migrations", migrations)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a directory of fastmigrate's."""
    return write(tmp_path / "files", FILES)


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database to which fastmigrate has applied everything, made once."""
    home = tmp_path_factory.mktemp("fastmigrate")
    fastmigrate(home / "app.db", write(home / "files", FILES))
    return home / "app.db"


@pytest.fixture
def theirs(tmp_path: Path, applied: Path) -> Path:
    """Return a copy of that database."""
    return Path(shutil.copy(applied, tmp_path / "theirs.db"))


@pytest.mark.parametrize("first", range(len(VERSIONS) + 1))
def test_fastmigrate_applies_some_and_we_the_rest(
    tmp_path: Path, files: Path, theirs: Path, first: int
) -> None:
    """Whoever begins, the database is the one that fastmigrate makes, and it has nothing to do."""
    part = {
        name: text
        for name, text in FILES.items()
        if name[:4] in VERSIONS[:first] or not name[:4].isdigit()
    }
    database = tmp_path / "app.db"
    if first:
        fastmigrate(database, write(tmp_path / "part", part))
    done = up(database, files, "--format", "fastmigrate")
    assert done.code == 0, done.finished
    assert done.finished["applied"] == len(VERSIONS) - first
    assert content(database) == content(theirs)
    fastmigrate(database, files)
    assert content(database) == content(theirs)


def test_we_apply_some_and_fastmigrate_the_rest(tmp_path: Path, files: Path, theirs: Path) -> None:
    """What we leave is what fastmigrate would have left: it goes on from there."""
    part = write(tmp_path / "part", {name: FILES[name] for name in ("0001-users.sql",)})
    database = tmp_path / "app.db"
    assert up(database, part, "--format", "fastmigrate").code == 0
    fastmigrate(database, files)
    assert content(database) == content(theirs)
    assert up(database, files).finished["outcome"] == "up_to_date"


def test_the_history_decides(files: Path, theirs: Path) -> None:
    """Its table says whose files they are; whatever is below the number counts as applied."""
    write(files, {"0003-late.sql": "SELECT 1;\n", "0011-new.sql": "CREATE TABLE new (x);\n"})
    status = json.loads(migrator("status", theirs, files, "--json").stdout)
    assert (status["format"], status["problems"]) == ("fastmigrate", [])
    versions = [each["version"] for each in status["applied"]]
    assert versions == ["0001", "0002", "0003", "0004", "0010"]
    plan = json.loads(migrator("plan", theirs, files, "--json").stdout)
    assert [each["file"] for each in plan["pending"]] == ["0011-new.sql"]
    assert migrator("check", theirs, files).code == 1
    assert up(theirs, files).code == 0
    assert migrator("check", theirs, files).code == 0
    assert migrator("verify", theirs, files).code == 0
    assert rows(theirs, "SELECT * FROM _meta") == [(1, 11)]


def test_there_is_no_way_back(files: Path, theirs: Path) -> None:
    """The tool has no rollbacks, so `down` is refused."""
    done = migrator("down", theirs, files)
    refused(done, "migrations.no_down", "0010-email.sql", "The tool has no way back")


def test_a_squashed_set_goes_on(tmp_path: Path, theirs: Path) -> None:
    """A number without its file is missing to nobody: fastmigrate does not ask for it."""
    files = write(tmp_path / "new", {"0012-new.sql": "CREATE TABLE new (x);\n"})
    assert up(theirs, files).code == 0
    assert rows(theirs, "SELECT version FROM _meta") == [(12,)]


def test_a_database_above_all_files_is_newer(files: Path, theirs: Path) -> None:
    """It is refused, with nothing pending as well."""
    (files / "0010-email.sql").unlink()
    done = up(theirs, files)
    refused(done, "history.newer", "0010")
    assert "down" not in done.finished["hint"]  # the newer image could not do it either
    refused(migrator("down", theirs, files), "history.missing", "The tool has no way back")


def test_baseline_enrolls(tmp_path: Path, files: Path) -> None:
    """A database of the application's becomes one of fastmigrate's at the version named."""
    database = make_database(tmp_path / "app.db", "CREATE TABLE users (id INTEGER, name TEXT);")
    done = migrator("baseline", database, files, "0002", "--format", "fastmigrate")
    assert done.code == 0, done.finished
    assert rows(database, "SELECT * FROM _meta") == [(1, 2)]


def test_the_version_of_a_database_is_found(files: Path, theirs: Path) -> None:
    """What is built in memory ends where a script wants a file."""
    script = "DROP TABLE _meta; DROP TABLE notes; ALTER TABLE users DROP email;"
    database = make_database(theirs, script)
    where = ("--database", database, "--migrations", files, "--format", "fastmigrate")
    done = run_migrator("baseline", *where, check_log=False)
    assert "Its schema is that of 0001:" in done.stdout
    assert "0002-fill.py and what comes after it could not be compared" in done.stdout
    assert "a script that opens a file" in done.stdout


def test_the_first_form_of_the_table(tmp_path: Path, files: Path) -> None:
    """The table with the version alone is read and written as it is."""
    script = "CREATE TABLE _meta (version INTEGER NOT NULL); INSERT INTO _meta VALUES (2);"
    script += "CREATE TABLE users (id INTEGER); CREATE TABLE notes (id INTEGER);"
    database = make_database(tmp_path / "app.db", script)
    done = up(database, files)
    assert done.code == 0, done.finished
    assert rows(database, "SELECT * FROM _meta") == [(10,)]


def test_looking_runs_no_script(tmp_path: Path) -> None:
    """Scripts are run in the worker alone, once all that is pending could be read."""
    mark = tmp_path / "run"
    files = write(
        tmp_path / "m",
        {"0001-a.py": f"open({str(mark)!r}, 'w')\n", "0002-b.py": "def broken(:\n"},
    )
    for command in ("status", "plan", "check"):
        migrator(command, tmp_path / "app.db", files, "--format", "fastmigrate")
    done = up(tmp_path / "app.db", files, "--format", "fastmigrate")
    refused(done, "migrations.import", "0002-b.py, line 1")
    assert not mark.exists()


CONNECT = "import sqlite3, subprocess, sys\nconn = sqlite3.connect(sys.argv[1])\n"
REBUILD = (
    "CREATE TABLE n AS SELECT * FROM notes WHERE id > 1; DROP TABLE notes;"
    " ALTER TABLE n RENAME TO notes;"
)
UNSEEN = "sqlite3.Connection(sys.argv[1], isolation_level=None).execute('DELETE FROM users')"
OTHER_PROCESS = """\
text = "import sqlite3, sys; sqlite3.connect(sys.argv[1], isolation_level=None)"
text += ".execute('DELETE FROM users')"
subprocess.run([sys.executable, "-c", text, sys.argv[1]], check=True)"""
OWN_CLASS = """\
class Own(sqlite3.Connection):
    pass


own = sqlite3.connect(f"file:{sys.argv[1]}", 5, 0, None, True, Own, uri=True)
assert isinstance(own, Own)
own.execute("DELETE FROM users")"""


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (f"conn.executescript({REBUILD!r})", 81),
        (f"allow_row_loss = ('notes',)\nconn.executescript({REBUILD!r})", 0),
        ("conn.execute('DELETE FROM users'); conn.commit()", 0),
        ("conn.execute('DELETE FROM users'); conn.rollback()", 0),
        ("conn.execute('DELETE FROM users')", 0),
        ("conn.execute('DROP TABLE notes')", 0),
        (UNSEEN, 81),
        (f"allow_row_loss = ['users']\n{UNSEEN}", 0),
        (OTHER_PROCESS, 81),
        (OWN_CLASS, 0),
        ("other = sqlite3.connect(':memory:')\nassert type(other) is sqlite3.Connection", 0),
    ],
)
def test_rows_that_a_script_loses_are_guarded(
    files: Path, theirs: Path, script: str, code: int
) -> None:
    """A script may delete rows itself; what else removes them has to be said in the file."""
    write(files, {"0011-rows.py": CONNECT + script + "\n"})
    before = content(theirs)
    done = up(theirs, files)
    assert done.code == code, done.finished
    if code:
        assert done.finished["reason"] == "rows.lost"
        assert content(theirs) == before


@pytest.mark.parametrize(
    ("script", "line", "error"),
    [
        ("sys.exit(3)", 3, "sys.exit(3)"),
        ("sys.exit('no')", 3, "no"),
        ("\nraise ValueError('what')", 4, "ValueError: what"),
        ("conn.execute('DROP TABLE nowhere')", 3, "no such table: nowhere"),
    ],
)
def test_a_script_that_fails_is_told_with_its_line(
    files: Path, theirs: Path, script: str, line: int, error: str
) -> None:
    """Nothing of what it has done stays."""
    write(files, {"0011-bad.py": CONNECT + script + "\n"})
    before = theirs.read_bytes()
    done = up(theirs, files)
    failed = done.one("migration.failed")
    assert (done.code, failed["line"]) == (80, line)
    assert error in failed["error"]
    assert theirs.read_bytes() == before


def test_a_connection_that_is_let_go_of_is_closed(files: Path, theirs: Path) -> None:
    """Its open transaction ends, as it does in a process of its own, and nothing waits for it."""
    script = (
        "def half():\n"
        "    conn = sqlite3.connect(sys.argv[1])\n"
        "    conn.execute('DELETE FROM users')\n"
        "\nhalf()\nconn = sqlite3.connect(sys.argv[1], timeout=0)\n"
        "conn.execute('CREATE TABLE new (x)')\n"
    )
    write(files, {"0011-half.py": CONNECT + script})
    assert up(theirs, files).code == 0
    assert rows(theirs, "SELECT count(*) FROM users") == [(2,)]
    assert "new" in {row[1] for row in schema(theirs)}


def test_what_cannot_be_run_is_refused_only_where_it_is_pending(
    tmp_path: Path, files: Path, theirs: Path
) -> None:
    """A shell's script that is applied already stands in nobody's way."""
    write(files, {"0003-old.sh": "exit 1\n", "0011-new.sql": "CREATE TABLE new (x);\n"})
    assert up(theirs, files).code == 0
    write(files, {"0012-shell.sh": "exit 0\n"})
    before = theirs.read_bytes()
    for command in ("up", "plan"):
        done = migrator(command, theirs, files)
        refused(done, "migrations.other_tool", "0012-shell.sh", "--migrate-command")
    (files / "0012-shell.sh").unlink()
    write(files, {"config.py": "", "0012-new.sql": "SELECT 1;\n"})
    refused(up(theirs, files), "migrations.other_tool", "0012-new.sql", "config.py")
    assert theirs.read_bytes() == before


@pytest.mark.parametrize(
    ("given", "reason", "told"),
    [
        ({"0011-b.sql": "SELECT 1;\n"}, "migrations.duplicate", "0011-a.sql"),
        ({"0011-a.sql": "SELECT 'a;\n"}, "migrations.syntax", "0011-a.sql, line 1"),
        ({"0011-a.sql": "BEGIN;\nSELECT 1;\n"}, "migrations.transaction", "0011-a.sql"),
        ({"0011-a.sql": ".tables\n"}, "migrations.syntax", "0011-a.sql, line 1"),
        ({"0012-b.py": "allow_row_loss = here()\n"}, "migrations.literal", "0012-b.py, line 1"),
    ],
)
def test_bad_files_are_refused_when_they_are_read(
    files: Path, theirs: Path, given: dict[str, str], reason: str, told: str
) -> None:
    """File and line are named, and nothing is written."""
    write(files, {"0011-a.sql": "SELECT 1;\n", **given})
    left_alone(theirs, files, reason=reason, told=told)


@pytest.mark.parametrize(
    ("script", "reason", "told"),
    [
        ("DELETE FROM _meta;", "history.broken", "none"),
        ("UPDATE _meta SET version = 'two';", "history.broken", "'two'"),
        ("UPDATE _meta SET version = -1;", "history.broken", "-1"),
        (
            "DROP TABLE _meta; CREATE TABLE _meta (version);INSERT INTO _meta VALUES (1), (2);",
            "history.broken",
            "1 and 2",
        ),
        (
            "DROP TABLE _meta; CREATE TABLE _meta (id INTEGER PRIMARY KEY, version INTEGER);",
            "history.not_ours",
            "_meta",
        ),
        ("ALTER TABLE _meta ADD COLUMN more;", "history.not_ours", "more"),
    ],
)
def test_bad_tables_are_refused(
    files: Path, theirs: Path, script: str, reason: str, told: str
) -> None:
    """The table and what to do about it are named, and nothing is written."""
    make_database(theirs, script)
    left_alone(theirs, files, "--format", "fastmigrate", reason=reason, told=told)
