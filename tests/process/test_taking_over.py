"""A database with tables and no history: the version whose schema it has is found and named."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.files import history, listing, make_database, tables, write_migrations
from tests.support.processes import Result, run_entrypoint, run_migrator

USERS = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);\n"
SQL = {
    "001_users.sql": USERS,
    "002_email.sql": "ALTER TABLE users ADD COLUMN email TEXT;\n",
    "003_tags.sql": "CREATE TABLE tags (id INTEGER PRIMARY KEY);\nCREATE INDEX t ON tags (id);\n",
}
AT_002 = """
    CREATE TABLE "Users" ( -- as an ORM writes it
        id integer PRIMARY KEY, /* in another order */ [email] text, `name` TEXT not null
    );
    INSERT INTO users (name) VALUES ('Ada');
"""
MARKED = """
from pathlib import Path

def up(conn):
    Path(__file__).with_name("it-ran").touch()
    conn.execute("CREATE TABLE tags (id INTEGER PRIMARY KEY)")
    conn.commit()
    conn.execute("CREATE INDEX t ON tags (id)")
"""


_LOOKS = (("baseline",), ("baseline", "--json"))


class Place:
    """A database that an application has made, beside migrations."""

    def __init__(self, root: Path, script: str, files: Mapping[str, str] = SQL) -> None:
        self.database = make_database(root / "data" / "app.db", script)
        self.migrations = write_migrations(root / "m", files)
        self.options = ("--database", self.database, "--migrations", self.migrations)

    def call(self, *words: str) -> Result:
        """Run a command of `migrator`."""
        # Without its argument `baseline` is no run, and says no end of one.
        return run_migrator(*words, *self.options, check_log=words not in _LOOKS)

    def proposed(self) -> dict[str, Any]:
        """Return what `migrator baseline --json` says, which writes and logs nothing."""
        before = listing(self.database.parent)
        result = self.call("baseline", "--json")
        assert (result.code, result.stderr) == (0, "")
        assert before == listing(self.database.parent)
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def hint(self, command: str) -> str:
        """Return the hint of `status` or `plan`, which write and log nothing either."""
        before = listing(self.database.parent)
        result = self.call(command, "--json")
        assert (result.code, result.stderr) == (0, "")
        assert before == listing(self.database.parent)
        return str(json.loads(result.stdout)["hint"])


def typed(hint: str) -> list[str]:
    """Return the words of the first command in a hint."""
    return shlex.split(hint.split("`")[1])


def test_the_version_that_fits_is_found_however_its_schema_is_written(tmp_path):
    """Case, quotes, comments, blanks and the order of columns are nobody's version."""
    place = Place(tmp_path, AT_002)
    found = place.proposed()
    assert (found["version"], found["fits"], found["not_run"]) == ("002", ["002"], None)
    assert {each["version"]: each["differences"] for each in found["nearest"]} == {
        "001": ["its table users has `email text`"],
        "003": ["it lacks the index t", "it lacks the table tags"],
    }
    text = place.call("baseline").stdout
    assert typed(text)[:3] == ["migrator", "baseline", "002"]


@pytest.mark.parametrize("command", ["status", "plan"])
def test_looking_names_the_version_and_the_command_works_as_typed(tmp_path, command):
    """Once it is taken over, the rest is applied, and no hint is left."""
    place = Place(tmp_path, AT_002)
    words = typed(place.hint(command))
    assert words[:3] == ["migrator", "baseline", "002"]
    assert run_migrator(*words[1:]).code == 0
    assert history(place.database) == ["001", "002"]
    assert run_entrypoint(*place.options, "--", "true").code == 0
    assert history(place.database) == ["001", "002", "003"]
    assert place.hint(command) == "None"


def test_a_first_migration_that_fails_there_names_the_version(tmp_path):
    """80, as before; what the log and `status` say to type is the version that the database has."""
    place = Place(tmp_path, AT_002)
    result = run_entrypoint(*place.options, "--", "true")
    assert (result.code, result.finished["outcome"]) == (80, "failed_restored")
    assert "migrations" not in tables(place.database)
    assert typed(result.finished["hint"])[:3] == ["migrator", "baseline", "002"]
    assert "Otherwise: Mend 001_users.sql" in result.finished["hint"]
    told = json.loads(place.call("status", "--json").stdout)["last_run"]["hint"]
    assert result.finished["hint"].startswith(told)
    assert typed(told)[:3] == ["migrator", "baseline", "002"]


