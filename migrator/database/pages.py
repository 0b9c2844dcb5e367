"""
Copy a database page by page, and compare and read files byte by byte.

SQLite's backup API copies: it handles every journal mode and keeps the locks. The raw
reads are for files that no SQLite connection of this process has open: closing any
descriptor of a file drops all POSIX locks that the process holds on it
(https://sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.database import connecting
from migrator.database.freelist import free_leaves, without_pages
from migrator.database.integrity_check import examine
from migrator.database.uri import database_uri
from migrator.database.writeback import Writeback
from migrator.errors import NotReadyError
from migrator.files import create_file, open_regular, remove_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from migrator.files import Ownership

_CHUNK = 1 << 20
"""Bytes a step: few enough to handle signals on a slow card, enough for a fast disk."""
_PIECE = 1 << 17
"""Bytes that are compared at a time: whole pages of any size."""
_MAGIC = b"SQLite format 3\0"
_LOCK_PAGE = 0x40000000
_MASKED = (18, 19, *range(24, 28), *range(40, 44), *range(92, 100))
_BUSY_CODES = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
STALL = 30.0


# -- copying --------------------------------------------------------------------------


def copy_pages(
    source: sqlite3.Connection,
    target: Path,
    ownership: Ownership,
    progress: Callable[[int, int], object] | None = None,
    stall: float = STALL,
) -> int:
    """
    Copy a whole database into a new file, fsynced, in journal mode DELETE.

    Args:
        source: Any connection to it, also one that holds its exclusive lock,
            but without a write transaction.
        target: A new name; no other file stays beside it.
        ownership: The copy's owner and mode.
        progress: Called with bytes done and bytes in all, a few times a second
            at least; what it raises ends the copy.
        stall: Seconds without progress after which the source counts as locked.

    Returns:
        The size of the copy in bytes; 0 for a database of zero bytes.

    Raises:
        NotReadyError: The source stayed locked.
        sqlite3.Error: Reading or writing failed; `target` is removed.
        OSError: The target cannot be created or made durable.
    """
    descriptor = create_file(target, ownership)
    try:
        try:
            _fill(source, target, descriptor, progress, stall)
            _mend(source, descriptor)
            os.fsync(descriptor)
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
    except BaseException:
        remove_database(target)
        raise


def _fill(
    source: sqlite3.Connection,
    target: Path,
    descriptor: int,
    progress: Callable[[int, int], object] | None,
    stall: float,
) -> None:
    writeback = Writeback(descriptor)

    def step(done: int, total: int) -> None:
        writeback.reach(done)
        if progress is not None:
            progress(done, total)

    connection = sqlite3.connect(target, isolation_level=None)
    try:
        # A copy that fails is deleted, so it needs no journal; `copy_pages` makes it durable.
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        write_pages(source, connection, step, stall)
    finally:
        connection.close()


def _mend(source: sqlite3.Connection, descriptor: int) -> None:
    """
    Set journal mode DELETE in the copy's header, and keep an empty database empty.

    The two version bytes are what `PRAGMA journal_mode=DELETE` writes; doing it
    here leaves no `-wal` or `-shm` beside the copy. Of a file of zero bytes the
    backup API makes one page.
    """
    if source.execute("PRAGMA page_count").fetchone()[0] == 0:
        os.ftruncate(descriptor, 0)
    else:
        os.pwrite(descriptor, b"\x01\x01", 18)


def write_pages(
    source: sqlite3.Connection,
    target: sqlite3.Connection,
    progress: Callable[[int, int], object] | None = None,
    stall: float = STALL,
) -> None:
    """
    Copy all pages from one connection to another, as one transaction of the target.

    `Connection.backup()` retries BUSY and LOCKED for ever; this gives up once
    no page has been copied for `stall` seconds.

    Args:
        source: Where the pages come from.
        target: Whose database is replaced.
        progress: Called after each step with bytes done and bytes in all.
        stall: Seconds without progress after which source or target counts as locked.

    Raises:
        NotReadyError: Source or target stayed locked.
        sqlite3.Error: Reading or writing failed; the target is as before.
    """
    size = page_size(source)
    watch = _Watch(size, progress, stall)
    # In steps: the backup API holds the source's lock during one, and signals wait for its end.
    source.backup(target, pages=max(1, _CHUNK // size), progress=watch.step, sleep=0.05)


def page_size(conn: sqlite3.Connection) -> int:
    """Return the size of a database's pages in bytes."""
    return int(conn.execute("PRAGMA page_size").fetchone()[0])


@dataclass(slots=True)
class _Watch:
    """Follow the backup API step by step, and end a copy that makes no progress."""

    page_size: int
    progress: Callable[[int, int], object] | None
    stall: float
    done: int = -1
    moved: float = 0.0

    def step(self, status: int, remaining: int, total: int) -> None:
        now = time.monotonic()
        done = (total - remaining) * self.page_size
        # Only a step that was refused counts as a stall: a slow disk is not a lock.
        if status & 0xFF not in _BUSY_CODES or self.done < 0:
            self.done, self.moved = done, now
        elif now - self.moved > self.stall:
            msg = f"The database stayed locked for {self.stall:g} seconds while it was copied."
            raise NotReadyError(
                msg,
                hint="Stop what else uses the database, then start again.",
                reason="database.in_use",
            )
        if self.progress is not None:
            self.progress(done, total * self.page_size)


