"""A backup that cannot be made: whose fault it is, and that nothing of it is left."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from migrator.backups import create as store
from migrator.backups.catalog import verify_backup
from migrator.backups.create import make
from migrator.backups.retention import remove_backup
from migrator.database import pages
from migrator.database.raw_file import LiveFile
from migrator.database.workspace import Layout
from migrator.errors import (
    BackupError,
    DamagedError,
    DiskError,
    NotReadyError,
)
from migrator.model import Settings
from tests.support.files import make_database, opened
from tests.support.recorder import Recorder, in_child, read_only, small_disk
from tests.unit.backups.common import UP, back_up, change, damage, left, pair, several


def test_a_damaged_database_is_65_and_leaves_no_backup(layout: Layout) -> None:
    """A copy of damage is found before anything runs."""
    damage(layout.database)
    with pytest.raises(DamagedError, match="is damaged") as caught:
        back_up(layout)
    assert caught.value.exit_code == 65
    assert left(layout) == set()


def test_what_is_no_database_is_65(layout: Layout) -> None:
    """Text renamed to `.db` is told apart from a failing backup."""
    layout.database.write_text("hello " * 2000)
    with pytest.raises(DamagedError):
        back_up(layout)
    assert left(layout) == set()


def test_a_disk_that_spoils_the_copy_is_the_backups_fault(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file itself can be read, damage of the copy alone is 73 and not 65."""
    real, real_range = pages.copy_pages, os.copy_file_range

    def spoiled(source: sqlite3.Connection, target: Path, *more: Any) -> int:
        size = real(source, target, *more)
        damage(target)
        return size

    def spoiled_range(source: int, target: int, *more: int) -> int:
        done = real_range(source, target, *more)
        os.pwrite(target, b"\xaa" * 4096, 4096)
        return done

    monkeypatch.setattr(store, "copy_pages", spoiled)
    monkeypatch.setattr(os, "copy_file_range", spoiled_range)
    with LiveFile.open(layout.database) as live:
        with pytest.raises(BackupError, match="does not equal"):
            back_up(layout, live=live)
        with pytest.raises(DamagedError):
            back_up(layout)
    assert left(layout) == set()


def unsortable(layout: Layout) -> None:
    """Give the database an index that only the application can check."""
    with opened(layout.database) as conn:
        conn.create_collation("mine", lambda a, b: (a > b) - (a < b))
        conn.executescript("CREATE TABLE s (x COLLATE mine); CREATE INDEX sx ON s (x);")


def test_where_sqlite_cannot_check_the_bytes_are_compared(layout: Layout) -> None:
    """Collations of the application's are no reason to refuse, but a reason to say so."""
    unsortable(layout)
    emit = Recorder()
    with opened(layout.database) as conn, LiveFile.open(layout.database) as live:
        made = make(conn, layout, UP, emit, live=live)
    (warning,) = emit.named("backup.check_incomplete")
    assert warning["level"] == "warning"
    assert "byte by byte" in warning["message"]
    assert verify_backup(made) is None


def test_where_nothing_can_be_compared_it_is_said(layout: Layout) -> None:
    """Without access to the file the checksum is all there is."""
    unsortable(layout)
    emit = Recorder()
    back_up(layout, emit=emit)
    assert "checksummed only" in emit.named("backup.check_incomplete")[0]["message"]


def test_a_full_disk_is_73_and_leaves_nothing(
    layout: Layout, tmp_path: Path, as_root: None
) -> None:
    """No space for the backup: nothing unfinished stays, the database is untouched."""
    with opened(layout.database) as conn:
        conn.execute("INSERT INTO notes (user_id, text) VALUES (1, hex(zeroblob(200000)))")
    before = layout.database.read_bytes()
    with small_disk(tmp_path / "disk", "128k") as disk:
        target = Layout.of(Settings(layout.database, backup_dir=disk / "b"))
        with pytest.raises(BackupError, match="No space left") as caught:
            back_up(target)
        assert (caught.value.exit_code, caught.value.reason) == (73, "backup.no_space")
        assert left(target) == set()
    assert layout.database.read_bytes() == before


