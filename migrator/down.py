"""`down`: undoing migrations, as safely as they were applied."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Collection, Sequence

from migrator.change.migrations import Migrations
from migrator.context import Context
from migrator.database.integrity_check import examine
from migrator.errors import (
    MigratorError,
    MissingDownError,
    MissingFileError,
)
from migrator.inspect.status import DatabaseStatus, say_plan
from migrator.inspect.texts import refuse_changed
from migrator.log.hints import command, damaged
from migrator.model import Applied, Entry, Outcome, Script
from migrator.parsing.sql_transactions import refuse_unpaired
from migrator.prepare import load, look_for_writing, rows_to_undo
from migrator.recovery.after_crash import recover
from migrator.recovery.run_error import as_run_error
from migrator.run import change
from migrator.value import replace


def down(ctx: Context, to: str | None, steps: int | None) -> Outcome:
    """
    Undo the last migrations, the last one first.

    Args:
        ctx: The run.
        to: The version that stays applied.
        steps: Instead: how many; the default is one.

    Raises:
        UsageError: `to` is not applied.
        MissingFileError: A migration that is to be undone has no file.
        MissingDownError: One has no `down`.
        DamagedError: Nothing seems to be applied, and the database is damaged.
    """
    with as_run_error(ctx):
        recover(ctx)
        found = look_for_writing(ctx)
        rows = rows_to_undo(ctx, found.applied, to, steps)
        if not rows:
            if not found.applied:
                _refuse_damaged(ctx)
            return Outcome("up_to_date")
        scripts = ctx.source.scripts()
        newer = {each.version for each in found.problems if each.kind == "newer"}
        scripts_of_rows = [_script(ctx, row, scripts, newer) for row in rows]
        refuse_unpaired(scripts_of_rows, down=True)
        keys = {row.key for row in rows}
        undone = [each for each in scripts if each.entry.key in keys]
        refuse_changed(ctx.settings, ctx.layout, ctx.emit, _without_order(found), undone)
        planned = Migrations(scripts=tuple(scripts_of_rows), applied=found.applied, undoes=True)
        say_plan(ctx.emit, found, planned.needs)
        migrations = load(ctx, planned)
        for script in migrations.scripts:
            _refuse_without_down(ctx, script, loaded=True)
        return change(ctx, migrations)


def _refuse_damaged(ctx: Context) -> None:
    """Look at the structure: where the index of the history is damaged, it may seem empty."""
    from migrator.exclusive import open_to_recover

    with contextlib.closing(open_to_recover(ctx)) as conn:
        found = examine(conn, ctx.settings.verify)
    if found.problems:
        raise damaged(ctx.settings, found.problems)


def _without_order(found: DatabaseStatus) -> DatabaseStatus:
    """Leave out that something pending is out of order: undoing what is above it is a way out."""
    problems = (each for each in found.problems if each.kind != "out-of-order")
    return replace(found, problems=tuple(problems))


def _script(
    ctx: Context, row: Applied, scripts: Sequence[Script], newer: Collection[str]
) -> Script:
    for script in scripts:
        if script.entry.key == row.key:
            _refuse_without_down(ctx, script, loaded=False)
            return _by_its_own_file(script)
    message = f"Migration {_called(row)} is applied and has no file here any more."
    otherwise = "Bring its file back"
    if not ctx.source.format.goes_back:
        otherwise = _NONE
    elif row.identity in newer:
        otherwise = "Run it in the newer image, which has that file"
    hint = _way_back(ctx, row, otherwise)
    raise MissingFileError(message, hint=hint, data={"version": row.identity, "name": row.name})


def _called(row: Applied) -> str:
    """Return version and name: not every tool's table keeps a name."""
    return row.identity if row.name in ("", row.identity) else f"{row.identity} ({row.name})"


_NONE = "The tool has no way back: write what undoes it as the next migration"


def _by_its_own_file(script: Script) -> Script:
    """Return a script called as the file that is run, so that a line is one of that file."""
    if script.down_file is None:
        return script
    return replace(script, entry=replace(script.entry, shown=script.down_file))


def _way_back(ctx: Context, migration: Applied | Entry, otherwise: str) -> str:
    """Say what else can be done, and name the backup from before a migration where there is one."""
    from migrator.change.restore import choose

    try:
        choose(ctx, None, migration.identity)
    except MigratorError:
        return f"{otherwise}; no backup here is from before it."
    line = shlex.join(("migrator", "restore", "--before", migration.identity))
    return f"{otherwise}, or go back to the backup from before it with `{line}`."


def _refuse_without_down(ctx: Context, script: Script, *, loaded: bool) -> None:
    has = callable(script.down) or script.sql_down is not None
    if has if loaded else script.has_down:
        return
    entry = script.entry
    message = f"Migration {entry.label} has no `down`, so it cannot be undone."
    fmt, otherwise = ctx.source.format, "Write one"
    if not fmt.goes_back:
        otherwise = _NONE
    elif fmt.checks_down:
        otherwise += f" and undo it with `{command(ctx.settings, 'down', '--accept', 'changed')}`"
    hint = _way_back(ctx, entry, otherwise)
    data = {"version": entry.version, "name": entry.name, "file": entry.file}
    raise MissingDownError(message, hint=hint, data=data)
