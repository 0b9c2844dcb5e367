"""`--migrate backup`: an application that migrates itself, and the way back from what it does."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import others, self_migrating
from tests.support.digest import logical_digest
from tests.support.files import make_database, opened, rows, tables, write_migrations
from tests.support.logs import Event
from tests.support.outcomes import Before, assert_failed, assert_succeeded
from tests.support.processes import Result, run_entrypoint, run_migrator, run_script

APP = Path(self_migrating.__file__)
NOTES = """
    CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);
    INSERT INTO notes (text) VALUES ('one'), ('two'), ('three'), ('four');
"""


@dataclass
class Place:
    """A volume of an application that knows nothing of this program."""

    database: Path

    def start(self, version: str | None, *how: str, app: bool = True, **more: Any) -> Result:
        """Start a version of the application behind the entrypoint."""
        words = ["--database", str(self.database), "--migrate", "backup"]
        words += [] if version is None else ["--app-version", version]
        words += more.pop("options", ())
        if app:
            words += ["--", sys.executable, str(APP), str(self.database), version or "1.0", *how]
        return run_entrypoint(*words, **more)

    def restore(self, *words: str) -> Result:
        """Run `migrator restore`."""
        return run_migrator("restore", *words, "--database", self.database)

    def backups(self) -> list[dict[str, Any]]:
        """Return what `backups --json` says, newest first."""
        done = run_migrator("backups", "--json", "--database", self.database)
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    def made(self) -> list[tuple[str, str | None, str | None]]:
        """Return of each backup what it was made for, newest first."""
        return [
            (each["reason"], each["app_version"], each["from_app_version"])
            for each in self.backups()
        ]

    def notes(self) -> list[str]:
        """Return the application's rows."""
        return [text for (text,) in rows(self.database, "SELECT text FROM notes ORDER BY id")]

    def write(self, text: str) -> None:
        """Write a row, as the application does while it runs."""
        with opened(self.database) as conn:
            conn.execute("INSERT INTO notes (text) VALUES (?)", (text,))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a database that an application has used so far without this program."""
    return Place(make_database(tmp_path / "data" / "app.db", NOTES))


@pytest.fixture
def empty(tmp_path: Path) -> Place:
    """Return a volume with no database on it."""
    (tmp_path / "data").mkdir()
    return Place(tmp_path / "data" / "app.db")


# --- the way there and back --------------------------------------------------------


def test_a_version_that_migrates_badly_is_led_back_from(place: Place) -> None:
    """The new version breaks half of the rows; the state before its first start comes back whole."""
    first = place.start("1.0")
    assert_succeeded(first, "backed_up")
    assert first.stdout == "serving 1.0\n"
    before, kept = logical_digest(place.database), place.notes()

    broken = place.start("1.1", "crash")
    assert_succeeded_then(broken, "backed_up", self_migrating.CRASHED)
    assert place.notes() != kept
    assert place.made() == [("start", "1.1", "1.0"), ("start", "1.0", None)]
    # Restarted by its policy again and again: no second backup, of a state that is half of one.
    for _ in range(2):
        assert_succeeded_then(place.start("1.1", "crash"), "up_to_date", self_migrating.CRASHED)
    assert len(place.backups()) == 2

    refused = place.start("1.0")
    end = assert_failed(refused, 78, "history.newer_app")
    assert refused.stdout == ""
    back = run_shown(end, place)
    assert_succeeded(back, "migrated", 1)
    assert logical_digest(place.database) == before
    again = place.start("1.0")
    assert_succeeded(again, "up_to_date")
    assert again.stdout == "serving 1.0\n"
    assert place.notes() == [*kept, "started 1.0"]


def assert_succeeded_then(result: Result, outcome: str, code: int) -> None:
    """Assert what came before the application, and how that ended."""
    end = result.finished
    assert (end["outcome"], end["exit_code"]) == (outcome, 0), end
    assert result.code == code


def run_shown(end: Event, place: Place) -> Result:
    """Run the command that a hint shows."""
    words = end["hint"].split("`")[1].split()
    assert words[:2] == ["migrator", "restore"]
    assert words[-2:] == ["--database", str(place.database)]
    return run_migrator(*words[1:])


def test_no_migrations_are_needed_and_none_is_read(place: Place, tmp_path: Path) -> None:
    """What is pending stays so, a registry that is not there is not missed, no table is made."""
    migrations = write_migrations(tmp_path / "m", {"001_mine.sql": "CREATE TABLE mine (id);"})
    options = ("--migrations", str(migrations))
    assert_succeeded(place.start("1.0", app=False, options=options), "backed_up")
    options = ("--migrations", str(tmp_path / "nowhere.py:make"), "--format", "goose")
    assert_succeeded(place.start("1.1", app=False, options=options), "up_to_date")
    options = ("--migrate-command", "false", "--pending-command", "false")
    assert_succeeded(place.start("1.2", app=False, options=options), "up_to_date")
    assert tables(place.database) == {"notes"}
    assert place.notes() == ["one", "two", "three", "four"]


def test_without_a_command_it_ends_after_the_backup(place: Place) -> None:
    """An initContainer: 0, and the backup is a whole one of a database that is untouched."""
    before = Before.of(place.database)
    assert_succeeded(place.start("1.0", app=False), "backed_up")
    before.assert_same()
    (made,) = place.backups()
    assert logical_digest(Path(made["path"])) == before.digest
    assert run_migrator("verify", "--database", place.database).code in (0, 78)


@pytest.mark.parametrize("again", ["1.0", "v1.0", "1.0.0"])
def test_a_version_that_was_started_is_not_backed_up_again(place: Place, again: str) -> None:
    """However it is spelled; nothing is locked, forked or written then."""
    assert_succeeded(place.start("1.0", app=False), "backed_up")
    place.write("more")
    before = Before.of(place.database)
    result = place.start(again, app=False)
    assert_succeeded(result, "up_to_date")
    assert "lock.acquired" not in result.names
    before.assert_untouched()


def test_without_a_version_every_new_state_is_backed_up(place: Place) -> None:
    """A state that has its backup has no second one."""
    assert_succeeded(place.start(None, app=False), "backed_up")
    same = place.start(None, app=False)
    assert_succeeded(same, "up_to_date")
    assert len(same.named("backup.reused")) == 1
    place.write("more")
    assert_succeeded(place.start(None, app=False), "backed_up")
    assert place.made() == [("start", None, None)] * 2


def test_the_versions_before_a_state_that_nobody_changed_share_a_backup(place: Place) -> None:
    """It leads back from each of them, and is found under each name."""
    for version, outcome in (("1.0", "backed_up"), ("1.1", "up_to_date"), ("abc", "up_to_date")):
        assert_succeeded(place.start(version, app=False), outcome)
    (made,) = place.backups()
    assert made["app_version"] == "abc"
    place.write("more")
    for version in ("abc", "1.0", "1.1"):
        assert_succeeded(place.restore("--before-app-version", version), "migrated", 1)
        assert place.notes() == ["one", "two", "three", "four"]
        place.write("more")


# --- no database -------------------------------------------------------------------


def test_where_there_is_no_database_the_application_makes_it(empty: Place) -> None:
    """Nothing to back up; and the version that made it is not taken for a new one afterwards."""
    result = empty.start("1.0")
    assert_succeeded(result, "no_database")
    assert (result.stdout, empty.backups()) == ("serving 1.0\n", [])
    assert_succeeded(empty.start("1.0"), "up_to_date")
    assert_succeeded(empty.start("1.1"), "backed_up")
    assert empty.made() == [("start", "1.1", "1.0")]
    assert_failed(empty.start("1.0"), 78, "history.newer_app")


def test_no_database_and_no_version_leave_nothing(empty: Place) -> None:
    """Not even a directory of ours."""
    before = Before.of(empty.database)
    assert_succeeded(empty.start(None, app=False), "no_database")
    before.assert_untouched()


@pytest.mark.parametrize("version", [None, "1.0"])
def test_a_database_that_has_to_be_there(empty: Place, version: str | None) -> None:
    """`--create never` is 69 without one, and so are backups that have lost theirs."""
    never = ("--create", "never", "--wait-timeout", "0")
    assert_failed(empty.start(version, options=never), 69, "database.missing")
    make_database(empty.database, NOTES)
    assert_succeeded(empty.start(version, app=False), "backed_up")
    empty.database.unlink()
    lost = empty.start(version, options=("--wait-timeout", "0"))
    assert_failed(lost, 69, "database.missing")
    assert (lost.stdout, empty.database.exists()) == ("", False)


@pytest.mark.parametrize(
    ("content", "code", "reason"),
    [(b"no database at all, of any kind" * 40, 65, "database.damaged"), (b"", 0, "")],
)
def test_a_file_that_is_no_database(empty: Place, content: bytes, code: int, reason: str) -> None:
    """Damage is 65 and the application is not started; an empty file is an empty database."""
    empty.database.write_bytes(content)
    result = empty.start("1.0")
    if code:
        assert_failed(result, code, reason)
        assert empty.database.read_bytes() == content
        assert not empty.backups()
        assert_failed(empty.start("1.0"), code, reason)
    else:
        assert_succeeded(result, "backed_up")
        assert result.stdout == "serving 1.0\n"


# --- versions ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("older", "newer"),
    [("1.9", "1.10"), ("1.0-rc.1", "1.0"), ("v2025.7.1", "2025.11"), ("1.0-rc.2", "1.0-rc.10")],
)
def test_a_newer_database_is_refused(place: Place, older: str, newer: str) -> None:
    """Nothing is written, the newer version still starts, and the hint leads back."""
    place.start(older, app=False)
    place.write("of the older")
    place.start(newer, app=False)
    place.write("of the newer")
    before = Before.of(place.database)
    result = place.start(older)
    end = assert_failed(result, 78, "history.newer_app")
    assert f"migrator restore --before-app-version {newer}" in end["hint"]
    assert result.stdout == ""
    before.assert_untouched()
    assert_succeeded(place.start(newer, app=False), "up_to_date")
    assert run_shown(end, place).code == 0
    assert place.notes()[-1] == "of the older"
    assert_succeeded(place.start(older, app=False), "up_to_date")


def test_a_newer_database_may_be_accepted(place: Place) -> None:
    """`--accept newer` warns, backs up and starts; the state is then that of the older version."""
    place.start("1.1", app=False)
    place.write("of 1.1")
    result = place.start("1.0", app=False, options=("--accept", "newer"))
    assert_succeeded(result, "backed_up")
    misfit = result.one("history.misfit")
    assert (misfit["level"], misfit["kind"], misfit["version"]) == ("warning", "newer", "1.1")
    assert place.made()[0] == ("start", "1.0", "1.1")
    assert_succeeded(place.start("1.0", app=False), "up_to_date")
    place.write("of 1.0")
    assert_succeeded(place.restore("--before-app-version", "1.0"), "migrated", 1)
    assert place.notes()[-1] == "of 1.1"
    assert_failed(place.start("1.0"), 78, "history.newer_app")


def test_versions_that_do_not_compare_are_backed_up_with_a_warning(place: Place) -> None:
    """Of commits nobody knows which is newer: none is refused, each has its backup."""
    place.start("a4f5c2", app=False)
    place.write("of the first")
    result = place.start("0b19e7", app=False)
    assert_succeeded(result, "backed_up")
    said = result.one("history.misfit")
    assert (said["level"], said["kind"], said["version"]) == ("warning", "app-version", "a4f5c2")
    place.write("of the second")
    assert_succeeded(place.start("a4f5c2", app=False), "backed_up")
    assert_succeeded(place.restore("--before-app-version", "0b19e7"), "migrated", 1)
    assert place.notes()[-1] == "of the first"


def test_several_versions_are_led_back_over(place: Place) -> None:
    """The hint names the version whose backup holds what the older one can read."""
    for version in ("1.0", "1.1", "1.2"):
        place.start(version, app=False)
        place.write(f"of {version}")
    end = assert_failed(place.start("1.0"), 78, "history.newer_app")
    assert "--before-app-version 1.1 " in end["hint"]
    assert run_shown(end, place).code == 0
    assert place.notes()[-1] == "of 1.0"
    assert_succeeded(place.start("1.0", app=False), "up_to_date")


def test_where_no_backup_leads_back_the_hint_says_so(place: Place) -> None:
    """The backups were moved away: start the newer one, or accept it."""
    place.start("1.1", app=False)
    for path in (place.database.parent / "backups").iterdir():
        path.unlink()
    end = assert_failed(place.start("1.0"), 78, "history.newer_app")
    assert "no backup here leads back to 1.0" in end["hint"]


def test_a_version_that_is_left_out_makes_the_last_one_unknown(place: Place) -> None:
    """Whoever used the database meanwhile: the version of before is backed up and not refused."""
    place.start("1.1", app=False)
    place.write("of 1.1")
    assert_succeeded(place.start(None, app=False), "backed_up")
    assert_succeeded(place.start("1.0", app=False), "up_to_date")
    assert place.made() == [("start", "1.0", "1.1"), ("start", "1.1", None)]


# --- restore -----------------------------------------------------------------------


@pytest.fixture
def upgraded(place: Place) -> Place:
    """Return a place on which two versions were started, each of which has written a row."""
    for version in ("1.0", "1.1"):
        place.start(version, app=False)
        place.write(f"of {version}")
    return place


def test_a_restore_sets_the_version_back(upgraded: Place) -> None:
    """Of each backup the version whose state it is; of one from before all of them none."""
    replaced = upgraded.restore("--before-app-version", "1.1")
    assert_succeeded(replaced, "migrated", 1)
    assert_succeeded(upgraded.start("1.0", app=False), "up_to_date")
    assert upgraded.notes()[-1] == "of 1.0"
    (of_11,) = [each["name"] for each in upgraded.backups() if each["reason"] == "restore"]
    assert_succeeded(upgraded.restore(of_11), "migrated", 1)
    assert_failed(upgraded.start("1.0"), 78, "history.newer_app")
    assert_succeeded(upgraded.restore("--before-app-version", "1.0"), "migrated", 1)
    assert_succeeded(upgraded.start("0.9", app=False), "up_to_date")


def test_a_restore_of_what_is_there_already_sets_it_back_too(place: Place) -> None:
    """A version that was started and wrote nothing is none that the database came from."""
    place.start("1.0", app=False)
    place.write("of 1.0")
    place.start("1.1", app=False)
    assert_failed(place.start("1.0"), 78, "history.newer_app")
    assert_succeeded(place.restore("--before-app-version", "1.1"), "up_to_date")
    assert_succeeded(place.start("1.0", app=False), "up_to_date")


def test_the_version_started_again_after_a_restore_has_its_backup(upgraded: Place) -> None:
    """The state is the backup's: it is used again, and leads back as before."""
    upgraded.restore("--before-app-version", "1.1")
    again = upgraded.start("1.1", app=False)
    assert_succeeded(again, "up_to_date")
    assert len(again.named("backup.reused")) == 1
    upgraded.write("of 1.1 once more")
    assert_succeeded(upgraded.restore("--before-app-version", "1.1"), "migrated", 1)
    assert upgraded.notes()[-1] == "of 1.0"


