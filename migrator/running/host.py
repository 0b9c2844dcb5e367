"""
The process that stays clean: it looks, takes the lock, and lets a worker do the rest.

It never imports a migration and keeps no SQLite connection; it believes what
the worker reports, and what the database says afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migrator.definitions.sources import RegistrySource, Source, open_source
from migrator.errors import (
    BackupError,
    DamagedError,
    DiskError,
    InterruptedRunError,
    LocksLostError,
    MigrationFailedError,
    MigratorError,
    MisfitError,
    NotReadyError,
    OutcomeUnknownError,
    RestoreError,
)
from migrator.looking.survey import Survey, survey
from migrator.model import Emit, Entry, Settings
from migrator.report.outcome import Result
from migrator.storage import state
from migrator.storage.layout import Layout
from migrator.system import access
from migrator.system.deadline import Deadline
from migrator.system.files import A_LITTLE, has_room
from migrator.system.signals import Signals
from migrator.system.wait import wait_until_ready

if TYPE_CHECKING:
    from migrator.safety.context import Context
    from migrator.storage.lock import RunLock
    from migrator.system.supervision import Ending
    from migrator.system.worker import Task

_UNCERTAIN = ("commit", "publish", "restore", "restored", "prune")
"""Phases of which only the database can tell how they ended."""

Action = Callable[["Context"], dict[str, Any]]


@dataclass(slots=True)
class Host:
    """
    The parent process of a run on one database.

    `prepare` is called first in every worker: the privileges are dropped there.
    `log_thoroughly` is called when a start turns out to be a run.
    """

    settings: Settings
    layout: Layout
    emit: Emit
    run_id: str
    signals: Signals
    deadline: Deadline
    prepare: Callable[[], None] = lambda: None
    log_thoroughly: Callable[[], None] = lambda: None
    source: Source = field(init=False)

    def __post_init__(self) -> None:
        """Name the source; a registry is only read when it is asked for."""
        self.source = open_source(self.settings.migrations, self.layout.database)

    def survey(self) -> Survey:
        """Look at the database and the names of its migrations."""
        return survey(self.settings, self.layout, self.known_source())

    def known_source(self) -> Source:
        """Return the source with its names known: a registry, being code, is read in a child."""
        if isinstance(self.source, RegistrySource) and not self.source.is_known:
            self.source = self.source.known(self._read_registry(self.source))
        return self.source

    def perform(
        self, action: Action, done_already: Callable[[], Result | None] = lambda: None
    ) -> Result:
        """
        Do one piece of work under the lock, in a worker.

        Args:
            action: The work.
            done_already: Asked under the lock: where it has a result, no worker is needed.

        Raises:
            LockedError: Another run held the lock for too long.
            MigratorError: The work failed; the database is as before, or the
                error says otherwise.
        """
        from migrator.storage.lock import RunLock
        from migrator.storage.locktest import lock_self_test

        self.log_thoroughly()
        database = self.layout.database
        wait_until_ready(lambda: access.require_writable(database), self.deadline, self.emit)
        lock = RunLock.acquire(self.layout, self.settings.lock_timeout, self.emit)
        self.deadline.extend(lock.waited)
        self.signals.note_only()
        try:
            done = done_already()
            if done is not None:
                return done
            lock_self_test(self.layout.lock)
            ending = self._work(action, lock)
            return self._conclude(ending, lock)
        finally:
            lock.release()

    def _work(self, action: Action, lock: RunLock) -> Ending:
        from migrator.system.supervision import supervise

        source = open_source(self.settings.migrations, self.layout.database)

        def task(emit: Emit) -> dict[str, Any]:
            prepare_worker(self.layout, self.settings.migrations)
            return action(self._context(source, emit))

        return supervise(
            task,
            emit=self.emit,
            signals=self.signals,
            prepare=self.prepare,
            private=(lock.descriptor,),
        )

    def _context(self, source: Source, emit: Emit) -> Context:
        from migrator.safety.context import Context

        return Context(self.settings, self.layout, source, emit, self.run_id, self.deadline)

    # --- how it ended -----------------------------------------------------

    def _conclude(self, ending: Ending, lock: RunLock) -> Result:
        """Turn the end of a worker into a result or the error that ends the run."""
        if ending.crash is not None:
            raise _bug(ending.crash)
        if isinstance(ending.error, LocksLostError):
            from migrator.running.loss import conclude_loss

            lost = conclude_loss(self.emit, ending.error, lambda action: self._again(action, lock))
            if ending.signum is None or isinstance(lost, RestoreError):
                raise lost
            raise self._interrupted(ending, lost)
        if ending.error is not None and ending.signum is None:
            raise ending.error
        if ending.result is not None:
            return self._believe(ending)
        if isinstance(ending.error, RestoreError | OutcomeUnknownError):
            raise ending.error
        if ending.error is not None:
            raise self._interrupted(ending, ending.error)
        return self._settle(ending, lock)

    def _believe(self, ending: Ending) -> Result:
        report = ending.result or {}
        result = Result(report["outcome"], report["applied"], changed=tuple(report["changed"]))
        self.signals.facts = {"outcome": result.outcome, "applied": result.applied}
        if ending.signum is None:
            return result
        name = _signal_name(ending.signum)
        message = f"{name} came when the run was complete; the application is not started."
        hint = "Start again: nothing is pending any more."
        error = InterruptedRunError(ending.signum, message, hint=hint)
        error.data.update(outcome=result.outcome, applied=result.applied)
        raise error

    def _interrupted(self, ending: Ending, error: MigratorError) -> InterruptedRunError:
        signum = ending.signum or 0
        message = f"The run was ended by {_signal_name(signum)}: {error.message}"
        hint = error.hint or "Start again: the run begins anew."
        interrupted = InterruptedRunError(signum, message, hint=hint)
        interrupted.data.update(error.data)
        return interrupted

    def _settle(self, ending: Ending, lock: RunLock) -> Result:
        """Settle the database after a worker that ended without a word, and say what happened."""
        began = ending.began or ending.phase in ("commit", "publish", "restore", "restored")
        left = state.read(self.layout.state)
        # Settling makes room.
        full = ending.perhaps_out_of_room and not has_room(self.layout.home, A_LITTLE)
        settled = self._settle_in_worker(ending, lock, full=full)
        if self._was_done(ending, left, str(settled.get("outcome"))):
            return self._believe_database(ending, left)
        error = self._why(ending, full=full)
        error.hint = settled.get("hint", error.hint)
        unsettled = settled.get("unsettled")
        if not settled and ending.phase in _UNCERTAIN:
            unsettled = "the next start settles the database"
        if unsettled:
            error.data["outcome"] = "unknown"
            error.message = error.message.replace("the database is as before", unsettled)
            raise error
        if ending.migration is not None:
            self._say_failed(ending, error)
        if began:
            self.emit(
                "restore.finished",
                "The database is as it was before this run.",
                method=settled.get("method", "rollback"),
                identical=settled.get("identical"),
            )
        error.data["began"] = began
        raise error

    def _settle_in_worker(self, ending: Ending, lock: RunLock, *, full: bool) -> dict[str, Any]:
        from migrator.safety.settling import settle_and_prove

        prove = ending.signum is None
        again = self._again(lambda ctx: settle_and_prove(ctx, prove=prove, full=full), lock)
        if again.error is not None and prove:
            raise again.error
        return again.result or {}

    def _again(self, action: Action, lock: RunLock) -> Ending:
        """Have another worker settle something; a stop that has come already is no stop of it."""
        self.signals.received, noted = None, self.signals.received
        again = self._work(action, lock)
        if self.signals.received is None:
            self.signals.received = noted
        return again

    def _was_done(self, ending: Ending, left: state.RunState | None, outcome: str) -> bool:
        """Tell whether a run that was settled had done, or has now done, what it was for."""
        if outcome == "restored":
            return left is not None and (left.run_id, left.reason) == (self.run_id, "restore")
        if outcome == "postponed" and ending.phase == "restored":
            return left is not None and left.reason == "restore"
        if outcome not in ("nothing", "postponed"):
            return outcome == "committed"
        # Nothing is noted any more, or was (`baseline`).
        if ending.phase == "commit":
            return any(row.run_id == self.run_id for row in self.survey().applied)
        return ending.phase == "prune"

    def _believe_database(self, ending: Ending, left: state.RunState | None) -> Result:
        """Report the run as done: its id is in the history, so the commit had taken place."""
        found = self.survey()
        changed = tuple(row.identity for row in found.applied if row.run_id == self.run_id)
        if left is not None and "undone" in left.extra:
            changed = tuple(left.extra["undone"])
        if left is not None and left.phase in state.RESTORING and left.backup is not None:
            changed = (left.backup,)
        created = left is not None and left.way == "create"
        outcome = "created" if created else "migrated"
        ending.result = {"outcome": outcome, "applied": len(changed), "changed": list(changed)}
        return self._believe(ending)

    def _why(self, ending: Ending, *, full: bool) -> MigratorError:
        """Return the error for a worker that ended without a report."""
        how = ending.describe()
        if ending.signum is not None:
            name = _signal_name(ending.signum)
            where = f" in the phase {ending.phase!r}" if ending.phase else ""
            return InterruptedRunError(
                ending.signum,
                f"The run was ended by {name}{where}; the database is as before.",
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
                hint = "Give the container more memory, if it was killed for want of it."
            return BackupError(message, hint=hint, reason="worker.killed", retryable=True)
        return _worker_failed(ending, how, full=full)

    def _say_failed(self, ending: Ending, error: MigratorError) -> None:
        migration = ending.migration or {}
        self.emit(
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

    # --- registries -------------------------------------------------------

    def registry_way(self, pending: Collection[object]) -> str:
        """Return the way that a registry's pending migrations need; asked of a child."""
        source = open_source(self.settings.migrations, self.layout.database)

        def task(_emit: Emit) -> dict[str, Any]:
            prepare_worker(self.layout, self.settings.migrations)
            scripts = [each for each in source.scripts() if each.entry.key in pending]
            return {"transactional": all(script.transactional for script in scripts)}

        answer = self._ask(task, Path(self.settings.migrations))
        return "in-place" if answer["transactional"] else "copy"

    def _read_registry(self, source: RegistrySource) -> tuple[Entry, ...]:
        """Read a registry's names in a child, since the file is code."""

        def task(_emit: Emit) -> dict[str, Any]:
            prepare_worker(self.layout, self.settings.migrations)
            entries = source.entries()
            return {"entries": [[entry.version, entry.name] for entry in entries]}

        rows = self._ask(task, source.path)["entries"]
        return tuple(Entry(name, version, name, source.path) for version, name in rows)

    def _ask(self, task: Task, path: Path) -> dict[str, Any]:
        """Have a child look into a registry's file."""
        from migrator.system.supervision import supervise

        ending = supervise(task, emit=self.emit, signals=self.signals, prepare=self.prepare)
        if ending.error is not None:
            raise ending.error
        if ending.crash is not None:
            raise _bug(ending.crash)
        self.signals.check()
        if ending.result is None:
            message = f"The process that read {str(path)!r} {ending.describe()}."
            hint = f"Mend {path.name}: reading it must not end the process."
            raise MisfitError(message, hint=hint, reason="migrations.import")
        return ending.result


