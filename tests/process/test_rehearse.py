"""`migrator rehearse`: the run on a copy, beside an application, with nothing left of it."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support import others
from tests.support.digest import logical_digest
from tests.support.files import (
    history,
    listing,
    make_database,
    opened,
    rows,
    tables,
    write_migrations,
)
from tests.support.machine import tool
from tests.support.outcomes import HOME, Before, assert_failed, assert_succeeded
from tests.support.processes import Result, run_migrator, running
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "rehearsal.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
FIRST = {
    "001_made.sql": """
        CREATE TABLE made (id INTEGER PRIMARY KEY, name TEXT);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
        INSERT INTO made SELECT i, 'name ' || i FROM n;
    """
}
SLOW = """
import time

def up(conn):
    conn.execute("UPDATE made SET name = 'x'")
    time.sleep(60)
"""


@dataclass(frozen=True)
class Place:
    """A database whose first migration is applied, and its migrations."""

    database: Path
    migrations: Path

    def add(self, files: Mapping[str, str]) -> None:
        """Add pending migrations."""
        write_migrations(self.migrations, files)

    @property
    def options(self) -> tuple[str, ...]:
        """The options that name both."""
        return "--database", str(self.database), "--migrations", str(self.migrations)

    def rehearse(self, *more: str, **env: str) -> Result:
        """Run `migrator rehearse`."""
        return run_migrator("rehearse", *self.options, *more, env=env)

    def report(self, *more: str) -> dict[str, Any]:
        """Return what `migrator rehearse --json` prints, proven to be as its schema has it."""
        return report_of(self.rehearse("--json", *more))


class Volume:
    """
    A volume before a rehearsal.

    The time of our own directory may move, since the copy lies in it meanwhile.
    """

    def __init__(self, database: Path, *, readable: bool = True) -> None:
        self._before = Before.of(database, readable=readable)
        self._files = self._now()

    def _now(self) -> dict[str, tuple[int, int, int]]:
        home = self._before.database.name + HOME
        found = listing(self._before.volume)
        return {name: (0, 0, 0) if name == home else facts for name, facts in found.items()}

    def assert_untouched(self) -> None:
        """Assert that every file is as it was, and that there is no other one."""
        assert self._now() == self._files
        self._before.assert_same()


def report_of(result: Result) -> dict[str, Any]:
    """Return a printed report, proven to be as its schema has it."""
    report: dict[str, Any] = json.loads(result.stdout)
    VALIDATOR.validate(report)
    return report


@pytest.fixture(params=[False, True], ids=["rollback", "wal"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """Return a database with one applied migration, in both journal modes."""
    return made_in(tmp_path, wal=request.param)


@pytest.fixture
def plain(tmp_path: Path) -> Place:
    """Return a database with one applied migration."""
    return made_in(tmp_path)


def made_in(directory: Path, *, wal: bool = False) -> Place:
    """Make a database with one applied migration."""
    database = directory / "data" / "app.db"
    database.parent.mkdir()
    found = Place(database, write_migrations(directory / "m", FIRST))
    assert run_migrator("up", *found.options).code == 0
    if wal:
        with opened(database) as conn:
            conn.execute("PRAGMA journal_mode = wal")
    return found


def test_what_is_pending_is_run_and_nothing_stays_of_it(place: Place) -> None:
    """The report has what it did, and every file beside the database is as it was."""
    place.add({"002_more.sql": "CREATE TABLE more (id); INSERT INTO made VALUES (2000, 'new');"})
    before = Volume(place.database)
    result = place.rehearse("--json")

    assert_succeeded(result, "rehearsed", applied=1)
    before.assert_untouched()
    report = report_of(result)
    assert (report["exit_code"], report["pending"], report["way"]) == (0, 1, "in-place")
    (migration,) = report["migrations"]
    assert (migration["version"], migration["state"]) == ("002", "applied")
    assert {each["table"]: each["inserted"] for each in migration["rows"]} == {"made": 1, "more": 0}
    assert history(place.database) == ["001"]
    assert all(each.get("rehearsal") for each in result.named("migration.finished"))


def test_with_nothing_pending_it_copies_nothing(plain: Place) -> None:
    """That is a success too, said in the report."""
    before = Volume(plain.database)
    result = plain.rehearse("--json")
    assert_succeeded(result, "rehearsed")
    assert report_of(result)["migrations"] == []
    assert result.named("rehearsal.started") == []
    before.assert_untouched()


def test_a_database_that_was_never_migrated_keeps_its_directory_clean(tmp_path: Path) -> None:
    """Our own directory goes again where a rehearsal has made it."""
    database = make_database(tmp_path / "data" / "app.db", "CREATE TABLE theirs (id)")
    place = Place(database, write_migrations(tmp_path / "m", FIRST))
    before = Volume(database)
    assert_succeeded(place.rehearse(), "rehearsed", applied=1)
    before.assert_untouched()


def test_a_first_install_is_rehearsed_in_the_copys_place(tmp_path: Path) -> None:
    """A database that does not exist does not exist afterwards either."""
    (tmp_path / "data").mkdir()
    place = Place(tmp_path / "data" / "app.db", write_migrations(tmp_path / "m", FIRST))
    report = place.report()
    assert (report["way"], report["bytes_before"]) == ("create", 0)
    (made,) = report["migrations"][0]["rows"]
    assert (made["was"], made["inserted"], made["after"]) == (None, 1000, 1000)
    assert os.listdir(place.database.parent) == []


def test_beside_an_application_that_writes(place: Place) -> None:
    """The application goes on, and the copy is one moment of its work."""
    place.add({"002_more.sql": "CREATE TABLE more AS SELECT count(*) AS n FROM heartbeat;"})
    with others.writing(place.database) as application:
        result = place.rehearse("--keep")
        assert application.poll() is None
    assert_succeeded(result, "rehearsed", applied=1)
    kept = place.database.parent / "app.db.migrator" / "rehearsed"
    ids = [number for (number,) in rows(kept / "before.db", "SELECT id FROM heartbeat ORDER BY id")]
    assert ids == list(range(1, len(ids) + 1))
    assert len(ids) >= 1
    assert rows(kept / "after.db", "SELECT n FROM more") == [(len(ids),)]
    assert "more" not in tables(place.database)
    ours = set(os.listdir(kept.parent))
    assert not {name for name in ours if name.startswith("rehearsal-")}


def test_the_application_commits_while_a_migration_is_rehearsed(place: Place) -> None:
    """The copy is migrated without any lock on the database."""
    place.add({"002_slow.py": SLOW})
    with running("migrator", "rehearse", *place.options, directory=place.migrations.parent) as run:
        run.wait_for("migration.started")
        with opened(place.database, timeout=0) as conn:
            conn.execute("INSERT INTO made VALUES (5000, 'meanwhile')")
        run.stop()
    assert rows(place.database, "SELECT name FROM made WHERE id = 5000") == [("meanwhile",)]


def test_no_start_waits_for_a_rehearsal(plain: Place) -> None:
    """It holds no lock of a run's, and the run beside it leaves its copy alone."""
    flag = plain.migrations.parent / "go"
    plain.add(
        {
            "002_slow.py": f"""
                import os, time

                def up(conn):
                    while {"rehearsal-"!r} in conn.execute("PRAGMA database_list").fetchone()[2]:
                        if os.path.exists({str(flag)!r}):
                            break
                        time.sleep(0.01)
            """
        }
    )
    with running("migrator", "rehearse", *plain.options, directory=flag.parent) as rehearsal:
        rehearsal.wait_for("migration.started")
        assert_succeeded(run_migrator("up", *plain.options), "migrated", applied=1)
        flag.touch()
        assert_succeeded(rehearsal.finish(), "rehearsed", applied=1)
    assert history(plain.database) == ["001", "002"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_signal_ends_it_and_nothing_stays(place: Place, number: signal.Signals) -> None:
    """The code is the signal's, and the volume is as it was."""
    place.add({"002_slow.py": SLOW})
    before = Volume(place.database)
    with running("migrator", "rehearse", *place.options, directory=place.migrations.parent) as run:
        run.wait_for("migration.started")
        result = run.stop(number)
    assert_failed(result, 128 + number, "signal")
    before.assert_untouched()


def test_what_a_killed_one_leaves_goes_with_the_next_run(place: Place) -> None:
    """A kill leaves the copy; the next start that runs removes it, as does the next rehearsal."""
    place.add({"002_slow.py": SLOW})
    home = place.database.parent / "app.db.migrator"
    ours = set(os.listdir(home))

    def litter() -> set[str]:
        return set(os.listdir(home)) - ours

    def kill_one() -> None:
        where = place.migrations.parent
        with running("migrator", "rehearse", *place.options, directory=where) as run:
            run.wait_for("migration.started")
            run.send(signal.SIGKILL)
            run.process.wait(10)

    kill_one()
    assert litter()
    (place.migrations / "002_slow.py").write_text("def up(conn):\n    pass\n")
    assert_succeeded(place.rehearse(), "rehearsed", applied=1)
    assert litter() == set()
    (place.migrations / "002_slow.py").write_text(SLOW)
    kill_one()
    assert litter()
    (place.migrations / "002_slow.py").write_text("def up(conn):\n    pass\n")
    assert_succeeded(run_migrator("up", *place.options), "migrated", applied=1)
    assert litter() == {"identity"}


def test_the_copy_may_lie_elsewhere(plain: Place, tmp_path: Path) -> None:
    """With `--in` nothing is made beside the database, not even for a moment."""
    plain.add(
        {
            "002_where.py": "def up(conn):\n    print(conn.execute('PRAGMA database_list').fetchone()[2])\n"
        }
    )
    other = tmp_path / "other"
    other.mkdir()
    before = Volume(plain.database)
    result = plain.rehearse("--in", str(other))
    assert_succeeded(result, "rehearsed", applied=1)
    assert result.named("migration.output")[0]["text"].startswith(str(other))
    before.assert_untouched()
    assert os.listdir(other) == []
    kept = plain.report("--in", str(other), "--keep")["kept"]
    assert kept == str(other / "rehearsed")
    assert sorted(os.listdir(kept)) == ["after.db", "before.db"]
    before.assert_untouched()


def test_a_directory_that_does_not_exist_is_a_mistake(plain: Place, tmp_path: Path) -> None:
    """It is not made: it may be the mount that is missing."""
    plain.add({"002_more.sql": "CREATE TABLE more (id);"})
    result = plain.rehearse("--in", str(tmp_path / "nowhere"))
    assert_failed(result, 64, "usage")
    assert result.stdout == ""
    assert not (tmp_path / "nowhere").exists()


LOSES = """
    CREATE TABLE n AS SELECT * FROM made WHERE id < 10;
    DROP TABLE made;
    ALTER TABLE n RENAME TO made;
"""
ORPHANS = "CREATE TABLE child (of REFERENCES made); INSERT INTO child VALUES (-1);"
ENDS = {
    "fails": ("SELECT * FROM nowhere;", 80, "migration.failed"),
    "loses": (LOSES, 81, "rows.lost"),
    "orphans": (ORPHANS, 81, "verify.foreign_keys"),
    "unparsable": ("SELECT 'no end", 78, "migrations.syntax"),
    "in a transaction": ("ATTACH ':memory:' AS other;", 78, "migrations.not_transactional"),
}


@pytest.mark.parametrize(("text", "code", "reason"), ENDS.values(), ids=ENDS)
def test_it_ends_as_the_real_start_would(place: Place, text: str, code: int, reason: str) -> None:
    """Code and reason are those of `up`; the database is untouched, and the report says why."""
    place.add({"002_bad.sql": text})
    before = Volume(place.database)
    result = place.rehearse("--json")
    end = assert_failed(result, code, reason, "refused" if code == 78 else "rehearsed")
    before.assert_untouched()
    report = report_of(result)
    assert (report["exit_code"], report["reason"], report["error"]) == (code, reason, end["error"])
    assert "rehearsal-" not in end["error"] + end["hint"]
    real = run_migrator("up", *place.options)
    assert (real.code, real.finished["reason"]) == (code, reason)


def test_what_a_migration_lost_without_saying_so_is_counted(plain: Place) -> None:
    """The rows are told although the run on the copy is undone."""
    plain.add({"002_bad.sql": LOSES})
    (migration,) = plain.report()["migrations"]
    assert migration["state"] == "failed"
    assert migration["losses"] == [{"table": "made", "rows": 991, "said": False, "before": 1000}]
    (made,) = [each for each in migration["rows"] if each["table"] == "made"]
    assert (made["before"], made["after"], made["deleted"], made["changed"]) == (1000, 9, 991, 0)


def test_a_dead_worker_is_a_failed_migration(plain: Place) -> None:
    """What the others did is told; this one is said to have failed, and the next not reached."""
    plain.add(
        {
            "002_more.sql": "CREATE TABLE more (id);",
            "003_dies.py": "import os\n\ndef up(conn):\n    os._exit(0)\n",
            "004_next.sql": "CREATE TABLE next (id);",
        }
    )
    result = plain.rehearse("--json")
    assert_failed(result, 80, "worker.killed", "rehearsed")
    states = [each["state"] for each in report_of(result)["migrations"]]
    assert states == ["applied", "failed", "not_reached"]


def test_a_migration_cannot_reach_the_real_database(plain: Place) -> None:
    """The path that it may know is refused, and the variable leads to the copy."""
    plain.add(
        {
            "002_reaches.py": f"""
                import os, sqlite3

                def up(conn):
                    assert "rehearsal-" in os.environ["MIGRATOR_DATABASE"]
                    for reach in (
                        lambda: sqlite3.connect({str(plain.database)!r}),
                        lambda: open({str(plain.database)!r}, "r+b"),
                        lambda: os.remove({str(plain.database)!r}),
                    ):
                        try:
                            reach()
                        except PermissionError:
                            continue
                        raise AssertionError("reached")
            """
        }
    )
    before = Volume(plain.database)
    result = plain.rehearse(MIGRATOR_DATABASE=str(plain.database))
    assert_succeeded(result, "rehearsed", applied=1)
    before.assert_untouched()


def test_it_takes_the_way_that_the_run_takes(place: Place) -> None:
    """VACUUM runs outside of a transaction, and the copy of the copy is published."""
    place.add(
        {
            "002_vacuum.sql": "-- migrate:up transaction:false\nDELETE FROM made WHERE id > 10;\nVACUUM;"
        }
    )
    before = Volume(place.database)
    report = place.report()
    before.assert_untouched()
    assert report["way"] == "copy"
    (migration,) = report["migrations"]
    (made,) = migration["rows"]
    assert (made["deleted"], made["after"], made["changed"]) == (990, 10, 0)
    assert migration["losses"] == [{"table": "made", "rows": 990, "said": True, "before": None}]
    assert migration["bytes_after"] < migration["bytes_before"]
    assert report["bytes_after"] == migration["bytes_after"]


def test_a_hot_journal_is_left_to_a_start(plain: Place) -> None:
    """It cannot be read without recovering it, which would write: 69, with the way out."""
    plain.add({"002_more.sql": "CREATE TABLE more (id);"})
    others.leave_hot_journal(plain.database)
    before = Volume(plain.database, readable=False)
    result = plain.rehearse()
    assert_failed(result, 69, "rehearsal.needs_recovery")
    assert "was not rehearsed" in result.stdout  # the real start recovers it
    assert "would end with" not in result.stdout
    before.assert_untouched()


def test_what_is_only_in_the_wal_is_in_the_copy(plain: Place) -> None:
    """Ten committed rows that a killed application never checkpointed."""
    plain.add({"002_more.sql": "CREATE TABLE more AS SELECT * FROM in_wal;"})
    others.leave_wal(plain.database)
    report = plain.report()
    assert [each["after"] for each in report["migrations"][0]["rows"]] == [10]


def test_a_run_under_way_is_not_rehearsed_beside(plain: Place) -> None:
    """What is pending is about to change: 75, and try again."""
    plain.add({"002_slow.py": SLOW})
    with running("migrator", "up", *plain.options, directory=plain.migrations.parent) as run:
        run.wait_for("migration.started")
        assert_failed(plain.rehearse(), 75, "run.under_way")
        run.stop()


def test_space_is_asked_for_before_anything_is_copied(plain: Place, tmp_path: Path) -> None:
    """A volume that has none for the copies ends it with 73, and nothing is written."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    small = tmp_path / "small"
    small.mkdir()
    plain.add({"002_more.sql": "CREATE TABLE more (id);"})
    script = f'mount -t tmpfs -o size=64k tmpfs {small} && exec "$@"'
    with running(
        "migrator", "rehearse", *plain.options, "--in", str(small), directory=tmp_path,
        prefix=["unshare", "-m", "sh", "-c", script, "sh"],
    ) as run:  # fmt: skip
        result = run.finish()
    end = assert_failed(result, 73, "backup.no_space")
    assert "--in" in end["hint"]
    assert result.named("rehearsal.started") == []


def test_only_one_form_is_printed(plain: Place) -> None:
    """Two forms at once are a mistake."""
    assert plain.rehearse("--json", "--markdown").code == 64


def test_markdown_is_printed_for_a_pull_request(plain: Place) -> None:
    """It begins with what would happen."""
    plain.add({"002_more.sql": "CREATE TABLE more (id);"})
    result = plain.rehearse("--markdown")
    assert_succeeded(result, "rehearsed", applied=1)
    assert result.stdout.startswith("## \u2705 1 migration would be applied to app\\.db")
    assert "+CREATE TABLE more (id);" in result.stdout


def test_the_database_is_the_same_to_the_byte(place: Place) -> None:
    """Neither its content nor its digest has moved after a long rehearsal of all ways."""
    place.add({"002_many.sql": "UPDATE made SET name = name || '!';"})
    digest, content = logical_digest(place.database), place.database.read_bytes()
    assert_succeeded(place.rehearse(), "rehearsed", applied=1)
    assert place.database.read_bytes() == content
    assert logical_digest(place.database) == digest
    until(lambda: not list(place.database.parent.glob("*-journal")) or None, "a journal stayed")


COMMAND = "sqlite3 {database}"


def commanded(place: Place, sql: str, *more: str) -> Result:
    """Rehearse SQLite's shell in place of migrations."""
    tool("sqlite3")
    command = f"{COMMAND} {shlex.quote(sql)}"
    options = ("--database", place.database, "--migrate-command", command, "--json", *more)
    return run_migrator("rehearse", *options)


def test_another_tools_command_is_rehearsed_too(tmp_path: Path) -> None:
    """What it did statement by statement nobody knows; the rows of the two files are compared."""
    (tmp_path / "data").mkdir()
    script = "CREATE TABLE a (id INTEGER PRIMARY KEY, v); INSERT INTO a VALUES (1, 1), (2, 2);"
    place = Place(make_database(tmp_path / "data" / "app.db", script), tmp_path)
    before = Volume(place.database)
    sql = "CREATE TABLE b (x); UPDATE a SET v = 9 WHERE id = 2; INSERT INTO a VALUES (3, 3);"
    result = commanded(place, sql)
    assert_succeeded(result, "rehearsed", applied=1)
    before.assert_untouched()
    report = report_of(result)
    (command,) = report["migrations"]
    assert (report["way"], command["name"], command["state"]) == ("copy", "sqlite3", "applied")
    told = {each["table"]: each for each in command["rows"]}
    assert told.keys() == {"a", "b"}
    assert [told["a"][name] for name in ("inserted", "changed", "deleted")] == [1, 1, 0]
    assert "+CREATE TABLE b (x);" in report["comparison"]["schema_diff"]


def test_a_command_that_fails_ends_as_its_start_would(tmp_path: Path) -> None:
    """80 for the command's own failure, 81 for rows that it loses, which are told."""
    (tmp_path / "data").mkdir()
    script = "CREATE TABLE a (id INTEGER PRIMARY KEY); INSERT INTO a VALUES (1), (2);"
    place = Place(make_database(tmp_path / "data" / "app.db", script), tmp_path)
    before = Volume(place.database)
    assert_failed(commanded(place, "SELECT * FROM nowhere"), 80, "migration.failed", "rehearsed")
    result = commanded(place, "DELETE FROM a WHERE id = 1")
    assert_failed(result, 81, "rows.lost", "rehearsed")
    (command,) = report_of(result)["migrations"]
    assert command["losses"] == [{"table": "a", "rows": 1, "said": False, "before": 2}]
    before.assert_untouched()
