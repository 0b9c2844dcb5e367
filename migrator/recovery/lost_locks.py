"""
A run that has lost SQLite's locks: write nothing more, and find out what the database holds.

A migration that closes a descriptor of the database (`io.FileIO`, ctypes, another
SQLite library) drops the POSIX locks of its whole process, and SQLite does not
notice (https://sqlite.org/howtocorrupt.html, 2.2). Another process may then play the
run's journal back, and write. A rollback by SQLite would overwrite that with old
pages. So the connection is abandoned as if killed, and a process that has never had
the database open looks at it.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from migrator.backups.backup import Backup
from migrator.backups.find import find_backup
from migrator.context import Context
from migrator.database import run_state
from migrator.database.integrity_check import examine
from migrator.database.raw_file import who_has_open
from migrator.database.sqlite_locks import Loss, SqliteLocks
from migrator.errors import LocksLostError, MigratorError, RestoreError
from migrator.exclusive import STOP_IT, ExclusiveDatabase, open_exclusive, open_to_recover
from migrator.log.hints import command
from migrator.model import Outcome, Script
from migrator.recovery.copy_back import keep_failed, replace_damaged, write_back
from migrator.recovery.intent import found_now, noted
from migrator.recovery.phases import undone_by
from migrator.recovery.temporary_files import remove_temporary_files
from migrator.value import replace

_REASONS = {"lock": "lock.lost", "journal": "journal.lost", "database": "database.replaced"}


def watch(ctx: Context, live: ExclusiveDatabase) -> None:
    """Check SQLite's locks from now on, while other people's code runs."""
    ignore = () if live.raw is None else (live.raw.descriptor,)
    alone = ctx.settings.in_use == "wait"
    ctx.progress.locks = SqliteLocks.note(
        live.path,
        lambda: live.guard.in_transaction,
        alone=alone,
        ignore=ignore,
        forking=not ctx.inline,
    )
    live.guard.watch(ctx.progress.locks)


def require_locks(ctx: Context, script: Script | None = None, *, decisive: bool = False) -> None:
    """
    Check that SQLite still has its locks, its journal and the database's file.

    Args:
        ctx: The run.
        script: The migration whose code has just run; None for any of the run's.
        decisive: Whether the run publishes next: then the check is the thorough one.

    Raises:
        LocksLostError: One of them is gone.
    """
    loss = ctx.progress.locks.look(decisive=decisive) if ctx.progress.locks is not None else None
    if loss is not None:
        raise _lost(loss, script)


def require_held(live: ExclusiveDatabase) -> None:
    """
    Check that SQLite still has its locks before it writes once more after the run.

    Raises:
        LocksLostError: They are gone: another process may have written since.
    """
    if not live.guard.holds():
        raise _lost(live.guard.lost() or Loss("lock", live.path), None)


def raise_loss(ctx: Context, script: Script, error: BaseException) -> None:
    """Raise the loss of the locks if it explains what a migration has raised."""
    if isinstance(error, LocksLostError):
        raise error
    try:
        require_locks(ctx, script)
    except LocksLostError as lost:
        raise lost from error


def _lost(loss: Loss, script: Script | None) -> LocksLostError:
    who = f"Migration {script.entry.label}" if script is not None else "A migration of this run"
    if loss.kind == "journal":
        what = (
            f"has removed or replaced {str(loss.path)!r}, SQLite's journal: a crash could not have"
            " been undone any more."
        )
    elif loss.kind == "database":
        what = f"has removed, renamed or replaced {str(loss.path)!r} under SQLite."
    else:
        what = (
            f"has closed a descriptor of {str(loss.path)!r} outside of SQLite (one opened as a"
            " file or by another SQLite library, or SQLite's own), which drops SQLite's locks:"
            " another process could write in the middle of the run."
        )
    message = f"{who} {what}"
    hint = (
        "Use the connection that the migration is given; to read the database as a file, read"
        " the backup that was made before."
    )
    data: dict[str, Any] = {"error": message}
    if script is not None:
        entry = script.entry
        data.update(version=entry.version, name=entry.name, file=entry.file)
    return LocksLostError(message, hint=hint, reason=_REASONS[loss.kind], data=data)


def undoable(ctx: Context, live: ExclusiveDatabase, failure: MigratorError) -> MigratorError:
    """
    Check the locks before a failed run is rolled back.

    Returns:
        The error that ends the run, which SQLite may roll back.

    Raises:
        LocksLostError: SQLite must not write any more. The parent has another worker recover.
        RestoreError: The same in the process of the API's caller, which has to end.
    """
    loss = live.guard.lost(decisive=True)
    if loss is None:
        return failure
    lost = failure if isinstance(failure, LocksLostError) else _lost(loss, None)
    if loss.kind == "journal" or (ctx.inline and _regained(ctx, live)):
        return lost
    if ctx.inline:
        raise _doomed(ctx, lost)
    raise lost


def _regained(ctx: Context, live: ExclusiveDatabase) -> bool:
    """Take the locks again as soon as they are free, within the budget."""
    while not live.guard.regain():
        if ctx.deadline.expired:
            return False
        time.sleep(0.05)
    return True


def _doomed(ctx: Context, lost: LocksLostError) -> RestoreError:
    message = (
        f"{lost.message} They could not be taken back, so this process must not write to"
        f" {str(ctx.layout.database)!r} any more; nothing of the run is committed."
    )
    hint = "Restart the application: the next run recovers the database by itself."
    return RestoreError(message, hint=hint, reason=lost.reason, data=lost.data)


# --- by a new process, once the run's own has ended ---------------------------------


def settle_loss(ctx: Context, *, replaced: bool) -> Outcome:
    """
    Recover after a worker that gave up: keep what others wrote, else prove the old state.

    Args:
        ctx: The run.
        replaced: Whether the file at the database's name is not what the run had open.

    Returns:
        `as_before`; else `theirs`, `put_back` or `damaged`, with what that is in words.
    """
    left = run_state.read(ctx.layout.state)
    if left is None or left.backup is None:
        return Outcome("as_before", method="rollback")
    saved = find_backup(ctx.layout, left.backup)
    remove_temporary_files(ctx.layout)
    found = Outcome("as_before", method=undone_by(left.way))
    if ctx.settings.in_use != "wait":
        if replaced or _is_damaged(ctx):
            found = Outcome("damaged")
    elif replaced:
        found = _replace(ctx, saved)
    else:
        found = _compare(ctx, saved, found)
    run_state.clear(ctx.layout.state)
    return found if found.kind == "as_before" else _told(ctx, found, saved)


_HINTS = {
    "theirs": "Look at what was written. To go back to before the run",
    "put_back": "Take what is needed from the kept file, then start again. To put it back",
    "damaged": "Stop what uses the database, then go back to before the run",
}


def _told(ctx: Context, found: Outcome, saved: Backup) -> Outcome:
    """Describe a database that is not as before, and how to go back."""
    before = f"the state before the run is in {str(saved.path)!r}"
    state = {
        "theirs": "The database is not as before: it holds what another process has written since,"
        f" and that is kept; {before}.",
        "put_back": "Another process had written and the database was damaged: the backup was put"
        f" back, and what had been written is in {str(_kept(ctx))!r}.",
        "damaged": f"The database is damaged or replaced, and others may be using it; {before}.",
    }
    hint = f"{_HINTS[found.kind]}: `{command(ctx.settings, 'restore', saved.name)}`."
    return replace(found, backup=str(saved.path), unsettled=state[found.kind], hint=hint)


def _is_damaged(ctx: Context) -> bool:
    """Let SQLite play back a journal, beside others, and check the structure."""
    with contextlib.closing(open_to_recover(ctx)) as conn:
        return bool(examine(conn, "quick").problems)


def _replace(ctx: Context, saved: Backup) -> Outcome:
    """Put the backup back where a migration has removed or replaced the database's file."""
    # An application that has it open would keep writing to a file without a name.
    if who_has_open(ctx.layout.database):
        return Outcome("theirs")
    keep_failed(ctx)
    if os.path.lexists(ctx.layout.database) and not _is_kept(ctx):
        return Outcome("theirs")
    replace_damaged(ctx, saved)
    return Outcome("as_before", method="backup", identical=True)


def _compare(ctx: Context, saved: Backup, as_before: Outcome) -> Outcome:
    with contextlib.closing(open_exclusive(ctx, STOP_IT)) as live:
        if live.same_as(saved.path) is True:
            if saved.journal_mode and live.journal_mode() != saved.journal_mode:
                live.set_journal_mode(saved.journal_mode)
            return replace(as_before, identical=True)
        with live.guard.engine():
            damaged = examine(live.conn, "full").problems
        # A sound database that differs holds what another process has committed.
        if not damaged:
            return Outcome("theirs")
        # A damaged one may hold such rows as well: overwrite it only once a copy is kept.
        keep_failed(ctx, live)
        if not _is_kept(ctx):
            return Outcome("damaged")
        write_back(ctx, live, saved, noted(ctx, saved, found_now(ctx, live), "undo"))
        return Outcome("put_back")


def _kept(ctx: Context) -> Path:
    return ctx.layout.failed / ctx.layout.database.name


def _is_kept(ctx: Context) -> bool:
    """Tell whether the copy in `failed/` is complete."""
    with contextlib.suppress(OSError):
        return _kept(ctx).stat().st_size == ctx.layout.database.stat().st_size
    return False
