"""Settling a run whose worker ended without a word, with the proof where there is time for it."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from migrator.backups import backup
from migrator.errors import MigratorError
from migrator.safety.context import Context
from migrator.safety.live import open_live, open_plain
from migrator.safety.on_failure import explained, may_give_way
from migrator.safety.recovery import Settled, settle
from migrator.storage import state
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
        and `identical` (None where it was not compared).
    """
    if not prove:
        ctx.deadline = Deadline(_AT_A_SIGNAL)
        if _is_restore(ctx):
            # SQLite undoes the unfinished transaction; the next start restores again.
            with explained(ctx):
                open_plain(ctx).close()
            return {"outcome": "postponed", "method": "rollback", "identical": None}
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
    return {"outcome": settled.outcome, "method": method, "identical": identical}


def _give_back(ctx: Context, settled: Settled) -> None:
    """Remove the backup that the run has made itself; it fails nothing."""
    if settled.left.backup is None:
        return
    with contextlib.suppress(MigratorError, OSError):
        saved = backup.find(ctx.layout, settled.left.backup)
        if may_give_way(ctx, saved):
            backup.remove_backup(ctx.layout, saved)


def _is_restore(ctx: Context) -> bool:
    left = state.read(ctx.layout.state)
    return left is not None and left.phase == "restore" and ctx.layout.database.exists()


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
