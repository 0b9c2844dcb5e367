"""
The process that stays clean: it looks, takes the lock, and has a worker do the rest.

It never imports a migration and keeps no SQLite connection; it believes nothing of
what the worker reports that the database does not confirm.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

from migrator.database.workspace import Layout
from migrator.errors import MisfitError, NotReadyError, UsageError
from migrator.formats.opening import open_source
from migrator.formats.source import Source
from migrator.inspect.status import DatabaseStatus, inspect_status
from migrator.model import Emit, Entry, Outcome, Script, Settings, way_of
from migrator.process.signals import Signals
from migrator.value import as_dict
from migrator.wait import Deadline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias, TypeVar

    from migrator.context import Context, Observer
    from migrator.database.lock import RunLock
    from migrator.formats.source import Ask
    from migrator.log.lines import Log
    from migrator.process.worker import Task
    from migrator.process.worker_ending import Ending

    T = TypeVar("T")

Action: TypeAlias = "Callable[[Context], Outcome]"

READABLE = "The database can be read."
_LET_IT_FINISH = "It keeps readers out: let it finish, or allow more time with `--wait-timeout`."


class Parent:
    """
    The parent process of a run on one database.

    Args:
        log: Where events go, with the run's id.
        prepare: Called first in every worker: the privileges are dropped there.
        command: What the run is, for later questions: a command's name for one of those.
    """

    def __init__(
        self,
        settings: Settings,
        layout: Layout,
        log: Log,
        signals: Signals,
        deadline: Deadline,
        *,
        prepare: Callable[[], None] = lambda: None,
        command: str = "entrypoint",
    ) -> None:
        self.settings = settings
        self.layout = layout
        self.log = log
        self.emit: Emit = log
        self.run_id = log.run_id or ""
        self.signals = signals
        self.deadline = deadline
        self.command = command
        self.prepare = prepare
        self.observer: Observer | None = None
        # A registry is only read when it is asked for, and in a child.
        self.source = self._open(self._read_registry, self._ask_pending)

    def _open(self, ask: Ask | None, pending: Callable[[], bool]) -> Source:
        """Return the migrations: of files, of a registry, or of another tool's command."""
        settings = self.settings
        if not settings.migrate_command:
            if settings.pending_command:
                raise _no_migrate_command()
            return open_source(settings, self.layout.database, ask)
        from migrator.database import commanded
        from migrator.formats.command import CommandSource

        asked = pending if settings.pending_command else None
        left = partial(commanded.read, self.layout)
        return CommandSource(settings.migrate_command, settings.app_version, asked, left)

    def survey(self) -> DatabaseStatus:
        """Look at the database and the names of its migrations."""
        return inspect_status(self.settings, self.layout, self.source)

    def when_free(self, look: Callable[[], T], hint: str = _LET_IT_FINISH) -> T:
        """
        Look at the database.

        Args:
            look: Does it.
            hint: What to do if the database is in use.

        Raises:
            NotYetError: Somebody's lock keeps readers out.
        """
        try:
            return look()
        except NotReadyError as error:
            if error.reason != "database.in_use":
                raise
            from migrator.exclusive import in_use

            raise in_use(self.layout.database, hint) from error

    def work(self, action: Action, lock: RunLock, *, connect: bool = False) -> Ending:
        """
        Have a worker do something under the lock, and wait for its end.

        Args:
            action: What it does.
            lock: The run's lock.
            connect: Whether it works with what the application brings to its connections
                (`--connect`).
        """
        from migrator.process.supervisor import supervise

        source = self._open(None, self._is_pending)

        def task(emit: Emit) -> dict[str, Any]:
            prepare_worker(self.layout, self.settings)
            ctx = self.context(source, emit, lock)
            with _connected(ctx, wanted=connect):
                return as_dict(action(ctx))

        self.log.expect_run()
        return supervise(
            task,
            emit=self.emit,
            signals=self.signals,
            prepare=self.prepare,
            private=(lock.descriptor,),
        )

    def context(self, source: Source, emit: Emit, lock: RunLock | None = None) -> Context:
        """Return what the steps of this run share."""
        from migrator.context import Context

        return Context(
            self.settings,
            self.layout,
            source,
            emit,
            self.run_id,
            self.deadline,
            lock=lock,
            observer=self.observer,
        )

    def in_child(self, task: Task, emit: Emit) -> Ending:
        """
        Have a child look at something that is code, without the lock.

        Raises:
            InterruptedRunError: A signal came meanwhile.
        """
        from migrator.process.supervisor import supervise

        ending = supervise(task, emit=emit, signals=self.signals, prepare=self.prepare)
        self.signals.check()
        return ending

    def way(self, pending: Sequence[Entry], scripts: Sequence[Script] | None) -> str:
        """
        Return the way that pending migrations take.

        Args:
            pending: Their names.
            scripts: The same as they were read; None for a registry, of which a child says it.
        """
        if self.source.way is not None:
            return self.source.way
        if scripts is None:
            return self._registry_way({entry.key for entry in pending})
        return way_of(scripts)

    # --- registries -------------------------------------------------------

    def _registry_way(self, pending: Collection[object]) -> str:
        """Return the way that a registry's pending migrations need; asked of a child."""
        source = self._open(None, self._is_pending)

        def task(_emit: Emit) -> dict[str, Any]:
            prepare_worker(self.layout, self.settings)
            return {"way": way_of(each for each in source.scripts() if each.entry.key in pending)}

        path = Path(self.settings.migrations.partition(".py:")[0])
        answer = self.ask(task, path).get("way")
        if answer not in ("in-place", "copy"):
            raise _unread(path, "did not say which way its migrations need")
        return str(answer)

    def _read_registry(self, path: Path) -> list[tuple[str, str]]:
        """Read a registry's versions and names in a child, since the file is code."""
        source = self._open(None, self._is_pending)

        def task(_emit: Emit) -> dict[str, Any]:
            prepare_worker(self.layout, self.settings)
            entries = source.entries()
            return {"entries": [[entry.version, entry.name] for entry in entries]}

        rows = self.ask(task, path).get("entries")
        if not isinstance(rows, list) or not all(map(_is_entry, rows)):
            raise _unread(path, "did not say which migrations there are")
        return [(version, name) for version, name in rows]

    # --- another tool's command ----------------------------------------------

    def _is_pending(self) -> bool:
        """Ask `--pending-command`; in a worker."""
        from migrator.process.external import is_pending

        return is_pending(self.layout.database, self.settings.pending_command)

    def _ask_pending(self) -> bool:
        """Have a child ask `--pending-command`, which is other people's code."""

        def task(_emit: Emit) -> dict[str, Any]:
            return {"pending": self._is_pending()}

        path = Path(self.settings.pending_command[0])
        answer = self.ask(task, path).get("pending")
        if not isinstance(answer, bool):
            raise _unread(path, "did not say whether something is pending")
        return answer

    def ask(self, task: Task, path: Path) -> dict[str, Any]:
        """
        Have a child look into a file of code: a registry, or what `--connect` names.

        Raises:
            MisfitError: It ended without a valid report.
        """
        from migrator.log.outcome import worker_bug

        ending = self.in_child(task, self.emit)
        if not ending.credible:
            raise _unread(path, ending.describe())
        if ending.error is not None:
            raise ending.error
        if ending.crash is not None:
            raise worker_bug(ending.crash)
        return ending.result or {}


