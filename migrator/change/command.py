"""
Another tool's command as a change: it runs on a copy, in its own process.

What it does cannot be followed statement by statement. So every table counts as written to,
a table that is gone counts as dropped for good as long as another one is left, and rows that a
table has lost are not said to go.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from migrator.context import Change, Context, Step
from migrator.database import commanded
from migrator.database.pages import same_pages
from migrator.database.uri import database_uri
from migrator.database.workspace import like_database
from migrator.errors import (
    DiskError,
    MigrationFailedError,
    MigratorError,
    VerificationError,
)
from migrator.files import A_LITTLE, has_space, open_regular
from migrator.formats.command import schema_of
from migrator.inspect.database import NeedsRecoveryError, reading
from migrator.log.translate import is_damage
from migrator.model import Applied, Entry, Script
from migrator.process.external import CommandEnding, is_pending, killed_by, run_on
from migrator.session.authorizer import RefusedError
from migrator.session.by_path import require_there
from migrator.session.changes import Dropped
from migrator.session.record import Record
from migrator.session.session import Session
from migrator.sqlite import fold
from migrator.verify.row_loss import RowGuard

_FULL = ("database or disk is full", "SQLITE_FULL", "No space left on device")
_DISK = ("disk I/O error", "SQLITE_IOERR")
_UNOPENED = (
    *("unable to open database file", "SQLITE_CANTOPEN"),
    *("attempt to write a readonly database", "SQLITE_READONLY"),
)
_LOCKED = ("database is locked", "SQLITE_BUSY", "database table is locked")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalCommand(Change):
    """
    A command that migrates a copy.

    Args:
        words: The command, with its placeholders.
        pending: The command that says whether it has something to do; empty where none does.
        entry: What it is called.
    """

    words: tuple[str, ...]
    pending: tuple[str, ...]
    entry: Entry
    applied: tuple[Applied, ...] = ()

    @property
    def needs(self) -> str:
        """A copy: nobody can open the database beside the run."""
        return "copy"

    @property
    def rows(self) -> tuple[str, ...]:
        """None of ours: its history is its own."""
        return ()

    @property
    def header(self) -> dict[str, str]:
        """Nothing: the command sets what it wants."""
        return {}

    def expected(self) -> Counter[object]:
        """Return nothing: its history is its own."""
        return Counter()

    def apply(self, ctx: Context, session: Session, old: Path | None = None) -> tuple[Step, ...]:
        """
        Run the command on the copy; returns no step where it has changed nothing.

        Raises:
            MigrationFailedError: It ended with another exit code than 0, or did nothing to
                a database that does not exist yet.
            DiskError: It did so, and SQLite told it of the disk.
            VerificationError: Rows are gone, or it says that it has still something to do.
        """
        entry, started = self.entry, time.monotonic()
        facts = {"version": entry.version, "name": entry.name}
        ctx.emit("migration.started", f"Running {entry.label} on a copy.", **facts, file=None)
        ctx.progress.began = True
        script, observer = Script(entry), ctx.observer
        if observer is not None:
            observer.begin(ctx, session, old)
            observer.started(script, session)
        try:
            removed = self._run(ctx, session, old)
        except MigratorError as error:
            data = error.data
            if observer is not None:
                observer.failed(script, session, error)
            ctx.emit(
                "migration.failed",
                error.message,
                level="error",
                **facts,
                seconds=round(time.monotonic() - started, 3),
                file=None,
                line=None,
                statement=None,
                error=data.get("error", error.message),
            )
            raise
        seconds = time.monotonic() - started
        changed = "" if removed is not None else " and has changed nothing"
        ctx.emit(
            "migration.finished",
            f"{entry.label} ended after {seconds:.2f} s{changed}.",
            **facts,
            seconds=round(seconds, 3),
            rows_removed=removed or {},
        )
        step = Step(entry.identity, seconds, removed or {}, ())
        if observer is not None:
            observer.finished(script, session, step)
        return () if removed is None else (step,)

    def ended(self, ctx: Context) -> None:
        """
        Note the schema that it has left, by which the next start knows that it ran.

        Where that cannot be written, the command runs once more, and changes nothing.
        """
        with contextlib.suppress(OSError, sqlite3.Error, NeedsRecoveryError):
            with reading(ctx.layout.database) as conn:
                schema = schema_of(conn)
            version, layout = ctx.settings.app_version, ctx.layout
            commanded.write(layout, version, schema, like_database(layout))

    def _run(self, ctx: Context, session: Session, old: Path | None) -> dict[str, int] | None:
        """Return the rows that went, per table; None where nothing was changed."""
        mode = ctx.settings.row_guard
        with RowGuard(session.conn, mode, "", old) as guard:
            guard.begin()
            with session.alone() as copy:
                ending = run_on(copy, self.words)
                if ending.code != 0:
                    raise self._failed(ctx, ending)
                self._require_database(ctx, copy)
                unchanged = old is not None and _same(copy, old)
                still = bool(self.pending) and is_pending(copy, self.pending)
            if unchanged and not still:
                return None
            try:
                if not _has_tables(session):
                    self._refuse_empty(ctx, old)
                if still:
                    raise self._still_pending(ctx)
                guard.conn = session.conn
                return guard.check(_everything(session, old), self.entry, ())
            except VerificationError as error:
                if error.reason != "rows.lost":
                    raise
                error.hint = (
                    "Look for what deletes rows, or copies a table and leaves some out. If they are"
                    " meant to go, start once with `--row-guard off` (MIGRATOR_ROW_GUARD=off):"
                    " a command cannot announce them."
                )
                raise

    def _failed(self, ctx: Context, ending: CommandEnding) -> MigratorError:
        said = ending.said
        full, failed = (ending.has_said(each) for each in (_FULL, _DISK))
        # SQLite gives no reason for a file that it cannot make, or open to write: trying tells.
        full |= ending.has_said(_UNOPENED) and not has_space(ctx.layout.home, A_LITTLE)
        if full or failed:
            message = f"The disk failed while {self.entry.label} ran: {said.rstrip('.')}."
            hint = "Make space on the volume, or check its disk; the command itself may be fine."
            reason = "disk.full" if full else "disk.failed"
            return DiskError(
                message, hint=hint, reason=reason, data=self._facts() | {"error": said}
            )
        how = f"ended with exit code {ending.code}" if ending.code > 0 else killed_by(-ending.code)
        message = f"{self.entry.label} {how}" + (f": {said.rstrip('.')}." if said else ".")
        hint = f"Mend what it says, and start again; {ctx.undone}."
        if ending.has_said(_LOCKED):
            hint = _WHERE.format(path=ctx.layout.database) + f" Otherwise: {hint}"
        data = {**self._facts(), "error": said or how}
        return MigrationFailedError(message, hint=hint, reason="migration.failed", data=data)

    def _require_database(self, ctx: Context, copy: Path) -> None:
        """
        See to it that the command has left a database.

        Raises:
            MigrationFailedError: It has not, whatever its exit code says.
        """
        try:
            require_there(copy)
            with contextlib.closing(sqlite3.connect(database_uri(copy), uri=True)) as conn:
                conn.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if not (isinstance(error, RefusedError) or is_damage(error)):
                raise
            told = str(error).rstrip(".")
            message = f"{self.entry.label} ended with exit code 0 and left no database: {told}."
            hint = f"It has to leave the copy at the path that it was given; {ctx.undone}."
            data = {**self._facts(), "error": told}
            raise MigrationFailedError(
                message, hint=hint, reason="migration.failed", data=data
            ) from error

    def _refuse_empty(self, ctx: Context, old: Path | None) -> None:
        """Refuse a copy without any table: nothing was created, or the file was emptied."""
        if old is None:
            raise self._nothing(ctx)
        if ctx.settings.row_guard != "off" and (gone := _tables(old)):
            message = f"{self.entry.label} has left no table; there were {len(gone)}."
            data = {**self._facts(), "check": "rows", "error": message}
            raise VerificationError(message, reason="rows.lost", data=data)

    def _nothing(self, ctx: Context) -> MigrationFailedError:
        message = f"{self.entry.label} ended with exit code 0, and has made no table."
        hint = _WHERE.format(path=ctx.layout.database)
        data = {**self._facts(), "error": "no table was made"}
        return MigrationFailedError(message, hint=hint, reason="migration.failed", data=data)

    def _still_pending(self, ctx: Context) -> VerificationError:
        name = Path(self.pending[0]).name
        message = f"After {self.entry.label}, {name} says that there is still something to do."
        hint = (
            f"Run both by hand on a copy of the database. {_WHERE.format(path=ctx.layout.database)}"
        )
        data = {**self._facts(), "check": "pending", "error": message}
        return VerificationError(message, hint=hint, reason="verify.pending", data=data)

    def _facts(self) -> dict[str, object]:
        return {"version": self.entry.version, "name": self.entry.name, "file": None}


_WHERE = (
    "It may have opened another database than the copy, such as {path} itself, which is locked"
    " meanwhile: give it the copy as `{{database}}` (a path) or `{{url}}` in `--migrate-command`,"
    " or have it read MIGRATOR_DATABASE."
)


def _same(copy: Path, old: Path) -> bool:
    """Tell whether a copy still has the pages of the backup that it was made from."""
    if any(os.path.exists(f"{copy}{end}") for end in ("-wal", "-journal")):
        return False
    one = open_regular(copy)
    try:
        other = open_regular(old)
        try:
            return same_pages(one, other)
        finally:
            os.close(other)
    finally:
        os.close(one)


def _has_tables(session: Session) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' LIMIT 1"
    return session.conn.execute(query).fetchone() is not None


def _everything(session: Session, old: Path | None) -> Record:
    """
    Return a record in which every table was written to, and every missing one was dropped.

    Where none is left, the file was emptied or replaced: nobody drops all tables for good.
    """
    record = Record()
    now = {str(row[0]) for row in session.conn.execute(_TABLES)}
    before = _tables(old)
    record.written |= now | before
    there = {fold(name) for name in now}
    gone = [name for name in before if fold(name) not in there]
    if len(gone) < len(before):
        record.ledger.add(Dropped(name) for name in gone)
    return record


_TABLES = (
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite#_%' ESCAPE '#'"
)


def _tables(old: Path | None) -> set[str]:
    if old is None:
        return set()
    uri = database_uri(old, "ro&immutable=1")
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as conn:
        return {str(row[0]) for row in conn.execute(_TABLES)}