# -- raw reads ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Header:
    """
    The first hundred bytes of a database file.

    `page_count` is 0 if the header's own count is unreliable
    (https://sqlite.org/fileformat2.html, 1.3.7 and 1.3.8).
    """

    page_size: int
    page_count: int
    wal: bool
    change_counter: int


def read_header(descriptor: int) -> Header | None:
    """Read the header; None if the file is empty or does not begin like a database."""
    data = os.pread(descriptor, 100, 0)
    if len(data) < 100 or not data.startswith(_MAGIC):
        return None
    size = _number(data, 16, 2)
    counter = _number(data, 24)
    return Header(
        page_size=65536 if size == 1 else size,
        page_count=_number(data, 28) if counter == _number(data, 92) else 0,
        wal=data[18:20] == b"\x02\x02",
        change_counter=counter,
    )


def _number(data: bytes, offset: int, length: int = 4) -> int:
    return int.from_bytes(data[offset : offset + length], "big")


def content_size(descriptor: int) -> int:
    """
    Return how many bytes of a file belong to the database.

    SQLite does not read beyond the size in the header, and the backup API does not copy
    the rest.
    """
    size = os.fstat(descriptor).st_size
    header = read_header(descriptor)
    stated = header.page_size * header.page_count if header else 0
    return stated if 0 < stated <= size else size


def same_pages(one: int, other: int) -> bool:
    """
    Tell whether two files hold the same database, byte by byte.

    This ignores what the backup API changes on the first page (journal mode, counters,
    SQLite's version number), the page at the lock byte, which no database uses, and free
    pages, whose content a rollback does not restore. A file of zero bytes equals one
    whose only page is an empty schema, since SQLite turns the one into the other.
    """
    size = content_size(one)
    if size != content_size(other):
        return is_empty(one) and is_empty(other)
    header = read_header(one)
    page_size = header.page_size if header else 0
    free: frozenset[int] | None = None
    for offset in _differences(one, other, size):
        length = min(_PIECE, size - offset)
        left, right = (
            masked(os.pread(each, length, offset), offset, page_size) for each in (one, other)
        )
        if left != right:
            if free is None:
                free = free_leaves(one, page_size, size // page_size if page_size else 0)
            left, right = (without_pages(each, offset, page_size, free) for each in (left, right))
        if left != right:
            return False
    return True


def _differences(one: int, other: int, size: int) -> Iterator[int]:
    """Yield the offset of each piece in which two files differ."""
    # Into the same memory again and again, which the processor has at hand.
    left, right = bytearray(_PIECE), bytearray(_PIECE)
    for offset in range(0, size, _PIECE):
        length = min(_PIECE, size - offset)
        if length < _PIECE:
            left, right = bytearray(length), bytearray(length)
        if os.preadv(one, [left], offset) != os.preadv(other, [right], offset) or left != right:
            yield offset


def masked(chunk: bytes, offset: int, page_size: int) -> bytes:
    """Return a chunk of a database file with all bytes blank that `same_pages` ignores."""
    if offset not in (0, _LOCK_PAGE):
        return chunk
    left = bytearray(chunk)
    if offset == 0:
        for index in _MASKED:
            if index < len(left):
                left[index] = 0
    if offset == _LOCK_PAGE:
        unused = min(page_size, len(left))
        left[:unused] = bytes(unused)
    return bytes(left)


def is_empty(descriptor: int) -> bool:
    """Tell whether a database has no object, and a header without settings."""
    if os.fstat(descriptor).st_size == 0:
        return True
    header = read_header(descriptor)
    if header is None or header.page_count != 1:
        return False
    data = os.pread(descriptor, 108, 0)
    cells, user_version, application_id = (
        _number(data, 103, 2),
        _number(data, 60),
        _number(data, 68),
    )
    return (cells, user_version, application_id) == (0, 0, 0)


def digest_file(file: Path | int) -> str:
    """
    Return the SHA-256 of a file as hexadecimal digits.

    Args:
        file: A path, or a descriptor, which is read without moving its offset.
    """
    if isinstance(file, int):
        return _digest(file)
    descriptor = open_regular(file)
    try:
        return _digest(descriptor)
    finally:
        os.close(descriptor)


def _digest(descriptor: int) -> str:
    import hashlib

    digest = hashlib.sha256()
    offset = 0
    while chunk := os.pread(descriptor, _CHUNK, offset):
        digest.update(chunk)
        offset += len(chunk)
    return digest.hexdigest()


# -- structure ------------------------------------------------------------------------


class UncheckableError(Exception):
    """SQLite cannot check a database that uses the application's collations or functions."""


def check_structure(path: Path, level: str = "quick") -> list[str]:
    """
    Check a database file that is not being written to, without creating a file beside it.

    A read-only connection evaluates no CHECK constraint (measured with SQLite 3.40), so it
    needs few of the application's functions. Rows that break another constraint are not
    damage either.

    Args:
        path: The file. It is opened as immutable.
        level: `quick` or `full`.

    Returns:
        What SQLite found, in its words; empty if it found nothing.

    Raises:
        UncheckableError: SQLite cannot check everything, and the rest is sound.
        sqlite3.Error: The file cannot be read.
    """
    connection = sqlite3.connect(database_uri(path, "ro&immutable=1"), uri=True)
    try:
        connecting.prepare(connection)
        found = examine(connection, level)
    finally:
        connection.close()
    if found.incomplete is not None and not found.problems:
        raise UncheckableError(found.incomplete)
    return list(found.problems)
