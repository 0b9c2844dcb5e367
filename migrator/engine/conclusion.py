"""
How a worker ended, and what the database says to that: a result, or the error that ends the run.

A report of success is a claim, whoever wrote it. A claim that the database does not
confirm, a line that is not a report, and a worker that died without one are treated alike:
recover under the lock, compare the database, and report what was found.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from migrator.database import run_state
from migrator.database.lock import lost_lock
from migrator.errors import (
    BackupError,
    DamagedError,
    DiskError,
    InterruptedRunError,
    LocksLostError,
    MigrationFailedError,
    MigratorError,
    MisfitError,
    OutcomeUnknownError,
    RestoreError,
)
from migrator.files import A_LITTLE, has_space
from migrator.log.outcome import worker_bug

if TYPE_CHECKING:
    from migrator.database.lock import RunLock
    from migrator.engine.expectation import Expectation
    from migrator.engine.parent import Action, Parent
    from migrator.model import Outcome
    from migrator.process.worker_ending import Ending

_COMMITTED = ("commit", "publish", "restore", "restored", "prune")
"""Phases in which the one step that counts may have been taken."""
_LEFT_OPEN = (OutcomeUnknownError, RestoreError)
"""What is told as it is: the run is left for the next start, or for a person, on purpose."""


@dataclass(slots=True)
class Conclusion:
    """
    The end of one run, as its parent process finds it.

    Args:
        host: The parent process.
        lock: The lock, still held.
        aim: What the database is to hold.
        work: Has a worker do something under the lock.
    """

    parent: Parent
    lock: RunLock
    aim: Expectation
    work: Callable[[Action], Ending]
    lacking: str | None = field(default=None, init=False)
    settled: Outcome | None = field(default=None, init=False)

    def of(self, ending: Ending) -> Outcome:
        """
        Return the outcome of a run that the database confirms.

        Raises:
            MigratorError: What ended the run, and what has become of the database.
        """
        if self.lock.lost:
            raise self._without_lock(ending)
        if not ending.credible:
            return self._settle(ending)
        if ending.crash is not None:
            self._tidy(ending)
            raise worker_bug(ending.crash)
        if ending.error is not None:
            return self._failed(ending, ending.error)
        if self._confirmed(ending) and not self._unsettled():
            return self._believe(ending)
        return self._settle(ending)

    # --- looking ------------------------------------------------------------

    def _confirmed(self, ending: Ending) -> bool:
        """Look at the database, and note what it lacks."""
        try:
            self.lacking = self.aim.lacking(ending.claim)
        except InterruptedRunError:
            raise
        except MigratorError as error:
            if self.settled is None:
                raise _unseen(self.parent, error) from error
            self.lacking = error.message.rstrip(".")
        return self.lacking is None

    def _unsettled(self) -> bool:
        """Tell whether a note of a run is left: of this one, or of one that it had to recover."""
        return self._noted() is not None

    def _noted(self) -> run_state.RunState | None:
        return run_state.read(self.parent.layout.state, self.parent.layout.database)

    def _left_over(self) -> bool:
        """Tell whether this very run is noted; another's note may be left on purpose."""
        left = self._noted()
        return left is not None and left.run_id == self.parent.run_id

    def _believe(self, ending: Ending) -> Outcome:
        """Report what the database confirms."""
        done = self.parent.signals.done = self.aim.outcome(ending.claim)
        if ending.signum is None:
            return done
        name = _signal_name(ending.signum)
        message = f"{name} came when the run was complete; the application is not started."
        hint = "Start again: nothing is pending any more."
        error = InterruptedRunError(ending.signum, message, hint=hint)
        error.outcome, error.applied = done.kind, done.applied
        raise error

    # --- failures that were reported ------------------------------------------

    def _failed(self, ending: Ending, error: MigratorError) -> Outcome:
        """Raise what the worker reported, unless what it left says that it did not end so."""
        if isinstance(error, LocksLostError):
            raise self._stopped(ending, self._lost_locks(error))
        left_open = isinstance(error, _LEFT_OPEN) or error.outcome is not None
        if not left_open and self._left_over():
            if ending.began:
                return self._settle(ending)
            self._tidy(ending)
        raise self._stopped(ending, error)

    def _lost_locks(self, lost: LocksLostError) -> MigratorError:
        """Settle the database after a worker that gave up, and say what has become of it."""
        if lost.reason == "journal.lost":
            # With its locks, SQLite has rolled back in the worker.
            return lost
        from migrator.recovery.lost_locks import settle_loss

        replaced = lost.reason == "database.replaced"
        again = self._again(lambda ctx: settle_loss(ctx, replaced=replaced))
        found = self.settled = again.claim
        if found is not None and found.kind == "as_before":
            self._say_undone()
            return lost
        if found is not None:
            message, hint = f"{lost.message} {found.unsettled}", found.hint or ""
        else:
            why = f" It could not be undone: {again.error.message}" if again.error else ""
            message = f"{lost.message}{why} Nothing of the run is committed."
            hint = (again.error.hint if again.error else "") or "Start again."
        data = {**lost.data, "backup": found.backup if found is not None else None}
        return RestoreError(message, hint=hint, reason=lost.reason, data=data)

    def _stopped(self, ending: Ending, error: MigratorError) -> MigratorError:
        """Return an error as the end that a stop has made of the run, where one came."""
        if ending.signum is None or isinstance(error, _LEFT_OPEN):
            return error
        name = _signal_name(ending.signum)
        message = f"The run was ended by {name}: {error.message}"
        hint = error.hint or "Start again: the run begins anew."
        interrupted = InterruptedRunError(ending.signum, message, hint=hint)
        interrupted.data.update(error.data)
        interrupted.began, interrupted.outcome = error.began, error.outcome
        return interrupted

    def _tidy(self, ending: Ending) -> None:
        """Recover what a failed run could not recover itself; the failure is reported anyway."""
        if self._left_over():
            self._settle_in_worker(ending, full=False)

    def _without_lock(self, ending: Ending) -> MigratorError:
        """
        Return the error of a run whose lock was removed: nothing of ours may be touched any more.

        SQLite's own lock and journal keep the database whole meanwhile.
        """
        error = ending.error
        if error is not None and (error.reason == "lock.removed" or isinstance(error, _LEFT_OPEN)):
            return error
        path = self.parent.layout.lock
        if ending.credible and error is None and self._confirmed(ending):
            after = "What this run had to do is done; the next start checks it again."
            return lost_lock(path, after, "unknown")
        if ending.began:
            return lost_lock(path, "The next start recovers the database.", "unknown")
        return lost_lock(path)

    # --- whatever else it was --------------------------------------------------

    def _settle(self, ending: Ending) -> Outcome:
        """Settle what the run has left, look, and say what happened."""
        left = run_state.read(self.parent.layout.state)
        done_with = left is None and ending.phase in _COMMITTED
        noted = left is not None and left.phase in _COMMITTED
        began = ending.began or noted or ending.phase in _COMMITTED
        # Settling makes room.
        full = ending.perhaps_out_of_space and not has_space(self.parent.layout.home, A_LITTLE)
        trouble = self._settle_in_worker(ending, full=full)
        confirmed, settled = self._confirmed(ending), self.settled
        # Do not believe what the next start is going to undo.
        if confirmed and (settled is None or settled.kind != "postponed"):
            return self._believe(ending)
        if isinstance(trouble, DamagedError) and ending.phase in _COMMITTED:
            raise _written_to(self.parent, trouble.message.rstrip("."), ending.claim) from trouble
        if trouble is not None:
            raise self._troubled(
                trouble, began=began, committed=done_with or ending.phase in _COMMITTED
            )
        committed = settled is not None and settled.kind == "committed"
        if committed or (ending.credible and done_with):
            raise _written_to(self.parent, str(self.lacking), ending.claim)
        error = self._reported(ending) or self._why(ending, full=full)
        if settled is not None and settled.hint is not None:
            error.hint = settled.hint
        if settled is not None and settled.unsettled is not None:
            error.outcome = "unknown"
            raise error
        if ending.migration is not None:
            self._say_failed(ending, error)
        if began:
            self._say_undone()
        error.began = began
        if settled is None and began:
            error.outcome = "unknown"
        raise error

    def _troubled(self, trouble: MigratorError, *, began: bool, committed: bool) -> MigratorError:
        """
        Return the error that prevented the recovery, and what that means for the database.

        Before the commit nothing is lost by it: the journal is on the disk, and whoever opens
        the database next rolls back.
        """
        if isinstance(trouble, _LEFT_OPEN) or trouble.outcome is not None:
            return trouble
        if committed:
            return _unseen(self.parent, trouble)
        if began:
            trouble.outcome = "failed_restored"
        return trouble

    def _settle_in_worker(self, ending: Ending, *, full: bool) -> MigratorError | None:
        """Have a worker recover what is left; return what prevented that, if anything."""
        from migrator.recovery.dead_worker import settle_and_prove

        prove, begun = ending.signum is None, ending.phase in _COMMITTED
        again = self._again(lambda ctx: settle_and_prove(ctx, prove=prove, full=full, begun=begun))
        self.settled = again.claim
        if again.signum is not None:
            ending.signum = ending.signum or again.signum
        return again.error if prove else None

    def _again(self, action: Action) -> Ending:
        """Have another worker recover; a signal that arrived earlier does not stop it."""
        signals = self.parent.signals
        signals.received, noted = None, signals.received
        again = self.work(action)
        if signals.received is None:
            signals.received = noted
        return again

    def _say_undone(self) -> None:
        from migrator.recovery.rollback import say_as_before

        settled = self.settled
        if settled is not None and settled.method is not None and settled.method != "backup":
            say_as_before(self.parent.emit, settled.method, settled.identical)

    def _stands(self) -> str:
        """Say of the database what is known."""
        settled = self.settled
        if settled is None:
            return "the next start recovers the database"
        if settled.unsettled is not None:
            return settled.unsettled
        if settled.identical:
            return "the database is as before"
        if settled.kind == "nothing":
            return "nothing of it is left in the database"
        # A stop leaves no time to compare.
        return "what it had done to the database is undone"

    # --- what it is called -----------------------------------------------------

    def _reported(self, ending: Ending) -> MigratorError | None:
        """Return why a run failed that ended by itself and could not undo what it had done."""
        if not ending.credible or ending.error is None or ending.migration is not None:
            return None
        return self._stopped(ending, ending.error)

    def _why(self, ending: Ending, *, full: bool) -> MigratorError:
        """Return the error for a worker that ended without a report that holds."""
        how = ending.describe()
        if ending.credible:
            how = f"reported its end, and the database does not confirm it ({self.lacking})"
        if ending.signum is not None:
            name = _signal_name(ending.signum)
            where = f" in the phase {ending.phase!r}" if ending.phase else ""
            return InterruptedRunError(
                ending.signum,
                f"The run was ended by {name}{where}; {self._stands()}.",
                hint="Start again: the run begins anew.",
            )
        if ending.phase.startswith("import "):
            name = ending.phase.removeprefix("import ")
            message = f"The process that imported {name} {how}."
            hint = f"Mend {name}: importing it must not end the process."
            return MisfitError(message, hint=hint, reason="migrations.import")
        if ending.migration is None and ending.phase in ("", "prepare", "backup"):
            message = f"The worker {how} before the backup was complete."
            hint = "Start again; where it happens again, please report it with the log."
            if ending.perhaps_out_of_memory:
                hint = "Give the container more memory, if memory ran out and the kernel killed it."
            return BackupError(message, hint=hint, reason="worker.killed", retryable=True)
        return self._worker_failed(ending, how, full=full)

    def _worker_failed(self, ending: Ending, how: str, *, full: bool) -> MigratorError:
        migration = ending.migration
        if migration is not None:
            who = f"during migration {migration.get('version')} ({migration.get('name')})"
            data = {key: migration.get(key) for key in ("version", "name", "file")}
        else:
            who, data = f"in the phase {ending.phase!r}", {}
        message = f"The worker {how} {who}; {self._stands()}."
        if full:
            message = f"The disk is full: {message[0].lower()}{message[1:]}"
            hint = (
                "Make space on the volume, or enlarge it or its quota; the migration may be fine."
            )
            return DiskError(message, hint=hint, reason="disk.full", data=data)
        hint = "Mend the migration: it must not end its process."
        if ending.perhaps_out_of_memory:
            hint += " If the kernel killed it because memory ran out, give the container more."
        if ending.perhaps_out_of_space:
            hint += " If a disk or a quota was full, make space."
        return MigrationFailedError(message, hint=hint, reason="worker.killed", data=data)

    def _say_failed(self, ending: Ending, error: MigratorError) -> None:
        migration = ending.migration or {}
        self.parent.emit(
            "migration.failed",
            error.message,
            level="error",
            version=migration.get("version"),
            name=migration.get("name"),
            seconds=ending.seconds,
            file=migration.get("file"),
            line=None,
            statement=None,
            error=error.message,
        )


def _unseen(parent: Parent, error: MigratorError) -> MigratorError:
    """Return the error for a run after which the database cannot be looked at."""
    message = (
        f"What became of the run on {str(parent.layout.database)!r} is unknown: {error.message}"
    )
    kind = OutcomeUnknownError if isinstance(error, DiskError) else type(error)
    hint = error.hint or "Start again: the next start goes on from what the database holds."
    return kind(
        message,
        hint=hint,
        reason=error.reason,
        retryable=error.retryable,
        data=error.data,
        outcome="unknown",
    )


def _written_to(parent: Parent, lacking: str, claim: Outcome | None) -> RestoreError:
    """Return the error for a run that was done, and whose database does not hold it any more."""
    message = (
        f"The run on {str(parent.layout.database)!r} was complete, and the database does not"
        f" confirm it: {lacking}. Something else has written to it."
    )
    hint = "Find out what else uses the database; `migrator backups` lists what can be restored."
    data = {"backup": claim.backup} if claim is not None and claim.backup is not None else {}
    return RestoreError(message, hint=hint, reason="verify.after_release", data=data)


def _signal_name(number: int) -> str:
    return signal.Signals(number).name
