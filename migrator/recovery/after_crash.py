"""
Recover from an interrupted run, by its `state.json` and the database itself.

By nothing else: no guess from files that lie about, no "dirty" mark that a person
has to remove.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3

from migrator.backups.backup import Backup
from migrator.context import Context
from migrator.database import run_state, started
from migrator.database.raw_file import LiveFile
from migrator.database.run_state import RunState
from migrator.database.workspace import like_database
from migrator.errors import DamagedError, RestoreError
from migrator.exclusive import (
    STOP_IT,
    ExclusiveDatabase,
    open_exclusive,
    open_to_recover,
    set_journal_mode,
    with_recovered,
)
from migrator.files import sidecars
from migrator.model import Outcome
from migrator.recovery.copy_back import (
    complete,
    keep_failed,
    prepare_file,
    refuse_damaged,
    replace_file,
    write_back,
)
from migrator.recovery.intent import (
    Standing,
    file_is_as_found,
    schema_version,
    standing,
    superseded,
    target_of,
    unfinishable,
    written_over,
)
from migrator.recovery.phases import undone_by
from migrator.recovery.temporary_files import remove_temporary_files
from migrator.value import replace


def recover(ctx: Context) -> Outcome:
    """
    Finish or discard an interrupted run. The lock must be held.

    Returns:
        `committed`, `discarded` or `restored`; `nothing` if no run was interrupted.

    Raises:
        NotReadyError: Another process has the database.
        RestoreError: An interrupted restore could not be finished, or may not be.
    """
    left = run_state.read(ctx.layout.state)
    if left is None:
        remove_temporary_files(ctx.layout)
        return Outcome("nothing", method="rollback")
    ctx.emit(
        "recovery.started",
        f"Run {left.run_id} was interrupted in phase {left.phase!r}; it is being recovered.",
        interrupted_run=left.run_id,
        phase=left.phase,
    )
    ctx.progress.phase = "recovery"
    # It needs none of its own files any more, and they may take the space to open the database.
    remove_temporary_files(ctx.layout)
    outcome = _settle(ctx, left)
    # That run is over; this one has not begun anything yet.
    ctx.progress.began, ctx.progress.phase = False, ""
    _forget(ctx, left, outcome)
    return Outcome(outcome, method="backup" if outcome == "restored" else undone_by(left.way))


def _forget(ctx: Context, left: RunState, outcome: str, why: str = "") -> None:
    if outcome == "restored":
        whose = left.extra.get("app_version")
        started.set_back(ctx.layout, whose, like_database(ctx.layout))
    run_state.clear(ctx.layout.state)
    ctx.emit(
        "recovery.finished",
        f"The interrupted run {left.run_id} was {outcome}. {why}".rstrip(),
        level="warning" if why else "info",
        interrupted_run=left.run_id,
        outcome=outcome,
    )


def _settle(ctx: Context, left: RunState) -> str:
    if left.phase in run_state.RESTORING:
        return _finish(ctx, left)
    # Before `migrate` nothing is written to the database; a first install that has no database
    # was not linked into place.
    if left.phase in ("prepare", "backup") or not ctx.layout.database.exists():
        return "discarded"
    return "committed" if _was_committed(ctx, left) else "discarded"


def _was_committed(ctx: Context, left: RunState) -> bool:
    """
    Let SQLite recover the database, and tell whether the run's changes are in it.

    If its pages were published, set the journal mode as well: the one step that its
    transaction does not cover.
    """
    published = left.extra.get("by_pages") is True and _holds_other_pages(ctx, left)

    def look(conn: sqlite3.Connection) -> bool:
        ctx.source.recognise(conn, ctx.settings.history_table)
        committed = published or left.is_in(ctx.history.read(conn))
        # An undone run may have left WAL already, to publish another page size.
        wanted = left.extra.get("wanted_journal_mode") if committed else left.journal_mode
        if wanted and left.way == "copy":
            set_journal_mode(conn, ctx.layout.database, wanted)
        return committed

    return with_recovered(ctx, look)


def _holds_other_pages(ctx: Context, left: RunState) -> bool:
    """Tell whether the pages are not the backup's: of a command no history knows that it ran."""
    open_to_recover(ctx).close()
    if left.backup is None:
        # A first install: its last step put the file there.
        return left.phase == "publish"
    if ctx.inline:
        return False
    with contextlib.suppress(OSError), LiveFile.open(ctx.layout.database) as file:
        return not file.same_as(ctx.layout.backup_dir / left.backup)
    return False


# --- a restore that was interrupted -----------------------------------------


def unfinished_restore(ctx: Context) -> RunState | None:
    """Return the note of an interrupted restore, or None."""
    left = run_state.read(ctx.layout.state)
    return left if left is not None and left.phase in run_state.RESTORING else None


def _finish(ctx: Context, left: RunState) -> str:
    """
    Finish an interrupted restore, if the database is still what it was then.

    It is simply done again from the start. If somebody has written since, the wish to restore
    is out of date: overwrite nothing.

    Raises:
        RestoreError: Somebody has written since, or the backup is gone or damaged.
    """
    if left.phase == "restored":
        _set_mode(ctx, left.journal_mode)
        return "restored"
    chosen = _sound_target(ctx, left)
    if not ctx.layout.database.exists():
        return _finish_without(ctx, left, chosen)
    # Before SQLite opens the database: it would play the old journal into the new file.
    if written_over(ctx, left, chosen):
        raise superseded(ctx, left, chosen, "has been replaced by another file since")
    try:
        live = open_exclusive(ctx, STOP_IT, alone=True)
    except DamagedError:
        if not file_is_as_found(ctx, left):
            raise superseded(ctx, left, chosen, "is another file by now, and no database") from None
        return _move_in(ctx, left, chosen)
    with contextlib.closing(live):
        return _finish_in(ctx, live, left, chosen)


