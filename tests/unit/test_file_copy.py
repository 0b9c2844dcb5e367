"""The copy of the database's file: it is the database, it costs SQLite no lock, and it fails whole."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from migrator.backups.backup import Facts
from migrator.backups.create import make
from migrator.database import file_copy
from migrator.database.file_copy import CopiedFile, UnequalError, UnreadableError, copied_file
from migrator.database.pages import check_structure
from migrator.database.raw_file import LiveFile
from migrator.database.workspace import Layout, like_database
from migrator.database.writeback import Writeback
from migrator.errors import BackupError, DiskError, RestoreError
from migrator.exclusive import ExclusiveDatabase
from migrator.files import make_directory
from migrator.model import Settings
from migrator.recovery.copy_back import prepare_file
from migrator.session.guard import open_guard
from tests.support.files import make_database, opened, rows
from tests.support.recorder import Recorder, small_disk
from tests.unit.test_copying import FILLED, OURS, names, same

UP = Facts(reason="up", run_id="01J", journal_mode="wal")


def copy(source: Path, target: Path, *more: Any) -> CopiedFile:
    """Copy one database's file."""
    with LiveFile.open(source) as live, copied_file(live.descriptor, target, OURS, *more) as done:
        assert check_structure(target) == []
    return done


@contextmanager
def alone(path: Path) -> Iterator[ExclusiveDatabase]:
    """Hold a database as a run does."""
    raw = LiveFile.open(path)
    with closing(ExclusiveDatabase(path, open_guard(path), raw, alone=True)) as live:
        yield live


def no_thread(_: threading.Thread) -> None:
    """Stand in for the start of a thread where no more processes are allowed."""
    message = "can't start new thread"
    raise RuntimeError(message)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a small database copied and compared in many steps."""
    monkeypatch.setattr(file_copy, "_STEP", 65536)
    monkeypatch.setattr(file_copy, "_PIECE", 8192)


@pytest.fixture(params=["by the kernel", "by hand", "bit by bit", "without threads"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy in each way: where the kernel can, where it cannot, and where a call does a part."""
    real = os.copy_file_range

    def refuse(*_: int) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    def some(source: int, target: int, length: int, *offsets: int) -> int:
        return real(source, target, min(length, 10_000), *offsets)

    if request.param == "without threads":
        monkeypatch.setattr(threading.Thread, "start", no_thread)
    elif request.param != "by the kernel":
        found = refuse if request.param == "by hand" else some
        monkeypatch.setattr(os, "copy_file_range", found)


@pytest.mark.usefixtures("steps", "way")
@pytest.mark.parametrize("wal", [False, True])
@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_a_copy_equals_its_original(tmp_path: Path, page_size: int, wal: bool) -> None:
    """Whatever page size and journal mode: the same pages, in journal mode DELETE, alone."""
    source = make_database(tmp_path / "s" / "app.db", FILLED, wal=wal, page_size=page_size)
    target = tmp_path / "t" / "copy.db"
    target.parent.mkdir()
    done = copy(source, target)
    assert names(target.parent) == ["copy.db"]
    assert done.size == target.stat().st_size == source.stat().st_size
    assert done.sha256 == hashlib.sha256(target.read_bytes()).hexdigest()
    assert target.stat().st_mode & 0o777 == 0o640
    assert same(source, target)
    assert rows(target, "PRAGMA journal_mode") == [("delete",)]
    assert rows(target, "SELECT * FROM t") == rows(source, "SELECT * FROM t")
    assert names(target.parent) == ["copy.db"]


def test_a_database_of_zero_bytes_is_copied_as_such(tmp_path: Path) -> None:
    """Nothing is made of nothing."""
    (tmp_path / "app.db").touch()
    assert copy(tmp_path / "app.db", tmp_path / "copy.db").size == 0
    assert (tmp_path / "copy.db").read_bytes() == b""


def test_what_lies_behind_the_database_is_not_copied(tmp_path: Path) -> None:
    """SQLite reads as far as the header says, and so does a copy through SQLite."""
    source = make_database(tmp_path / "app.db", FILLED, wal=False)
    size = source.stat().st_size
    with source.open("ab") as file:
        file.write(os.urandom(4096))
    assert copy(source, tmp_path / "copy.db").size == size
    assert same(source, tmp_path / "copy.db")


