"""
Undo a run that fails, and prove that the database is as before.

::

    phase     failure                            what is done                            outcome
    backup    any                                delete its files and its note           refused
    migrate   any, also in the verification      let SQLite roll back; compare           as before
    commit    the transaction is still open      the same                                as before
              it may stand, beside others        overwrite nothing                       unknown
    all       the comparison finds a difference  write the backup back                   as before
              no space for the rollback          delete the run's own backup, try again  as before
              the disk fails during it           leave it to SQLite's journal            as before
              the same, at or after the commit   leave it to the next start              unknown
              the connection itself fails        leave it to another one                 as before
    read      the check fails, database held     write the backup back                   as before
              the check fails, others may use    overwrite nothing                       82
              the disk fails                     keep the new state                      unknown

"As before" is `failed_restored`, 82 is `restore_failed`, "read" reads the history back after
the commit; `publish` is the commit of a run on a copy. docs/how-it-works.md has the whole
table: a dead worker, lost locks, a first install, a `restore`, and the exit codes.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator

from migrator.backups.backup import Backup
from migrator.backups.retention import remove_backup
from migrator.context import Context
from migrator.database import run_state
from migrator.errors import (
    DiskError,
    MigratorError,
    OutcomeUnknownError,
    RestoreError,
)
from migrator.exclusive import ExclusiveDatabase
from migrator.files import ENOUGH, FULL, has_space
from migrator.log.hints import command
from migrator.log.translate import (
    is_out_of_space,
)
from migrator.model import Emit
from migrator.recovery.copy_back import keep_failed, write_back
from migrator.recovery.intent import found_now, noted
from migrator.recovery.lost_locks import require_held, undoable
from migrator.recovery.phases import undone_by
from migrator.recovery.run_error import as_failure
from migrator.recovery.temporary_files import remove_temporary_files, remove_work_files
from migrator.sqlite import primary_code

_OF_THE_CONNECTION = (sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_ERROR)
"""What no disk says: a thread interrupts it, or it cannot read its own schema anew."""


@contextlib.contextmanager
def cleared_on_failure(ctx: Context) -> Iterator[None]:
    """Remove the run's files and its note if it fails before the first migration."""
    try:
        yield
    except BaseException:
        forget(ctx)
        raise


@contextlib.contextmanager
def undone_on_failure(
    ctx: Context, live: ExclusiveDatabase, saved: Backup, way: str
) -> Iterator[None]:
    """
    Undo the run when anything fails, and prove that the database is as before.

    `way` is the one that the run takes to be atomic.

    Raises:
        OutcomeUnknownError: The disk failed at the commit, which may stand, or keeps failing.
    """
    try:
        yield
    except BaseException as error:
        failure = undoable(ctx, live, as_failure(ctx, error))
        try:
            undone = _undo(ctx, live, saved, failure, way)
        except (sqlite3.Error, OSError) as second:
            if primary_code(second) in _OF_THE_CONNECTION:
                # The run's note stays: a new connection undoes it, the parent's at once.
                raise failure from error
            raise _not_undone(ctx, failure, second) from error
        if not undone:
            raise _unverified(ctx, failure) from error
        # Last: until here the backup was what proves, or gives back, the old state.
        if in_the_way(ctx, failure, saved):
            remove_backup(ctx.layout, saved)
        forget(ctx)
        if failure is error or isinstance(error, KeyboardInterrupt):
            raise
        raise failure from error


def in_the_way(ctx: Context, failure: MigratorError, saved: Backup) -> bool:
    """Tell whether this run's own backup takes the space that the application may need."""
    if not isinstance(failure, DiskError) or not may_give_way(ctx, saved):
        return False
    # SQLite calls a full quota "disk I/O error", so try to write too; only as much as an
    # application needs, since a small volume is nearly full beside a backup anyway.
    return is_full(failure) or not has_space(ctx.layout.home, min(saved.bytes, ENOUGH))


