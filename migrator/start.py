"""One upgrade as a start needs it: look first, and do something only where that is needed."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from migrator.deadline import Deadline
from migrator.engine.parent import Parent
from migrator.errors import MigratorError, NotReadyError
from migrator.inspect.status import DatabaseStatus, refuse_or_warn, say_plan
from migrator.log.outcome import Result
from migrator.wait import NotYetError, wait_until_ready

if TYPE_CHECKING:
    from migrator.context import Context
    from migrator.engine.expectation import Expectation


def bring_up_to_date(parent: Parent) -> Result:
    """
    Run what is pending; with nothing pending, fork nothing and write nothing.

    Raises:
        MigratorError: One of its kinds, with its exit code.
    """
    found = _patient_survey(parent)
    # What a run has left, or is about to leave, is settled under the lock first.
    if not found.unsettled:
        refuse_or_warn(parent.settings, parent.layout, found, parent.emit)
    if found.up_to_date:
        return _nothing_to_do(parent, found)
    return parent.run_in_worker(_upgrade, lambda: _look_again(parent), _plan)


def _look_again(parent: Parent) -> Result | None:
    """
    Look once more under the lock: who had it before may have done the work.

    What cannot be seen from here is left to the worker, which may recover the
    database.
    """
    try:
        found = parent.survey()
    except MigratorError:
        return None
    found = replace(found, sight=replace(found.sight, running=False))
    if not found.up_to_date:
        return None
    refuse_or_warn(parent.settings, parent.layout, found, parent.emit)
    return _nothing_to_do(parent, found)


def _nothing_to_do(parent: Parent, found: DatabaseStatus) -> Result:
    say_plan(parent.emit, found, None)
    return Result("no_database" if found.left_alone else "up_to_date")


def _plan(parent: Parent) -> Expectation:
    from migrator.engine.expectation import upgraded

    return upgraded(parent)


def _upgrade(ctx: Context) -> dict[str, Any]:
    from migrator.run import upgrade

    return upgrade(ctx)


def _patient_survey(parent: Parent) -> DatabaseStatus:
    """Look, and wait within the budget while somebody's lock keeps readers out."""
    return wait_until_ready(
        lambda: _survey(parent),
        parent.deadline,
        parent.emit,
        ready="The database can be read.",
        level=None,
    )


def _survey(parent: Parent) -> DatabaseStatus:
    try:
        return parent.survey()
    except NotReadyError as error:
        if error.reason != "database.in_use":
            raise
        from migrator.exclusive import in_use

        hint = "It keeps readers out: let it finish, or allow more time with `--wait-timeout`."
        raise in_use(parent.layout.database, hint) from error


def wait_for_others(parent: Parent) -> Result:
    """
    Write nothing, and wait until another run has brought the database up to date.

    While a run is under way the time is the lock's, not the volume's.

    Raises:
        NotReadyError: Nobody did, in time.
    """
    watched = Deadline(parent.settings.lock_timeout)
    running_at: float | None = None

    def look() -> Result:
        nonlocal running_at
        found = _survey(parent)
        if not found.unsettled:
            refuse_or_warn(parent.settings, parent.layout, found, parent.emit)
        if found.up_to_date:
            return Result("no_database" if found.left_alone else "up_to_date")
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
