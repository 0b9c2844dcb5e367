"""
A restore that runs out of disk space: refuse it, or roll it back.

The backup that it made of the replaced state is deleted with it: it holds nothing that the
database does not, and would take the space that the application needs.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator

from migrator.backups import space
from migrator.backups.backup import Backup
from migrator.backups.retention import remove_backup
from migrator.context import Context
from migrator.errors import DiskError, MigratorError, OutcomeUnknownError, RestoreError
from migrator.exclusive import ExclusiveDatabase
from migrator.files import A_LITTLE, has_space
from migrator.log.translate import is_disk_failure
from migrator.recovery.intent import restoring
from migrator.recovery.rollback import (
    forget,
    in_the_way,
    is_lack_of_space,
    may_give_way,
    roll_back,
    say_as_before,
)


@contextlib.contextmanager
def as_before_without_space(
    ctx: Context, live: ExclusiveDatabase, chosen: Backup, saved: Backup | None
) -> Iterator[None]:
    """
    Roll back a restore that runs out of space, and delete the backup that it made itself.

    Raises:
        DiskError: There was not enough space; the database is as before, and no note is left
            from which the next start would overwrite data that has no copy.
        OutcomeUnknownError: It is committed, and the next start has something left to do.
        RestoreError: It failed in another way, or after its commit.
    """
    try:
        yield
    except OutcomeUnknownError:
        # It is committed: there is nothing to roll back.
        raise
    except DiskError as error:
        # It had not written yet: only its backup and its note are there.
        forget(ctx)
        noted = os.path.lexists(ctx.layout.state)
        if saved is not None and not noted and in_the_way(ctx, error, saved):
            remove_backup(ctx.layout, saved)
        raise
    except RestoreError as error:
        cause = error.__cause__
        if (
            saved is None
            or ctx.progress.phase != "restore"
            or not _found_no_space(ctx, cause, chosen)
        ):
            raise
        try:
            taken_back = _take_back(ctx, live, chosen, saved)
        except (sqlite3.Error, OSError, MigratorError):
            raise error from cause
        if not taken_back:
            raise
        raise no_space(ctx, chosen, str(cause)) from error


def space_for(ctx: Context, chosen: Backup) -> int:
    """
    Return how many bytes writing a backup back takes beside the database.

    Its journal, or its part of the `-wal`, is as large as the backup; the database itself
    needs space if it grows, or if every write takes a new block.
    """
    home = ctx.layout.home
    growth = chosen.bytes
    if not space.copies_on_write(home):
        growth = max(0, chosen.bytes - ctx.layout.database.stat().st_size)
    return chosen.bytes + growth + A_LITTLE


def _found_no_space(ctx: Context, error: BaseException | None, chosen: Backup) -> bool:
    """
    Tell whether a restore failed because the disk is full.

    SQLite calls a full quota an I/O error, and has deleted its journal by now: so look
    whether the space for a whole restore is there.
    """
    if not isinstance(error, sqlite3.Error | OSError):
        return False
    if is_lack_of_space(ctx, error):
        return True
    return is_disk_failure(error) and not has_space(ctx.layout.home, space_for(ctx, chosen))


def _take_back(ctx: Context, live: ExclusiveDatabase, chosen: Backup, saved: Backup) -> bool:
    """Roll a restore back and delete its own backup; returns whether both worked."""
    identical = roll_back(ctx, live, saved)
    if identical is False or (identical is None and live.same_as(chosen.path)):
        return False
    forget(ctx)
    if os.path.lexists(ctx.layout.state):
        return False
    if may_give_way(ctx, saved):
        remove_backup(ctx.layout, saved)
    say_as_before(ctx.emit, "rollback", identical)
    return True


def no_space(ctx: Context, chosen: Backup, cause: str) -> DiskError:
    """Return the error of a restore that was refused or rolled back because the disk is full."""
    message = (
        f"Not enough space to restore {str(ctx.layout.database)!r} from {chosen.name!r}"
        f" ({cause}); nothing of it is restored."
    )
    hint = (
        "Make space on the volume, or enlarge it or its quota,"
        f" then run `{restoring(ctx, chosen)}`."
    )
    return DiskError(message, hint=hint, reason="disk.full")
