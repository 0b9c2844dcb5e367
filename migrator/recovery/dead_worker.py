"""
Recover after a worker that died, and compare the database with its backup if there is time.

If the database holds a part of what the run did, its old pages are put back.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from migrator.backups.catalog import Backup
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
from migrator.recovery.after_crash import Recovery, cut_off, recover, unfinished_restore
from migrator.recovery.copy_back import (
    keep_failed,
    person_needed,
    prepare_file,
    refuse_damaged,
    replace_file,
)
from migrator.recovery.intent import fingerprint_of, noted
from migrator.recovery.rollback import as_run_error, forget, may_give_way, restore_pages
from migrator.wait import Deadline

_AT_A_SIGNAL = 0.5
"""Seconds to wait for another user of the database after a signal."""


def settle_only(ctx: Context) -> dict[str, Any]:
    """Recover from an interrupted run before another one is planned."""
    with as_run_error(ctx):
        recover(ctx)
        _recover(ctx)
    return {}


def settle_and_prove(
    ctx: Context, *, prove: bool, full: bool = False, begun: bool = False
) -> dict[str, Any]:
    """
    Recover from the run, and compare the database with its backup.

    Args:
        ctx: The run.
        prove: Whether there is time for the comparison; a signal leaves none.
        full: Whether a full disk killed the run: then delete its own backup.
        begun: Whether the run may have committed: then a damaged file needs a person.

    Returns:
        `outcome` (`committed`, `discarded`, `restored`, `postponed`, `nothing`), `method`
        and `identical` (None if it was not compared); `hint`, if the next start has
        something left to do, and `unsettled`, instead of "the database is as before".

    Raises:
        RestoreError: The database is not as before, and cannot or may not be made so.
    """
    if not prove:
        ctx.deadline = Deadline(_AT_A_SIGNAL)
        if (restoring := unfinished_restore(ctx)) is not None:
            with as_run_error(ctx):
                return _cut_off(ctx, restoring)
    with as_run_error(ctx):
        left = run_state.read(ctx.layout.state)
        try:
            settled = recover(ctx)
            if settled is None:
                _recover(ctx)
                return {"outcome": "nothing", "method": "rollback", "identical": None}
            method, identical = _proven(ctx, settled) if prove else (_method(settled), None)
        except DamagedError as error:
            # After a commit others may have written: the damage may be theirs.
            if begun:
                raise
            _replace(ctx, left, error)
            return {"outcome": "discarded", "method": "backup", "identical": True}
    if full and settled.outcome == "discarded":
        _give_back(ctx, settled)
    told = {"outcome": settled.outcome, "method": method, "identical": identical}
    return {**told, **_of_an_earlier_run(ctx, settled.outcome, settled.left)}


def _recover(ctx: Context) -> None:
    """Have SQLite play back the journal of a killed process, if there may be one."""
    database = ctx.layout.database
    if any(os.path.lexists(path) for path in sidecars(database)) and database.exists():
        open_to_recover(ctx).close()


def _method(settled: Recovery) -> str:
    if settled.outcome == "restored":
        return "backup"
    return "discarded" if settled.left.way in ("copy", "create") else "rollback"


def _give_back(ctx: Context, settled: Recovery) -> None:
    """Delete the backup that the run made itself; a failure to do so is ignored."""
    if settled.left.backup is None:
        return
    with contextlib.suppress(MigratorError, OSError):
        saved = find_backup(ctx.layout, settled.left.backup)
        if may_give_way(ctx, saved):
            remove_backup(ctx.layout, saved)


def _cut_off(ctx: Context, left: RunState) -> dict[str, Any]:
    """Undo a restore that a signal has ended, and say what the next start does."""
    outcome = cut_off(ctx, left)
    told = {"outcome": outcome, "method": "rollback", "identical": None}
    if outcome == "discarded":
        told["hint"] = "The restore is given up: nothing of it happens later."
    elif outcome == "postponed" and left.reason == "restore":
        told["hint"] = (
            f"The next start finishes the restore from {left.backup}, if nobody has written to"
            " the database until then."
        )
    elif outcome == "postponed":
        told["unsettled"] = (
            f"the next start puts the backup {left.backup} back, if nobody has written to the"
            " database until then"
        )
    return {**told, **_of_an_earlier_run(ctx, outcome, left)}


def _of_an_earlier_run(ctx: Context, outcome: str, left: RunState) -> dict[str, Any]:
    """Say that the database holds the finished restore of an earlier run."""
    if outcome != "restored" or left.reason != "restore" or left.run_id == ctx.run_id:
        return {}
    return {"unsettled": f"the restore from {left.backup}, which was interrupted, is finished"}


# --- the proof -------------------------------------------------------------


def _proven(ctx: Context, settled: Recovery) -> tuple[str, bool | None]:
    """
    Compare the database with the backup of an undone run, and put that back if they differ.

    Returns:
        How the database was undone (`method`), and whether it was compared (`identical`).
    """
    method, left = _method(settled), settled.left
    if settled.outcome == "committed":
        return method, None
    if left.way == "create":
        return method, not os.path.lexists(ctx.layout.database)
    # Beside others a difference may be what they wrote.
    if left.backup is None or ctx.settings.in_use != "wait":
        return method, None
    try:
        saved = find_backup(ctx.layout, left.backup)
        with contextlib.closing(open_exclusive(ctx, STOP_IT)) as live:
            identical = live.same_as(saved.path)
            if identical is not False:
                return method, identical
            _put_back(ctx, live, saved, left)
    except (DamagedError, RestoreError):
        raise
    except (MigratorError, OSError):
        return method, None
    forget(ctx)
    return "backup", True


def _put_back(ctx: Context, live: ExclusiveDatabase, saved: Backup, left: RunState) -> None:
    """
    Put the backup back over the remains of a dead run, and over nothing else.

    Each commit adds one to the change counter in the header
    (https://sqlite.org/fileformat2.html, 1.3.7). If it has moved, somebody has committed
    since, and that is not overwritten. WAL mode does not count, so a difference there was
    committed by somebody.
    """
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
        found = {"found": "file", "fingerprint": fingerprint_of(ctx.layout.database)}
        prepare_file(ctx, saved)
        replace_file(ctx, saved, noted(ctx, saved, found, "undo"))
    forget(ctx)
