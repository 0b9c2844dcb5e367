"""
The guarded connection of way A: only the run begins and ends its one transaction.

Migrations get `Guard.conn`; the engine keeps the `Guard`.
"""
# ruff: noqa: SLF001  # the guard and its connection are one thing with two faces

from __future__ import annotations

import ctypes
import os
import sqlite3
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from migrator.database import connecting
from migrator.database.sqlite_locks import Loss, SqliteLocks
from migrator.database.uri import database_uri
from migrator.session.authorizer import RefusedError
from migrator.session.guarded import GuardedConnection
from migrator.session.noting import real_in_transaction
from migrator.session.record import FailedStatement, Record
from migrator.session.reset import ConnectionSettings


class Guard:
    """
    The engine's side of a guarded connection: it begins and ends the run.

    Attributes:
        conn: The connection that migrations get.
    """

    def __init__(self, conn: GuardedConnection) -> None:
        self.conn = conn
        self._pid = os.getpid()
        self._baseline: ConnectionSettings | None = None
        # A forked child's finalizers would close the connection, and SQLite would then
        # unlink the journal of the parent's open transaction. An extra reference
        # keeps the connection from ever being finalized.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(conn))
        _guarded.add(conn)

    @property
    def record(self) -> Record:
        """What the last migration did."""
        return self.conn.record

    @property
    def refused(self) -> RefusedError | None:
        """The first refusal, None if there was none; a run with a refusal has failed."""
        return self.conn.refused

    @property
    def ended(self) -> bool:
        """Whether SQLite has ended the run's transaction by itself."""
        return self.conn._has_ended()

    @property
    def ended_by(self) -> BaseException | None:
        """The error at which SQLite ended the transaction by itself, None if it has not."""
        if self.conn.ended_by is not None:
            return self.conn.ended_by.error
        return self.conn._end_of_run() if self.ended else None

    @property
    def in_transaction(self) -> bool:
        """Whether SQLite's real transaction is open."""
        return self.conn in _guarded and real_in_transaction(self.conn)

    def failure(self, error: BaseException | None) -> FailedStatement | None:
        """
        Return what went wrong first in a migration, with its statement.

        Args:
            error: What the migration raised, None where it returned.

        Returns:
            None if neither SQLite nor the guard has refused anything. The statement's
            text is empty for a refused method.
        """
        if self.conn.ended_by is not None:
            return self.conn.ended_by
        for candidate in filter(None, (error, self.refused)):
            found = self.record.blame(candidate)
            if found is not None:
                return found
        if self.ended:
            return FailedStatement(self.record.text or "", self.conn._end_of_run())
        return None

    @contextmanager
    def engine(self) -> Iterator[sqlite3.Connection]:
        """Within, the connection is the engine's: it refuses and records nothing."""
        with self.conn._as_engine():
            yield self.conn

    def watch(self, locks: SqliteLocks | None) -> None:
        """Check SQLite's locks from now on: once they are lost, nothing is written."""
        self.conn._locks = locks

    def forget_journal(self) -> None:
        """Stop checking the journal: the journal mode is being set."""
        if self.conn._locks is not None:
            self.conn._locks.forget_journal()

    def lost(self, *, decisive: bool = False) -> Loss | None:
        """Return what SQLite relies on and has lost; None if no loss is known."""
        locks = self.conn._locks
        return locks.look(decisive=decisive) if locks is not None else None

    def holds(self) -> bool:
        """Tell whether SQLite may still write: its locks are there, or are not checked."""
        locks = self.conn._locks
        return locks is None or locks.held()

    def regain(self) -> bool:
        """Take the locks again, if a rollback can then do no harm."""
        locks = self.conn._locks
        return locks is not None and locks.regain()

    def open_journal(self) -> None:
        """Have SQLite create its journal now, if the database has a page."""
        if self.conn._execute("PRAGMA page_count")[0][0]:
            version = self.conn._execute("PRAGMA user_version")[0][0]
            self.conn._execute(f"PRAGMA user_version = {version}")

    def begin(self) -> None:
        """Begin the run's transaction, with the write lock."""
        self.conn._execute("BEGIN IMMEDIATE")
        self.conn._running = True

    def commit(self) -> None:
        """
        Commit the run.

        Raises:
            sqlite3.OperationalError: The transaction is still open
                (`in_transaction`) if another lock prevented the commit.
        """
        self.conn._require_usable()
        with self.engine():
            self.conn._raw.execute("COMMIT")
        self.conn._running = False

    def rollback(self) -> None:
        """
        Roll the run back, and the connection's settings with it.

        Without a transaction, or once closed, there is nothing to roll back.
        """
        connection = self.conn
        if connection not in _guarded or connection._given_up:
            return
        connection.set_progress_handler(None, 0)
        connection._close_handles()
        if self.in_transaction:
            connection._execute("ROLLBACK")
        connection._running = False
        connection._forget_transaction()
        # A setting such as `query_only` would prevent a restore. If the disk or a lock
        # prevents putting it back, the rollback still stands.
        with suppress(sqlite3.Error):
            if self._baseline is not None:
                connection._take_back(self._baseline, last=True)

    def start_migration(self, row_factory: Any = sqlite3.Row) -> None:
        """Make the connection like new, with an empty record, for a migration."""
        if self._baseline is None:
            with self.engine():
                self._baseline = ConnectionSettings(self.conn._raw)
        self.record.reset()
        self.conn._prepare_for(row_factory)

    def finish_migration(self, *, code: bool = True) -> None:
        """
        Take the connection back from a migration, and keep its changes to the database.

        Close the cursors, blobs and savepoints that it left open, put settings back, drop
        temporary objects. The record stays until the next migration starts. Do nothing
        once SQLite has ended the transaction, or in a process that a migration forked.

        Args:
            code: Whether Python code has had the connection. SQL alone leaves no cursor
                open, and changes nothing of a connection of which SQLite is not asked.
        """
        connection = self.conn
        if connection._forked or connection._given_up or self.ended or self._baseline is None:
            return
        connection._settle()
        if code or self.record.lasting:
            connection._close_handles()
            connection._take_back(self._baseline)
        else:
            connection._end_transaction()

    def close(self) -> None:
        """Close the connection; only in the process that opened it, and with SQLite's locks."""
        if os.getpid() != self._pid or self.conn not in _guarded or not self.holds():
            return
        # With an unfinished query SQLite would keep the file open, and its lock.
        self.conn._close_handles()
        with self.engine():
            self.conn.close()
        _guarded.discard(self.conn)
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(self.conn))


