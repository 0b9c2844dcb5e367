"""
Looking at a database without writing to it, creating anything or waiting for a lock.

How SQLite behaves when it only reads (measured; docs/how-it-works.md): `mode=ro`
creates `-wal` and `-shm` for a clean WAL database, so such a one is read as
`immutable`; a database with a hot journal cannot be read without recovering
it, and is reported instead.
"""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from migrator.database import run_state
from migrator.database.lock_probe import probe
from migrator.database.run_state import RunState
from migrator.database.uri import database_uri
from migrator.database.workspace import Layout
from migrator.errors import UsageError
from migrator.inspect.location import (
    no_file,
    refuse_no_directory,
    refuse_odd_sidecars,
    translated_errors_at_once,
)
from migrator.log.translate import is_busy, is_unopened, of_sqlite
from migrator.model import Applied
from migrator.sqlite import primary_code
from migrator.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.formats.foreign import ForeignHistory
    from migrator.formats.source import Source

_BUSY_TIMEOUT = 0.25


class DatabaseView(Value):
    """
    What a look found.

    `history` is None where the database could not be read without writing
    (`needs_recovery` says why) or does not exist.
    """

    exists: bool
    bytes: int = 0
    history: tuple[Applied, ...] | None = None
    foreign: ForeignHistory | None = None
    has_tables: bool = False
    """Whether there are tables although there is no history of ours."""
    unfinished: RunState | None = None
    running: bool = False
    needs_recovery: str | None = None


class NeedsRecoveryError(Exception):
    """The database can only be read after a recovery, which would write."""


def inspect_database(layout: Layout, source: Source, table: str) -> DatabaseView:
    """
    Look at the database and at what an earlier run may have left.

    Args:
        layout: Where they lie.
        source: The migrations, whose history is read; the look decides whose they are.
        table: The history's table.

    Raises:
        DamagedError: It is no SQLite database.
        DiskError: The disk failed.
        MisfitError: The history's table belongs to somebody else, or what an
            interrupted run left was written by a later version.
        NotReadyError: Another process holds a lock that keeps readers out, or
            no database can lie there.
        NoPermissionError: It cannot be read.
    """
    # First: of a place that cannot be reached nothing else is worth a word.
    refuse_no_directory(layout.database.parent)
    _size(layout.database)
    running = probe(layout.lock)
    unfinished = run_state.read(layout.state, layout.database)
    size = _size(layout.database)
    with translated_errors_at_once(layout.database.parent):
        refuse_odd_sidecars(layout.database)
    if size is None:
        source.recognise(None, table)
        return DatabaseView(exists=False, unfinished=unfinished, running=running)
    # Until the database has been read, which says how many pages there are.
    size += _size(layout.database.with_name(f"{layout.database.name}-wal")) or 0
    sight = DatabaseView(exists=True, bytes=size, unfinished=unfinished, running=running)
    try:
        return _read_steadily(layout.database, source, table, sight)
    except NeedsRecoveryError as error:
        _recognise_torn(layout.database, source, table)
        return replace(sight, needs_recovery=str(error))
    except (sqlite3.Error, UnicodeDecodeError) as error:
        # A run may have begun since its lock was looked at.
        if is_busy(error) and (running or probe(layout.lock)):
            return replace(sight, running=True, needs_recovery="our own run has it")
        doing = "while its history was read"
        raise of_sqlite(error, layout.database, doing, writing=False) from error


def _recognise_torn(database: Path, source: Source, table: str) -> None:
    """
    Recognise the migrations by the tables of a database that has to be recovered first.

    Its pages may be of two states, so this is a guess, which the worker makes good.
    """
    if source.undecided:
        with contextlib.suppress(sqlite3.Error, UnicodeDecodeError, UsageError):
            uri = database_uri(database, "ro&immutable=1")
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as conn:
                source.recognise(conn, table)


def _read_steadily(database: Path, source: Source, table: str, sight: DatabaseView) -> DatabaseView:
    """
    Read the history, again where the file was changed meanwhile.

    What is read as immutable is read without a lock: a writer in between makes
    it a mixture of old and new pages.
    """
    for last in (False, False, True):
        before = stamp(database)
        try:
            with reading(database) as conn:
                found = _read(conn, source, table, sight)
        except sqlite3.DatabaseError as error:
            if last or is_busy(error) or stamp(database) == before:
                raise
            continue
        if last or stamp(database) == before:
            return found
    raise AssertionError


