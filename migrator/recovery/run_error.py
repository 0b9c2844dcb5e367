"""Turn any exception of a run into the error that it reports."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from migrator.context import Context
from migrator.database.lock import lost_lock
from migrator.errors import (
    LockedError,
    LocksLostError,
    MigrationFailedError,
    MigratorError,
    MisfitError,
    OutcomeUnknownError,
    RestoreError,
    UsageError,
)
from migrator.log.outcome import as_bug
from migrator.log.translate import END_IT, LEFT_BEHIND, is_interrupted, of_sqlite, of_system
from migrator.recovery.phases import doing_in

_MORE_THAN_THE_LOCK = (
    LockedError,
    LocksLostError,
    MisfitError,
    OutcomeUnknownError,
    RestoreError,
    UsageError,
)
"""Reported as they are even if the lock was removed, which explains any other error."""


def as_failure(ctx: Context, error: BaseException) -> MigratorError:
    """Return the error that ends the run, for any exception."""
    failure = _translated(ctx, error)
    if ctx.lock_is_lost and not isinstance(failure, _MORE_THAN_THE_LOCK):
        after = f"The run ended with this: {failure.message}"
        lost = lost_lock(ctx.layout.lock, after, failure.outcome)
        lost.data, lost.began, failure = failure.data, failure.began, lost
    if failure.began is None:
        failure.began = ctx.progress.began
    return failure


def _translated(ctx: Context, error: BaseException) -> MigratorError:
    if isinstance(error, MigratorError):
        return error
    doing = doing_in(ctx.progress.phase)
    if is_interrupted(error):
        return MigrationFailedError(
            f"SQLite says {str(error)!r} {doing}. {LEFT_BEHIND}", hint=END_IT
        )
    if isinstance(error, sqlite3.Error | UnicodeDecodeError):
        return of_sqlite(error, ctx.layout.database, doing)
    if isinstance(error, OSError):
        return of_system(error, doing)
    return as_bug(error, f" {doing}")


@contextlib.contextmanager
def as_run_error(ctx: Context) -> Iterator[None]:
    """Turn every exception of the run into the error that is reported."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        failure = as_failure(ctx, error)
        if failure is error:
            raise
        raise failure from error
