"""A restore that was cut off: finished where nobody has written since, and otherwise left to a person."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.planted import Bug
from tests.support.aside import digest_aside
from tests.support.files import history, make_database, opened, rows, write_migrations
from tests.support.outcomes import assert_failed, assert_succeeded
from tests.support.processes import PACKAGES, Result, run_entrypoint, run_migrator

ORDER = "ORDER 4711"
SCHEMA = """
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, filler TEXT);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
        INSERT INTO users SELECT i, 'user ' || i, hex(zeroblob(400)) FROM n;
"""
STEPS = {
    "001_first.sql": "CREATE TABLE first (id INTEGER);",
    "002_second.sql": "CREATE TABLE second (id INTEGER); UPDATE users SET filler = filler || 'x';",
}
_CUT = """
import os, signal, time
import migrator.change.restore as restore
import migrator.recovery.copy_back as writeback

pump_back, remove = writeback._pump_back, writeback.remove


def cut(*args, **more):
    for pid in (os.getppid(), os.getpid()):
        os.kill(pid, {number})
    time.sleep(60)


def half(source, target):
    target.execute("PRAGMA cache_size = 1")
    source.backup(target, pages=1, progress=lambda _, left, total: left > total // 2 or cut())


def moving(path):
    return cut() if path.name.endswith("-wal") else remove(path)


def committed(*args):
    pump_back(*args)
    cut()


"""
POINTS = {
    "in its backup": "restore.make_backup = cut",
    "before its first page": "writeback._pump_back = cut",
    "among its pages": "writeback.write_pages = half",
    "behind its commit": "writeback._pump_back = committed",
    "behind the note of its commit": "writeback.complete = cut",
    "before its renaming": "writeback.remove = moving",
    "behind its renaming": "writeback.say_restored = cut",
}
BEGUN = tuple(POINTS)[1:5]
UNDONE = BEGUN[:2]
Journal = pytest.mark.parametrize("mode", ["delete", "wal"])


@dataclass
class Volume:
    """
    A database with two migrations, one run and one backup each, and what the restores did to it.

    Attributes:
        packages: Where the two packages lie: a patched copy in the tests of planted bugs.
        target: What the database held before the second run, to which `restore latest` leads.
        now: What it holds.
    """

    root: Path
    packages: Path
    target: str = ""
    now: str = ""

    @property
    def database(self) -> Path:
        """The database's path."""
        return self.root / "data" / "app.db"

    @property
    def note(self) -> Path:
        """What a run notes about itself."""
        return self.root / "data" / "app.db.migrator" / "state.json"

    @property
    def backups(self) -> list[Path]:
        """The finished backups, oldest first."""
        return sorted((self.root / "data" / "backups").glob("*.db"))

    @classmethod
    def make(cls, root: Path, mode: str = "delete", packages: Path = PACKAGES) -> Volume:
        """Make one."""
        volume = cls(root, packages)
        make_database(volume.database, SCHEMA, wal=mode == "wal", page_size=1024)
        for number, name in enumerate(STEPS, 1):
            volume.target = digest_aside(volume.database)
            write_migrations(root / "steps", {name: STEPS[name]})
            assert_succeeded(volume.start(), "migrated", 1)
            volume.write(f"written after {number}")
        volume.now = digest_aside(volume.database)
        return volume

    def write(self, name: str) -> None:
        """Be the application for a moment."""
        with opened(self.database) as conn:
            conn.execute("INSERT INTO users (name) VALUES (?)", (name,))

    def start(self, *words: str, site: Path | None = None) -> Result:
        """Start the entrypoint."""
        return run_entrypoint(*self._where, *words, env=self._env(site), cwd=self.root)

    def migrator(self, *words: str, site: Path | None = None) -> Result:
        """Run a command."""
        return run_migrator(*words, *self._where, env=self._env(site), cwd=self.root)

    def cut(self, point: str, number: int = signal.SIGKILL, *words: str) -> Result:
        """Have a restore meet a signal at a point, in both of its processes."""
        site = self.root / f"site-{len(list(self.root.iterdir()))}"
        site.mkdir()
        text = _CUT.replace("{number}", str(int(number))) + POINTS[point]
        (site / "sitecustomize.py").write_text(text)
        given = words or ("latest",)
        result = run_migrator(
            "restore", *given, *self._where, env=self._env(site), cwd=self.root, check_log=False
        )
        assert result.code == (-9 if number == signal.SIGKILL else 128 + number), result.stderr
        return result

    def type(self, line: str) -> Result:
        """Type a command as it was printed."""
        program, *words = shlex.split(line)
        assert program == "migrator"
        return run_migrator(*words, env=self._env(None), cwd=self.root)

    def copies_of_the_order(self) -> list[str]:
        """Return where the row of the application is: the database, or backups."""
        query = f"SELECT count(*) FROM users WHERE name = '{ORDER}'"
        return [path.name for path in (self.database, *self.backups) if rows(path, query) > [(0,)]]

    @property
    def _where(self) -> tuple[str, ...]:
        steps = str(self.root / "steps")
        waits = ("--wait-timeout", "5", "--lock-timeout", "5")
        return ("--database", str(self.database), "--migrations", steps, *waits)

    def _env(self, site: Path | None) -> dict[str, str]:
        places = [str(each) for each in (site, self.packages) if each is not None]
        return {"PYTHONPATH": os.pathsep.join(places)}


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    """Return one in journal mode DELETE."""
    return Volume.make(tmp_path)


def finished(stderr: str) -> dict[str, object]:
    """Return the last line of a log."""
    return json.loads(stderr.splitlines()[-1])


def commands(hint: str) -> list[str]:
    """Return the commands that a hint names."""
    return re.findall(r"`(migrator [^`]+)`", hint)


# --- nobody has written since ------------------------------------------------------------------


@Journal
@pytest.mark.parametrize("point", BEGUN)
def test_a_killed_restore_is_finished_where_nobody_has_written(tmp_path, point, mode):
    """The next start finishes it, and the one after that does nothing more."""
    volume = Volume.make(tmp_path, mode)
    volume.cut(point)

    result = volume.migrator("down", "--to", "001")

    assert_succeeded(result, "up_to_date")
    assert result.one("recovery.finished")["outcome"] == "restored"
    assert volume.target == digest_aside(volume.database)
    assert rows(volume.database, "PRAGMA journal_mode") == [(mode,)]
    assert history(volume.database) == ["001"]
    assert not volume.note.exists()


@Journal
def test_a_restore_that_was_killed_before_its_first_page_has_no_effect_later(tmp_path, mode):
    """One that was still making its backup is not carried out by the next start."""
    volume = Volume.make(tmp_path, mode)
    volume.cut("in its backup")

    result = volume.start()

    assert_succeeded(result, "up_to_date")
    assert result.one("recovery.finished")["outcome"] == "discarded"
    assert volume.now == digest_aside(volume.database)
    assert not volume.note.exists()


@pytest.mark.parametrize("there", ["nothing", "garbage"])
@pytest.mark.parametrize("point", ["before its renaming", "behind its renaming"])
def test_a_backup_that_was_being_moved_into_place_is(volume, point, there):
    """Where there is no database, the next start moves the backup there."""
    volume.database.unlink()
    if there == "garbage":
        volume.database.write_bytes(b"no database " * 400)
    volume.cut(point)
    volume.database.with_name("app.db-wal").unlink(missing_ok=True)

    result = volume.migrator("down", "--to", "001")

    assert_succeeded(result, "up_to_date")
    assert result.one("recovery.finished")["outcome"] == "restored"
    assert volume.target == digest_aside(volume.database)


def test_a_file_that_was_put_where_a_backup_was_being_moved_is_not_overwritten(volume):
    """Somebody else has filled the place."""
    volume.database.unlink()
    volume.cut("before its renaming")
    with opened(volume.database) as conn:
        conn.execute("CREATE TABLE users (name TEXT)")
    volume.write(ORDER)

    assert_superseded(volume, volume.start())

    assert volume.copies_of_the_order() == ["app.db"]


# --- somebody has -------------------------------------------------------------------------------


def assert_superseded(volume: Volume, result: Result) -> list[str]:
    """Assert that nothing was overwritten, twice over, and return the two commands."""
    assert result.code == 82, result.stderr
    end = assert_failed(result, 82, "restore.superseded", "restore_failed")
    assert str(volume.database) in end["error"]
    assert end["backup"] in end["error"]
    keeping, restoring = commands(end["hint"])
    assert (" --abandon" in keeping, volume.backups[1].name in restoring) == (True, True)
    return [keeping, restoring]


def what_was_written_stays(volume: Volume, point: str) -> None:
    """Kill a restore, write, and start: the row is there, and whoever starts hears of it."""
    volume.cut(point)
    volume.write(ORDER)
    with_order = digest_aside(volume.database)
    result = volume.start()
    if point == "behind the note of its commit":
        assert_succeeded(result, "migrated", 1)
    else:
        assert_superseded(volume, result)
        assert_superseded(volume, volume.start())
        assert with_order == digest_aside(volume.database)
    assert volume.database.name in volume.copies_of_the_order()


@Journal
@pytest.mark.parametrize("point", BEGUN)
def test_what_was_written_since_is_not_overwritten(tmp_path, point, mode):
    """An application that has written behind a killed restore finds its row after every start."""
    what_was_written_stays(Volume.make(tmp_path, mode), point)


def test_what_was_written_under_skipped_starts_is_not_overwritten(volume):
    """An application that was started with `--migrate skip` is somebody, too."""
    volume.cut("among its pages")
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()"
    )
    insert = f"INSERT INTO users (name) VALUES ('{ORDER}')"
    words = ("--migrate", "skip", "--", "python3", "-c", code, str(volume.database), insert)
    assert volume.start(*words).code == 0

    assert_superseded(volume, volume.start())

    assert volume.copies_of_the_order() == ["app.db"]