def test_the_newest_backup_from_before_a_version_is_chosen(place: Place) -> None:
    """One that a person made of the version before it is older than the start, and not it."""
    place.start("1.0", app=False)
    run_migrator("backup", "--database", place.database)
    place.write("of 1.0")
    place.start("1.1", app=False)
    run_migrator("backup", "--database", place.database)
    place.write("of 1.1")
    run_migrator("backup", "--database", place.database)
    assert [each[2] for each in place.made()] == ["1.1", "1.0", None]
    assert_succeeded(place.restore("--before-app-version", "1.1"), "migrated", 1)
    assert place.notes()[-1] == "of 1.0"


def test_a_version_that_was_never_started_is_refused(upgraded: Place) -> None:
    """A slip of the pen must not put back what nobody meant: 64, with those that are known."""
    before = Before.of(upgraded.database)
    end = assert_failed(upgraded.restore("--before-app-version", "2.0"), 64, "backup.unknown")
    assert "1.0, 1.1" in end["hint"]
    before.assert_same()


def test_latest_still_means_what_a_run_has_backed_up(upgraded: Place) -> None:
    """A backup before a start is none: the refusal names the way to it."""
    end = assert_failed(upgraded.restore("latest"), 64, "backup.unknown")
    assert "migrator restore --before-app-version 1.1 --database" in end["hint"]


