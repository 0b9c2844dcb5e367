"""One upgrade as a start needs it: look first, and do something only where that is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrator.deadline import Deadline
from migrator.errors import NotReadyError
from migrator.host import Host, check_released
from migrator.outcome import Result
from migrator.survey import Survey, judge, say_plan
from migrator.wait import NotYetError, wait_until_ready

if TYPE_CHECKING:
    from migrator.context import Context


def bring_up_to_date(host: Host) -> Result:
    """
    Run what is pending; with nothing pending, fork nothing and write nothing.

    Raises:
        MigratorError: One of its kinds, with its exit code.
    """
    found = host.survey()
    judge(host.settings, host.layout, found, host.emit)
    if found.up_to_date:
        say_plan(host.emit, found, None)
        return Result("no_database" if found.left_alone else "up_to_date")
    result = host.perform(_upgrade)
    check_released(host, result)
    return result


def _upgrade(ctx: Context) -> dict[str, Any]:
    from migrator.run import upgrade

    return upgrade(ctx)


def wait_for_others(host: Host) -> Result:
    """
    Write nothing, and wait until another run has brought the database up to date.

    While a run is under way the time is the lock's, not the volume's.

    Raises:
        NotReadyError: Nobody did, in time.
    """
    watched = Deadline(host.settings.lock_timeout)

    def look() -> Result:
        found = host.survey()
        judge(host.settings, host.layout, found, host.emit)
        if found.up_to_date and found.sight.exists:
            return Result("up_to_date")
        if found.up_to_date and found.left_alone:
            return Result("no_database")
        if found.sight.running and not watched.expired:
            host.deadline.extend(_A_LOOK)
        raise NotYetError(_still_pending(host, found))

    return wait_until_ready(look, host.deadline, host.emit)


_A_LOOK = 5.0
"""Seconds by which a run that is under way prolongs the wait at each look."""


def _still_pending(host: Host, found: Survey) -> NotReadyError:
    message = (
        f"{len(found.pending)} migrations are pending in {str(host.layout.database)!r},"
        " and `--migrate wait` leaves them to another run."
    )
    hint = "Start the one that migrates (`--migrate run`), or allow more with `--wait-timeout`."
    return NotReadyError(message, hint=hint, reason="migrations.pending")
