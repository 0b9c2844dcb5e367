"""Backups: complete and checked or not there, found again, and never the last good one pruned."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from migrator import files
from migrator.backups import create as store
from migrator.backups import pending, retention, space
from migrator.backups.catalog import Backup, list_backups, verify_backup
from migrator.backups.create import Facts, make, reuse, same_state
from migrator.backups.directory import names, partial_path
from migrator.backups.find import find_backup, newest_backup
from migrator.backups.retention import prune_backups, remove_backup, remove_unfinished
from migrator.backups.space import check_space, make_space, space_needed
from migrator.database import pages
from migrator.database.raw_file import LiveFile
from migrator.database.workspace import Layout, like_database
from migrator.errors import (
    BackupError,
    DamagedError,
    DiskError,
    MisfitError,
    NotReadyError,
    UsageError,
)
from migrator.files import Ownership
from migrator.model import Applied, Settings
from tests.support.files import make_database, opened, rows
from tests.support.recorder import Recorder, in_child, read_only, small_disk
from tests.unit.test_file_copy import no_thread

UP = Facts(
    reason="up",
    run_id="01J",
    version="002",
    applied=(Applied("001", "001", "users", "t1"), Applied("002", "002", "notes", "t2")),
    journal_mode="wal",
)
ID = "0123456789abcdef0123456789abcdef"
RESTORE = Facts(reason="restore", run_id="01K", journal_mode="wal")


@pytest.fixture
def layout(database: Path) -> Layout:
    """Return the paths of the small database."""
    return Layout.of(Settings(database))


def back_up(layout: Layout, facts: Facts = UP, emit: Recorder | None = None, **more: Any) -> Backup:
    """Make a backup through a plain connection."""
    with opened(layout.database) as conn:
        return make(conn, layout, facts, emit or Recorder(), **more)


def change(layout: Layout) -> None:
    """Bring the database to another state of the same size."""
    with opened(layout.database) as conn:
        conn.execute("UPDATE users SET name = lower(hex(randomblob(1))) WHERE id = 1")


def several(layout: Layout, count: int) -> list[Backup]:
    """Make backups of as many states; oldest first."""
    made = []
    for _ in range(count):
        change(layout)
        made.append(back_up(layout))
    return made


def left(layout: Layout) -> set[str]:
    """Name what the backup directory holds beside the `.gitignore`."""
    return {path.name for path in layout.backup_dir.iterdir()} - {".gitignore"}


def pair(*backups: Backup) -> set[str]:
    """Name the files of finished backups."""
    return {name for each in backups for name in (each.name, f"{each.name}.json")}


# -- making ---------------------------------------------------------------------------


def test_a_backup_is_a_plain_database_with_its_facts_beside_it(layout: Layout) -> None:
    """Whoever has nothing but `sqlite3` and `sha256sum` can use and check it."""
    emit = Recorder()
    made = back_up(layout, emit=emit)
    assert left(layout) == pair(made)
    assert emit.names == ["backup.started", "backup.finished"]
    assert all({"path", "bytes", "seconds"} <= event.keys() for event in emit.events)
    assert rows(made.path, "SELECT name FROM users") == rows(
        layout.database, "SELECT name FROM users"
    )
    noted = json.loads(made.json_path.read_text())
    assert noted["sha256"] == hashlib.sha256(made.path.read_bytes()).hexdigest()
    assert noted["bytes"] == made.path.stat().st_size
    assert (noted["name"], noted["path"]) == (made.name, str(made.path))
    assert (noted["reason"], noted["version"], noted["run_id"]) == ("up", "002", "01J")
    assert noted["database"] == str(layout.database)
    assert noted["applied"][0] == {"version": "001", "name": "users", "applied_at": "t1"}
    assert verify_backup(made) is None


def test_the_name_is_database_counter_and_time(layout: Layout) -> None:
    """Names sort by the counter, which counts what is there, finished or not, whoever's it is."""
    first, second = several(layout, 2)
    assert first.name.startswith("app.db-000001-2")
    assert second.name.startswith("app.db-000002-2")
    (layout.backup_dir / ".app.db-000007-20200101T000000Z.db.partial").touch()
    (layout.backup_dir / "other.db-000050-20200101T000000Z.db").touch()
    assert back_up(layout).counter == 8


