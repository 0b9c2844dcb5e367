"""Waiting, within one budget, for what can still come: a mount, a directory, permission."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from migrator.errors import MigratorError, NotReadyError

if TYPE_CHECKING:
    from tenacity import RetryCallState

    from migrator.deadline import Deadline
    from migrator.model import Emit

T = TypeVar("T")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_JITTER = 0.1
_LAST_LOOK = 0.05
"""How long before the end of the budget the last look is taken, in seconds."""


class NotYetError(NotReadyError):
    """
    Something is not as it must be, and may still become so.

    Args:
        cause: What ends the run, with its own exit code, if it does not.
        event: The event that says so at that end, if any.
        fields: The event's fields.
    """

    def __init__(
        self,
        cause: MigratorError,
        *,
        event: str | None = None,
        fields: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            cause.message,
            hint=cause.hint,
            reason=cause.reason,
            retryable=cause.retryable,
            data=cause.data,
        )
        self.exit_code = cause.exit_code
        self.cause = cause
        self.event = event
        self.fields = fields or {}


def wait_until_ready(
    check: Callable[[], T],
    deadline: Deadline,
    emit: Emit,
    *,
    ready: str = "The volume is ready.",
    level: str | None = "debug",
) -> T:
    """
    Return what a check returns, repeating it while it raises `NotYetError`.

    Args:
        check: Looks once; creates and writes nothing.
        deadline: The budget; with nothing left of it the check is done once.
        emit: Gets `volume.waiting` before each pause, `volume.ready` at the end.
        ready: What `volume.ready` says.
        level: Its level where nothing had to be waited for; None: not worth a word then.

    Raises:
        MigratorError: The cause of the last `NotYetError`, or at once whatever
            else the check raised.
    """
    try:
        result = check()
    except NotYetError as first:
        result = _give_up_late(check, first, deadline, emit)
        emit("volume.ready", ready)
        return result
    if level is not None:
        emit("volume.ready", ready, level=level)
    return result


def _give_up_late(check: Callable[[], T], first: NotYetError, deadline: Deadline, emit: Emit) -> T:
    """Repeat a check that has failed once until the budget is spent."""
    try:
        return _retry(check, first, deadline, emit)
    except NotYetError as last:
        if last.event:
            emit(last.event, last.message, level="error", **last.fields)
        raise last.cause from last.cause.__cause__


def _retry(check: Callable[[], T], first: NotYetError, deadline: Deadline, emit: Emit) -> T:
    if deadline.remaining() <= 0:
        raise first
    # Imported only here: a start that waits for nothing does not pay for it.
    import tenacity

    exponential = tenacity.wait_exponential(multiplier=_FIRST_PAUSE, max=_LONGEST_PAUSE)
    growing = exponential + tenacity.wait_random(0, _JITTER)
    taken = iter([first])

    def pause(state: RetryCallState) -> float:
        """Grow, but look once more just before the budget ends."""
        left = deadline.remaining() - _LAST_LOOK
        return min(growing(state), left) if left > 0 else growing(state)

    def look() -> T:
        """Look; the look that has been taken already counts as the first attempt."""
        if (error := next(taken, None)) is not None:
            raise error
        return check()

    retrying = tenacity.Retrying(
        # Asked anew each time: what is spent on another run's lock is given back.
        stop=lambda state: state.upcoming_sleep >= deadline.remaining(),
        wait=pause,
        retry=tenacity.retry_if_exception_type(NotYetError),
        before_sleep=lambda state: _report(state, emit),
        reraise=True,
    )
    return retrying(look)


def _report(state: RetryCallState, emit: Emit) -> None:
    """Log one failed look and the pause before the next."""
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, NotYetError):
        return
    emit(
        "volume.waiting",
        f"{error.message} Looking again in {state.upcoming_sleep:.1f} s.",
        attempt=state.attempt_number,
        reason=error.reason,
        next_wait=round(state.upcoming_sleep, 3),
    )