def test_rows_that_are_only_in_the_wal_are_copied(tmp_path: Path) -> None:
    """The file is the database only after a checkpoint, whoever has written since the last one."""
    source = make_database(tmp_path / "app.db", FILLED, wal=True)
    with alone(source) as live, live.guard.engine():
        live.conn.execute("INSERT INTO t VALUES (1000, 'in the wal')")
        assert (tmp_path / "app.db-wal").stat().st_size
        layout = Layout.of(Settings(source))
        made = make(live.conn, layout, UP, Recorder(), live=live.whole_file())
    assert rows(made.path, "SELECT filler FROM t WHERE id = 1000") == [("in the wal",)]


def test_another_file_than_sqlites_is_not_copied(tmp_path: Path) -> None:
    """Where the database was replaced between the two openings, SQLite copies what it has open."""
    source = make_database(tmp_path / "app.db", FILLED)
    other = make_database(tmp_path / "other.db", "CREATE TABLE other (x)")
    raw = LiveFile.open(source)
    other.rename(source)
    with closing(ExclusiveDatabase(source, open_guard(source), raw, alone=True)) as live:
        assert live.whole_file() is None
        with live.guard.engine():
            made = make(live.conn, Layout.of(Settings(source)), UP, Recorder())
    assert rows(made.path, "SELECT name FROM sqlite_schema") == [("other",)]


@pytest.mark.parametrize("wal", [False, True])
def test_a_copy_costs_no_lock(tmp_path: Path, wal: bool) -> None:
    """During a backup and after it, nobody else can write to the database."""
    source = make_database(tmp_path / "app.db", FILLED, wal=wal)
    refused = []

    def emit(event: str, message: str, *, level: str = "info", **fields: Any) -> None:
        refused.append(_is_refused(source))

    with alone(source) as live, live.guard.engine():
        make(live.conn, Layout.of(Settings(source)), UP, emit, live=live.whole_file())
        refused.append(_is_refused(source))
    assert refused == [True, True, True]