_guarded: weakref.WeakSet[GuardedConnection] = weakref.WeakSet()


def _disown() -> None:
    """Make the guarded connections unusable, and harmless, in a forked child."""
    for connection in _guarded:
        connection._forked = True


os.register_at_fork(after_in_child=_disown)


def open_guard(
    path: str | os.PathLike[str],
    *,
    exclusive: bool = True,
    temporary: str | os.PathLike[str] | None = None,
    header: Mapping[str, str] | None = None,
) -> Guard:
    """
    Open a database for a run; SQLite recovers it from a crash.

    Args:
        path: The database file.
        exclusive: Whether to keep everybody else out of the database from now on.
        temporary: Where SQLite puts its temporary files, in this whole
            process; None for its own choice.
        header: Pragmas that SQLite accepts before a database has a page; they write nothing yet.

    Raises:
        sqlite3.OperationalError: The file cannot be opened, or (with
            `sqlite_errorcode` SQLITE_BUSY) somebody else uses it.
    """
    connection = sqlite3.connect(
        database_uri(path),
        uri=True,
        timeout=0.1,
        isolation_level=None,
        cached_statements=0,
        factory=GuardedConnection,
    )
    try:
        _set_up(connection, exclusive, temporary, header)
        with connection._as_engine():
            connecting.prepare(connection)
    except BaseException:
        with connection._as_engine():
            connection.close()
        raise
    return Guard(connection)


def _set_up(
    connection: GuardedConnection,
    exclusive: bool,
    temporary: str | os.PathLike[str] | None,
    header: Mapping[str, str] | None,
) -> None:
    if exclusive:
        # Before the first access: then WAL needs no shared memory.
        connection._execute("PRAGMA locking_mode=EXCLUSIVE")
    if header and not connection._execute("PRAGMA page_count")[0][0]:
        # Before a transaction that may write: SQLite makes the first page when one begins.
        # A rollback takes that page back, and the connection keeps the settings.
        connection._execute("BEGIN")
        for name, value in header.items():
            connection._execute(f"PRAGMA {name} = '{value}'")
        connection._execute("ROLLBACK")
    if exclusive:
        # ROLLBACK: a COMMIT would write a page into a database of zero bytes.
        connection._execute("BEGIN EXCLUSIVE")
        connection._execute("ROLLBACK")
    connection._execute("PRAGMA synchronous=EXTRA")
    connection._execute("PRAGMA foreign_keys=OFF")
    if temporary is not None:
        set_temporary_directory(connection._execute, temporary)


def set_temporary_directory(
    execute: Callable[[str], object], directory: str | os.PathLike[str]
) -> None:
    """Set SQLite's directory for temporary files, in this whole process."""
    name = os.fspath(directory).replace("'", "''")
    # Deprecated, and absent from some builds; nor can every name be said in SQL.
    # SQLite then chooses itself.
    with suppress(sqlite3.OperationalError, UnicodeEncodeError):
        execute(f"PRAGMA temp_store_directory='{name}'")
