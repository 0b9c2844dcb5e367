"""
`--migrate backup`: prepare the start of an application that migrates itself.

A verified backup before the first start of each of its versions, and no start of a version
that is older than the one that the database was last used by. Nothing of the database is
changed, and no migrations of ours are looked for.
"""

from __future__ import annotations

import os

from migrator import app_version
from migrator.database import run_state, started
from migrator.database.lock_probe import probe
from migrator.engine.parent import Parent
from migrator.errors import MisfitError
from migrator.inspect.status import refuse_missing
from migrator.model import Outcome
from migrator.run import in_worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.context import Context
    from migrator.database.workspace import Layout
    from migrator.model import Emit, Settings


def back_up_before_start(parent: Parent) -> Outcome:
    """
    Have a backup of the database before a version of the application is started.

    With `--app-version` once for each version; without one of every state that has none
    yet. Where there is nothing to do, nothing is forked, locked or written.

    Raises:
        MisfitError: The database was last used by a newer version.
        MigratorError: One of its kinds, with its exit code.
    """
    layout, settings = parent.layout, parent.settings
    if not (probe(layout.lock) or run_state.read(layout.state, layout.database)):
        exists = os.path.lexists(layout.database)
        last = started.read(layout)
        if not exists:
            refuse_missing(settings, layout)
        elif settings.app_version is not None:
            refuse_newer(settings, layout, last)
        version = settings.app_version
        known = last is None if version is None else app_version.same(last, version)
        if known and not (exists and version is None):
            return Outcome("up_to_date" if exists else "no_database")
    from migrator.engine.expectation import ready_to_start

    return in_worker(parent, before_start, ready_to_start)


def refuse_newer(
    settings: Settings, layout: Layout, last: str | None, emit: Emit | None = None
) -> None:
    """
    Refuse a database that a newer version of the application was started on.

    Args:
        settings: The version that is about to be started, and whether `newer` is accepted.
        layout: The database's paths.
        last: The version that was started last, None where that is unknown.
        emit: Gets a warning where it is accepted, or where the two do not compare.

    Raises:
        MisfitError: It was newer.
    """
    version = settings.app_version
    if version is None or last is None:
        return
    order = app_version.compare(last, version)
    if order is None:
        message = (
            f"Whether version {last!r} of the application, which was started last, is newer than"
            f" {version!r} cannot be told; the database is backed up before that is started."
        )
        if emit is not None:
            emit("history.misfit", message, level="warning", kind="app-version", version=last)
    elif order > 0:
        message = (
            f"The database {str(layout.database)!r} was last used by version {last!r} of the"
            f" application, and the older {version!r} is about to be started."
        )
        if "newer" not in settings.accept:
            hint = _way_back(settings, layout, last, version)
            raise MisfitError(message, hint=hint, reason="history.newer_app")
        if emit is not None:
            emit("history.misfit", message, level="warning", kind="newer", version=last)


def _way_back(settings: Settings, layout: Layout, last: str, version: str) -> str:
    """Name the ways out of a database that is newer than the application."""
    from migrator.backups.find import leading_back_to
    from migrator.log.hints import command

    start = f"Start {last} or a later version"
    kept = (
        "Where the application says that it can use a newer database, `--accept newer`"
        " (MIGRATOR_ACCEPT=newer) starts it, after a backup."
    )
    found = leading_back_to(layout, version)
    if found is None:
        return f"{start}; no backup here leads back to {version}. {kept}"
    line = command(settings, "restore", *found)
    return f"{start}, or go back with `{line}` (what was written since that backup is lost). {kept}"


# --- the worker ------------------------------------------------------------------


def before_start(ctx: Context) -> Outcome:
    """
    Recover, have the database backed up where that is due, and note what is started.

    Raises:
        MisfitError: The database was last used by a newer version.
        BackupError: The backup cannot be written, or there is no space for it.
    """
    from migrator.backup_step import back_up_beside
    from migrator.backups.catalog import START
    from migrator.prepare import require_no_lost_database
    from migrator.recovery.after_crash import recover
    from migrator.recovery.run_error import as_run_error

    layout, version = ctx.layout, ctx.settings.app_version
    with as_run_error(ctx):
        if recover(ctx).kind != "nothing":
            require_no_lost_database(ctx)
        last = started.read(layout)
        if not os.path.lexists(layout.database):
            refuse_missing(ctx.settings, layout)
            _note(ctx, last)
            return Outcome("no_database")
        if app_version.same(last, version):
            return Outcome("up_to_date")
        refuse_newer(ctx.settings, layout, last, ctx.emit)
        saved = back_up_beside(ctx, START, version)
        _note(ctx, last)
        kind = "backed_up" if saved.run_id == ctx.run_id else "up_to_date"
        return Outcome(kind, (saved.name,), str(saved.path))


def _note(ctx: Context, last: str | None) -> None:
    """Note the version that is about to start; without one, that it is unknown."""
    from migrator.database.workspace import like_database
    from migrator.log.translate import of_system

    version = ctx.settings.app_version
    try:
        if version is not None:
            started.write(ctx.layout, version, like_database(ctx.layout))
        elif last is not None:
            started.forget(ctx.layout)
    except OSError as error:
        raise of_system(error, "while the application's version was noted") from error