@Journal
def test_a_database_that_was_copied_into_place_is_not_overwritten(tmp_path, mode):
    """What an operator has put there is somebody's work, whatever it is a copy of."""
    volume = Volume.make(tmp_path, mode)
    good = shutil.copy(volume.backups[0], tmp_path / "good.db")
    with opened(good) as conn:
        conn.execute("INSERT INTO users (name) VALUES (?)", (ORDER,))
    volume.cut("before its first page")
    for path in volume.database.parent.glob("app.db-*"):
        path.unlink()
    shutil.copy(good, volume.database)

    assert_superseded(volume, volume.start())

    assert volume.copies_of_the_order() == ["app.db"]


def what_was_put_there_is_kept(volume: Volume) -> None:
    """Copy another database over one whose restore was killed, beside its hot journal, and start."""
    good = shutil.copy(volume.backups[0], volume.root / "good.db")
    with opened(good) as conn:
        conn.execute("INSERT INTO users (name) VALUES (?)", (ORDER,))
    volume.cut("among its pages")
    assert Path(f"{volume.database}-journal").stat().st_size > 0
    shutil.copy(good, volume.database)
    put_there = volume.database.read_bytes()

    keeping, _ = assert_superseded(volume, volume.start())

    assert put_there == volume.database.read_bytes()
    assert_succeeded(volume.type(keeping), "up_to_date")
    assert put_there == (volume.note.parent / "failed" / "app.db").read_bytes()