def may_give_way(ctx: Context, saved: Backup) -> bool:
    """Tell whether a backup is this run's own, and deleting it frees space for the database."""
    if saved.run_id != ctx.run_id:
        return False
    try:
        return saved.path.parent.stat().st_dev == ctx.layout.home.stat().st_dev
    except OSError:
        return False


def _undo(
    ctx: Context, live: ExclusiveDatabase, saved: Backup, failure: MigratorError, way: str
) -> bool:
    """
    Roll back, and compare the database with the backup where nobody else can write.

    Returns:
        Whether the run is certainly undone. Beside others a commit may stand although
        its last sync failed; then overwrite nothing.
    """
    identical = roll_back(ctx, live, saved)
    # Compared, the pages decide; only without a comparison the history has to be asked.
    if identical is None and _may_stand(ctx, live, saved, failure):
        return False
    if identical is False:
        restore_pages(ctx, live, saved)
        return True
    if not ctx.progress.began:
        return True
    say_as_before(ctx.emit, undone_by(way), identical)
    return True


AS_BEFORE = "The database is as it was before this run."
UNDONE = "What this run had done to the database is undone."
"""If others may have written, or nothing could be compared."""


def say_as_before(emit: Emit, method: str, identical: bool | None) -> None:
    """Send `restore.finished`; it says "as before" only if that was compared."""
    emit(
        "restore.finished",
        AS_BEFORE if identical else UNDONE,
        method=method,
        identical=identical,
    )


def _may_stand(
    ctx: Context, live: ExclusiveDatabase, saved: Backup, failure: MigratorError
) -> bool:
    """
    Tell whether the run may be committed, if no comparison can tell.

    It may if the history says so, or if the disk failed at the commit and the `-wal` cannot
    be emptied.
    """
    if ctx.progress.phase not in ("commit", "publish"):
        return False
    left = run_state.read(ctx.layout.state)
    with live.guard.engine():
        if left is not None and left.is_in(ctx.history.read(live.conn)):
            return True
    if not isinstance(failure, DiskError):
        return False
    # Emptying the `-wal` takes space, and on a full disk the kernel sends SIGBUS to a process
    # that writes to a mapped `-shm`.
    if in_the_way(ctx, failure, saved):
        remove_backup(ctx.layout, saved)
    # The run's frames in a `-wal` that is left count when SQLite next reads it from the start.
    return not live.checkpoint()


def roll_back(ctx: Context, live: ExclusiveDatabase, saved: Backup) -> bool | None:
    """
    Roll back, on a full disk after deleting the run's own backup, and compare.

    Where every write takes a new block (btrfs), a rollback needs space as well, for this
    run and for whoever opens the database next.

    Returns:
        Whether the database equals the backup; None if nobody can know.
    """
    try:
        _roll_back(ctx, live, saved)
    except (sqlite3.Error, OSError) as error:
        if not is_lack_of_space(ctx, error) or not may_give_way(ctx, saved):
            raise
        _remove_work_files(ctx)
        if ctx.progress.phase == "restore":
            # The next start must not begin this restore again: the backup of what it
            # replaces is about to be deleted.
            run_state.clear(ctx.layout.state)
        remove_backup(ctx.layout, saved)
        _roll_back(ctx, live, saved)
    return live.same_as(saved.path) if saved.path.exists() else None


def is_lack_of_space(ctx: Context, error: sqlite3.Error | OSError) -> bool:
    """Tell whether it failed because the disk is full."""
    if isinstance(error, OSError):
        return error.errno in FULL
    return is_out_of_space(error, ctx.layout.home)


def _roll_back(ctx: Context, live: ExclusiveDatabase, saved: Backup) -> None:
    live.guard.rollback()
    _remove_work_files(ctx)
    if live.alone:
        live.checkpoint()
        if saved.journal_mode and live.journal_mode() != saved.journal_mode:
            live.set_journal_mode(saved.journal_mode)
    with live.guard.engine():
        # A proof that the rollback is complete: until then SQLite refuses to read.
        live.conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()


