"""A failed run's own return to its backup, cut off; and what a recovery says, waits for and leaves as it was."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.planted import Bug
from tests.support import others, processes
from tests.support.aside import digest_aside
from tests.support.files import history, opened, rows, tables, write_migrations
from tests.support.outcomes import assert_failed, assert_succeeded
from tests.support.processes import PACKAGES, Result, run_entrypoint, run_migrator

_BROKEN = """
import os, signal, sqlite3, time
import migrator.verify.proof as proof
import migrator.exclusive as live
import migrator.recovery.copy_back as writeback
from migrator.errors import VerificationError


def broken(*args):
    raise VerificationError("This is planted.", hint="Take it away.")


def cut(*args, **more):
    if {number} == signal.SIGTERM:
        os.kill(os.getppid(), {number})
        time.sleep(60)
    for pid in {processes}:
        os.kill(pid, {number})


proof.read_back = broken
"""
_FULL = """
import sqlite3
import migrator.exclusive as live
import migrator.recovery.copy_back as writeback

pump_back = writeback._pump_back


def full(self):
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode, error.sqlite_errorname = 13, "SQLITE_FULL"
    raise error


def then_full(*args):
    pump_back(*args)
    live.ExclusiveDatabase.checkpoint = full


writeback._pump_back = then_full
"""
Wal = pytest.mark.parametrize("wal", [False, True], ids=["delete", "wal"])


def site(directory: Path, text: str) -> dict[str, str]:
    """Plant a text into every Python that gets these variables."""
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(text)
    return {"PYTHONPATH": f"{directory}{os.pathsep}{PACKAGES}"}


def in_mode(database: Path, *, wal: bool) -> None:
    """Set the journal mode."""
    with opened(database) as conn:
        conn.execute(f"PRAGMA journal_mode = {'wal' if wal else 'delete'}")


def start(database: Path, migrations: Path, *words: str, **more: object) -> Result:
    """Start the entrypoint."""
    given = ("--database", database, "--migrations", migrations, "--wait-timeout", "5")
    return run_entrypoint(*given, *words, **more)  # type: ignore[arg-type]


def cut_return(
    database: Path, migrations: Path, directory: Path, number: int = signal.SIGKILL
) -> Result:
    """Have a check fail behind the commit, and cut the return to the backup off before its pages."""
    text = _BROKEN.replace("{number}", str(int(number)))
    text = text.replace("{processes}", "(os.getppid(), os.getpid())")
    env = site(directory, f"{text}writeback._pump_back = cut\n")
    return start(database, migrations, env=env, check_log=False)


@Wal
def test_a_return_that_was_killed_is_finished_where_nobody_has_written(
    wal, database, migrations, tmp_path
):
    """What failed its check is not the database that an application gets, also after a kill."""
    in_mode(database, wal=wal)
    before = digest_aside(database)
    assert cut_return(database, migrations, tmp_path / "site").code == -9
    assert history(database) == ["001", "002"]

    result = run_migrator("up", "--database", database, "--migrations", tmp_path / "empty", env={})
    assert result.code == 78
    result = run_migrator(
        "up", "--database", database, "--migrations", write_migrations(tmp_path / "none", {})
    )

    assert_succeeded(result, "up_to_date")
    assert before == digest_aside(database)


@Wal
def test_a_return_that_was_killed_overwrites_nothing_that_was_written_since(
    wal, database, migrations, tmp_path
):
    """The application had it meanwhile: 82, with both ways on."""
    in_mode(database, wal=wal)
    cut_return(database, migrations, tmp_path / "site")
    with opened(database) as conn:
        conn.execute("INSERT INTO users (name) VALUES ('ORDER 4711')")

    result = start(database, migrations)

    assert result.code == 82, result.stderr
    end = assert_failed(result, 82, "restore.superseded", "restore_failed")
    assert "after a failed run" in end["error"]
    assert rows(database, "SELECT count(*) FROM users WHERE name = 'ORDER 4711'") == [(1,)]
    assert run_migrator(*_words(end["hint"], 0)).code == 0
    assert start(database, migrations).code == 0
    assert history(database) == ["001", "002"]


def _words(hint: str, number: int) -> list[str]:
    return hint.split("`")[1 + 2 * number].split()[1:]


def test_a_stop_does_not_take_a_return_back(database, migrations, tmp_path):
    """What the failed run has committed must not stay, and the message says who sees to it."""
    before = digest_aside(database)
    stopped = cut_return(database, migrations, tmp_path / "site", signal.SIGTERM)
    end = json.loads(stopped.stderr.splitlines()[-1])
    assert (stopped.code, end["outcome"]) == (143, "unknown")
    assert "as before" not in end["error"]
    assert "the next start puts the backup" in end["error"]
    result = run_migrator(
        "up", "--database", database, "--migrations", write_migrations(tmp_path / "none", {})
    )
    assert_succeeded(result, "up_to_date")
    assert before == digest_aside(database)


_PROGRAM = """
import sys
from migrator import MigrationRunner
runner = MigrationRunner(sys.argv[1], sys.argv[2], in_use="wait", wait_timeout=5)
runner.run_pending_migrations(verbose=False)
"""


@Wal
@pytest.mark.parametrize("written", [False, True], ids=["alone", "written"])
def test_the_return_of_a_run_in_its_callers_process(wal, written, database, migrations, tmp_path):
    """There the pages are looked at through SQLite, when they are noted and when they are compared."""
    in_mode(database, wal=wal)
    program = (sys.executable, "-c", _PROGRAM, str(database), str(migrations))
    text = _BROKEN.replace("{number}", "9").replace("{processes}", "(os.getpid(),)")
    env = {**os.environ, **site(tmp_path / "site", f"{text}writeback._pump_back = cut\n")}
    assert subprocess.run(program, env=env, cwd=tmp_path, check=False).returncode == -9
    if written:
        with opened(database) as conn:
            conn.execute("INSERT INTO users (name) VALUES ('ORDER 4711')")

    env["PYTHONPATH"] = str(PACKAGES)
    done = subprocess.run(
        program, env=env, cwd=tmp_path, check=False, capture_output=True, text=True
    )

    assert (done.returncode, "RestoreError" in done.stderr) == (int(written), written), done.stderr
    assert history(database) == ["001", "002"]
    assert len(rows(database, "SELECT * FROM users WHERE name LIKE 'ORDER%'")) == written
    assert not list(Path(f"{database}.migrator").glob("found.db*"))


# --- behind the commit of a restore -----------------------------------------------------------------


@Wal
def test_a_disk_that_fails_behind_the_commit_of_a_restore(wal, database, migrations, tmp_path):
    """The backup is back, which is said, and what is left the next start does, whoever writes."""
    in_mode(database, wal=wal)
    assert start(database, migrations).code == 0
    words = ("restore", "latest", "--database", database, "--migrations", migrations)

    result = run_migrator(*words, env=site(tmp_path / "site", _FULL), cwd=tmp_path)

    end = assert_failed(result, 74, "disk.outcome_unknown", "unknown")
    assert "was restored from" in end["error"]
    assert "Nothing has to be restored again" in end["hint"]
    with opened(database) as conn:
        conn.execute("INSERT INTO users (name) VALUES ('ORDER 4711')")
    assert "migrations" not in tables(database)
    again = start(database, migrations)
    assert_succeeded(again, "migrated", 2)
    assert again.named("restore.finished") == []
    assert len(rows(database, "SELECT * FROM users WHERE name LIKE 'ORDER%'")) == 1
    assert rows(database, "PRAGMA journal_mode") == [("wal" if wal else "delete",)]


# --- what a recovery waits for, says, and leaves as it was ------------------------------------------


def note(database: Path, **fields: object) -> Path:
    """Leave a note of a run that was interrupted."""
    path = Path(f"{database}.migrator", "state.json")
    noted = {"format": 1, "run_id": "0123456789abcdef", "since": "2026-01-01T00:00:00Z"}
    path.write_text(json.dumps({**noted, "reason": "up", "database": str(database), **fields}))
    return path


def test_the_journal_mode_is_set_within_the_wait(database, migrations):
    """Where somebody reads, SQLite keeps the mode: that is waited for, named, and settled later."""
    assert start(database, migrations).code == 0
    path = note(database, phase="publish", way="copy", journal_mode="wal")
    with others.read_transaction(database):
        refused = start(database, migrations, "--wait-timeout", "0.5")
    end = assert_failed(refused, 69, "database.in_use")
    assert str(database) in end["error"]
    assert path.exists()
    assert rows(database, "PRAGMA journal_mode") == [("delete",)]
    assert start(database, migrations).one("recovery.finished")["outcome"] == "discarded"
    assert rows(database, "PRAGMA journal_mode") == [("wal",)]


def test_a_recovery_leaves_in_use_as_it_was(database, migrations, tmp_path):
    """A run beside readers is one as well where it has first finished a restore."""
    assert start(database, migrations).code == 0
    words = ("restore", "latest", "--database", database, "--migrations", migrations)
    text = "import os\nimport migrator.recovery.copy_back as w\n"
    text += "def cut(*args):\n    os.kill(os.getppid(), 9)\n    os.kill(os.getpid(), 9)\n"
    env = site(tmp_path / "site", f"{text}w._pump_back = cut\n")
    assert run_migrator(*words, env=env, cwd=tmp_path, check_log=False).code == -9
    bad = write_migrations(tmp_path / "bad", {"001_fails.sql": "INSERT INTO nowhere VALUES (1);"})

    result = start(database, bad, "--in-use", "allow")

    assert result.code == 80
    assert result.one("recovery.finished")["outcome"] == "restored"
    assert result.named("restore.finished")[-1]["identical"] is None


def test_a_failure_of_a_recovery_is_told_in_words(database, migrations, tmp_path):
    """`in the phase ''` tells nobody anything."""
    assert start(database, migrations).code == 0
    note(database, phase="migrate", way="in-place", journal_mode="delete")
    text = "import errno\nimport migrator.recovery.after_crash as r\n"
    text += "def broken(*args):\n    raise OSError(errno.EIO, 'Input/output error')\n"
    env = site(tmp_path / "site", f"{text}r.with_recovered = broken\n")
    end = assert_failed(start(database, migrations, env=env), 74, "disk.failed")
    assert "while an interrupted run was being recovered" in end["error"]
    assert "phase" not in end["error"]
    assert sqlite3.connect(database).execute("PRAGMA quick_check").fetchone() == ("ok",)


# --- planted bugs -----------------------------------------------------------------------------------


def _bug(file: str, old: str, new: str) -> Bug:
    return Bug("", f"migrator/{file}", old, new, "", (), ())


PLANTED: dict[str, tuple[Bug, Callable[[Path, Path, Path], None]]] = {
    "an interrupted restore has the run wait for the database alone": (
        _bug(
            "recovery/after_crash.py",
            "    if written_over(ctx, left, chosen):\n",
            "    ctx.settings = replace(ctx.settings, in_use='wait')\n"
            "    if written_over(ctx, left, chosen):\n",
        ),
        test_a_recovery_leaves_in_use_as_it_was,
    ),
    "a stop takes a failed run's return back": (
        _bug(
            "recovery/after_crash.py",
            'if left.reason != "restore" or left.run_id != ctx.run_id:',
            "if left.run_id != ctx.run_id:",
        ),
        test_a_stop_does_not_take_a_return_back,
    ),
    "what comes after the commit of a restore is a part of it": (
        _bug(
            "recovery/copy_back.py",
            "    except (sqlite3.Error, OSError) as error:\n        raise _incomplete(",
            "    except ZeroDivisionError as error:\n        raise _incomplete(",
        ),
        lambda database, migrations, tmp_path: (
            test_a_disk_that_fails_behind_the_commit_of_a_restore(
                wal=False, database=database, migrations=migrations, tmp_path=tmp_path
            )
        ),
    ),
    "a return is finished without a look": (
        _bug("recovery/after_crash.py", "if found is Standing.CHANGED:", "if found == 'never':"),
        lambda database, migrations, tmp_path: (
            test_a_return_that_was_killed_overwrites_nothing_that_was_written_since(
                wal=False, database=database, migrations=migrations, tmp_path=tmp_path
            )
        ),
    ),
}


@pytest.mark.usefixtures("from_the_start")
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name, database, migrations, tmp_path, monkeypatch):
    """What these tests ask tells the right program from one with this bug."""
    bug, ask = PLANTED[name]
    packages = bug.plant(tmp_path / "planted")
    monkeypatch.setattr(processes, "PACKAGES", packages)
    monkeypatch.setattr(sys.modules[__name__], "PACKAGES", packages)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError):
        ask(database, migrations, tmp_path)
