"""Copies that equal their originals, and comparisons that know what may differ."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from migrator.database import pages
from migrator.database.freelist import free_leaves
from migrator.database.pages import (
    UncheckableError,
    check_structure,
    content_size,
    copy_pages,
    digest_file,
    read_header,
    same_pages,
    write_pages,
)
from migrator.database.raw_file import LiveFile, who_has_open
from migrator.database.writeback import Writeback
from migrator.errors import NotReadyError
from migrator.files import Ownership
from tests.support.files import make_database, opened, rows
from tests.support.others import idle_connection, leave_wal, read_transaction, write_lock
from tests.support.recorder import in_child, small_disk

OURS = Ownership(os.getuid(), os.getgid(), 0o640, 0o750)
FILLED = """
CREATE TABLE t (id INTEGER PRIMARY KEY, filler BLOB);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
INSERT INTO t SELECT i, randomblob(700) FROM n;
CREATE INDEX by_filler ON t (filler);
DELETE FROM t WHERE id % 3 = 0;
"""


def copy(source: Path, target: Path) -> int:
    """Copy one database through a plain connection."""
    with opened(source) as conn:
        return copy_pages(conn, target, OURS)


def same(one: Path, other: Path) -> bool:
    """Compare two files."""
    with LiveFile.open(one) as live:
        return live.same_as(other)


def names(directory: Path) -> list[str]:
    """List a directory."""
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("wal", [False, True])
@pytest.mark.parametrize("page_size", [512, 1024, 4096, 32768, 65536])
def test_a_copy_equals_its_original(tmp_path: Path, page_size: int, wal: bool) -> None:
    """Whatever page size and journal mode: the same pages, in journal mode DELETE, alone."""
    source = make_database(tmp_path / "s" / "app.db", FILLED, wal=wal, page_size=page_size)
    target = tmp_path / "t" / "copy.db"
    target.parent.mkdir()
    size = copy(source, target)
    assert names(target.parent) == ["copy.db"]
    assert size == target.stat().st_size == source.stat().st_size
    assert target.stat().st_mode & 0o777 == 0o640
    assert same(source, target)
    assert rows(target, "PRAGMA journal_mode") == [("delete",)]
    assert rows(target, "PRAGMA integrity_check") == [("ok",)]
    assert rows(target, "PRAGMA page_size") == [(page_size,)]
    assert rows(target, "SELECT * FROM t") == rows(source, "SELECT * FROM t")
    assert names(target.parent) == ["copy.db"]


@pytest.mark.parametrize(
    ("pragma", "value", "shown"),
    [
        ("auto_vacuum", "FULL", 1),
        ("auto_vacuum", "INCREMENTAL", 2),
        ("encoding", "'UTF-16le'", "UTF-16le"),
        ("encoding", "'UTF-16be'", "UTF-16be"),
        ("user_version", 77, 77),
        ("application_id", 99, 99),
    ],
)
def test_what_the_header_says_is_kept(
    tmp_path: Path, pragma: str, value: object, shown: object
) -> None:
    """A restored database is set up as the old one was."""
    source = make_database(tmp_path / "app.db", FILLED, wal=False, **{pragma: value})
    copy(source, tmp_path / "copy.db")
    assert rows(tmp_path / "copy.db", f"PRAGMA {pragma}") == [(shown,)]
    assert same(source, tmp_path / "copy.db")


def test_rows_that_are_only_in_the_wal_are_copied(tmp_path: Path) -> None:
    """A plain copy of the file would miss what a killed process had committed."""
    source = make_database(tmp_path / "app.db", FILLED)
    leave_wal(source)
    copy(source, tmp_path / "copy.db")
    assert rows(tmp_path / "copy.db", "SELECT count(*) FROM in_wal") == [(10,)]


def test_a_database_of_zero_bytes_is_copied_as_such(tmp_path: Path) -> None:
    """The backup API alone would make a page of it, and the copy would not equal its original."""
    (tmp_path / "app.db").touch()
    assert copy(tmp_path / "app.db", tmp_path / "copy.db") == 0
    assert (tmp_path / "copy.db").stat().st_size == 0
    assert same(tmp_path / "app.db", tmp_path / "copy.db")


@pytest.mark.parametrize("name", [b"a b.db", b"100%.db", b"a?b#c.db", b"\xff\xfe.db", b"'\".db"])
def test_any_name_will_do(tmp_path: Path, name: bytes) -> None:
    """A path is a path, whatever a URI would make of its characters."""
    source = make_database(tmp_path / os.fsdecode(name), FILLED)
    target = tmp_path / (os.fsdecode(name) + ".copy")
    copy(source, target)
    assert check_structure(target) == []
    assert same(source, target)


def test_the_connection_that_has_it_alone_can_be_the_source(tmp_path: Path) -> None:
    """A backup is made under the run's own exclusive lock, in either journal mode."""
    for wal in (False, True):
        source = make_database(tmp_path / f"{wal}.db", FILLED, wal=wal)
        with opened(source) as guard:
            guard.execute("PRAGMA locking_mode = EXCLUSIVE")
            guard.execute("BEGIN EXCLUSIVE")
            guard.execute("ROLLBACK")
            copy_pages(guard, tmp_path / f"{wal}.copy", OURS)
        assert same(source, tmp_path / f"{wal}.copy")