def test_another_version_than_the_one_that_fits_is_64(tmp_path):
    """With the difference and the version that fits, and nothing noted; `--force` notes it."""
    place = Place(tmp_path, AT_002)
    for version, differs in (("001", "`email text`"), ("003", "it lacks the table tags")):
        result = place.call("baseline", version)
        end = result.finished
        assert (result.code, end["reason"]) == (64, "baseline.misfit")
        assert differs in end["error"]
        assert typed(end["hint"])[:3] == ["migrator", "baseline", "002"]
        assert "migrations" not in tables(place.database)
    forced = shlex.split(end["hint"].split("`")[3])
    assert forced[:4] == ["migrator", "baseline", "003", "--force"]
    result = run_migrator(*forced[1:])
    assert (result.code, history(place.database)) == (0, ["001", "002", "003"])
    assert [] == result.named("baseline.differs")


def test_tables_that_are_not_there_are_64_although_no_version_fits(tmp_path):
    """What VERSION makes would never be made."""
    place = Place(tmp_path, "CREATE TABLE users (id INTEGER PRIMARY KEY, other TEXT);")
    result = place.call("baseline", "003")
    assert (result.code, result.finished["reason"]) == (64, "baseline.misfit")
    assert "it lacks the table tags" in result.finished["error"]
    assert "migrations" not in tables(place.database)


def test_any_other_difference_is_a_warning(tmp_path):
    """An index more, or another type, may be from the time before: it is said, and noted."""
    place = Place(tmp_path, AT_002 + "CREATE INDEX mine ON users (name);")
    result = place.call("baseline", "002")
    assert (result.code, history(place.database)) == (0, ["001", "002"])
    warning = result.one("baseline.differs")
    assert (warning["level"], warning["version"]) == ("warning", "002")
    assert warning["differences"] == ["it has the index mine"]
    assert [] == place.call("baseline", "002").named("baseline.differs")


def test_the_nearest_versions_are_told_where_none_fits(tmp_path):
    """The nearest first, a few lines each, and a command that takes the nearest."""
    place = Place(tmp_path, AT_002 + "CREATE VIEW v AS SELECT 1;")
    found = place.proposed()
    assert (found["version"], found["fits"]) == (None, [])
    assert [each["version"] for each in found["nearest"]] == ["002", "001", "003"]
    lines = place.call("baseline").stdout.splitlines()
    assert lines[:3] == [
        "The database has the schema of no version.",
        "002 differs:",
        "  it has the view v",
    ]
    assert typed(lines[-1])[:3] == ["migrator", "baseline", "002"]


def test_many_differences_are_counted(tmp_path):
    """A hundred lines help nobody: the first few, and how many more."""
    script = "".join(f"CREATE TABLE other_{n:02} (x);" for n in range(30))
    place = Place(tmp_path, script)
    nearest = place.proposed()["nearest"][0]
    assert (len(nearest["differences"]), nearest["more"]) == (5, 26)
    assert "  and 26 more differences" in place.call("baseline").stdout.splitlines()


def test_versions_of_one_schema_are_all_named(tmp_path):
    """They differ in data, which nobody can compare: the last is proposed, and that is said."""
    files = {"001_users.sql": USERS, "002_upper.sql": "UPDATE users SET name = upper(name);"}
    place = Place(tmp_path, USERS, files)
    found = place.proposed()
    assert (found["version"], found["fits"]) == ("002", ["001", "002"])
    assert "only in data" in found["hint"]
    assert place.call("baseline", "001").code == 0
    assert history(place.database) == ["001"]


def test_only_baseline_alone_runs_code(tmp_path):
    """It is what was asked for there; whoever looks, or notes a version, runs nothing of it."""
    files = {**SQL, "003_tags.py": MARKED}
    del files["003_tags.sql"]
    place = Place(tmp_path, AT_002 + SQL["003_tags.sql"], files)
    ran = place.migrations / "it-ran"
    for command in ("status", "plan"):
        assert "`migrator baseline --database" in place.hint(command)
    assert place.call("baseline", "003", "--force").code == 0
    assert not ran.exists()
    make_database(place.database, "DROP TABLE migrations;")
    assert place.call("baseline", "003").code == 0
    assert not ran.exists()
    assert place.proposed()["fits"] == ["003"]
    assert ran.exists()
    assert not list(place.migrations.glob("__pycache__"))


