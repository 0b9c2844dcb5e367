"""Settling a run whose worker ended without a word, with the proof where there is time for it."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from migrator.backups import backup
from migrator.errors import MigratorError
from migrator.safety.context import Context
from migrator.safety.live import open_live
from migrator.safety.on_failure import explained, may_give_way
from migrator.safety.recovery import Settled, cut_off, settle, unfinished_restore
from migrator.storage.state import RunState
from migrator.system.deadline import Deadline

_AT_A_SIGNAL = 0.5
"""Seconds for which another user of the database is waited for when time is short."""


def settle_and_prove(ctx: Context, *, prove: bool, full: bool = False) -> dict[str, Any]:
    """
    Settle what the run has left, and compare the database with its backup.

    Args:
        ctx: The run.
        prove: Whether there is time for the comparison; a signal leaves none.
        full: Whether the run was killed for want of room: its own backup goes then.

    Returns:
        `outcome` (`committed`, `discarded`, `restored`, `postponed`, `nothing`), `method`
        and `identical` (None where it was not compared); `hint`, where the next start has
        something to do with it, and `unsettled`, in place of "the database is as before".
    """
    if not prove:
        ctx.deadline = Deadline(_AT_A_SIGNAL)
        if (restoring := unfinished_restore(ctx)) is not None:
            with explained(ctx):
                return _cut_off(ctx, restoring)
    with explained(ctx):
        settled = settle(ctx)
    if settled is None:
        return {"outcome": "nothing", "method": "rollback", "identical": None}
    left = settled.left
    method = "discarded" if left.way in ("copy", "create") else "rollback"
    if settled.outcome == "restored":
        method = "backup"
    identical = _compare(ctx, settled) if prove and settled.outcome != "committed" else None
    if full and settled.outcome == "discarded":
        _give_back(ctx, settled)
    told = {"outcome": settled.outcome, "method": method, "identical": identical}
    return {**told, **_of_an_earlier_run(ctx, settled.outcome, left)}


def _give_back(ctx: Context, settled: Settled) -> None:
    """Remove the backup that the run has made itself; it fails nothing."""
    if settled.left.backup is None:
        return
    with contextlib.suppress(MigratorError, OSError):
        saved = backup.find(ctx.layout, settled.left.backup)
        if may_give_way(ctx, saved):
            backup.remove_backup(ctx.layout, saved)


def _cut_off(ctx: Context, left: RunState) -> dict[str, Any]:
    """Settle a restore that a signal has ended, and say what the next start does."""
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
    """Say that the restore of an earlier run has been finished, which the database now shows."""
    if outcome != "restored" or left.reason != "restore" or left.run_id == ctx.run_id:
        return {}
    return {"unsettled": f"the restore from {left.backup}, which was interrupted, is finished"}


def _compare(ctx: Context, settled: Settled) -> bool | None:
    if settled.left.way == "create":
        return not os.path.lexists(ctx.layout.database)
    if settled.left.backup is None or ctx.settings.in_use != "wait":
        return None
    with contextlib.suppress(MigratorError, OSError):
        chosen = backup.find(ctx.layout, settled.left.backup)
        with contextlib.closing(open_live(ctx)) as live:
            return live.same_as(chosen.path)
    return None