def test_the_journal_of_a_killed_restore_is_not_played_into_another_file(volume):
    """Beside a database that was copied into place it belongs to nothing."""
    what_was_put_there_is_kept(volume)


@Journal
@pytest.mark.parametrize("point", BEGUN[:3])
def test_the_commands_that_an_82_names(tmp_path, point, mode):
    """One keeps what is there now, the other restores after a backup of it; starts go on from there."""
    volume = Volume.make(tmp_path, mode)
    volume.cut(point)
    volume.write(ORDER)
    keeping, restoring = assert_superseded(volume, volume.start())
    shutil.copytree(tmp_path / "data", tmp_path / "as it was")

    kept = volume.type(keeping)
    assert_succeeded(kept, "up_to_date")
    assert kept.stdout == "No restore is unfinished; the database is as it was.\n"
    assert kept.one("recovery.finished")["outcome"] == "discarded"
    assert volume.start().code == 0
    assert "app.db" in volume.copies_of_the_order()

    shutil.rmtree(tmp_path / "data")
    (tmp_path / "as it was").rename(tmp_path / "data")
    assert_succeeded(volume.type(restoring), "migrated", 1)
    assert volume.target == digest_aside(volume.database)
    (where,) = volume.copies_of_the_order()
    facts = json.loads((tmp_path / "data" / "backups" / f"{where}.json").read_text())
    assert facts["reason"] == "restore"
    assert_succeeded(volume.start(), "migrated", 1)