@contextlib.contextmanager
def reading(database: Path) -> Iterator[sqlite3.Connection]:
    """
    Open a database for reading only, in the way that leaves nothing behind.

    Raises:
        NeedsRecoveryError: A hot journal, or a `-wal` without the means to read it.
        sqlite3.Error: Anything else that SQLite says.
    """
    if not _size(database) and (left := _sidecar(database)) is not None:
        # Of a database of zero bytes SQLite deletes them, even when it only reads.
        message = f"{left} lies beside a database of zero bytes"
        raise NeedsRecoveryError(message)
    mode = "ro" if _has_live_wal(database) else None
    conn = _open(database, mode) if mode else _open_by_journal_mode(database)
    try:
        yield conn
    finally:
        conn.close()


def _read(
    conn: sqlite3.Connection, source: Source, table: str, sight: DatabaseView
) -> DatabaseView:
    conn.execute("BEGIN")
    sight = replace(sight, bytes=_bytes(conn))
    source.recognise(conn, table)
    history = source.format.history(table)
    if history.exists(conn):
        return replace(sight, history=history.read(conn))
    from migrator.formats import foreign

    return replace(
        sight,
        history=(),
        foreign=foreign.find(conn, history.table),
        has_tables=foreign.has_tables(conn),
    )


def _bytes(conn: sqlite3.Connection) -> int:
    """Return the size of the database, with the pages that only the `-wal` has."""
    ((pages, size),) = conn.execute("SELECT * FROM pragma_page_count, pragma_page_size")
    return int(pages * size)


def _open_by_journal_mode(database: Path) -> sqlite3.Connection:
    """
    Open a database that has no `-wal`.

    Without locks SQLite has no shared memory, and cannot open a database in
    WAL mode; that tells the mode without creating anything. Such a one is read
    as immutable, unless a `-wal` has appeared meanwhile.
    """
    if not _is_wal(database):
        return _open(database, "ro")
    conn = _open(database, "ro&immutable=1")
    if not _has_live_wal(database):
        return conn
    conn.close()
    return _open(database, "ro")


def _is_wal(database: Path) -> bool:
    try:
        # The header tells, so that the schema need not be read.
        _open(database, "ro&nolock=1", "PRAGMA schema_version").close()
    except NeedsRecoveryError as error:
        # Beside a journal that is not hot, shared memory is missing nevertheless.
        return error.__cause__ is not None and is_unopened(error.__cause__)
    except sqlite3.Error as error:
        return is_unopened(error)
    return False


def _open(
    database: Path, mode: str, question: str = "SELECT count(*) FROM sqlite_master"
) -> sqlite3.Connection:
    uri = database_uri(database, mode)
    conn = sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT, isolation_level=None)
    try:
        conn.execute(question).fetchone()
    except sqlite3.Error as error:
        conn.close()
        code, name = primary_code(error), _sidecar(database)
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) and name is not None:
            message = f"{name} was left by a process that was killed"
            raise NeedsRecoveryError(message) from error
        raise
    return conn


def _has_live_wal(database: Path) -> bool:
    """Tell whether a `-wal` has frames to read, or another process has it open."""
    wal, shm = (Path(f"{database}{end}") for end in ("-wal", "-shm"))
    size = _size(wal)
    return size is not None and (size > 0 or shm.exists())


def stamp(database: Path) -> tuple[int, int, int, bool] | None:
    """Return what changes with every write to a database, `-wal` included."""
    try:
        found = database.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, _has_live_wal(database)


def _sidecar(database: Path) -> str | None:
    """Return the name of the journal beside the database, or None."""
    for end in ("-journal", "-wal"):
        path = Path(f"{database}{end}")
        if _size(path):
            return path.name
    return None


def _size(path: Path) -> int | None:
    """
    Return a regular file's size, None where there is nothing.

    Raises:
        DamagedError: It is not a file.
        DiskError: The disk failed.
        NoPermissionError: A directory on the way may not be entered.
        NotReadyError: It cannot be looked at (a circle of links, a name too long).
    """
    with translated_errors_at_once(path.parent):
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
    if not stat.S_ISREG(found.st_mode):
        raise no_file(path, found.st_mode)
    return found.st_size