CUT_OFF = """
    import os, signal, sys
    from migrator.recovery import copy_back

    def killed(*_):
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    copy_back.complete = killed
    from migrator.cli import main
    main(sys.argv[1:])
"""


def test_a_restore_that_was_cut_off_sets_the_version_back_when_it_is_finished(
    upgraded: Place,
) -> None:
    """The next start finishes it, and knows whose state the database is."""
    words = ("restore", "--before-app-version", "1.1", "--database", upgraded.database)
    assert run_script(CUT_OFF, *words).returncode == -signal.SIGKILL
    result = upgraded.start("1.0", app=False)
    assert_succeeded(result, "up_to_date")
    assert result.one("recovery.finished")["outcome"] == "restored"
    assert upgraded.notes()[-1] == "of 1.0"


# --- backups that stay -------------------------------------------------------------


def test_the_backup_before_the_version_that_runs_is_never_pruned(upgraded: Place) -> None:
    """Whatever a timer backs up while it runs, and however few are kept."""
    for number in range(3):
        upgraded.write(str(number))
        run_migrator("backup", "--backup-keep", "1", "--database", upgraded.database)
    assert [each[:2] for each in upgraded.made()] == [("manual", None), ("start", "1.1")]
    assert_succeeded(upgraded.start("1.2", app=False, options=("--backup-keep", "0")), "up_to_date")
    assert upgraded.made()[0] == ("start", "1.2", "1.1")


