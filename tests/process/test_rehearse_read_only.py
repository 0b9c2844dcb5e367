"""A rehearsal on a volume that is mounted read-only: where SQLite can read it, and where not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import others
from tests.support.files import make_database, opened, write_migrations
from tests.support.machine import tool
from tests.support.outcomes import assert_failed, assert_succeeded
from tests.support.processes import Result, running

pytestmark = pytest.mark.usefixtures("as_root")

MORE = {"001_more.sql": "CREATE TABLE more AS SELECT count(*) AS n FROM made;"}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return a database in a directory that is going to be the volume."""
    (tmp_path / "data").mkdir()
    return make_database(tmp_path / "data" / "app.db", "CREATE TABLE made (id);")


def rehearse(directory: Path, *more: str | Path) -> Result:
    """Rehearse with the volume mounted read-only, in a mount namespace of its own."""
    tool("unshare")
    volume = directory / "data"
    script = (
        f"mount --bind {volume} {volume} && mount -o remount,bind,ro {volume}"
        f" && ! touch {volume}/writable 2>/dev/null"
        ' && exec "$@"'
    )
    (directory / "copy").mkdir(exist_ok=True)
    migrations = write_migrations(directory / "m", MORE)
    options = ("--database", volume / "app.db", "--migrations", migrations, *more)
    with running(
        "migrator",
        "rehearse",
        *options,
        directory=directory,
        prefix=["unshare", "-m", "sh", "-c", script, "sh"],
    ) as run:
        return run.finish()


@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
def test_of_a_stopped_application(database: Path, tmp_path: Path, wal: bool) -> None:
    """Nothing lies beside the database, and the copy lies elsewhere: that works in both modes."""
    with opened(database) as conn:
        conn.execute(f"PRAGMA journal_mode = {'wal' if wal else 'delete'}")
    assert_succeeded(rehearse(tmp_path, "--in", tmp_path / "copy"), "rehearsed", applied=1)


@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
def test_beside_an_application_that_writes(database: Path, tmp_path: Path, wal: bool) -> None:
    """It has the volume for writing, and its `-shm` is there: that is read, and not written."""
    with opened(database) as conn:
        conn.execute(f"PRAGMA journal_mode = {'wal' if wal else 'delete'}")
    with others.writing(database) as application:
        result = rehearse(tmp_path, "--in", tmp_path / "copy")
        assert application.poll() is None
    assert_succeeded(result, "rehearsed", applied=1)


def test_with_a_wal_that_lacks_its_shm(database: Path, tmp_path: Path) -> None:
    """A killed application's `-wal` cannot be read without making its `-shm`: 69, and why."""
    others.leave_wal(database)
    Path(f"{database}-shm").unlink(missing_ok=True)
    result = rehearse(tmp_path, "--in", tmp_path / "copy")
    end = assert_failed(result, 69, "rehearsal.needs_recovery")
    assert "app.db-wal was left by a process that was killed" in end["error"]


def test_with_a_hot_journal(database: Path, tmp_path: Path) -> None:
    """It would have to be played back into the database."""
    others.leave_hot_journal(database)
    result = rehearse(tmp_path, "--in", tmp_path / "copy")
    assert_failed(result, 69, "rehearsal.needs_recovery")


def test_without_another_directory(database: Path, tmp_path: Path) -> None:
    """There is no place for the copy, and the hint says how to name one."""
    end = assert_failed(rehearse(tmp_path), 69, "volume.read_only")
    assert "`--in DIR`" in end["hint"]