def test_the_order_does_not_hang_on_the_clock(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board without a battery wakes up in 1970, and its newest backup is still the newest."""
    first = back_up(layout)
    change(layout)
    monkeypatch.setattr(time, "gmtime", lambda *_: time.struct_time((1970, 1, 1, 0, 0, 0, 3, 1, 0)))
    second = back_up(layout)
    assert second.created_at == "1970-01-01T00:00:00Z"
    assert [each.name for each in list_backups(layout)] == [second.name, first.name]
    prune_backups(layout, 1, (), second.name, Recorder())
    assert left(layout) == pair(second)


def test_what_was_noted_is_read_back(layout: Layout) -> None:
    """A backup that is listed is the one that was made."""
    made = back_up(layout)
    (listed,) = list_backups(layout)
    assert listed == made
    assert [(row.version, row.name, row.applied_at) for row in listed.applied] == [
        ("001", "users", "t1"),
        ("002", "notes", "t2"),
    ]


def test_a_backup_is_no_wider_than_the_database(layout: Layout) -> None:
    """Who may not read the database may not read its backups."""
    layout.database.chmod(0o640)
    before = os.umask(0)
    try:
        made = back_up(layout)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (made.path, made.json_path)} == {0o640}


def test_made_by_root_it_belongs_to_the_databases_owner(layout: Layout, as_root: None) -> None:
    """`docker exec` as root leaves nothing that the application cannot prune."""
    os.chown(layout.database, 12345, 23456)
    made = back_up(layout)
    found = {(p.stat().st_uid, p.stat().st_gid) for p in (made.path, made.json_path)}
    assert found == {(12345, 23456)}


def test_an_empty_database_has_an_empty_backup(volume: Path) -> None:
    """Zero bytes is a valid database, and so is its backup."""
    (volume / "app.db").touch()
    layout = Layout.of(Settings(volume / "app.db"))
    made = back_up(layout)
    assert (made.bytes, made.path.stat().st_size) == (0, 0)
    assert verify_backup(made) is None
    with LiveFile.open(layout.database) as live:
        assert same_state(layout, live, UP) == made


def test_progress_is_told_every_second(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long backup says how far it is; a short one says nothing in between."""
    monkeypatch.setattr(pages, "_CHUNK", 4096)
    emit = Recorder()
    back_up(layout, emit=emit)
    assert emit.named("backup.progress") == []
    monkeypatch.setattr(store, "_EVERY", 0)
    back_up(layout, emit=emit)
    told = emit.named("backup.progress")
    assert len(told) >= 2
    assert told[-1]["bytes"] == told[-1]["total_bytes"] == layout.database.stat().st_size


@pytest.mark.parametrize("as_file", [False, True])
def test_a_backup_is_on_disk_before_it_has_its_name(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, as_file: bool
) -> None:
    """Contents of both files and the facts' first name, then the names, the facts' last."""
    back_up(layout)
    steps: list[tuple[str, str]] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append(("fsync", target.suffixes[-2] if target.suffix == ".partial" else "directory"))
        real_fsync(descriptor)

    def rename(old: str, new: str, **more: int) -> None:
        steps.append(("rename", Path(new).suffix))
        real_rename(old, new, **more)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    with LiveFile.open(layout.database) as live:
        back_up(layout, live=live if as_file else None)
    assert steps == [
        ("fsync", ".db"),
        ("fsync", ".json"),
        ("fsync", "directory"),
        ("rename", ".db"),
        ("rename", ".json"),
        ("fsync", "directory"),
    ]


def test_the_database_is_the_same_after_a_backup(layout: Layout) -> None:
    """Backing up writes nothing to the database."""
    before = layout.database.read_bytes()
    back_up(layout)
    assert layout.database.read_bytes() == before


# -- what can go wrong ----------------------------------------------------------------


def damage(path: Path) -> None:
    """Overwrite the second page."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xaa" * 4096)


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


# -- a crash at any point --------------------------------------------------------------

MUTATING = {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate", "sqlite3.connect"}


def run_until(operation: int, work: Callable[[], object]) -> bool:
    """
    Do something in a child that dies at its N-th operation on files, as by SIGKILL.

    Returns:
        Whether it came to its end.
    """
    pid = os.fork()
    if pid == 0:
        count = 0

        def hook(event: str, args: tuple[Any, ...]) -> None:
            nonlocal count
            if event in MUTATING and not str(args[0]).startswith("/proc"):
                count += 1
                if count == operation:
                    os._exit(9)

        code = 1
        try:
            sys.addaudithook(hook)
            work()
            code = 0
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, 9)
    return status == 0


def test_a_crash_at_any_point_leaves_a_backup_or_litter(layout: Layout, tmp_path: Path) -> None:
    """After cleaning there are only sound pairs, the older one among them, and nothing else."""
    several(layout, 1)
    change(layout)
    saved = tmp_path / "saved"
    shutil.copytree(layout.backup_dir, saved)
    seen = set()
    for operation in range(1, 1000):
        finished = run_until(operation, lambda: back_up(layout))
        remove_unfinished(layout)
        found = list_backups(layout)
        assert left(layout) == pair(*found)
        assert [verify_backup(each) for each in found] == [None] * len(found)
        assert found[-1].counter == 1
        seen.add(len(found))
        if finished:
            break
        shutil.rmtree(layout.backup_dir)
        shutil.copytree(saved, layout.backup_dir)
    assert operation > 10
    assert seen == {1, 2}


def test_a_crash_between_the_two_names_loses_nothing(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database in place whose facts were about to follow is a finished backup."""
    real = files.rename

    def crash(old: Path, new: Path) -> None:
        if new.suffix == ".json":
            raise KeyboardInterrupt
        real(old, new)

    monkeypatch.setattr(pending, "rename", crash)
    monkeypatch.setattr(pending.PendingBackup, "close", lambda self: os.close(self.descriptor))
    with pytest.raises(KeyboardInterrupt):
        back_up(layout)
    assert list_backups(layout) == []
    remove_unfinished(layout)
    (found,) = list_backups(layout)
    assert verify_backup(found) is None


def test_both_names_of_a_half_done_rename_become_one(layout: Layout) -> None:
    """Renaming one name of a file to another of its names does nothing, and is made up for."""
    made = back_up(layout)
    unfinished = partial_path(made.json_path)
    os.link(made.json_path, unfinished)
    remove_unfinished(layout)
    assert left(layout) == pair(made)


def test_a_crash_while_pruning_leaves_no_litter_for_long(layout: Layout, tmp_path: Path) -> None:
    """Whatever point it stops at, cleaning finishes it, and the kept ones are whole."""
    made = several(layout, 4)
    saved = tmp_path / "saved"
    shutil.copytree(layout.backup_dir, saved)
    found: list[Backup] = []
    for operation in range(1, 1000):
        finished = run_until(operation, lambda: prune_backups(layout, 2, (), None, Recorder()))
        remove_unfinished(layout)
        found = list_backups(layout)
        assert left(layout) == pair(*found)
        assert found[:2] == made[:1:-1]
        if finished:
            break
        shutil.rmtree(layout.backup_dir)
        shutil.copytree(saved, layout.backup_dir)
    assert found == made[:1:-1]


def test_a_users_own_copy_is_never_removed(layout: Layout) -> None:
    """A file called like ours without facts, and anything else, stays where it is."""
    made = back_up(layout)
    theirs = layout.backup_dir / "app.db-000009-mine.db"
    shutil.copyfile(made.path, theirs)
    (layout.backup_dir / "notes.txt").touch()
    remove_unfinished(layout)
    prune_backups(layout, 1, (), made.name, Recorder())
    assert left(layout) == pair(made) | {theirs.name, "notes.txt"}
    assert list_backups(layout) == [made]


def test_a_neighbours_backup_under_way_is_no_litter(layout: Layout, tmp_path: Path) -> None:
    """Two databases of one name may share the directory, each with a lock of its own."""
    other = make_database(tmp_path / "other" / "app.db", "CREATE TABLE theirs (x)")
    shared = Layout.of(Settings(other, backup_dir=layout.backup_dir))
    layout.backup_dir.mkdir()
    theirs = pending.PendingBackup.reserve(shared, like_database(shared), ID)
    theirs.partial.touch()
    remove_unfinished(layout)
    assert theirs.partial.exists()
    made = back_up(layout)
    assert made.counter == theirs.counter + 1
    theirs.close()
    assert left(layout) == pair(made)


def test_neighbours_never_take_the_same_name(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes second to a counter takes the next one, finished or not."""
    layout.backup_dir.mkdir()
    own = like_database(layout)
    monkeypatch.setattr(pending, "highest_counter", lambda _: 0)
    monkeypatch.setattr(time, "strftime", lambda *_: "20260131T000000Z")
    (layout.backup_dir / "app.db-000001-20260131T000000Z.db").touch()
    second = pending.PendingBackup.reserve(layout, own, ID)
    third = pending.PendingBackup.reserve(layout, own, ID)
    assert (second.counter, third.counter) == (2, 3)
    second.close()
    third.close()


def test_a_reservation_taken_for_litter_is_given_up(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A neighbour may clean between the creation of a file and its lock."""
    layout.backup_dir.mkdir()
    real = retention.lock_if_free
    calls: list[int] = []

    def cleaned(descriptor: int) -> bool:
        if not calls:
            (layout.backup_dir / next(iter(left(layout)))).unlink()
        calls.append(descriptor)
        return real(descriptor)

    monkeypatch.setattr(pending, "lock_if_free", cleaned)
    reserved = pending.PendingBackup.reserve(layout, like_database(layout), ID)
    assert (reserved.counter, len(calls)) == (2, 2)
    assert reserved.facts.exists()
    reserved.close()


def test_without_locks_litter_is_litter(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without locks a crash loop must not fill the disk."""
    layout.backup_dir.mkdir()
    name = ".app.db-000001-20260131T000000Z.db"
    (layout.backup_dir / f"{name}.partial").touch()
    (layout.backup_dir / f"{name}.json.partial").touch()

    def refuse(*args: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    remove_unfinished(layout)
    assert left(layout) == set()


def test_cleaning_fails_no_run(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a directory, or with one that cannot be read, cleaning does nothing."""
    remove_unfinished(layout)
    assert not layout.backup_dir.exists()
    layout.backup_dir.touch()
    remove_unfinished(layout)


# -- finding --------------------------------------------------------------------------


def test_no_directory_has_no_backups(layout: Layout) -> None:
    """Looking creates nothing."""
    assert list_backups(layout) == []
    assert newest_backup(layout) is None
    assert not layout.backup_dir.exists()


def test_two_databases_may_share_a_directory(layout: Layout, tmp_path: Path) -> None:
    """Each sees its own backups, also where both are called the same."""
    other = make_database(tmp_path / "other" / "app.db", "CREATE TABLE theirs (x)")
    shared = Layout.of(Settings(other, backup_dir=layout.backup_dir))
    ours, theirs = back_up(layout), back_up(shared)
    assert (ours.counter, theirs.counter) == (1, 2)
    assert list_backups(layout) == [ours]
    assert list_backups(shared) == [theirs]
    prune_backups(shared, 0, (), theirs.name, Recorder())
    assert list_backups(layout) == [ours]


def test_a_volume_that_is_mounted_elsewhere_keeps_its_backups(
    layout: Layout, tmp_path: Path
) -> None:
    """The database's place as seen from the backups is enough to know it."""
    back_up(layout)
    moved = tmp_path / "moved"
    layout.database.parent.rename(moved)
    (found,) = list_backups(Layout.of(Settings(moved / "app.db")))
    assert found.path.parent == moved / "backups"


def test_a_backup_is_found_by_name_and_by_path(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name with or without `.db`, an absolute or a relative path."""
    made = back_up(layout)
    monkeypatch.chdir(layout.backup_dir.parent)
    for wanted in (made.name, made.path.stem, str(made.path), f"backups/{made.name}"):
        assert find_backup(layout, wanted) == made


def test_a_backup_that_was_carried_elsewhere_is_found_by_its_path(
    layout: Layout, tmp_path: Path
) -> None:
    """The pair may have been copied off the machine and back."""
    made = back_up(layout)
    for path in (made.path, made.json_path):
        shutil.move(path, tmp_path / path.name)
    found = find_backup(layout, str(tmp_path / made.name))
    assert found.sha256 == made.sha256
    assert verify_backup(found) is None


@pytest.mark.parametrize("wanted", ["nothing", "/nowhere/app.db-000001-x.db", "app.db"])
def test_an_unknown_backup_is_64(
    layout: Layout, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads to no finished backup is refused, the database itself included."""
    made = back_up(layout)
    monkeypatch.chdir(layout.database.parent)
    with pytest.raises(UsageError) as caught:
        find_backup(layout, wanted)
    assert (caught.value.exit_code, caught.value.reason) == (64, "backup.unknown")
    if wanted == "nothing":
        assert made.name in caught.value.hint


@pytest.mark.parametrize(
    "wanted",
    [
        "a\0b",
        "/a\0b.db",
        "x" * 100_000,
        "/" + "x" * 100_000,
        "/" + "x" * 252,
        "~nobody-of-that-name/x",
    ],
)
def test_what_can_be_no_path_is_no_backup(layout: Layout, wanted: str) -> None:
    """A NUL, a name that is too long or an unknown home is 64, in a sentence that can be read."""
    with pytest.raises(UsageError) as caught:
        find_backup(layout, wanted)
    assert "backup.unknown" == caught.value.reason
    assert len(caught.value.message) < 1000


def test_another_databases_backup_is_64(layout: Layout, tmp_path: Path) -> None:
    """A path to a backup of something else is most likely a slip."""
    other = make_database(tmp_path / "shop.db", "CREATE TABLE theirs (x)")
    theirs = back_up(Layout.of(Settings(other)))
    with pytest.raises(UsageError, match="not of"):
        find_backup(layout, str(theirs.path))


def test_the_newest_is_one_that_a_run_made(layout: Layout) -> None:
    """`latest` never leads to what a restore kept of the state that it replaced."""
    made = several(layout, 2)
    change(layout)
    kept = back_up(layout, RESTORE)
    assert newest_backup(layout) == made[1]
    assert newest_backup(layout, ("restore",)) == kept


def test_a_later_versions_backup_is_78_for_readers_and_safe_from_housekeeping(
    layout: Layout,
) -> None:
    """An older program says that it cannot read a backup, and neither counts nor removes it."""
    made = several(layout, 3)
    newer = made[1]
    newer.json_path.write_text(json.dumps(newer.facts() | {"format": 2}))
    for read in (list_backups, newest_backup, lambda at: find_backup(at, newer.name)):
        with pytest.raises(MisfitError, match="later version") as caught:
            read(layout)
        assert caught.value.exit_code == 78
    prune_backups(layout, 1, (), made[2].name, Recorder())
    remove_unfinished(layout)
    assert left(layout) == pair(newer, made[2])


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": "x"}'])
def test_facts_that_cannot_be_understood_are_no_backup(layout: Layout, text: str) -> None:
    """What somebody else has written is passed over and left alone."""
    made = back_up(layout)
    made.json_path.write_text(text)
    remove_unfinished(layout)
    assert list_backups(layout) == []
    assert left(layout) == pair(made)


# -- checking -------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [True, False])
def test_a_damaged_backup_is_listed_and_named(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, threads: bool
) -> None:
    """Bits that flipped, a file cut short or gone: `verify_backup` says which."""
    if not threads:
        monkeypatch.setattr(threading.Thread, "start", no_thread)
    made = back_up(layout)
    good = made.path.read_bytes()
    made.path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert list_backups(layout) == [made]
    assert made.intact
    assert "checksum" in str(verify_backup(made))
    made.path.write_bytes(good[:-4096])
    assert not made.intact
    assert f"instead of {made.bytes}" in str(verify_backup(made))
    made.path.unlink()
    assert "cannot be read" in str(verify_backup(made))
    assert not made.intact


@pytest.mark.parametrize("threads", [True, False])
def test_a_checksum_alone_does_not_make_a_backup_sound(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, threads: bool
) -> None:
    """Damage that was noted with its own checksum is found by SQLite's check."""
    if not threads:
        monkeypatch.setattr(threading.Thread, "start", no_thread)
    made = back_up(layout)
    damage(made.path)
    fake = replace(made, sha256=hashlib.sha256(made.path.read_bytes()).hexdigest())
    assert "is damaged" in str(verify_backup(fake))


def test_checking_a_backup_creates_nothing(layout: Layout) -> None:
    """Not even beside one that somebody has put into WAL mode."""
    made = back_up(layout)
    verify_backup(made)
    assert left(layout) == pair(made)


# -- the same state -------------------------------------------------------------------


def test_a_crash_loop_adds_no_second_backup_of_a_state(layout: Layout) -> None:
    """The backup of this very state is found, and taken in place of a new one."""
    made = back_up(layout)
    emit = Recorder()
    with LiveFile.open(layout.database) as live:
        found = same_state(layout, live, UP)
        assert found == made
        assert reuse(layout, made, UP, emit) == made
    assert emit.names == ["backup.reused"]
    assert left(layout) == pair(made)
    change(layout)
    with LiveFile.open(layout.database) as live:
        assert same_state(layout, live, UP) is None


def test_a_damaged_backup_of_the_same_state_is_not_reused(layout: Layout) -> None:
    """Bytes that a comparison leaves out are still under the checksum."""
    made = back_up(layout)
    with made.path.open("r+b") as file:
        file.seek(95)
        file.write(b"\xee")
    with LiveFile.open(layout.database) as live:
        assert live.same_as(made.path)
        assert same_state(layout, live, UP) is None


def test_without_access_to_the_file_the_copy_is_compared(layout: Layout) -> None:
    """The Python API never opens the database past SQLite, and adds no second backup either."""
    made = back_up(layout, dedupe=True)
    emit = Recorder()
    assert back_up(layout, emit=emit, dedupe=True) == made
    assert emit.names == ["backup.reused"]
    assert left(layout) == pair(made)
    change(layout)
    emit = Recorder()
    other = back_up(layout, emit=emit, dedupe=True)
    assert emit.names == ["backup.started", "backup.finished"]
    assert left(layout) == pair(made, other)


def test_latest_leads_to_the_state_before_the_last_run_also_when_its_backup_is_old(
    layout: Layout,
) -> None:
    """A backup that a run reuses takes the place in the order that a new one would have had."""
    before = layout.database.read_bytes()
    first = back_up(layout)
    change(layout)
    second = back_up(layout)
    layout.database.write_bytes(before)
    again = back_up(layout, dedupe=True)
    assert again.name == first.name
    assert again.counter > second.counter
    assert newest_backup(layout) == again
    assert left(layout) == pair(first, second)
    change(layout)
    assert back_up(layout).counter == again.counter + 1


def test_repeating_a_restore_changes_no_order(layout: Layout) -> None:
    """What a restore reuses for the state that it replaces stays where it is."""
    before = layout.database.read_bytes()
    first = back_up(layout)
    change(layout)
    second = back_up(layout)
    layout.database.write_bytes(before)
    assert back_up(layout, RESTORE, dedupe=True) == first
    assert newest_backup(layout) == second


def test_what_a_restore_kept_becomes_a_runs_backup_when_a_run_reuses_it(layout: Layout) -> None:
    """Else `latest` would lead past the state before that run."""
    several(layout, 1)
    change(layout)
    kept = back_up(layout, RESTORE)
    again = back_up(layout, UP, dedupe=True)
    assert (again.name, again.reason) == (kept.name, "up")
    assert newest_backup(layout) == again


# -- pruning --------------------------------------------------------------------------


def test_the_newest_are_kept(layout: Layout) -> None:
    """As many as asked for, by the counter; each that goes is said."""
    made = several(layout, 5)
    emit = Recorder()
    prune_backups(layout, 2, (), made[-1].name, emit)
    assert left(layout) == pair(*made[-2:])
    assert [event["path"] for event in emit.named("backup.pruned")] == [
        str(each.path) for each in made[:3]
    ]
    assert {event["reason"] for event in emit.events} == {"keep"}


def test_what_an_unfinished_run_needs_is_kept(layout: Layout) -> None:
    """A protected backup goes neither for the count nor for space."""
    made = several(layout, 4)
    prune_backups(layout, 1, {made[0].name}, made[-1].name, Recorder())
    assert left(layout) == pair(made[0], made[-1])
    prune_backups(layout, 0, {made[-1].name}, made[-1].name, Recorder())
    assert made[-1].name in left(layout)


def test_damaged_ones_do_not_count_and_the_last_good_one_stays(layout: Layout) -> None:
    """Newer backups that are damaged are no reason to remove the last good one."""
    made = several(layout, 4)
    os.truncate(made[3].path, 10)
    good = made[2].path.read_bytes()
    made[2].path.write_bytes(bytes(len(good)))
    prune_backups(layout, 1, (), None, Recorder())
    assert made[1].name in left(layout)
    assert made[0].name not in left(layout)


def test_pruning_after_a_restore_keeps_what_latest_leads_to(layout: Layout) -> None:
    """However few are to be kept, the same `restore latest` can be given again."""
    made = several(layout, 2)
    change(layout)
    kept = back_up(layout, RESTORE)
    prune_backups(layout, 1, (), kept.name, Recorder())
    assert left(layout) == pair(made[1], kept)
    assert newest_backup(layout) == made[1]


def test_keeping_none_removes_the_runs_own(layout: Layout) -> None:
    """With 0 the run's own backup goes, and of older ones all but the newest."""
    made = several(layout, 3)
    prune_backups(layout, 0, (), made[-1].name, Recorder())
    assert left(layout) == pair(made[1])
    own = several(layout, 1)[0]
    prune_backups(layout, 0, (), own.name, Recorder())
    assert left(layout) == pair(made[1])


def test_the_only_one_goes_when_none_is_to_be_kept(layout: Layout) -> None:
    """The new state is verified; nothing else is left to protect."""
    own = back_up(layout)
    prune_backups(layout, 0, (), own.name, Recorder())
    assert left(layout) == set()


def test_what_cannot_be_removed_fails_no_run(layout: Layout, tmp_path: Path, as_root: None) -> None:
    """On a backup directory that has become read-only, pruning gives up quietly."""
    several(layout, 2)
    with read_only(layout.database.parent, tmp_path / "ro") as shown:
        emit = Recorder()
        prune_backups(Layout.of(Settings(shown / "app.db")), 1, (), None, emit)
        assert emit.events == []
    assert len(list_backups(layout)) == 2


# -- space ----------------------------------------------------------------------------


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Return a disk of 100 MiB whose free bytes a test can set; what is removed becomes free."""
    facts = {"free": 50 << 20}

    class Found:
        f_frsize = 1
        f_blocks = 100 << 20
        f_fsid = 0

        @property
        def f_bavail(self) -> int:
            return facts["free"]

    real = retention.remove_backup

    def remove(layout: Layout, backup: Backup) -> bool:
        facts["free"] += backup.bytes
        return real(layout, backup)

    monkeypatch.setattr(retention, "remove_backup", remove)
    monkeypatch.setattr(os, "statvfs", lambda _: Found())
    return facts


SLACK = (100 << 20) // 16


def test_each_way_needs_its_own_room(layout: Layout, disk: dict[str, int]) -> None:
    """Way A a backup, way B a backup, a copy and a journal; and some slack for both."""
    assert space_needed(layout, 1000, "in-place") == 1000 + SLACK
    assert space_needed(layout, 1000, "copy") == 3000 + SLACK


def test_a_first_install_needs_no_room_for_a_backup(volume: Path, disk: dict[str, int]) -> None:
    """There is nothing to back up."""
    assert space_needed(Layout.of(Settings(volume / "app.db")), 0, "in-place") == SLACK


def test_too_little_room_is_73_with_the_numbers(layout: Layout, disk: dict[str, int]) -> None:
    """What is needed, what is there, and where, is known before the first byte is written."""
    disk["free"] = SLACK
    with pytest.raises(BackupError, match=str(SLACK + 5000)) as caught:
        check_space(layout, 5000, "in-place", Recorder())
    assert (caught.value.reason, caught.value.retryable) == ("backup.no_space", False)
    assert caught.value.data == {"needed_bytes": SLACK + 5000, "free_bytes": SLACK}
    assert not layout.backup_dir.exists()
    check_space(layout, 5000, "in-place", Recorder(), backed_up=True)


def test_the_oldest_backups_make_room(layout: Layout, disk: dict[str, int]) -> None:
    """Only as many go as are needed, oldest first."""
    made = several(layout, 4)
    size = made[0].bytes
    disk["free"] = SLACK - size
    emit = Recorder()
    check_space(layout, size, "in-place", emit)
    assert left(layout) == pair(*made[2:])
    assert {event["reason"] for event in emit.named("backup.pruned")} == {"space"}


def test_nothing_goes_in_vain(layout: Layout, disk: dict[str, int]) -> None:
    """Where all that may go would not be enough, nothing goes; the last good one never does."""
    made = several(layout, 3)
    size = made[0].bytes
    disk["free"] = 0
    assert make_space(layout, size * 2 + 1, (), Recorder()) is False
    assert left(layout) == pair(*made)
    assert make_space(layout, size * 2, {made[0].name}, Recorder()) is False
    assert make_space(layout, size * 2, (), Recorder()) is True
    assert left(layout) == pair(made[2])


def test_the_last_good_one_is_known_by_its_checksum(layout: Layout, disk: dict[str, int]) -> None:
    """A newer backup that is damaged does not take a good one's place."""
    made = several(layout, 2)
    made[1].path.write_bytes(bytes(made[1].bytes))
    disk["free"] = 0
    make_space(layout, made[0].bytes, (), Recorder())
    assert left(layout) == pair(made[0])


def test_backups_on_another_disk_need_their_room_there(
    layout: Layout, tmp_path: Path, as_root: None
) -> None:
    """Each file system is asked for its own share."""
    with small_disk(tmp_path / "disk", "1m") as disk:
        there = Layout.of(Settings(layout.database, backup_dir=disk / "b"))
        check_space(there, 1 << 19, "in-place", Recorder())
        with pytest.raises(BackupError, match=str(disk)):
            check_space(there, 1 << 21, "in-place", Recorder())
    with small_disk(tmp_path / "disk", "1m") as disk:
        shutil.copyfile(layout.database, disk / "app.db")
        here = Layout.of(Settings(disk / "app.db", backup_dir=tmp_path / "b"))
        check_space(here, 1 << 21, "in-place", Recorder())
        with pytest.raises(BackupError, match=str(disk)):
            check_space(here, 1 << 21, "copy", Recorder())


def test_room_is_asked_for_where_a_directory_will_be(tmp_path: Path) -> None:
    """A backup directory that does not exist yet lies on its parent's file system."""
    assert space.existing(tmp_path / "a" / "b") == tmp_path
    assert space.free(tmp_path / "a" / "b") > 0


def test_a_reservation_is_as_private_as_the_database(layout: Layout) -> None:
    """Also what is unfinished gives nobody more than the database does."""
    layout.backup_dir.mkdir()
    reserved = pending.PendingBackup.reserve(
        layout, Ownership(os.getuid(), os.getgid(), 0o640, 0o750), ID
    )
    assert reserved.facts.stat().st_mode & 0o777 == 0o640
    assert names(layout) == [reserved.facts.name]
    reserved.close()