def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def test_on_a_full_disk_the_oldest_backups_go_first(
    layout: Layout, tmp_path: Path, as_root: None
) -> None:
    """Our own backups never stop the application; the last good one stays."""
    with opened(layout.database) as conn:
        conn.execute("INSERT INTO notes (user_id, text) VALUES (1, hex(zeroblob(50000)))")
    size = layout.database.stat().st_size
    with small_disk(tmp_path / "disk", f"{size * 7 // 2 // 1024}k") as disk:
        target = Layout.of(Settings(layout.database, backup_dir=disk))
        old = several(target, 3)
        change(target)
        emit = Recorder()
        new = back_up(target, emit=emit, protect={old[0].name})
        assert left(target) == pair(old[0], old[2], new)
        assert [event["reason"] for event in emit.named("backup.pruned")] == ["space"]
        assert verify_backup(new) is None
        for each in (old[0], old[2]):
            remove_backup(target, each)
        fill(disk / "filler")
        change(target)
        with pytest.raises(BackupError):
            back_up(target)
        assert left(target) == pair(new) | {"filler"}


def test_a_read_only_backup_directory_is_73(layout: Layout, tmp_path: Path, as_root: None) -> None:
    """Where the backup directory cannot be written, that is said with the way out."""
    (tmp_path / "b").mkdir()
    with (
        read_only(tmp_path / "b", tmp_path / "ro") as shown,
        pytest.raises(BackupError, match="Read-only") as caught,
    ):
        back_up(Layout.of(Settings(layout.database, backup_dir=shown)))
    assert (caught.value.reason, caught.value.exit_code) == ("backup.permission", 73)
    assert "--backup-dir" in caught.value.hint


def test_without_permission_it_is_73(open_path: Path, as_root: None) -> None:
    """Another user's directory is no place for a backup."""
    database = make_database(open_path / "app.db", "CREATE TABLE t (x)")
    database.chmod(0o666)
    layout = Layout.of(Settings(database))

    def attempt() -> tuple[str, str]:
        try:
            back_up(layout)
        except BackupError as error:
            return error.reason, error.hint
        return "made", ""

    reason, hint = in_child(attempt, (12345, 12345))
    assert reason == "backup.permission"
    assert "user 12345" in hint


def test_a_link_to_nowhere_is_73(layout: Layout, tmp_path: Path) -> None:
    """Backups are not written where a dangling link would lead them."""
    layout.backup_dir.symlink_to(tmp_path / "nowhere")
    with pytest.raises(BackupError, match="a symbolic link"):
        back_up(Layout.of(Settings(layout.database)))
    assert not (tmp_path / "nowhere").exists()


def test_a_locked_database_is_69(layout: Layout) -> None:
    """A source that stays locked is in use, not damaged."""
    with opened(layout.database) as other, opened(layout.database, timeout=0) as conn:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(NotReadyError) as caught:
            make(conn, layout, UP, Recorder())
    assert caught.value.reason == "database.in_use"
    assert left(layout) == set()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, BackupError),
        (sqlite3.SQLITE_IOERR_WRITE, BackupError),
        (sqlite3.SQLITE_IOERR_FSYNC, BackupError),
        (sqlite3.SQLITE_CANTOPEN, BackupError),
        (sqlite3.SQLITE_IOERR_READ, DiskError),
        (sqlite3.SQLITE_IOERR_SHORT_READ, DiskError),
        (sqlite3.SQLITE_CORRUPT, DamagedError),
        (sqlite3.SQLITE_NOTADB, DamagedError),
        (sqlite3.SQLITE_BUSY, NotReadyError),
    ],
)
def test_a_failure_is_laid_at_the_right_door(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    """Reading concerns the database, writing the backup, whatever SQLite calls it."""

    def fail(*args: Any) -> int:
        error = sqlite3.OperationalError("planted")
        error.sqlite_errorcode = code
        raise error

    monkeypatch.setattr(store, "copy_pages", fail)
    with pytest.raises(kind):
        back_up(layout)
    assert left(layout) == set()


def test_a_quota_is_told_from_a_failing_disk(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite says "I/O error" of a quota; trying to write says what it was."""

    def fail(*args: Any) -> int:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
        raise error

    def refuse(*args: Any) -> int:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(store, "copy_pages", fail)
    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(BackupError, match="quota") as caught:
        back_up(layout)
    assert caught.value.reason == "backup.no_space"


def test_a_signal_leaves_nothing_unfinished(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a handler raises during the copy ends it, and its files are gone."""
    monkeypatch.setattr(store, "_EVERY", 0)

    def emit(event: str, message: str, *, level: str = "info", **fields: Any) -> None:
        if event == "backup.progress":
            raise KeyboardInterrupt

    with opened(layout.database) as conn, pytest.raises(KeyboardInterrupt):
        make(conn, layout, UP, emit)
    assert left(layout) == set()
