"""
The Python API of the two frameworks that this project grows out of.

Each call goes through the same lock, backup, transaction, verification and
restore as the command, in the caller's process: no fork, no signal handler, no
variable read. Making a runner creates nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from migrator import access
from migrator.context import Context
from migrator.database.lock import RunLock
from migrator.database.workspace import Layout
from migrator.engine.last_run import noted_at_end
from migrator.errors import InterruptedRunError, MigratorError
from migrator.formats import registry
from migrator.formats.source import CodeSource, DirectorySource, Source
from migrator.inspect import location
from migrator.inspect.status import inspect_status
from migrator.log.hints import in_python
from migrator.log.lines import Forward, to_structlog
from migrator.log.outcome import new_run_id, say_failed, say_finished
from migrator.model import Outcome, Settings
from migrator.options.table import read_given
from migrator.process.own_sqlite import require_own_sqlite
from migrator.terminal import printable
from migrator.value import replace
from migrator.wait import Deadline

InUse = Literal["wait", "allow"]
Connect = Callable[[sqlite3.Connection], object]

_DIRECTORY = "migrations"
"""Where files are looked for when neither a directory nor a migration was given."""


@dataclass(frozen=True)
class Migration:
    """
    A migration registered in code.

    Args:
        name: What identifies it in the history; never changed once applied.
        version: For people; it need not be unique.
        description: What it does.
        up_func: Called with a cursor.
        transactional: False for what cannot run in a transaction (`VACUUM`).
        allow_row_loss: Tables that may lose rows.
    """

    name: str
    version: str
    description: str
    up_func: Callable[[sqlite3.Cursor], Any]
    transactional: bool = True
    allow_row_loss: tuple[str, ...] = ()


class Status(TypedDict):
    """What `get_status` returns."""

    total_available: int
    total_applied: int
    total_pending: int
    applied_versions: list[str]
    pending_versions: list[str]


class MigrationRunner:
    """
    Migrations of one database: a directory's files, or those registered in code.

    Args:
        db_path: The database.
        migrations_dir: The directory of `001_name.py` and `002_name.sql`
            files; None for migrations that `add_migration` registers, and for
            `migrations` where none are registered.
        in_use: `allow` migrates beside other connections, also those of this
            process; `wait` waits for the database to itself.
        connect: Registers what the database needs of the application on each connection of a
            run, functions, collations, tokenizers and extensions: a function that takes the
            connection, or the file that has it as `connect`.
        options: What else `migrator.model.Settings` has, by field:
            `backup_dir`, `backup_keep`, `lock_timeout`, `row_guard`...

    Raises:
        TypeError: An unknown option.
        UsageError: A value that its flag would not take either, `:memory:` among them.
        MisfitError: Another module has replaced `sqlite3`.
    """

    def __init__(
        self,
        db_path: str | os.PathLike[str],
        migrations_dir: str | os.PathLike[str] | None = None,
        *,
        in_use: InUse = "allow",
        connect: Connect | str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        self.db_path = db_path
        self.migrations_dir = migrations_dir
        self.migrations: list[Any] = []
        self._connect = connect if callable(connect) else None
        if connect is not None and self._connect is None:
            options["connect"] = connect
        directory = "" if migrations_dir is None else os.fsdecode(migrations_dir)
        self._settings = _settings(os.fsdecode(db_path), directory, in_use, options)
        with in_python(self._settings):
            require_own_sqlite(sqlite3)

    def add_migration(self, migration: Any) -> None:
        """
        Register a migration: any object with `name`, `version`, `description` and `up_func`.

        Raises:
            MisfitError: It lacks one of them.
        """
        registry.script_of(migration)
        self.migrations.append(migration)

    def run_migrations(self, verbose: bool = True) -> bool:
        """
        Apply the registered migrations that are pending.

        A database that does not exist is left alone.

        Returns:
            True, also with nothing pending: whoever asks `if not
            runner.run_migrations()` asks for a failure, which raises here.

        Raises:
            migrator.errors.MigratorError: One of its kinds; the database is as before.
        """
        self._apply("run_migrations", self._registered(), verbose=verbose)
        return True

    def run_pending_migrations(self, verbose: bool = True) -> int:
        """
        Apply the pending migrations; returns how many.

        Args:
            verbose: Whether to print each one's name.

        Raises:
            migrator.errors.MigratorError: One of its kinds; the database is as before.
        """
        return self._apply("run_pending_migrations", self._source(), verbose=verbose)

    def get_status(self) -> Status:
        """Return how many migrations there are, are applied and are pending, and their versions."""
        with in_python(self._settings):
            require_own_sqlite(sqlite3)
            found = inspect_status(self._settings, Layout.of(self._settings), self._source())
        return Status(
            total_available=len(found.entries),
            total_applied=len(found.applied),
            total_pending=len(found.pending),
            applied_versions=[row.identity for row in found.applied],
            pending_versions=[entry.identity for entry in found.pending],
        )

    def rollback_last(self, verbose: bool = True) -> bool:
        """
        Undo the migration that was applied last.

        Returns:
            Whether there was one.

        Raises:
            MissingFileError: It has no file any more (also a `ValueError`).
            MissingDownError: It has no `down` (also a `ValueError`).
        """
        with in_python(self._settings):
            require_own_sqlite(sqlite3)
        from migrator.down import down

        if not Layout.of(self._settings).database.exists():
            _say("No migrations to roll back", verbose=verbose)
            return False
        source = self._source()
        result = self._logged(
            "rollback_last",
            lambda emit: self._under_lock(emit, source, lambda ctx: down(ctx, None, 1)),
        )
        for name in result.changed:
            _say(f"Rolled back migration {name}", verbose=verbose)
        if not result.changed:
            _say("No migrations to roll back", verbose=verbose)
        return bool(result.changed)

    # --- how ----------------------------------------------------------------

    def _apply(self, command: str, source: Source, *, verbose: bool) -> int:
        result = self._logged(command, lambda emit: self._upgrade(emit, source))
        for name in result.changed:
            _say(f"Applied migration {name}", verbose=verbose)
        if not result.changed:
            _say("No pending migrations", verbose=verbose)
        return result.applied

    def _upgrade(self, emit: Forward, source: Source) -> Outcome:
        """Look first, and take the lock only if there is something to do."""
        from migrator.run import nothing_pending, upgrade

        layout = Layout.of(self._settings)
        found = inspect_status(self._settings, layout, source)
        done = nothing_pending(self._settings, layout, found, emit)
        return done if done is not None else self._under_lock(emit, source, upgrade)

    def _logged(self, command: str, work: Callable[[Forward], Outcome]) -> Outcome:
        """Do one run, and say in the log that it begins and how it ended."""
        emit = _forward(Layout.of(self._settings))
        began = time.monotonic()
        emit("run.started", f"`{command}` begins.", command=command)
        try:
            with in_python(self._settings):
                require_own_sqlite(sqlite3)
                self._wait_for_place(emit)
                result = work(emit)
        except MigratorError as error:
            say_failed(emit, error, time.monotonic() - began)
            if isinstance(error, InterruptedRunError) and error.interrupt is not None:
                raise error.interrupt from None
            raise
        except KeyboardInterrupt as interrupt:
            say_failed(emit, _stopped(interrupt, began=False), time.monotonic() - began)
            raise
        say_finished(emit, result, time.monotonic() - began)
        return result

    def _wait_for_place(self, emit: Forward) -> None:
        """Refuse, as the command does, a place in which no database is safe; nothing is opened."""
        layout = Layout.of(self._settings)
        if self.migrations and not os.path.lexists(layout.database.parent):
            return  # the application has still to make it
        location.wait_for(layout, self._settings, Deadline(self._settings.wait_timeout), emit)

    def _under_lock(
        self, emit: Forward, source: Source, action: Callable[[Context], Outcome]
    ) -> Outcome:
        from migrator.prepare import connected

        layout = Layout.of(self._settings)
        deadline = Deadline(self._settings.wait_timeout)
        access.require_mounted_writable(layout.database)
        lock = RunLock.acquire(layout, self._settings.lock_timeout, emit, alone=True)
        deadline.extend(lock.waited)
        try:
            ctx = Context(
                self._settings,
                layout,
                source,
                emit,
                emit.run_id or "",
                deadline,
                inline=True,
                lock=lock,
            )
            noted = noted_at_end(layout, lock, "api", ctx.run_id)
            with noted as ended, connected(ctx, self._connect):
                try:
                    return ended(action(ctx))
                except KeyboardInterrupt as interrupt:
                    raise _stopped(interrupt, began=ctx.progress.began) from interrupt
        finally:
            lock.release()

    def _source(self) -> Source:
        if self.migrations_dir is None and self.migrations:
            return self._registered()
        return DirectorySource(Path(os.fsdecode(self.migrations_dir or _DIRECTORY)))

    def _registered(self) -> Source:
        return CodeSource(registry.scripts_of(self.migrations))


def _stopped(interrupt: KeyboardInterrupt, *, began: bool) -> InterruptedRunError:
    """Return what to log for a Ctrl-C, which is passed on to the caller."""
    message, hint = "A KeyboardInterrupt ended the run.", "Start it again: it begins anew."
    stopped = InterruptedRunError(signal.SIGINT, message, hint=hint)
    stopped.began, stopped.interrupt = began, interrupt
    return stopped


def _forward(layout: Layout) -> Forward:
    forward = to_structlog()
    forward.run_id = new_run_id()
    forward.database = str(layout.database)
    return forward


def _settings(database: str, migrations: str, in_use: InUse, options: dict[str, Any]) -> Settings:
    """
    Return the settings of a runner, each value judged as on a command line.

    What a `migrator` that a hint names has to be told as well is noted as its flags.
    """
    _refuse_options(options)
    given = {"database": database, "in_use": in_use, **options}
    read = {name: read_given(name, value) for name, value in given.items()}
    flags = {
        "--database": read["database"],
        "--migrations": migrations or None,
        "--connect": read.get("connect"),
        "--backup-dir": read.get("backup_dir"),
        "--history-table": read.get("history_table"),
    }
    words = tuple(word for flag, value in flags.items() if value for word in (flag, str(value)))
    return replace(Settings(read["database"], migrations, given=words), **read)


_OF_COMMANDS = {
    "rehearse": "`migrator rehearse` runs beside the caller",
    "format": "another tool's files are run with `migrator up`",
    "migrate_command": "another tool's command is run with `migrator up`",
    "pending_command": "another tool's command is run with `migrator up`",
}


def _refuse_options(options: dict[str, Any]) -> None:
    """
    Refuse an unknown option, or one that a runner does not have: it would have no effect.

    Raises:
        TypeError: With the name.
    """
    for name, value in options.items():
        if name in ("database", "migrations", "given") or name not in Settings.__match_args__:
            msg = f"MigrationRunner() got an unexpected keyword argument {name!r}"
            raise TypeError(msg)
        if name in _OF_COMMANDS and (name, value) not in (("format", "auto"), ("format", "native")):
            msg = f"`{name}` is an option of the commands: {_OF_COMMANDS[name]}."
            raise TypeError(msg)


def _say(text: str, *, verbose: bool) -> None:
    """Print what has been committed; failing to print it is not a failure of the run."""
    with contextlib.suppress(OSError, ValueError):
        if verbose:
            print(printable(text))  # noqa: T201 - what `verbose` has always done