def _is_refused(path: Path) -> bool:
    """Tell whether another process is kept from writing."""
    words = "import sqlite3, sys; sqlite3.connect(sys.argv[1], 0).execute('BEGIN IMMEDIATE')"
    done = subprocess.run(
        [sys.executable, "-c", words, str(path)], capture_output=True, text=True, check=False
    )
    return done.returncode == 1 and "database is locked" in done.stderr


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize("threads", [True, False])
def test_a_copy_that_is_not_the_database_is_no_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: bool
) -> None:
    """One byte that no check of SQLite's finds, wherever it is, and whoever may compare it."""
    if not threads:
        monkeypatch.setattr(threading.Thread, "start", no_thread)
    source = make_database(tmp_path / "app.db", FILLED)
    size = source.stat().st_size
    real = os.copy_file_range
    for at in (700, size // 2, size - 1):

        def spoil(one: int, other: int, length: int, *offsets: int, at: int = at) -> int:
            done = real(one, other, length, *offsets)
            if offsets[0] <= at < offsets[0] + done:
                os.pwrite(other, bytes([os.pread(other, 1, at)[0] ^ 1]), at)
            return done

        monkeypatch.setattr(os, "copy_file_range", spoil)
        with LiveFile.open(source) as live, pytest.raises(UnequalError):  # noqa: SIM117
            with copied_file(live.descriptor, tmp_path / "copy.db", OURS):
                pass
        assert names(tmp_path) == ["app.db"]


def test_progress_is_told_in_bytes(tmp_path: Path, steps: None) -> None:
    """Each step says how far it has come, up to the whole."""
    source = make_database(tmp_path / "app.db", FILLED)
    told: list[tuple[int, int]] = []
    copy(source, tmp_path / "copy.db", lambda done, total: told.append((done, total)))
    size = source.stat().st_size
    assert len(told) > 3
    assert told == sorted(told)
    assert told[-1] == (size, size)


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize("where", ["copying", "checking"])
def test_what_is_raised_ends_the_copy(tmp_path: Path, where: str) -> None:
    """Nothing unfinished stays, no thread either."""
    source = make_database(tmp_path / "app.db", FILLED)

    def stop(*_: int) -> None:
        if where == "copying":
            raise KeyboardInterrupt

    with LiveFile.open(source) as live, pytest.raises(KeyboardInterrupt):  # noqa: SIM117
        with copied_file(live.descriptor, tmp_path / "copy.db", OURS, stop):
            raise KeyboardInterrupt
    assert names(tmp_path) == ["app.db"]
    assert threading.active_count() == 1


def test_a_target_that_exists_is_not_touched(tmp_path: Path) -> None:
    """A copy never replaces anything, nor removes what it did not make."""
    source = make_database(tmp_path / "app.db", FILLED)
    (tmp_path / "copy.db").write_text("theirs")
    with pytest.raises(FileExistsError):
        copy(source, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "theirs"


def test_a_full_disk_leaves_nothing_unfinished(tmp_path: Path, as_root: None) -> None:
    """The space of a copy that failed is free again at once."""
    source = make_database(tmp_path / "app.db", FILLED)
    with small_disk(tmp_path / "disk", "128k") as disk:
        with pytest.raises(OSError, match="No space left"):
            copy(source, disk / "copy.db")
        assert names(disk) == []


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize("call", ["pread", "preadv"])
def test_a_database_that_cannot_be_read_is_not_the_backups_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Whoever finds it, the copying or the comparing: the disk of the database has failed."""
    source = make_database(tmp_path / "app.db", FILLED)

    def refuse(*_: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with opened(source) as conn, LiveFile.open(source) as live:
        real = getattr(os, call)

        def fail(number: int, *more: Any) -> Any:
            # The header can still be read.
            is_it = number == live.descriptor and more[0] != 100
            return refuse() if is_it else real(number, *more)

        monkeypatch.setattr(os, "copy_file_range", refuse)
        monkeypatch.setattr(os, call, fail)
        with pytest.raises(UnreadableError):  # noqa: SIM117
            with copied_file(live.descriptor, tmp_path / "copy.db", OURS):
                pass
        with pytest.raises(DiskError, match="while it was backed up") as caught:
            make(conn, Layout.of(Settings(source)), UP, Recorder(), live=live)
    assert repr(str(source)) in caught.value.message
    assert names(tmp_path / "backups") == [".gitignore"]


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize("call", ["pwrite", "fsync", "fdatasync"])
def test_a_backup_that_cannot_be_written_is_its_own_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """An error of the thread that syncs ends the backup as one of the copying does."""
    source = make_database(tmp_path / "app.db", FILLED)

    def refuse(*_: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with opened(source) as conn, LiveFile.open(source) as live:
        monkeypatch.setattr(file_copy, "Writeback", lambda number: Writeback(number, 65536))
        monkeypatch.setattr(os, "copy_file_range", refuse)
        real = getattr(os, call)

        def fail(number: int, *more: Any) -> Any:
            name = os.readlink(f"/proc/self/fd/{number}")
            return refuse() if name.endswith(".db.partial") else real(number, *more)

        monkeypatch.setattr(os, call, fail)
        with pytest.raises(BackupError, match="Input/output error"):
            make(conn, Layout.of(Settings(source)), UP, Recorder(), live=live)
    assert names(tmp_path / "backups") == [".gitignore"]


@pytest.mark.parametrize("spoiled", ["the copy", "the backup"])
def test_what_is_put_in_place_is_the_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoiled: str
) -> None:
    """A restore takes neither a copy that differs from the backup, nor a backup that has changed."""
    layout = Layout.of(Settings(make_database(tmp_path / "app.db", FILLED)))
    with opened(layout.database) as conn:
        made = make(conn, layout, UP, Recorder())
    make_directory(layout.home, like_database(layout))
    ctx: Any = SimpleNamespace(layout=layout)
    prepare_file(ctx, made)
    assert layout.new.read_bytes() == made.path.read_bytes()
    real = os.copy_file_range

    def spoil(one: int, other: int, *more: int) -> int:
        done = real(one, other, *more)
        os.pwrite(other, b"\xaa", 700)
        return done

    if spoiled == "the copy":
        monkeypatch.setattr(os, "copy_file_range", spoil)
    else:
        with made.path.open("r+b") as file:
            file.seek(700)
            file.write(b"\xaa")
    with pytest.raises(RestoreError, match="does not have the backup's checksum"):
        prepare_file(ctx, made)
