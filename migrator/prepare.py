"""Before anything is written: look under the lock, and read the pending migrations."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

from migrator.change.migrations import Migrations
from migrator.context import Context
from migrator.database import connecting
from migrator.errors import UsageError
from migrator.exclusive import open_to_recover
from migrator.inspect.location import check_not_lost
from migrator.inspect.status import DatabaseStatus, inspect_status, missing, say_plan
from migrator.inspect.texts import fitting
from migrator.log.hints import command
from migrator.model import Applied, Script
from migrator.recovery.phases import enter
from migrator.value import replace
from migrator.wait import wait_until_ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.change.command import ExternalCommand


def require_no_lost_database(ctx: Context) -> None:
    """
    Look once more whether a lost database is a first install, now that nothing is unfinished.

    Raises:
        NotReadyError: Its journal or its backups are there without it.
    """
    layout = ctx.layout
    wait_until_ready(
        lambda: check_not_lost(layout.database, layout.backup_dir, ctx.settings.create),
        ctx.deadline,
        ctx.emit,
        level=None,
    )


def look_under_lock(ctx: Context) -> DatabaseStatus:
    """Look under the lock, letting SQLite recover the database first where it has to be."""
    found = inspect_status(ctx.settings, ctx.layout, ctx.source)
    if found.sight.needs_recovery:
        open_to_recover(ctx).close()
        found = inspect_status(ctx.settings, ctx.layout, ctx.source)
    return replace(found, sight=replace(found.sight, running=False))


def look_for_writing(ctx: Context) -> DatabaseStatus:
    """
    Look under the lock at a database that has to exist.

    Raises:
        NotReadyError: It does not exist.
    """
    found = look_under_lock(ctx)
    if not found.sight.exists:
        raise missing(ctx.layout)
    return found


def prepare(ctx: Context, found: DatabaseStatus) -> Migrations | ExternalCommand:
    """
    Read, check and import what is pending, before anything is written.

    Of another tool's command only the program is looked for.

    Raises:
        MisfitError: A file cannot be parsed or imported, has been changed, or
            requires what is not there.
    """
    if ctx.settings.migrate_command:
        return _command(ctx, found)
    scripts = fitting(ctx.settings, ctx.layout, ctx.emit, ctx.source, found)
    planned = Migrations(
        scripts=tuple(scripts), applied=found.applied, creates=not found.sight.exists
    )
    say_plan(ctx.emit, found, planned.needs)
    return load(ctx, planned)


def _command(ctx: Context, found: DatabaseStatus) -> ExternalCommand:
    from migrator.change.command import ExternalCommand
    from migrator.process.external import program

    (entry,) = found.pending
    words, asking = ctx.settings.migrate_command, ctx.settings.pending_command
    for each in filter(None, (words, asking)):
        program(each)
    say_plan(ctx.emit, found, "copy")
    return ExternalCommand(words=words, pending=asking, entry=entry, creates=not found.sight.exists)


@contextlib.contextmanager
def connected(ctx: Context, given: connecting.Function | None = None) -> Iterator[None]:
    """
    Within, each connection has what the application registers on its own (`--connect`).

    Args:
        ctx: The run.
        given: The `connect` that the caller of the Python API has given.

    Raises:
        MisfitError: Its file does not import, or `connect` fails; nothing is written yet.
    """
    path = ctx.settings.connect
    with contextlib.ExitStack() as stack:
        if path is not None or given is not None:
            enter(ctx, f"import {'connect' if path is None else path.name}")
            with ctx.process_states.isolated(connecting, code=True):
                connector = connecting.connector(given or path)
                stack.enter_context(connecting.in_force(connector))
            ctx.progress.phase = ""
        yield


def load(ctx: Context, batch: Migrations) -> Migrations:
    """Import those that are code one by one, telling which, should one end the process."""
    loaded: list[Script] = []
    for script in batch.scripts:
        if not script.is_code:
            loaded.append(script)
            continue
        enter(ctx, f"import {script.entry.label}")
        with ctx.process_states.isolated(script.entry.key, code=True):
            loaded += ctx.source.load([script])
    enter(ctx, "prepare")
    return dataclasses.replace(batch, scripts=tuple(loaded))


def rows_to_undo(
    ctx: Context, applied: Sequence[Applied], to: str | None, steps: int | None
) -> list[Applied]:
    """Return the rows to undo, the last applied first."""
    newest_first = list(reversed(applied))
    if to is None:
        return newest_first[: steps or 1]
    key = ctx.source.format.key(to)
    for at, row in enumerate(newest_first):
        if row.key == key:
            return newest_first[:at]
    message = f"Version {to!r} is not applied, so it cannot stay applied."
    hint = f"`{command(ctx.settings, 'status')}` lists what is applied."
    raise UsageError(message, hint=hint, data={"version": to})
