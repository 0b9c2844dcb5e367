"""
Recover after a worker that died, and compare the database with its backup if there is time.

If the database holds a part of what the run did, its old pages are put back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os

from migrator.backups.backup import Backup
from migrator.backups.find import find_backup
from migrator.backups.retention import remove_backup
from migrator.context import Context
from migrator.database import run_state
from migrator.database.pages import read_header
from migrator.database.run_state import RunState
from migrator.errors import DamagedError, MigratorError, RestoreError
from migrator.exclusive import STOP_IT, ExclusiveDatabase, open_exclusive, open_to_recover
from migrator.files import sidecars
from migrator.log.hints import command
from migrator.model import Outcome
from migrator.recovery.after_crash import cut_off, recover, unfinished_restore
from migrator.recovery.copy_back import (
    keep_failed,
    person_needed,
    refuse_damaged,
    replace_damaged,
)
from migrator.recovery.rollback import forget, may_give_way, restore_pages
from migrator.recovery.run_error import as_run_error
from migrator.value import replace
from migrator.wait import Deadline

_AT_A_SIGNAL = 0.5
"""Seconds to wait for another user of the database after a signal."""


def settle_only(ctx: Context) -> Outcome:
    """Recover from an interrupted run before another one is planned."""
    with as_run_error(ctx):
        found = recover(ctx)
        _recover(ctx)
    return found


def settle_and_prove(
    ctx: Context, *, prove: bool, full: bool = False, begun: bool = False
) -> Outcome:
    """
    Recover from the run, and compare the database with its backup.

    Args:
        ctx: The run.
        prove: Whether there is time for the comparison; a signal leaves none.
        full: Whether a full disk killed the run: then delete its own backup.
        begun: Whether the run may have committed: then a damaged file needs a person.

    Returns:
        What became of the run, with a `hint` if the next start has something left to do.

    Raises:
        RestoreError: The database is not as before, and cannot or may not be made so.
    """
    if not prove:
        ctx = dataclasses.replace(ctx, deadline=Deadline(_AT_A_SIGNAL))
        if (restoring := unfinished_restore(ctx)) is not None:
            with as_run_error(ctx):
                return _cut_off(ctx, restoring)
    with as_run_error(ctx):
        left = run_state.read(ctx.layout.state)
        try:
            found = recover(ctx)
            if left is None:
                _recover(ctx)
                return found
            if prove:
                found = _proven(ctx, found, left)
        except DamagedError as error:
            # After a commit others may have written: the damage may be theirs.
            if begun:
                raise
            _replace(ctx, left, error)
            return Outcome("discarded", method="backup", identical=True)
    if full and found.kind == "discarded":
        _give_back(ctx, left)
    return _told_of_an_earlier_run(ctx, found, left)


def _recover(ctx: Context) -> None:
    """Have SQLite play back the journal of a killed process, if there may be one."""
    database = ctx.layout.database
    if any(os.path.lexists(path) for path in sidecars(database)) and database.exists():
        open_to_recover(ctx).close()


def _give_back(ctx: Context, left: RunState) -> None:
    """Delete the backup that the run made itself; a failure to do so is ignored."""
    if left.backup is None:
        return
    with contextlib.suppress(MigratorError, OSError):
        saved = find_backup(ctx.layout, left.backup)
        if may_give_way(ctx, saved):
            remove_backup(ctx.layout, saved)


def _cut_off(ctx: Context, left: RunState) -> Outcome:
    """Undo a restore that a signal has ended, and say what the next start does."""
    kind = cut_off(ctx, left)
    hint = unsettled = None
    if kind == "discarded":
        hint = "The restore is given up: nothing of it happens later."
    elif kind == "postponed" and left.reason == "restore":
        hint = (
            f"The next start finishes the restore from {left.backup}, if nobody has written to"
            " the database until then."
        )
    elif kind == "postponed":
        unsettled = (
            f"the next start puts the backup {left.backup} back, if nobody has written to the"
            " database until then"
        )
    found = Outcome(kind, method="rollback", unsettled=unsettled, hint=hint)
    return _told_of_an_earlier_run(ctx, found, left)


def _told_of_an_earlier_run(ctx: Context, found: Outcome, left: RunState) -> Outcome:
    """Say so where the database holds the finished restore of an earlier run."""
    if found.kind != "restored" or left.reason != "restore" or left.run_id == ctx.run_id:
        return found
    finished = f"the restore from {left.backup}, which was interrupted, is finished"
    return replace(found, unsettled=finished)


# --- the proof -------------------------------------------------------------


def _proven(ctx: Context, found: Outcome, left: RunState) -> Outcome:
    """Compare the database with the backup of an undone run, and put that back if they differ."""
    if found.kind == "committed":
        return found
    if left.way == "create":
        return replace(found, identical=not os.path.lexists(ctx.layout.database))
    # Beside others a difference may be what they wrote.
    if left.backup is None or ctx.settings.in_use != "wait":
        return found
    try:
        saved = find_backup(ctx.layout, left.backup)
        with contextlib.closing(open_exclusive(ctx, STOP_IT)) as live:
            identical = live.same_as(saved.path)
            if identical is not False:
                return replace(found, identical=identical)
            _put_back(ctx, live, saved, left)
    except (DamagedError, RestoreError):
        raise
    except (MigratorError, OSError):
        return found
    forget(ctx)
    return replace(found, method="backup", identical=True)


def _put_back(ctx: Context, live: ExclusiveDatabase, saved: Backup, left: RunState) -> None:
    """Put the backup back over the remains of a dead run, and over nothing else."""
    # Each commit outside of WAL mode adds one to the change counter in the header
    # (https://sqlite.org/fileformat2.html, 1.3.7). If it has moved, or in WAL mode, the
    # difference was committed by somebody, and is not overwritten.
    header = read_header(live.raw.descriptor) if live.raw is not None else None
    counter = header.change_counter if header is not None and not header.wal else None
    if counter is None or counter != left.extra.get("change_counter"):
        raise _not_as_before(ctx, saved)
    with person_needed(ctx, saved):
        refuse_damaged(ctx, saved)
    restore_pages(ctx, live, saved)


def _not_as_before(ctx: Context, saved: Backup) -> RestoreError:
    message = (
        f"The worker of the run died, and {str(ctx.layout.database)!r} is not as before: something"
        " was committed to it past the run."
    )
    ctx.emit(
        "restore.failed",
        message,
        level="error",
        method="backup",
        identical=False,
        error="Something was committed past the run, and is not overwritten.",
    )
    hint = (
        "Look at what the database holds. The backup from before the run is"
        f" {str(saved.path)!r}; `{command(ctx.settings, 'restore', saved.name)}` puts it back."
    )
    data = {"backup": str(saved.path)}
    return RestoreError(message, hint=hint, reason="restore.not_as_before", data=data)


def _replace(ctx: Context, left: RunState | None, error: DamagedError) -> None:
    """
    Replace a file that the worker left damaged by the backup of this run.

    Raises:
        DamagedError: This run had none, so the damage is not its doing.
        RestoreError: The backup cannot be put back.
    """
    ours = left is not None and left.run_id == ctx.run_id and left.phase not in run_state.RESTORING
    if left is None or left.backup is None or not ours or ctx.settings.in_use != "wait":
        raise error
    saved = find_backup(ctx.layout, left.backup)
    with person_needed(ctx, saved):
        refuse_damaged(ctx, saved)
        keep_failed(ctx)
        replace_damaged(ctx, saved)
    forget(ctx)