def test_a_second_connection_copies_beside_an_open_write_transaction(tmp_path: Path) -> None:
    """With `--in-use allow` the guard holds the write lock, and another one is the source."""
    for wal in (False, True):
        source = make_database(tmp_path / f"{wal}.db", FILLED, wal=wal)
        with opened(source) as guard:
            guard.execute("BEGIN IMMEDIATE")
            copy(source, tmp_path / f"{wal}.copy")
        assert same(source, tmp_path / f"{wal}.copy")


def test_a_target_that_exists_is_not_touched(tmp_path: Path) -> None:
    """A copy never replaces anything, nor removes what it did not make."""
    source = make_database(tmp_path / "app.db", FILLED)
    (tmp_path / "copy.db").write_text("theirs")
    with pytest.raises(FileExistsError):
        copy(source, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "theirs"


def test_progress_is_told_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step says how far it has come, up to the whole."""
    monkeypatch.setattr(pages, "_CHUNK", 65536)
    source = make_database(tmp_path / "app.db", FILLED)
    told: list[tuple[int, int]] = []
    with opened(source) as conn:
        copy_pages(conn, tmp_path / "c", OURS, lambda done, total: told.append((done, total)))
    size = source.stat().st_size
    assert len(told) > 3
    assert told == sorted(told)
    assert told[-1] == (size, size)


def test_what_progress_raises_ends_the_copy(tmp_path: Path) -> None:
    """A signal's exception gets its turn between two steps, and nothing unfinished stays."""
    source = make_database(tmp_path / "app.db", FILLED)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with opened(source) as conn, pytest.raises(KeyboardInterrupt):
        copy_pages(conn, tmp_path / "copy.db", OURS, stop)
    assert names(tmp_path) == ["app.db"]


def test_a_source_that_stays_locked_ends_the_copy(tmp_path: Path) -> None:
    """SQLite's own function would wait for ever."""
    source = make_database(tmp_path / "app.db", FILLED)
    with opened(source) as writer, opened(source, timeout=0) as conn:
        conn.execute("SELECT count(*) FROM t").fetchone()
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises((NotReadyError, sqlite3.OperationalError), match="locked"):
            copy_pages(conn, tmp_path / "copy.db", OURS, stall=0.3)
    assert names(tmp_path) == ["app.db"]


def test_a_target_that_stays_locked_ends_the_pumping(tmp_path: Path) -> None:
    """What publishes or restores waits for a locked database within bounds."""
    source = make_database(tmp_path / "new.db", FILLED)
    target = make_database(tmp_path / "app.db", "CREATE TABLE old (x)")
    before = target.read_bytes()
    with write_lock(target), opened(source) as work, opened(target, timeout=0) as live:
        with pytest.raises(NotReadyError, match="locked") as caught:
            write_pages(work, live, stall=0.3)
        assert caught.value.reason == "database.in_use"
    assert target.read_bytes() == before


def test_pumping_replaces_a_database_in_one_transaction(tmp_path: Path) -> None:
    """Publishing and restoring keep the inode, and a reader sees the old or the new state."""
    source = make_database(tmp_path / "new.db", FILLED)
    target = make_database(tmp_path / "app.db", "CREATE TABLE old (x)")
    inode = target.stat().st_ino
    with opened(source) as work, opened(target) as live:
        write_pages(work, live)
    assert target.stat().st_ino == inode
    assert same(source, target)


def test_a_full_disk_leaves_nothing_unfinished(tmp_path: Path, as_root: None) -> None:
    """The space of a copy that failed is free again at once."""
    source = make_database(tmp_path / "app.db", FILLED)
    with small_disk(tmp_path / "disk", "128k") as disk:
        with pytest.raises((sqlite3.OperationalError, OSError)):
            copy(source, disk / "copy.db")
        assert names(disk) == []


def test_damage_is_copied_without_a_word(tmp_path: Path) -> None:
    """Hence every copy is checked."""
    source = make_database(tmp_path / "app.db", FILLED)
    with source.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(os.urandom(4096))
    copy(source, tmp_path / "copy.db")
    assert check_structure(tmp_path / "copy.db") != []


def test_writing_back_keeps_pace_with_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow disk it is asked to write often, on a fast one seldom."""
    clock = [0.0]
    seconds = [1.0]

    def sync(descriptor: int) -> None:
        clock[0] += seconds[0]

    monkeypatch.setattr(os, "fdatasync", sync)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    writeback = Writeback(0)
    writeback.reach(7 << 20)
    assert writeback.reached == 0
    for _ in range(10):
        writeback.reach(writeback.reached + writeback.interval)
    assert writeback.interval == 1 << 20
    seconds[0] = 0.01
    for _ in range(10):
        writeback.reach(writeback.reached + writeback.interval)
    assert writeback.interval == 256 << 20


# -- comparing ------------------------------------------------------------------------


def _free_bytes(database: Path) -> set[int]:
    """Return the offsets on free pages, whose content means nothing."""
    descriptor = os.open(database, os.O_RDONLY)
    try:
        header = read_header(descriptor)
        assert header is not None
        size = header.page_size
        free = free_leaves(descriptor, size, header.page_count)
    finally:
        os.close(descriptor)
    return {offset for page in free for offset in range((page - 1) * size, page * size)}


def test_only_what_a_copy_changes_may_differ(tmp_path: Path) -> None:
    """Every other byte of the first page counts, and every byte of the others."""
    source = make_database(tmp_path / "app.db", FILLED)
    copy(source, tmp_path / "copy.db")
    good = (tmp_path / "copy.db").read_bytes()
    allowed = {18, 19, *range(24, 28), *range(40, 44), *range(92, 100)}
    allowed |= _free_bytes(source)
    for offset in (*range(120), 4095, 4096, len(good) // 2, len(good) - 1):
        changed = bytearray(good)
        changed[offset] ^= 0xFF
        (tmp_path / "copy.db").write_bytes(changed)
        # Without a valid count the length of the file decides, which is the same here.
        assert same(source, tmp_path / "copy.db") is (offset in allowed), offset


def test_what_lies_behind_the_last_page_does_not_count(tmp_path: Path) -> None:
    """A file may be longer than its header says; SQLite neither reads nor copies the rest."""
    source = make_database(tmp_path / "app.db", FILLED)
    copy(source, tmp_path / "copy.db")
    with source.open("ab") as file:
        file.write(bytes(8192))
    assert same(source, tmp_path / "copy.db")
    assert rows(source, "PRAGMA quick_check") == [("ok",)]


def test_a_file_cut_short_is_not_the_same(tmp_path: Path) -> None:
    """A truncated file differs from a whole one."""
    source = make_database(tmp_path / "app.db", FILLED)
    copy(source, tmp_path / "copy.db")
    os.truncate(tmp_path / "copy.db", source.stat().st_size - 4096)
    assert not same(source, tmp_path / "copy.db")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("VACUUM", True),
        ("PRAGMA user_version = 1", False),
        ("PRAGMA application_id = 1", False),
        ("CREATE TABLE t (x)", False),
    ],
)
def test_zero_bytes_equal_an_empty_schema(tmp_path: Path, script: str, expected: bool) -> None:
    """SQLite makes one page of nothing as soon as it writes; nothing else is equal to nothing."""
    (tmp_path / "app.db").touch()
    with opened(tmp_path / "other.db") as conn:
        conn.execute("CREATE TABLE x (x)")
        conn.execute("DROP TABLE x")
        conn.execute("VACUUM")
        conn.execute(script)
    assert same(tmp_path / "app.db", tmp_path / "other.db") is expected
    assert same(tmp_path / "other.db", tmp_path / "app.db") is expected


def test_the_page_at_the_lock_byte_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At one gigabyte lies a page that SQLite never uses and never copies."""
    monkeypatch.setattr(pages, "_PIECE", 8192)
    monkeypatch.setattr(pages, "_LOCK_PAGE", 16384)
    source = make_database(tmp_path / "app.db", FILLED)
    changed = bytearray(source.read_bytes())
    changed[16384:20480] = os.urandom(4096)
    (tmp_path / "copy.db").write_bytes(changed)
    assert same(source, tmp_path / "copy.db")
    changed[20480] ^= 0xFF
    (tmp_path / "copy.db").write_bytes(changed)
    assert not same(source, tmp_path / "copy.db")


def test_the_header_is_read_as_sqlite_writes_it(tmp_path: Path) -> None:
    """Page size, page count and journal mode are SQLite's own."""
    for size in (512, 65536):
        path = make_database(tmp_path / f"{size}.db", FILLED, wal=size == 512, page_size=size)
        with LiveFile.open(path) as live:
            header = pages.read_header(live.descriptor)
            assert live.size == path.stat().st_size
        assert header is not None
        assert (header.page_size, header.wal) == (size, size == 512)
        assert [(header.page_count,)] == rows(path, "PRAGMA page_count")


@pytest.mark.parametrize("data", [b"", b"SQLite format 3\0", b"x" * 4096])
def test_what_has_no_header_has_none(tmp_path: Path, data: bytes) -> None:
    """An empty, a cut or a foreign file is not taken for a database."""
    path = tmp_path / "app.db"
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    assert read_header(descriptor) is None
    assert content_size(descriptor) == len(data)
    assert same_pages(descriptor, descriptor)
    os.close(descriptor)


def test_a_digest_is_sha256_and_moves_nothing(tmp_path: Path) -> None:
    """By path or by descriptor, whose offset stays where it is."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3 << 20))
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    descriptor = os.open(path, os.O_RDONLY)
    os.lseek(descriptor, 17, os.SEEK_SET)
    assert digest_file(path) == digest_file(descriptor) == expected
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 17
    os.close(descriptor)


# -- the structure --------------------------------------------------------------------


def test_a_sound_file_has_no_problems_and_no_company(tmp_path: Path) -> None:
    """A check creates nothing beside the file, also for one in WAL mode."""
    path = make_database(tmp_path / "app.db", FILLED, wal=True)
    assert check_structure(path) == check_structure(path, "full") == []
    assert names(tmp_path) == ["app.db"]


def test_a_file_that_is_no_database_is_a_problem(tmp_path: Path) -> None:
    """What SQLite refuses to open is damage, not an exception."""
    (tmp_path / "app.db").write_bytes(b"hello" * 2000)
    assert check_structure(tmp_path / "app.db") == ["file is not a database"]


def application_database(path: Path, script: str) -> Path:
    """Make a database that needs a function and a collation of the application's."""
    with opened(path) as conn:
        conn.create_function("foo", 1, lambda value: value, deterministic=True)
        conn.create_collation("mine", lambda a, b: (a > b) - (a < b))
        conn.executescript(script)
    return path


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE a (x CHECK (foo(x) > 0)); INSERT INTO a VALUES (1);",
        "CREATE TABLE a (x, y GENERATED ALWAYS AS (foo(x))); INSERT INTO a VALUES (1);",
        "CREATE TABLE a (x); CREATE INDEX i ON a (foo(x)); INSERT INTO a VALUES (1);",
    ],
)
def test_functions_of_the_application_keep_nobody_from_checking(
    tmp_path: Path, script: str
) -> None:
    """A connection that only reads does not evaluate constraints, and so needs no functions."""
    path = application_database(tmp_path / "app.db", script)
    assert check_structure(path) == []


