"""`--migrate wait`: write nothing, and wait until another start has migrated."""

from __future__ import annotations

import time

from migrator.engine.parent import Parent
from migrator.errors import NotReadyError
from migrator.inspect.status import DatabaseStatus, refuse_or_warn
from migrator.model import Outcome
from migrator.wait import Deadline, NotYetError, wait_until_ready


def wait_for_others(parent: Parent) -> Outcome:
    """
    Write nothing, and wait until another run has brought the database up to date.

    While a run is under way the time is the lock's, not the volume's.

    Raises:
        NotReadyError: Nobody did, in time.
    """
    watched = Deadline(parent.settings.lock_timeout)
    running_at: float | None = None

    def look() -> Outcome:
        nonlocal running_at
        found = parent.when_free(parent.survey)
        if not found.unsettled:
            refuse_or_warn(parent.settings, parent.layout, found, parent.emit)
        if found.up_to_date:
            return Outcome("no_database" if found.left_alone else "up_to_date")
        now = time.monotonic()
        if running_at is not None:
            parent.deadline.extend(now - running_at)
        running_at = now if found.sight.running and not watched.expired else None
        if running_at is not None and parent.deadline.remaining() < _A_LOOK:
            parent.deadline.extend(_A_LOOK)
        raise NotYetError(_still_pending(parent, found))

    return wait_until_ready(look, parent.deadline, parent.emit, level=None)


_A_LOOK = 1.0
"""Seconds that are left for another look, at least, while a run is under way."""


def _still_pending(parent: Parent, found: DatabaseStatus) -> NotReadyError:
    message = (
        f"Pending migrations: {len(found.pending)} in {str(parent.layout.database)!r};"
        " `--migrate wait` leaves them to another run."
    )
    hint = "Start the one that migrates (`--migrate run`), or allow more with `--wait-timeout`."
    if found.sight.running:
        hint = "Start again when the run under way has ended, or allow more with `--lock-timeout`."
    return NotReadyError(message, hint=hint, reason="migrations.pending")