def test_abandoning_nothing_changes_nothing(volume):
    """Without an unfinished restore the command says so, and is no failure."""
    result = volume.migrator("restore", "--abandon")
    assert_succeeded(result, "up_to_date")
    assert volume.now == digest_aside(volume.database)
    assert 64 == volume.migrator("restore", "--abandon", "latest").code


# --- a signal takes it back ----------------------------------------------------------------------


def a_cancelled_one_stays_cancelled(volume: Volume, point: str, number: int) -> None:
    """Cut a restore off by a signal: what it said is true, and nothing happens later."""
    end = finished(volume.cut(point, number).stderr)
    done = point not in (*UNDONE, "in its backup")
    assert end["outcome"] in ({"migrated"} if done else {"refused", "failed_restored"})
    said = any(text in str(end["error"]) for text in ("is left in the database", "is undone"))
    assert said != done
    state = volume.target if done else volume.now
    assert state == digest_aside(volume.database)
    assert not volume.note.exists()
    result = volume.start()
    assert_succeeded(result, "migrated" if done else "up_to_date", int(done))
    assert result.named("recovery.finished") == []
    assert rows(volume.database, "SELECT name FROM users WHERE name = 'written after 2'") == (
        [] if done else [("written after 2",)]
    )


@Journal
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("point", tuple(POINTS)[:5])
def test_a_restore_that_a_signal_ends_happens_now_or_never(tmp_path, point, number, mode):
    """`the database is as before` is true then, and of every later start."""
    a_cancelled_one_stays_cancelled(Volume.make(tmp_path, mode), point, number)


@Journal
def test_a_cancelled_restore_gives_the_journal_mode_back(tmp_path, mode):
    """Another page size takes the database out of WAL; who cancels gets that back as well."""
    volume = Volume.make(tmp_path, mode)
    with opened(volume.database) as conn:
        conn.execute("PRAGMA journal_mode = DELETE")
        conn.execute("PRAGMA page_size = 4096")
        conn.execute("VACUUM")
        conn.execute(f"PRAGMA journal_mode = {mode}")

    volume.cut("among its pages", signal.SIGTERM)

    assert rows(volume.database, "PRAGMA journal_mode") == [(mode,)]
    assert rows(volume.database, "PRAGMA page_size") == [(4096,)]


# --- another intent -------------------------------------------------------------------------------


def another_restore_takes_its_place(volume: Volume, point: str) -> None:
    """Kill `restore latest` and type `restore --before 001`: only that happens."""
    volume.cut(point)
    first, second = volume.backups[0], volume.now
    result = volume.migrator("restore", "--before", "001")
    assert_succeeded(result, "migrated", 1)
    assert result.one("recovery.finished")["outcome"] == "discarded"
    assert len(result.named("restore.finished")) == 1
    assert digest_aside(volume.database) == digest_aside(first)
    kept = [digest_aside(path) for path in volume.backups]
    assert second in kept


