"""
The Python API of the two frameworks that this project grows out of.

Each call goes through the same lock, backup, transaction, verification and
restore as the command, in the caller's process: no fork, no signal handler, no
variable read. Making a runner creates nothing.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

from migrator import registry
from migrator.context import Context
from migrator.deadline import Deadline
from migrator.layout import Layout
from migrator.lock import RunLock
from migrator.logs import Forward, to_structlog
from migrator.model import Settings
from migrator.outcome import Result, new_run_id
from migrator.sources import CodeSource, DirectorySource, Source
from migrator.survey import Survey, judge, survey

InUse = Literal["wait", "allow"]


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
            files; None for migrations that `add_migration` registers.
        in_use: `allow` migrates beside other connections, also those of this
            process; `wait` waits for the database to itself.
        options: What else `migrator.model.Settings` has, by field:
            `backup_dir`, `backup_keep`, `lock_timeout`, `row_guard`...

    Raises:
        TypeError: An unknown option.
    """

    def __init__(
        self,
        db_path: str | os.PathLike[str],
        migrations_dir: str | os.PathLike[str] | None = None,
        *,
        in_use: InUse = "allow",
        **options: Any,
    ) -> None:
        self.db_path = db_path
        self.migrations_dir = migrations_dir
        self.migrations: list[Any] = []
        directory = "" if migrations_dir is None else os.fspath(migrations_dir)
        self._settings = _settings(Path(db_path), directory, in_use, options)

    def add_migration(self, migration: Any) -> None:
        """
        Register a migration: any object with `name`, `version`, `description` and `up_func`.

        Raises:
            MisfitError: It lacks one of them.
        """
        registry.script_of(migration)
        self.migrations.append(migration)

    def run_migrations(self, verbose: bool = True) -> int:
        """
        Apply the registered migrations that are pending; returns how many.

        A database that does not exist is left alone.

        Raises:
            migrator.errors.MigratorError: One of its kinds; the database is as before.
        """
        return self._apply(verbose=verbose)

    def run_pending_migrations(self, verbose: bool = True) -> int:
        """
        Apply the pending migrations; returns how many.

        Args:
            verbose: Whether to print each one's name.

        Raises:
            migrator.errors.MigratorError: One of its kinds; the database is as before.
        """
        return self._apply(verbose=verbose)

    def get_status(self) -> Status:
        """Return how many migrations there are, are applied and are pending, and their versions."""
        found = self._survey()
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
        from migrator.undo import down

        if not Layout.of(self._settings).database.exists():
            _say("No migrations to roll back", verbose=verbose)
            return False
        result = self._under_lock(lambda ctx: down(ctx, None, 1))
        for name in result.changed:
            _say(f"Rolled back migration {name}", verbose=verbose)
        if not result.changed:
            _say("No migrations to roll back", verbose=verbose)
        return bool(result.changed)

    # --- how ----------------------------------------------------------------

    def _apply(self, *, verbose: bool) -> int:
        from migrator.run import upgrade

        found = self._survey()
        layout = Layout.of(self._settings)
        judge(self._settings, layout, found, to_structlog())
        if found.up_to_date:
            _say("No pending migrations", verbose=verbose)
            return 0
        result = self._under_lock(upgrade)
        for name in result.changed:
            _say(f"Applied migration {name}", verbose=verbose)
        return result.applied

    def _survey(self) -> Survey:
        return survey(self._settings, Layout.of(self._settings), self._source())

    def _under_lock(self, action: Callable[[Context], dict[str, Any]]) -> Result:
        layout = Layout.of(self._settings)
        emit = _forward(layout)
        lock = RunLock.acquire(layout, self._settings.lock_timeout, emit)
        try:
            ctx = Context(
                self._settings,
                layout,
                self._source(),
                emit,
                emit.run_id or "",
                Deadline(self._settings.wait_timeout),
                inline=True,
            )
            report = action(ctx)
        finally:
            lock.release()
        return Result(report["outcome"], report["applied"], changed=tuple(report["changed"]))

    def _source(self) -> Source:
        if self.migrations_dir is not None:
            return DirectorySource(Path(self.migrations_dir))
        return CodeSource([registry.script_of(each) for each in self.migrations])


def _forward(layout: Layout) -> Forward:
    forward = to_structlog()
    forward.run_id = new_run_id()
    forward.database = str(layout.database)
    return forward


def _settings(database: Path, migrations: str, in_use: InUse, options: dict[str, Any]) -> Settings:
    """Return the settings of a runner, with the paths in them made paths."""
    for name in ("backup_dir",):
        if options.get(name) is not None:
            options[name] = Path(options[name])
    if "accept" in options:
        options["accept"] = frozenset(options["accept"])
    settings = Settings(database=database, migrations=migrations, in_use=in_use)
    return replace(settings, **options)


def _say(text: str, *, verbose: bool) -> None:
    if verbose:
        print(text)  # noqa: T201 - what `verbose` has always done
