"""
Way B: migrate a copy, verify it, then publish its pages as one SQLite transaction.

For migrations that cannot run in a transaction. On the copy they have SQLite's
and Python's native behaviour; the live database sees nothing but the last step.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from migrator.context import Batch
from migrator.database.uri import database_uri
from migrator.files import Ownership, create_file
from migrator.model import Script
from migrator.parsing.header_pragmas import Setting
from migrator.session.authorizer import RefusedError, unset
from migrator.session.guard import set_temporary_directory
from migrator.session.record import FailedStatement, Record
from migrator.session.recording import RecordingConnection, real_in_transaction, settle
from migrator.session.reset import close_cursors

C = TypeVar("C", bound=sqlite3.Connection)


class CopySession:
    """
    A file of our own as the place where migrations run, each on a fresh connection.

    `conn` is the engine's connection. It is another one after each migration,
    and there is none during one: SQLite leaves WAL only for who is alone.
    """

    def __init__(self, path: Path, batch: Batch, temporary: Path | None) -> None:
        self._path = path
        self._batch = batch
        self._record = Record()
        self._temporary = temporary
        self._conn: sqlite3.Connection | None = None

    @property
    def conn(self) -> sqlite3.Connection:
        """The engine's own connection to the copy, opened where there is none."""
        if self._conn is None:
            self._conn = self._connect(sqlite3.Connection)
            self._conn.isolation_level = None
        return self._conn

    @property
    def record(self) -> Record:
        """What the current migration did."""
        return self._record

    def engine(self) -> contextlib.AbstractContextManager[object]:
        """Do nothing: the engine's connection is never a migration's."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def session(self, script: Script) -> Iterator[sqlite3.Connection]:
        """
        Give a migration a fresh connection, and commit what it has left open.

        A script that is not transactional runs in autocommit, a transactional
        one in a transaction of its own.
        """
        self.close()
        conn = self._connect(RecordingConnection)
        self._record = conn.record
        section = script.sql_down if self._batch.down else script.sql_up
        try:
            if not script.wants_cursor:
                conn.row_factory = sqlite3.Row
            if section is not None:
                conn.isolation_level = None
                if section.transactional:
                    conn.execute("BEGIN")
            with conn.lent():
                yield conn
            # With a query unfinished, SQLite would keep its lock on the copy.
            close_cursors(conn)
            if real_in_transaction(conn):
                sqlite3.Connection.commit(conn)
            settle(conn)
            _make_asked(conn)
        finally:
            with contextlib.suppress(sqlite3.Error):
                sqlite3.Connection.close(conn)

    def failure(self, error: BaseException | None) -> FailedStatement | None:
        """Return the statement behind an exception; nothing is refused on a copy."""
        return self._record.blame(error) if error is not None else None

    def close(self) -> None:
        """Close the engine's connection."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _connect(self, factory: type[C]) -> C:
        # SQLite is asked what a statement does each time, not only the first time.
        uri = database_uri(self._path)
        conn: C = sqlite3.connect(uri, uri=True, factory=factory, cached_statements=0)
        _take_alone(conn)
        conn.execute("PRAGMA synchronous = OFF")
        if self._temporary is not None:
            set_temporary_directory(conn.execute, self._temporary)
        return conn


def _make_asked(conn: RecordingConnection) -> None:
    """
    See to it that what a migration set in the database's header is what it is.

    SQLite has ignored it, since there were tables; `auto_vacuum` it takes with a VACUUM.

    Raises:
        RefusedError: It cannot be had.
    """
    if not conn.asked:
        return
    conn.row_factory, conn.text_factory = None, str

    def unmet() -> list[tuple[Setting, object]]:
        # A page size is not changed in WAL mode, as everybody who uses it knows.
        asked = [made for made in conn.asked.values() if made.name != "page_size"]
        now = [(made, conn.execute(f"PRAGMA {made.name}").fetchone()[0]) for made in asked]
        return [(made, value) for made, value in now if not made.holds(value)]

    if any(made.name == "auto_vacuum" for made, _ in unmet()):
        conn.execute("VACUUM")
    for made, now in unmet():
        raise RefusedError(*unset(made, now))


def copy_backup(backup: Path, work: Path, ownership: Ownership, journal_mode: str) -> None:
    """
    Make the work copy from the verified backup, in the live database's journal mode.

    Raises:
        OSError: There is no space, or the disk failed.
    """
    number = create_file(work, ownership)
    with open(number, "wb") as target, backup.open("rb") as source:
        shutil.copyfileobj(source, target, 1 << 20)
    set_mode(work, journal_mode)


def set_mode(path: Path, mode: str) -> str:
    """Set the journal mode of a file of our own; returns the one it had."""
    with contextlib.closing(sqlite3.connect(database_uri(path), uri=True)) as conn:
        _take_alone(conn)
        before = str(conn.execute("PRAGMA journal_mode").fetchone()[0]).lower()
        if before != mode:
            conn.execute(f"PRAGMA journal_mode = {mode}").fetchall()
    return before


def set_header(path: Path, wanted: Mapping[str, str]) -> None:
    """Give an empty database of our own the settings that SQLite takes before its first table."""
    if not wanted:
        return
    with contextlib.closing(sqlite3.connect(database_uri(path), uri=True)) as conn:
        conn.isolation_level = None
        for name, value in wanted.items():
            conn.execute(f"PRAGMA {name} = '{value}'")
        conn.execute("CREATE TABLE t (a)")
        conn.execute("DROP TABLE t")
        conn.execute("VACUUM")


def _take_alone(conn: sqlite3.Connection) -> None:
    """
    Have a connection take its file for itself, at its first access, and none that is attached.

    In WAL mode it then maps no `-shm`
    (https://sqlite.org/wal.html#use_of_wal_without_shared_memory): who writes to a
    mapped page on a full disk is ended by SIGBUS.
    """
    conn.execute("PRAGMA main.locking_mode = EXCLUSIVE").fetchall()