def test_a_constraint_that_does_not_hold_is_no_damage(tmp_path: Path) -> None:
    """Rows from before a CHECK came are the application's business."""
    path = make_database(
        tmp_path / "app.db",
        "CREATE TABLE a (x CHECK (x > 0)); PRAGMA ignore_check_constraints = 1;"
        "INSERT INTO a VALUES (-1);",
    )
    assert check_structure(path) == []
    assert rows(path, "PRAGMA quick_check") == [("CHECK constraint failed in a",)]


def test_what_only_the_application_can_sort_cannot_be_checked(tmp_path: Path) -> None:
    """A collation of the application's is no damage."""
    path = application_database(
        tmp_path / "app.db",
        "CREATE TABLE a (x COLLATE mine); CREATE INDEX i ON a (x); INSERT INTO a VALUES ('b')",
    )
    with pytest.raises(UncheckableError, match="no such collation"):
        check_structure(path)


# -- the live file --------------------------------------------------------------------


def test_a_lease_sees_a_connection_that_does_nothing(tmp_path: Path) -> None:
    """An idle connection holds no lock, and is found all the same."""
    path = make_database(tmp_path / "app.db", FILLED)
    with LiveFile.open(path) as live:
        assert live.lease_free() is True
        with idle_connection(path) as other:
            assert live.lease_free() is False
            assert who_has_open(path) == [(other.pid, who_has_open(path)[0][1])]
        assert live.lease_free() is True


