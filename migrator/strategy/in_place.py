"""In place: all migrations of a run in one transaction on the live database."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from migrator.backups.backup import Backup
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
from migrator.wait import attempts

_NEVER = "A command was about to be run on the database itself."
_PAUSE = 0.05
"""Seconds between two attempts at what somebody else's lock holds up."""


@dataclass(frozen=True, slots=True)
class RunTransaction:
    """
    The one transaction of a run, on the live database.

    Args:
        ctx: The run.
        live: The database, opened for the run.
    """

    ctx: Context
    live: ExclusiveDatabase

    def begin(self) -> None:
        """
        Begin it with the write lock, waiting within the budget for other writers.

        Raises:
            NotReadyError: Another process kept its write lock.
        """
        doing = "when the run's transaction was begun"
        try:
            for attempt in self._attempts():
                with attempt:
                    self.live.guard.begin()
        except sqlite3.Error as error:
            if is_busy(error):
                raise self._in_the_way(doing) from error
            raise of_sqlite(error, self.ctx.layout.database, doing) from error

    def commit(self) -> None:
        """
        Commit it: the one step that counts. Readers may hold it up within the budget.

        Raises:
            LockedError: The run's lock was removed; the transaction is still open.
            LocksLostError: SQLite has lost its locks; nothing was written.
            NotReadyError: A reader kept its lock; the transaction is still open.
        """
        enter(self.ctx, "commit")
        doing = "at the commit"
        try:
            with uninterrupted():
                for attempt in self._attempts():
                    with attempt:
                        self.ctx.require_lock()
                        require_locks(self.ctx, decisive=True)
                        self.live.guard.commit()
        except sqlite3.Error as error:
            if is_busy(error):
                raise self._in_the_way(doing) from error
            raise

    def _attempts(self) -> Iterator[contextlib.AbstractContextManager[object]]:
        """Yield attempts within the run's budget, for what another process's lock may delay."""
        left = self.ctx.deadline.remaining
        return attempts(left, may_pass=is_busy, pause=lambda _attempts: _PAUSE)

    def _in_the_way(self, doing: str) -> MigratorError:
        """Return the error for a lock of another process that outlasted the budget."""
        hint = "Stop it, or allow more time with `--wait-timeout` (MIGRATOR_WAIT_TIMEOUT)."
        return in_use(self.ctx.layout.database, hint, f" {doing}", inline=self.ctx.inline).cause


@dataclass(frozen=True, slots=True)
class InPlace(RunTransaction):
    """
    All of a change in one transaction on the live database: SQLite's journal makes it atomic.

    Args:
        change: What it does.
    """

    change: Change

    @property
    def _alone(self) -> bool:
        return self.ctx.settings.in_use == "wait"

    def hold(self) -> None:
        """Begin before the backup where others may write between the two."""
        if not self._alone:
            self.begin()

    @contextlib.contextmanager
    def session(self, saved: Backup) -> Iterator[InPlaceSession]:
        """Within, the run's transaction is open."""
        del saved
        guard = self.live.guard
        if self._alone:
            self.begin()
        guard.open_journal()
        watch(self.ctx, self.live)
        began = time.monotonic()
        yield InPlaceSession(guard, worker=not self.ctx.inline)
        # The work itself is not waiting: it takes nothing from that budget.
        self.ctx.deadline.extend(time.monotonic() - began)

    def read_back(self) -> None:
        """Look at what was committed, before the database is released."""
        with self.live.guard.engine():
            proof.read_back(self.ctx, self.change, self.live.conn)


class InPlaceSession:
    """
    The guarded connection as the place where migrations run.

    Args:
        guard: The engine's side of it.
        worker: Whether the process is the run's own, where no signal raises an exception.
    """

    def __init__(self, guard: Guard, *, worker: bool = False) -> None:
        self._guard = guard
        self._worker = worker
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
        # An exception within a question of SQLite's is lost, and a function may execute more.
        self._guard.conn.together = self._worker and not self._code
        with self._guard.conn.lent() as conn:
            yield conn
        self._guard.finish_migration(code=self._code)

    def alone(self) -> contextlib.AbstractContextManager[Path]:
        """Refuse: the database itself is never another process's during a run."""
        raise MigratorError(_NEVER, hint=REPORT)

    def failure(self, error: BaseException | None) -> FailedStatement | None:
        """Return what went wrong first, also where the migration has swallowed it."""
        return self._guard.failure(error)