def prepare_worker(layout: Layout, migrations: str) -> None:
    """Make the worker's process fit for other people's code."""
    import sys

    from migrator.system.protection import protect

    sys.dont_write_bytecode = True
    protect(layout.database)
    own = os.path.abspath(migrations.partition(".py:")[0])
    directory = own if os.path.isdir(own) else str(Path(own).parent)
    sys.path[:0] = [path for path in (os.getcwd(), directory) if path not in sys.path]


def check_released(host: Host, result: Result) -> None:
    """
    Look once more after the database has been released.

    Raises:
        RestoreError: It is not what was committed, or is damaged.
    """
    if result.outcome not in ("migrated", "created"):
        return
    try:
        found = host.survey()
    except NotReadyError:
        # Somebody uses it already, whose lock keeps readers out.
        return
    except DamagedError as error:
        message = f"This is found after a run that had committed: {error.message}"
        raise _written_to(message) from error
    if not found.pending or found.unsettled:
        return
    message = (
        f"Migrations are pending in {str(host.layout.database)!r} after a run that had committed"
        " and verified them: something else has written to it."
    )
    raise _written_to(message)


def _written_to(message: str) -> RestoreError:
    hint = "Find out what else uses the database; `migrator backups` lists what can be restored."
    return RestoreError(message, hint=hint, reason="verify.after_release")