def test_code_that_ends_its_process_is_told(tmp_path):
    """The worker's death costs this process nothing; the database is as it was."""
    files = {"001_users.sql": USERS, "002_end.py": "import os\ndef up(conn):\n    os._exit(0)\n"}
    place = Place(tmp_path, USERS, files)
    found = place.proposed()
    assert found["version"] is None
    assert "ended" in found["not_run"]["why"]
    assert "could not be compared" in place.call("baseline").stdout


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("002_alter.sql", "ALTER TABLE old ADD COLUMN x;", "no such table: old"),
        ("002_broken.py", "import no_such_module\ndef up(conn):\n    pass\n", "no_such_module"),
        ("002_check.py", "def up(conn):\n    raise ValueError('no rows')\n", "no rows"),
    ],
)
def test_a_migration_that_cannot_be_run_is_told(tmp_path, name, text, why):
    """What comes before it is compared all the same, and prints no lines of a run."""
    files = {"001_users.sql": USERS, name: text, "003_tags.sql": SQL["003_tags.sql"]}
    place = Place(tmp_path, USERS, files)
    found = place.proposed()
    assert found["fits"] == ["001"]
    assert found["not_run"]["file"] == name
    assert why in found["not_run"]["why"]
    assert f"{name} and what comes after it could not be compared" in place.call("baseline").stdout


def test_what_needs_no_transaction_or_other_settings_runs_in_memory(tmp_path):
    """VACUUM and journal modes work there; a file that a migration would attach is not made."""
    files = {
        "001_users.sql": USERS,
        "002_mode.sql": "-- migrate:up transaction:false\nPRAGMA journal_mode = WAL;\nVACUUM;\n",
        "003_into.sql": f"-- migrate:up transaction:false\nVACUUM INTO '{tmp_path / 'made.db'}';\n",
    }
    place = Place(tmp_path, USERS, files)
    found = place.proposed()
    assert found["fits"] == ["001", "002"]
    assert found["not_run"]["file"] == "003_into.sql"
    assert not (tmp_path / "made.db").exists()


def test_triggers_views_and_full_text_tables_are_compared(tmp_path):
    """What full-text search keeps its index in is SQLite's own, and the history is this program's."""
    more = (
        "CREATE VIEW names AS SELECT name FROM users;\n"
        "CREATE TRIGGER tr AFTER INSERT ON users BEGIN SELECT 1; SELECT 2; END;\n"
        "CREATE VIRTUAL TABLE notes USING fts5(body);\n"
    )
    place = Place(tmp_path, USERS + more, {"001_users.sql": USERS, "002_more.sql": more})
    assert place.proposed()["fits"] == ["002"]
    make_database(
        place.database,
        "DROP TRIGGER tr; CREATE TRIGGER tr AFTER INSERT ON users BEGIN SELECT 3; END;",
    )
    assert place.proposed()["nearest"][0]["differences"] == [
        "its trigger tr is defined in another way"
    ]


def test_a_database_that_is_not_there_is_69(tmp_path):
    """There is nothing to take over, and nothing is made."""
    files = write_migrations(tmp_path / "m", SQL)
    (tmp_path / "data").mkdir()
    result = run_migrator(
        "baseline", "--database", tmp_path / "data" / "app.db", "--migrations", files
    )
    assert (result.code, result.finished["reason"]) == (69, "database.missing")
    assert {} == listing(tmp_path / "data")


def test_large_migrations_are_not_run_for_a_look(tmp_path):
    """`status` stays quick: what compares them is named."""
    seeds = "".join(f"INSERT INTO users (name) VALUES ('{'x' * 500}');\n" for _ in range(2500))
    place = Place(tmp_path, AT_002, {**SQL, "004_seeds.sql": seeds})
    assert typed(place.hint("status"))[:3] == ["migrator", "baseline", "001"]
    assert "`migrator baseline --database" in place.hint("status")
    assert place.proposed()["version"] == "002"


def test_a_killed_applications_shared_memory_is_in_nobodys_way(tmp_path):
    """An empty `-wal` and a `-shm` without a process are no use: looked at, backed up, migrated."""
    place = Place(tmp_path, AT_002)
    make_database(place.database, "PRAGMA journal_mode = WAL;")
    for end, data in (("-wal", b""), ("-shm", b"\0" * 32768)):
        Path(f"{place.database}{end}").write_bytes(data)
    found = json.loads(place.call("status", "--json").stdout)
    assert (found["problems"], found["history_read"], found["running"]) == ([], True, None)
    assert place.call("plan").code == 0
    quick = ("--wait-timeout", "0")
    assert run_migrator("backup", *place.options, *quick).code == 0
    assert run_migrator("baseline", "002", *place.options, *quick).code == 0
    assert run_migrator("up", *place.options, *quick).code == 0
    assert history(place.database) == ["001", "002", "003"]


def test_another_tools_form_is_named_in_the_command(tmp_path):
    """Typed without `--format`, plain numbered files would be noted in this program's own table."""
    place = Place(tmp_path, AT_002)
    given = ("--format", "d1")
    hint = json.loads(run_migrator("status", "--json", *place.options, *given).stdout)["hint"]
    words = typed(hint)
    assert run_migrator(*words[1:]).code == 0
    assert "d1_migrations" in tables(place.database)
    assert "migrations" not in tables(place.database)
