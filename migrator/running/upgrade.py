"""One upgrade as a start needs it: look first, and do something only where that is needed."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from migrator.errors import MigratorError, NotReadyError
from migrator.looking.survey import Survey, judge, say_plan
from migrator.report.outcome import Result
from migrator.running.host import Host
from migrator.system.deadline import Deadline
from migrator.system.wait import NotYetError, wait_until_ready

if TYPE_CHECKING:
    from migrator.running.aims import Aim
    from migrator.safety.context import Context


def bring_up_to_date(host: Host) -> Result:
    """
    Run what is pending; with nothing pending, fork nothing and write nothing.

    Raises:
        MigratorError: One of its kinds, with its exit code.
    """
    found = _patient_survey(host)
    # What a run has left, or is about to leave, is settled under the lock first.
    if not found.unsettled:
        judge(host.settings, host.layout, found, host.emit)
    if found.up_to_date:
        return _nothing_to_do(host, found)
    return host.perform(_upgrade, lambda: _look_again(host), _plan)


def _look_again(host: Host) -> Result | None:
    """
    Look once more under the lock: who had it before may have done the work.

    What cannot be seen from here is left to the worker, which may recover the
    database.
    """
    try:
        found = host.survey()
    except MigratorError:
        return None
    found = replace(found, sight=replace(found.sight, running=False))
    if not found.up_to_date:
        return None
    judge(host.settings, host.layout, found, host.emit)
    return _nothing_to_do(host, found)


def _nothing_to_do(host: Host, found: Survey) -> Result:
    say_plan(host.emit, found, None)
    return Result("no_database" if found.left_alone else "up_to_date")


def _plan(host: Host) -> Aim:
    from migrator.running.aims import upgraded

    return upgraded(host)


def _upgrade(ctx: Context) -> dict[str, Any]:
    from migrator.running.run import upgrade

    return upgrade(ctx)


def _patient_survey(host: Host) -> Survey:
    """Look, and wait within the budget while somebody's lock keeps readers out."""
    return wait_until_ready(
        lambda: _survey(host),
        host.deadline,
        host.emit,
        ready="The database can be read.",
        level=None,
    )


def _survey(host: Host) -> Survey:
    try:
        return host.survey()
    except NotReadyError as error:
        if error.reason != "database.in_use":
            raise
        from migrator.safety.live import in_use

        hint = "It keeps readers out: let it finish, or allow more time with `--wait-timeout`."
        raise in_use(host.layout.database, hint) from error


def wait_for_others(host: Host) -> Result:
    """
    Write nothing, and wait until another run has brought the database up to date.

    While a run is under way the time is the lock's, not the volume's.

    Raises:
        NotReadyError: Nobody did, in time.
    """
    watched = Deadline(host.settings.lock_timeout)
    running_at: float | None = None

    def look() -> Result:
        nonlocal running_at
        found = _survey(host)
        if not found.unsettled:
            judge(host.settings, host.layout, found, host.emit)
        if found.up_to_date:
            return Result("no_database" if found.left_alone else "up_to_date")
        now = time.monotonic()
        if running_at is not None:
            host.deadline.extend(now - running_at)
        running_at = now if found.sight.running and not watched.expired else None
        if running_at is not None and host.deadline.remaining() < _A_LOOK:
            host.deadline.extend(_A_LOOK)
        raise NotYetError(_still_pending(host, found))

    return wait_until_ready(look, host.deadline, host.emit, level=None)


_A_LOOK = 1.0
"""Seconds that are left for another look, at least, while a run is under way."""


def _still_pending(host: Host, found: Survey) -> NotReadyError:
    message = (
        f"Pending migrations: {len(found.pending)} in {str(host.layout.database)!r};"
        " `--migrate wait` leaves them to another run."
    )
    hint = "Start the one that migrates (`--migrate run`), or allow more with `--wait-timeout`."
    if found.sight.running:
        hint = "Start again when the run under way has ended, or allow more with `--lock-timeout`."
    return NotReadyError(message, hint=hint, reason="migrations.pending")
