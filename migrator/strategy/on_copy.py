"""
On a copy: migrate a copy, verify it, then publish its pages as one SQLite transaction.

For migrations that cannot run in a transaction. On the copy they have SQLite's
and Python's native behaviour; the live database sees nothing but the last step.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

from migrator.backups.backup import Backup
from migrator.context import Change, Context
from migrator.database import connecting
from migrator.database.pages import page_size, write_pages
from migrator.database.uri import database_uri
from migrator.database.workspace import like_database
from migrator.errors import NotReadyError, VerificationError
from migrator.exclusive import ExclusiveDatabase
from migrator.files import Ownership, create_file
from migrator.model import Script
from migrator.parsing.header_pragmas import Setting
from migrator.recovery.lost_locks import require_held, require_locks, watch
from migrator.recovery.phases import enter, note, uninterrupted
from migrator.session.authorizer import RefusedError, unset
from migrator.session.by_path import WorkFile, require_there
from migrator.session.guard import set_temporary_directory
from migrator.session.noting import real_in_transaction, settle
from migrator.session.record import FailedStatement, Record
from migrator.session.recording import RecordingConnection
from migrator.session.reset import close_cursors
from migrator.verify import proof

C = TypeVar("C", bound=sqlite3.Connection)


@dataclass(slots=True)
class OnCopy:
    """
    A copy is migrated and verified; its pages replace the database's in one SQLite transaction.

    For what SQLite runs in no transaction (`VACUUM`, `journal_mode`).

    Args:
        ctx: The run.
        live: The database, opened for the run.
        change: What it does.
    """

    ctx: Context
    live: ExclusiveDatabase
    change: Change
    saved: Backup | None = field(default=None, init=False)
    wanted: str = field(default="", init=False)
    """The journal mode that the migrations have set."""

    def hold(self) -> None:
        """Do nothing: no other process has the database open."""

    @contextlib.contextmanager
    def session(self, saved: Backup) -> Iterator[CopySession]:
        """Within, the work copy takes the change."""
        ctx, work, self.saved = self.ctx, self.ctx.layout.work, saved
        watch(ctx, self.live)
        copy_backup(saved.path, work, like_database(ctx.layout).private, saved.journal_mode)
        if not work.stat().st_size:
            set_header(work, self.change.header)
        temporary = None if ctx.inline else ctx.layout.temporary
        with contextlib.closing(CopySession(work, temporary)) as session:
            yield session
        self.wanted = set_mode(work, "delete")

    def commit(self) -> None:
        """Publish the copy's pages: the one step that counts."""
        ctx = self.ctx
        noted = note(ctx, self.change, self.saved, wanted_journal_mode=self.wanted)
        enter(ctx, "publish", noted)
        with uninterrupted():
            require_locks(ctx, decisive=True)
            _publish(ctx, self.live, self.wanted)

    def read_back(self) -> None:
        """Compare the database with the copy, before the database is released."""
        ctx, live = self.ctx, self.live
        with live.guard.engine():
            proof.read_back(ctx, self.change, live.conn)
        require_held(live)
        live.checkpoint()
        if live.same_as(ctx.layout.work) is False:
            message = f"{str(live.path)!r} does not hold the pages that were published."
            hint = "Check the volume and its disk, then start again."
            raise VerificationError(message, hint=hint, reason="verify.published")
        live.set_journal_mode(self.wanted)


def refuse_beside_others(ctx: Context) -> None:
    """
    Refuse to replace the pages where others may write: it would overwrite what they wrote.

    Raises:
        NotReadyError: `--in-use allow`.
    """
    if ctx.settings.in_use == "wait":
        return
    message = (
        "A pending migration cannot run in a transaction, so the run has to replace the whole"
        f" content of {str(ctx.layout.database)!r}, which `--in-use allow` does not permit."
    )
    hint = "Stop what uses the database and start once with `--in-use wait`."
    raise NotReadyError(message, hint=hint, reason="database.in_use", retryable=False)


def _publish(ctx: Context, live: ExclusiveDatabase, wanted: str) -> None:
    """Write the work copy's pages into the live database, as one transaction."""
    uri = database_uri(ctx.layout.work)
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as work, live.guard.engine():
        if wanted != "wal" or page_size(work) != page_size(live.conn):
            # A WAL database cannot take another page size
            # (https://sqlite.org/pragma.html#pragma_page_size).
            live.set_journal_mode("delete")
        write_pages(work, live.conn)


class CopySession:
    """
    A file of our own as the place where migrations run, each on a fresh connection.

    `conn` is the engine's connection. It is another one after each migration,
    and there is none during one: SQLite leaves WAL only for who is alone.
    """

    def __init__(self, path: Path, temporary: Path | None) -> None:
        self._path = path
        self._record = Record()
        self._temporary = temporary
        self._conn: sqlite3.Connection | None = None

    @property
    def conn(self) -> sqlite3.Connection:
        """The engine's own connection to the copy, opened when first needed."""
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
    def migration(self, script: Script, *, down: bool = False) -> Iterator[sqlite3.Connection]:
        """
        Give a migration a fresh connection, and commit what it has left open.

        A script that is not transactional runs in autocommit, a transactional
        one in a transaction of its own.
        """
        self.close()
        if script.wants_path:
            # A connection of ours would keep its lock on the file.
            file = WorkFile(self._path)
            self._record = file.record
            yield cast("sqlite3.Connection", file)
            return
        conn = self._connect(RecordingConnection)
        self._record = conn.record
        section = script.sql_down if down else script.sql_up
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
            self._require_there()
            _make_asked(conn)
        finally:
            conn.forget_statements()
            with contextlib.suppress(sqlite3.Error):
                sqlite3.Connection.close(conn)

    @contextlib.contextmanager
    def alone(self) -> Iterator[Path]:
        """Within, another process has the copy: this one has no connection to it."""
        self.close()
        yield self._path

    def failure(self, error: BaseException | None) -> FailedStatement | None:
        """Return the statement behind an exception; nothing is refused on a copy."""
        return self._record.blame(error) if error is not None else None

    def close(self) -> None:
        """Close the engine's connection."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _require_there(self) -> None:
        """See to it that a migration has left the file where it was."""
        require_there(self._path)

    def _connect(self, factory: type[C]) -> C:
        # SQLite is asked what a statement does each time, not only the first time.
        uri = database_uri(self._path)
        conn: C = sqlite3.connect(uri, uri=True, factory=factory, cached_statements=0)
        _take_alone(conn)
        conn.execute("PRAGMA synchronous = OFF")
        if self._temporary is not None:
            set_temporary_directory(conn.execute, self._temporary)
        connecting.prepare(conn)
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


def copy_backup(backup: Path, work: Path, ownership: Ownership, journal_mode: str | None) -> None:
    """
    Make the work copy from the verified backup, in the live database's journal mode.

    Raises:
        OSError: There is no space, or the disk failed.
    """
    number = create_file(work, ownership)
    with open(number, "wb") as target, backup.open("rb") as source:
        shutil.copyfileobj(source, target, 1 << 20)
    set_mode(work, journal_mode or "delete")


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
    Make a connection lock its own file exclusively at first access, but no attached one.

    In WAL mode it then maps no `-shm`
    (https://sqlite.org/wal.html#use_of_wal_without_shared_memory): who writes to a
    mapped page on a full disk is ended by SIGBUS.
    """
    conn.execute("PRAGMA main.locking_mode = EXCLUSIVE").fetchall()