def _worker_failed(ending: Ending, how: str, *, full: bool) -> MigratorError:
    migration = ending.migration
    if migration is not None:
        who = f"during migration {migration.get('version')} ({migration.get('name')})"
        data = {key: migration.get(key) for key in ("version", "name", "file")}
    else:
        who, data = f"in the phase {ending.phase!r}", {}
    message = f"The worker {how} {who}; the database is as before."
    if full:
        message = f"The disk is full: {message[0].lower()}{message[1:]}"
        hint = "Make space on the volume, or enlarge it or its quota; the migration may be fine."
        return DiskError(message, hint=hint, reason="disk.full", data=data)
    hint = "Mend the migration: it must not end its process."
    if ending.perhaps_out_of_memory:
        hint += " If the kernel killed it for want of memory, give the container more."
    if ending.perhaps_out_of_room:
        hint += " If a disk or a quota was full, make space."
    return MigrationFailedError(message, hint=hint, reason="worker.killed", data=data)


def _bug(trace: str) -> MigratorError:
    last = trace.strip().splitlines()[-1][:500]
    return MigratorError(
        f"This program failed: {last}",
        hint="Please report it with the traceback in this line.",
        data={"traceback": trace},
    )


def _signal_name(number: int) -> str:
    import signal

    return signal.Signals(number).name
