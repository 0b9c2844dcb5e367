"""In place: all migrations of a run in one transaction on the live database."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from migrator.backups.catalog import Backup
from migrator.context import Change, Context
from migrator.errors import REPORT, MigratorError
from migrator.exclusive import ExclusiveDatabase, in_use
from migrator.log.translate import is_busy, of_sqlite
from migrator.model import Script
from migrator.recovery.lost_locks import require_locks, watch
from migrator.recovery.phases import enter, uninterrupted
from migrator.session.guard import Guard
from migrator.session.record import FailedStatement, Record
from migrator.verify import proof
from migrator.wait import repeat

_NEVER = "A command was about to be run on the database itself."


@dataclass(frozen=True, slots=True)
class InPlace:
    """
    One transaction on the live database, which SQLite's journal makes atomic.

    Args:
        ctx: The run.
        change: What it does.
        live: The database, opened for the run.
    """

    ctx: Context
    change: Change
    live: ExclusiveDatabase

    @property
    def _alone(self) -> bool:
        return self.ctx.settings.in_use == "wait"

    def hold(self) -> None:
        """Begin before the backup where others may write between the two."""
        if not self._alone:
            begin(self.ctx, self.live.guard)

    @contextlib.contextmanager
    def session(self, saved: Backup) -> Iterator[InPlaceSession]:
        """Within, the run's transaction is open."""
        del saved
        guard = self.live.guard
        if self._alone:
            begin(self.ctx, guard)
        guard.open_journal()
        watch(self.ctx, self.live)
        began = time.monotonic()
        yield InPlaceSession(guard)
        # The work itself is no waiting for others: it costs nothing of that budget.
        self.ctx.deadline.extend(time.monotonic() - began)

    def commit(self, saved: Backup) -> None:
        """Commit the transaction: the one step that counts."""
        del saved
        enter(self.ctx, "commit")
        with uninterrupted():
            commit(self.ctx, self.live.guard)

    def read_back(self) -> None:
        """Look at what was committed, before the database is released."""
        with self.live.guard.engine():
            proof.read_back(self.ctx, self.change, self.live.conn)


class InPlaceSession:
    """The guarded connection as the place where migrations run."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._code = False

    @property
    def conn(self) -> sqlite3.Connection:
        """The guarded connection itself: `engine` lifts its guard."""
        return self._guard.conn

    @property
    def record(self) -> Record:
        """What the current migration did."""
        return self._guard.record

    def engine(self) -> contextlib.AbstractContextManager[object]:
        """Lift the guard for the engine's own statements."""
        return self._guard.engine()

    @contextlib.contextmanager
    def migration(self, script: Script, *, down: bool = False) -> Iterator[sqlite3.Connection]:
        """Give a migration the connection; afterwards every setting is put back."""
        del down
        # A function that code has registered may keep the connection, and run in a later one.
        self._code |= script.is_code
        factory = None if script.wants_cursor else sqlite3.Row
        self._guard.start_migration(row_factory=factory)
        with self._guard.conn.lent() as conn:
            yield conn
        self._guard.finish_migration(code=self._code)

    def alone(self) -> contextlib.AbstractContextManager[Path]:
        """Refuse: the database itself is never another process's during a run."""
        raise MigratorError(_NEVER, hint=REPORT)

    def failure(self, error: BaseException | None) -> FailedStatement | None:
        """Return what went wrong first, also where the migration has swallowed it."""
        return self._guard.failure(error)


def begin(ctx: Context, guard: Guard) -> None:
    """
    Begin the run's transaction, waiting within the budget for other writers.

    Raises:
        NotReadyError: Another process kept its write lock.
    """
    doing = "when the run's transaction was begun"
    try:
        repeat(guard.begin, ctx.deadline.remaining, may_pass=is_busy, pause=_pause)
    except sqlite3.Error as error:
        if is_busy(error):
            raise _in_the_way(ctx, doing) from error
        raise of_sqlite(error, ctx.layout.database, doing) from error


def commit(ctx: Context, guard: Guard) -> None:
    """
    Commit the run's transaction; readers may hold it up within the budget.

    Raises:
        LockedError: The run's lock was removed; the transaction is still open.
        LocksLostError: SQLite has lost its locks; nothing was written.
        NotReadyError: A reader kept its lock; the transaction is still open.
    """

    def once() -> None:
        ctx.require_lock()
        require_locks(ctx, decisive=True)
        guard.commit()

    try:
        repeat(once, ctx.deadline.remaining, may_pass=is_busy, pause=_pause)
    except sqlite3.Error as error:
        if is_busy(error):
            raise _in_the_way(ctx, "at the commit") from error
        raise


def _pause(_attempts: int) -> float:
    """Return the seconds between two attempts at what somebody else's lock holds up."""
    return 0.05


def _in_the_way(ctx: Context, doing: str) -> MigratorError:
    """Return the error for a lock of somebody else's that was there until the end of the budget."""
    hint = "Stop it, or allow more time with `--wait-timeout` (MIGRATOR_WAIT_TIMEOUT)."
    return in_use(ctx.layout.database, hint, f" {doing}", inline=ctx.inline).cause