def _no_migrate_command() -> UsageError:
    message = "--pending-command (MIGRATOR_PENDING_COMMAND) is given without --migrate-command."
    hint = "Name the command that migrates in `--migrate-command` (MIGRATOR_MIGRATE_COMMAND)."
    return UsageError(message, hint=hint, data={"option": "--pending-command"})


def _is_entry(row: object) -> bool:
    """Tell whether a row of what a child has read is a version and a name."""
    return isinstance(row, list) and len(row) == 2 and all(isinstance(each, str) for each in row)


def _unread(path: Path, how: str) -> MisfitError:
    message = f"The process that read {str(path)!r} {how}."
    hint = f"Mend {path.name}: reading it must not end the process."
    return MisfitError(message, hint=hint, reason="migrations.import")


def _connected(ctx: Context, *, wanted: bool) -> contextlib.AbstractContextManager[None]:
    """Within, the run's connections have what the application brings to them, where wanted."""
    if not wanted or ctx.settings.connect is None:
        return contextlib.nullcontext()
    from migrator.prepare import connected

    return connected(ctx)


def prepare_worker(layout: Layout, settings: Settings) -> None:
    """Make the worker's process fit for other people's code."""
    import sys

    from migrator.process.audit_hook import protect

    sys.dont_write_bytecode = True
    protect(layout.database)
    theirs = [each for each in (settings.migrations, settings.connect) if each]
    directories = [os.getcwd()] if theirs else []
    for each in theirs:
        own = os.path.abspath(str(each).partition(".py:")[0])
        directories.append(own if os.path.isdir(own) else str(Path(own).parent))
    sys.path[:0] = [path for path in dict.fromkeys(directories) if path not in sys.path]