def _not_undone(ctx: Context, failure: MigratorError, second: Exception) -> MigratorError:
    """
    Return the error for a rollback that the disk did not allow.

    Nothing is lost: the journal is on the disk, and whoever opens the database next
    rolls back, or finds the commit complete.
    """
    message = (
        f"The disk failed while the run on {str(ctx.layout.database)!r} was being undone"
        f" ({second}), after this: {failure.message}"
    )
    hint = "Check the disk, then start again: the next start recovers it by itself."
    if ctx.progress.phase in ("commit", "publish"):
        return OutcomeUnknownError(message, hint=hint, data=failure.data)
    return DiskError(message, hint=hint, data=failure.data, outcome="failed_restored")


@contextlib.contextmanager
def restored_on_failure(ctx: Context, live: ExclusiveDatabase, saved: Backup) -> Iterator[None]:
    """Put the backup back if a check after the commit fails, before anybody sees the new state."""
    try:
        yield
    except KeyboardInterrupt:
        # The commit stands; the next start removes what is left of the run.
        raise
    except BaseException as error:
        failure = as_failure(ctx, error)
        # Somebody may have seen the new state, and written to it: overwrite nothing.
        if not live.alone or not live.guard.holds():
            raise _released(ctx, live, failure, saved) from error
        if isinstance(failure, DiskError):
            raise _unverified(ctx, failure) from error
        restore_pages(ctx, live, saved)
        forget(ctx)
        if failure is error:
            raise
        raise failure from error


def _unverified(ctx: Context, failure: MigratorError) -> OutcomeUnknownError:
    """
    Return the error for a commit that a failing disk kept from being checked.

    Nothing speaks against the new state, and a failing disk is a bad place to write the
    old one to. The run's note stays, so that the next start finds out.
    """
    with contextlib.suppress(OSError):
        _remove_work_files(ctx)
    message = (
        f"The run on {str(ctx.layout.database)!r} had committed when the disk failed:"
        f" {failure.message}"
    )
    hint = "Check the disk and its space, then start again: the next start recovers it by itself."
    return OutcomeUnknownError(message, hint=hint, data=failure.data)


def _remove_work_files(ctx: Context) -> None:
    """Remove the run's own copies, if they are certainly its own."""
    if not ctx.lock_is_lost:
        remove_work_files(ctx.layout)


def restore_pages(ctx: Context, live: ExclusiveDatabase, saved: Backup) -> None:
    """Write a backup's pages back while the database has not been released."""
    require_held(live)
    keep_failed(ctx, live)
    write_back(ctx, live, saved, noted(ctx, saved, found_now(ctx, live), "undo"))


def _released(
    ctx: Context, live: ExclusiveDatabase, failure: MigratorError, saved: Backup
) -> RestoreError:
    how = "without SQLite's locks" if live.alone else "with others using the database"
    message = f"A check failed after the commit, {how}: {failure.message}"
    hint = (
        "Nothing is overwritten any more by itself. To go back:"
        f" `{command(ctx.settings, 'restore', saved.name)}`."
    )
    data = {"backup": str(saved.path)}
    return RestoreError(message, hint=hint, reason="verify.after_release", data=data)


def forget(ctx: Context) -> None:
    """
    Remove the run's temporary files and its note; a failure to do so fails no run.

    If a copy of the database could not be removed, the note stays, so that the next
    start tries again instead of finding nothing to do.
    """
    if ctx.lock_is_lost:
        # The files there may be another run's by now.
        return
    with contextlib.suppress(OSError, MigratorError):
        remove_temporary_files(ctx.layout)
        if not _copy_is_left(ctx):
            run_state.clear(ctx.layout.state)


def _copy_is_left(ctx: Context) -> bool:
    """Tell whether a copy is still there; a restore's note is removed anyway."""
    if not any(os.path.lexists(path) for path in (ctx.layout.work, ctx.layout.new)):
        return False
    left = run_state.read(ctx.layout.state)
    return left is not None and left.phase != "restore"


def is_full(error: MigratorError) -> bool:
    """Tell whether a run failed because the disk is full."""
    return error.reason in ("disk.full", "backup.no_space")