@pytest.mark.parametrize("point", UNDONE)
def test_another_restore_takes_the_place_of_a_killed_one(volume, point):
    """The way out of a restore does not first finish it."""
    another_restore_takes_its_place(volume, point)


def test_a_mistyped_restore_leaves_the_killed_one(volume):
    """What cannot be carried out takes nobody's place."""
    volume.cut("among its pages")
    assert 64 == volume.migrator("restore", "no-such.db").code
    assert volume.note.exists()
    result = volume.migrator("down", "--to", "001")
    assert result.one("recovery.finished")["outcome"] == "restored"


# --- notes of the version before -------------------------------------------------------------------


def leave_an_old_note(volume: Volume, run_id: str = "0123456789abcdef") -> None:
    """Leave what the version before notes: nothing of what the restore replaces."""
    note = {
        "format": 1,
        "run_id": run_id,
        "phase": "restore",
        "since": "2026-01-01T00:00:00Z",
        "reason": "restore",
        "database": str(volume.database),
        "backup": volume.backups[1].name,
        "journal_mode": "delete",
        "extra": {},
    }
    volume.note.write_text(json.dumps(note))


def test_an_old_note_proves_nothing(volume):
    """Without what the restore found, the database may have been written to since."""
    leave_an_old_note(volume)
    assert_superseded(volume, volume.start())
    assert volume.now == digest_aside(volume.database)


def test_an_old_note_with_the_backup_of_its_run_is_finished(volume):
    """What the restore has replaced is known by the backup that it made."""
    volume.cut("before its first page")
    run_id = json.loads(volume.note.read_text())["run_id"]
    leave_an_old_note(volume, run_id)
    result = volume.migrator("down", "--to", "001")
    assert result.one("recovery.finished")["outcome"] == "restored"
    assert volume.target == digest_aside(volume.database)


def test_an_older_version_leaves_the_note_of_a_restore_alone(volume):
    """It would finish the restore without a look: the note has a later format."""
    volume.cut("before its first page")
    assert json.loads(volume.note.read_text())["format"] == 2


# --- planted bugs ------------------------------------------------------------------------------------


def _bug(file: str, old: str, new: str) -> Bug:
    return Bug("", f"migrator/{file}", old, new, "", (), ())


PLANTED: dict[str, tuple[Bug, Callable[[Volume], None]]] = {
    "the look before finishing is left out": (
        _bug("recovery/after_crash.py", "if found is Standing.CHANGED:", "if found == 'never':"),
        lambda volume: what_was_written_stays(volume, "among its pages"),
    ),
    "the note stays after Ctrl-C": (
        _bug(
            "recovery/after_crash.py",
            'if left.reason != "restore" or left.run_id != ctx.run_id:',
            "if True:",
        ),
        lambda volume: a_cancelled_one_stays_cancelled(volume, "among its pages", signal.SIGINT),
    ),
    "a new restore finishes the old one first": (
        _bug(
            "change/restore.py",
            "if unfinished_restore(ctx) is None:\n        recover(ctx)\n    chosen",
            "recover(ctx)\n    chosen",
        ),
        lambda volume: another_restore_takes_its_place(volume, "among its pages"),
    ),
    "a journal is played into whatever lies there": (
        _bug("recovery/after_crash.py", "if written_over(ctx, left, chosen):", "if False:"),
        what_was_put_there_is_kept,
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(tmp_path, name):
    """What these tests ask tells the right program from one with this bug."""
    bug, ask = PLANTED[name]
    packages = bug.plant(tmp_path / "planted")
    with pytest.raises(AssertionError):
        ask(Volume.make(tmp_path, packages=packages))