def test_a_lease_stops_nobody(tmp_path: Path) -> None:
    """It is given back at once: the next one to open the file does not wait."""
    path = make_database(tmp_path / "app.db", FILLED)
    with LiveFile.open(path) as live:
        assert live.lease_free() is True
        assert rows(path, "SELECT count(*) FROM t") != []


def test_the_signal_of_a_lease_is_as_before(tmp_path: Path) -> None:
    """Whoever handles SIGIO still does."""
    path = make_database(tmp_path / "app.db", FILLED)
    old = signal.signal(signal.SIGIO, signal.default_int_handler)
    try:
        with LiveFile.open(path) as live:
            live.lease_free()
        assert signal.getsignal(signal.SIGIO) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGIO, old)


def test_beside_the_main_thread_nothing_is_known(tmp_path: Path) -> None:
    """Signals belong to the main thread; elsewhere the answer is: unknown."""
    path = make_database(tmp_path / "app.db", FILLED)
    answers: list[bool | None] = []
    with LiveFile.open(path) as live:
        thread = threading.Thread(target=lambda: answers.append(live.lease_free()))
        thread.start()
        thread.join()
    assert answers == [None]


def test_another_users_file_is_unknown(open_path: Path, as_root: None) -> None:
    """Only the owner may take a lease; for others the answer is: unknown."""
    path = make_database(open_path / "app.db", FILLED)
    path.chmod(0o644)

    def ask() -> bool | None:
        with LiveFile.open(path) as live:
            return live.lease_free()

    assert in_child(ask, (12345, 12345)) is None


def test_users_of_the_wal_are_found(tmp_path: Path) -> None:
    """A process is named by its id and its program."""
    path = make_database(tmp_path / "app.db", FILLED, wal=True)
    with read_transaction(path) as other:
        ((pid, name),) = who_has_open(path)
        assert pid == other.pid
        assert name.startswith("python")


def test_our_own_descriptors_are_not_reported(tmp_path: Path) -> None:
    """One does not wait for oneself."""
    path = make_database(tmp_path / "app.db", FILLED)
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("SELECT count(*) FROM t").fetchone()
        assert who_has_open(path) == []


def test_a_link_is_not_the_database(tmp_path: Path) -> None:
    """The path is resolved; what is a link by then is somebody's trap."""
    path = make_database(tmp_path / "app.db", FILLED)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="symbolic"):
        LiveFile.open(tmp_path / "link")
