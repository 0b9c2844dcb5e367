"""How a run ended, and the one line that says so."""

from __future__ import annotations

import os

from migrator.errors import (
    FAILED_OUTCOMES,
    MigrationFailedError,
    MigratorError,
    OutcomeUnknownError,
    RestoreError,
    describe,
)
from migrator.model import Emit, Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SHOWN = (
    "version",
    "name",
    "file",
    "line",
    "statement",
    "table",
    "problems",
    "backup",
    "users",
    "signal",
    "traceback",
)
_SENTENCES = {
    "up_to_date": "The database is up to date; nothing was done.",
    "migrated": "The database was brought to its new state.",
    "created": "The database was created.",
    "backed_up": "The database was backed up.",
    "rehearsed": "The run was rehearsed on a copy; the database is untouched.",
    "no_database": "There is no database yet; it is left to the application.",
    "skipped": "Migrations were skipped, as told.",
}


OUTCOMES = (*_SENTENCES, *FAILED_OUTCOMES)
"""All of them, as docs/logs.md lists them."""


def new_run_id() -> str:
    """Return an id that no other run has."""
    return os.urandom(8).hex()


def as_bug(error: BaseException, doing: str = "") -> MigratorError:
    """Return the error that reports a crash of this program: one line, the traceback a field."""
    try:
        import traceback

        trace = "".join(traceback.format_exception(error))
    except (ImportError, OSError):
        # After the privileges were dropped, Python's own files may be out of reach.
        trace = describe(error)
    return MigratorError(
        f"This program failed{doing}: {describe(error).rstrip('.')}.",
        hint="Please report it with the traceback in this line.",
        data={"traceback": trace},
    )


def outcome_of(error: MigratorError) -> str:
    """Return the outcome of a run that an error ended."""
    if isinstance(error, RestoreError):
        return "restore_failed"
    if isinstance(error, OutcomeUnknownError):
        return "unknown"
    if error.outcome is not None:
        return error.outcome
    if error.exit_code == MigratorError.exit_code:
        return "bug"
    if error.began or isinstance(error, MigrationFailedError):
        return "failed_restored"
    return "refused"


def say_finished(emit: Emit, done: Outcome, seconds: float) -> None:
    """Send `run.finished` for a run that did what it was told."""
    emit(
        "run.finished",
        _SENTENCES[done.kind],
        outcome=done.kind,
        exit_code=0,
        applied=done.applied,
        seconds=round(seconds, 3),
    )


def say_failed(emit: Emit, error: MigratorError, seconds: float, **more: Any) -> None:
    """Send `run.finished` for a run that an error ended."""
    extra = {key: value for key, value in error.data.items() if key in _SHOWN}
    emit(
        "run.finished",
        error.message,
        level="error",
        outcome=outcome_of(error),
        exit_code=error.exit_code,
        applied=error.applied,
        seconds=round(seconds, 3),
        error=error.message,
        reason=error.reason,
        retryable=error.retryable,
        hint=error.hint,
        **{**extra, **more},
    )


def worker_bug(trace: str) -> MigratorError:
    """Return the error for a worker that this program itself has crashed."""
    last = (trace.strip().splitlines() or ["?"])[-1][:500]
    return MigratorError(
        f"This program failed: {last}",
        hint="Please report it with the traceback in this line.",
        data={"traceback": trace},
    )