def test_a_crash_loop_without_a_version_keeps_the_state_from_before_it(place: Place) -> None:
    """It changes the database at each of its starts, and each state has its backup."""
    for _ in range(6):
        result = place.start(None, "crash", options=("--backup-keep", "3"))
        assert result.finished["outcome"] in ("backed_up", "up_to_date")
        place.write("half of it")
    kept = place.backups()
    assert len(kept) == 3
    (first,) = rows(Path(kept[-1]["path"]), "SELECT count(*) FROM notes")
    assert first == (4,)


# --- beside others -----------------------------------------------------------------


@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
@pytest.mark.parametrize("in_use", ["wait", "allow"])
def test_an_application_that_still_runs_is_not_in_the_way(
    tmp_path: Path, wal: bool, in_use: str
) -> None:
    """In another container, say: the backup is one moment of it, taken in a read transaction."""
    place = Place(make_database(tmp_path / "data" / "app.db", NOTES, wal=wal))
    with others.writing(place.database) as application:
        result = place.start("1.0", app=False, options=("--in-use", in_use))
        assert application.poll() is None
    assert_succeeded(result, "backed_up")
    ids = rows(Path(place.backups()[0]["path"]), "SELECT id FROM heartbeat ORDER BY id")
    assert [number for (number,) in ids] == list(range(1, len(ids) + 1))