def _sound_target(ctx: Context, left: RunState) -> Backup:
    chosen = target_of(ctx, left)
    try:
        refuse_damaged(ctx, chosen)
    except DamagedError as error:
        raise unfinishable(ctx, error.message, error.hint) from error
    return chosen


def _finish_in(ctx: Context, live: ExclusiveDatabase, left: RunState, chosen: Backup) -> str:
    found = standing(ctx, live, left, chosen)
    if found is Standing.CHANGED:
        raise superseded(ctx, left, chosen)
    if found is Standing.RESTORED:
        complete(ctx, live, chosen, left)
        return "restored"
    if left.extra.get("cancelled"):
        if (mode := left.extra.get("mode")) is not None:
            live.set_journal_mode(mode)
        return "discarded"
    write_back(ctx, live, chosen, replace(left, format=run_state.FORMAT))
    return "restored"


def _finish_without(ctx: Context, left: RunState, chosen: Backup) -> str:
    """Finish a restore whose database is missing: only a `-wal` or a `-journal` could be lost."""
    if left.extra.get("cancelled"):
        return "discarded"
    sides = [path for path in sidecars(ctx.layout.database) if os.path.lexists(path)]
    if left.extra.get("found") != "nothing" and any(path.stat().st_size for path in sides):
        raise superseded(ctx, left, chosen, "has gone since, but not the files beside it")
    return _move_in(ctx, left, chosen)


def _move_in(ctx: Context, left: RunState, chosen: Backup) -> str:
    prepare_file(ctx, chosen)
    replace_file(ctx, chosen, replace(left, format=run_state.FORMAT))
    return "restored"


def _set_mode(ctx: Context, mode: str | None) -> None:
    """Let SQLite recover the database, then set the journal mode."""

    def look(conn: sqlite3.Connection) -> None:
        if mode is not None:
            set_journal_mode(conn, ctx.layout.database, mode)

    with_recovered(ctx, look)


def give_way(ctx: Context, why: str) -> None:
    """
    Give up on an interrupted restore, and keep the database as it is.

    First SQLite's journal undoes its part, and the journal mode is put back.

    Raises:
        NotReadyError: Another process has the database.
    """
    left = unfinished_restore(ctx)
    if left is None:
        return
    ctx.progress.phase = "recovery"
    remove_temporary_files(ctx.layout)
    with contextlib.suppress(DamagedError):
        if ctx.layout.database.exists():
            _keep_what_was_put_there(ctx, left)
            with_recovered(ctx, lambda conn: _put_in_order(ctx, left, conn))
    ctx.progress.phase = ""
    _forget(ctx, left, "restored" if left.phase == "restored" else "discarded", why)


def _keep_what_was_put_there(ctx: Context, left: RunState) -> None:
    """Copy the files to `failed/` if SQLite would play an old journal into another database."""
    with contextlib.suppress(RestoreError):
        if written_over(ctx, left, target_of(ctx, left)):
            keep_failed(ctx)


def cut_off(ctx: Context, left: RunState) -> str:
    """
    Undo a restore that a signal has just ended: nothing of it happens later.

    A signal to the run that asked for the restore cancels it. A start that was only finishing
    it leaves it to the next one, as does a failed run that was returning to its backup.
    """
    if left.phase == "restored":
        _set_mode(ctx, left.journal_mode)
        return _ended(ctx, left, "restored")
    if left.reason != "restore" or left.run_id != ctx.run_id:
        open_to_recover(ctx).close()
        return "postponed"
    if left.extra.get("found") != "pages":
        # Once renamed into place, the copy is no longer there.
        undone = os.path.lexists(ctx.layout.new)
        if not undone:
            _set_mode(ctx, left.journal_mode)
        return _ended(ctx, left, "discarded" if undone else "restored")
    # Noted first: another process may hold the database by now, and end this here.
    noted = replace(left, extra={**left.extra, "cancelled": True})
    with contextlib.suppress(OSError):
        run_state.write(ctx.layout.state, noted, like_database(ctx.layout))
    return _ended(ctx, left, with_recovered(ctx, lambda conn: _put_in_order(ctx, left, conn)))


def _put_in_order(ctx: Context, left: RunState, conn: sqlite3.Connection) -> str:
    """
    Set the journal mode after an interrupted restore, the one part outside of its commit.

    `schema_version` tells whether it committed: the backup API adds one to it.
    """
    before = left.extra.get("schema_version")
    done = left.phase == "restored" or (before is not None and schema_version(conn) == before + 1)
    mode = left.journal_mode if done else None
    if schema_version(conn) == before:
        mode = left.extra.get("mode")
    if mode is not None:
        set_journal_mode(conn, ctx.layout.database, mode)
    return "restored" if done else "discarded"


def _ended(ctx: Context, left: RunState, outcome: str) -> str:
    remove_temporary_files(ctx.layout)
    _forget(ctx, left, outcome)
    return outcome
