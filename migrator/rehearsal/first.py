"""`--rehearse`: a start that rehearses first, and runs only what the rehearsal let through."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from migrator.engine.expectation import upgraded
from migrator.engine.parent import Parent
from migrator.errors import MigratorError, MisfitError
from migrator.inspect.status import DatabaseStatus
from migrator.model import Outcome
from migrator.recovery.dead_worker import settle_only
from migrator.rehearsal.rehearse import Wanted, rehearse
from migrator.run import done_by_another_run, in_worker, look, nothing_pending, upgrade


def bring_up_to_date(parent: Parent) -> Outcome:
    """
    Rehearse what is pending, and run it if that went well; with nothing pending, do neither.

    Raises:
        MigratorError: One of its kinds: the run's, or that of the rehearsal, after which the
            database is untouched.
    """
    status = look(parent)
    done = nothing_pending(parent.settings, parent.layout, status, parent.emit)
    if done is not None:
        return done
    if status.unsettled:
        # What another run does, or has left, comes first: the rehearsal is to begin where the
        # run will.
        with parent.signals.noted_within():
            in_worker(parent, settle_only, done_already=lambda: done_by_another_run(parent))
        status = look(parent)
        done = nothing_pending(parent.settings, parent.layout, status, parent.emit)
        if done is not None:
            return done
    rehearsed = _texts(status)
    _rehearse(parent)

    def done_already() -> Outcome | None:
        done = done_by_another_run(parent)
        if done is None:
            _require_the_same(parent, rehearsed)
        return done

    return in_worker(parent, upgrade, upgraded, done_already)


def _rehearse(parent: Parent) -> None:
    """
    Rehearse, and say that it went well.

    Raises:
        MigratorError: What the run would have ended with.
    """
    began = time.monotonic()
    report, error = rehearse(parent, Wanted())
    # It was no waiting for others: the run has its whole budget.
    parent.deadline.extend(time.monotonic() - began)
    if error is not None:
        error.message = f"The rehearsal has failed: {error.message}"
        error.args = (error.message,)
        if error.exit_code != MigratorError.exit_code:
            error.outcome = "refused"
        raise error
    parent.emit(
        "rehearsal.finished",
        f"The rehearsal let all through; pending migrations: {report.pending}.",
        pending=report.pending,
        seconds=round(time.monotonic() - began, 3),
    )


def _texts(status: DatabaseStatus) -> dict[object, str]:
    """Return a checksum of the text of each pending migration, by its key."""
    return {entry.key: _text(entry.path) for entry in status.pending}


def _text(path: Path | None) -> str:
    """Return the checksum of a file, nothing for one that cannot be read: its run says so."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path is not None else ""
    except OSError:
        return ""


def _require_the_same(parent: Parent, rehearsed: dict[object, str]) -> None:
    """
    Make sure that what is about to run is what was rehearsed.

    Raises:
        MisfitError: Files were changed, or another run has applied some of them.
    """
    if _texts(parent.survey()) == rehearsed:
        return
    message = "What is pending is no longer what was rehearsed."
    hint = "Start again: the rehearsal begins anew."
    raise MisfitError(message, hint=hint, reason="rehearsal.differs", retryable=True)