def test_one_that_keeps_readers_out_is_waited_for(place: Place) -> None:
    """Then 69: nothing was started without its backup, and the next start makes it."""
    lock = others.PREAMBLE + 'conn.execute("BEGIN EXCLUSIVE")\nready()\nsys.stdin.read()\n'
    with others.other_process(lock, place.database):
        result = place.start("1.0", options=("--wait-timeout", "0.2"))
    assert_failed(result, 69, "database.in_use")
    assert (result.stdout, place.backups()) == ("", [])
    assert_succeeded(place.start("1.0", app=False), "backed_up")


@pytest.mark.parametrize("left", [others.leave_wal, others.leave_hot_journal])
def test_what_a_killed_application_has_left_is_in_the_backup(place: Place, left: Any) -> None:
    """Its committed rows are, and its half of a transaction is not."""
    left(place.database)
    assert_succeeded(place.start("1.0", app=False), "backed_up")
    copy = Path(place.backups()[0]["path"])
    assert "half_done" not in tables(copy)
    if left is others.leave_wal:
        assert rows(copy, "SELECT count(*) FROM in_wal") == [(10,)]


def test_a_place_for_backups_that_is_none_starts_nothing(place: Place) -> None:
    """73, as often as it is started; the version counts as not started."""
    place.database.parent.joinpath("backups").write_text("a file")
    for _ in range(2):
        result = place.start("1.0")
        assert result.code == 73
        assert result.stdout == ""
    place.database.parent.joinpath("backups").unlink()
    assert_succeeded(place.start("1.0", app=False), "backed_up")


def test_a_note_that_is_a_link_is_not_followed(place: Place, tmp_path: Path) -> None:
    """69: whoever put it there is told of, and what it leads to stays as it is."""
    place.start("1.0", app=False)
    note = place.database.with_name("app.db.migrator") / "application" / "started"
    note.unlink()
    target = tmp_path / "elsewhere"
    target.write_text("9.9\n")
    note.symlink_to(target)
    assert_failed(place.start("1.1"), 69, "volume.unsafe_entry")
    assert target.read_text() == "9.9\n"


def test_a_note_that_nobody_can_read_means_that_nothing_is_known(place: Place) -> None:
    """Then a backup is made, and no version is too old."""
    place.start("1.1", app=False)
    note = place.database.with_name("app.db.migrator") / "application" / "started"
    note.write_bytes(b"\xff\xfe\n")
    place.write("more")
    assert_succeeded(place.start("1.0", app=False), "backed_up")
    assert note.read_text() == "1.0\n"
