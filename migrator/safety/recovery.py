"""
Settling what an interrupted run has left, from its `state.json` and the database itself.

Never by anything else: no guess from files that happen to lie about, and no
"dirty" mark that a person has to lift.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

from migrator.backups import backup
from migrator.errors import DamagedError, RestoreError, UsageError
from migrator.safety.context import Context
from migrator.safety.litter import remove_litter
from migrator.safety.live import STOP_IT, open_live, open_plain
from migrator.safety.writeback import move_in, refuse_damaged, write_back
from migrator.storage import state
from migrator.storage.state import RunState


@dataclass(frozen=True, slots=True)
class Settled:
    """
    What became of an interrupted run: `committed`, `discarded` or `restored`.

    `left` is what the run had noted about itself.
    """

    outcome: str
    left: RunState


def settle(ctx: Context) -> Settled | None:
    """
    Finish, or discard, what an interrupted run has left. The lock must be held.

    Returns:
        What became of it, None where nothing was left.

    Raises:
        NotReadyError: Another process has the database.
        RestoreError: An interrupted restore could not be finished.
    """
    left = state.read(ctx.layout.state)
    if left is None:
        remove_litter(ctx.layout)
        return None
    ctx.emit(
        "recovery.started",
        f"Run {left.run_id} was interrupted in phase {left.phase!r}; it is being settled.",
        interrupted_run=left.run_id,
        phase=left.phase,
    )
    # Of its own files none is needed any more, and they may take the room to open the database.
    remove_litter(ctx.layout)
    outcome = _settle(ctx, left)
    # What that run had begun is done with; this one has begun nothing yet.
    ctx.began = False
    state.clear(ctx.layout.state)
    ctx.emit(
        "recovery.finished",
        f"The interrupted run {left.run_id} was {outcome}.",
        interrupted_run=left.run_id,
        outcome=outcome,
    )
    return Settled(outcome, left)


def give_up(ctx: Context, error: RestoreError) -> None:
    """Forget an interrupted restore that cannot be finished, because another takes its place."""
    left = state.read(ctx.layout.state)
    remove_litter(ctx.layout)
    state.clear(ctx.layout.state)
    ctx.emit(
        "recovery.finished",
        f"{error.message} Another restore takes its place.",
        level="warning",
        interrupted_run=left.run_id if left is not None else "",
        outcome="discarded",
    )


def _settle(ctx: Context, left: RunState) -> str:
    if left.phase == "restore":
        _resume(ctx, left)
        return "restored"
    if left.phase in ("prepare", "backup") or not ctx.layout.database.exists():
        return "discarded"
    return "committed" if _was_committed(ctx, left) else "discarded"


def _was_committed(ctx: Context, left: RunState) -> bool:
    """
    Tell whether a run's changes are in the database, letting SQLite recover it first.

    For a run whose pages were published, the journal mode is set as well: that
    is the one step which its transaction does not cover.
    """
    with contextlib.closing(open_plain(ctx)) as conn:
        committed = left.is_in(ctx.history.read(conn))
        wanted = left.extra.get("wanted_journal_mode") if committed else left.journal_mode
        if wanted and left.way == "copy":
            conn.execute(f"PRAGMA journal_mode = {wanted}")
    return committed


def _resume(ctx: Context, left: RunState) -> None:
    """
    Finish a restore that was interrupted; doing it again from the start is the same.

    Raises:
        RestoreError: Its backup is gone or damaged.
    """
    ctx.settings = replace(ctx.settings, in_use="wait")
    try:
        chosen = backup.find(ctx.layout, left.backup or "")
        refuse_damaged(ctx, chosen)
    except (UsageError, DamagedError) as error:
        message = f"The interrupted restore cannot be finished: {error.message}"
        raise RestoreError(message, hint=error.hint) from error
    if not ctx.layout.database.exists():
        move_in(ctx, chosen)
        return
    try:
        live = open_live(ctx, STOP_IT)
    except DamagedError:
        move_in(ctx, chosen)
        return
    with contextlib.closing(live):
        write_back(ctx, live, chosen, reason=left.reason)
