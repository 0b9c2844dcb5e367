"""Waiting, within a budget, for what can still come: a mount, permission, another's lock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from migrator.errors import MigratorError, NotReadyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any, TypeVar

    from tenacity import RetryCallState

    from migrator.model import Emit

    T = TypeVar("T")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_LAST_LOOK = 0.05
"""How long before the end of the budget the last look is taken, in seconds."""


class Deadline:
    """
    The end of a budget of seconds, counted from now on the monotonic clock.

    Args:
        seconds: The budget; 0 has none left from the start.
        clock: Where the time comes from, in seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def remaining(self) -> float:
        """Return the seconds that are left, never less than 0."""
        return max(0.0, self._end - self._clock())

    @property
    def expired(self) -> bool:
        """Whether nothing is left."""
        return self.remaining() <= 0

    def extend(self, seconds: float) -> None:
        """Give back time that was spent on something with its own budget."""
        self._end += seconds


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
        emit: Gets `volume.waiting` before a pause whose reason is another one than before, and
            else before every 2nd, 4th, 8th … of them; `volume.ready` at the end.
        ready: What `volume.ready` says.
        level: Its level where nothing had to be waited for; None: not worth a word then.

    Raises:
        MigratorError: The cause of the last `NotYetError`, or at once whatever
            else the check raised.
    """
    waited: list[str] = []
    """The reasons of the looks that failed one after another for the same one."""

    def say(error: BaseException, attempt: int, pause: float) -> None:
        if not isinstance(error, NotYetError):
            return
        if waited and waited[-1] != error.reason:
            waited.clear()
        waited.append(error.reason)
        if len(waited).bit_count() == 1:
            _say_waiting(emit, error, attempt, pause)

    try:
        result = repeat(
            check,
            lambda: deadline.remaining() - _LAST_LOOK,
            may_pass=lambda error: isinstance(error, NotYetError),
            pause=_growing,
            before_pause=say,
        )
    except NotYetError as last:
        if last.event:
            emit(last.event, last.message, level="error", **last.fields)
        raise last.cause from last.cause.__cause__
    if waited:
        emit("volume.ready", ready)
    elif level is not None:
        emit("volume.ready", ready, level=level)
    return result


def repeat(
    attempt: Callable[[], T],
    left: Callable[[], float],
    *,
    may_pass: Callable[[BaseException], bool],
    pause: Callable[[int], float],
    before_pause: Callable[[BaseException, int, float], object] = lambda *_: None,
) -> T:
    """
    Return what an attempt returns, repeating it while it fails and time is left.

    Args:
        attempt: What is done; the others are those of `attempts`.

    Raises:
        Exception: The last failure.
    """
    results: list[T] = []
    for each in attempts(left, may_pass=may_pass, pause=pause, before_pause=before_pause):
        with each:
            results.append(attempt())
    return results[0]


def attempts(
    left: Callable[[], float],
    *,
    may_pass: Callable[[BaseException], bool],
    pause: Callable[[int], float],
    before_pause: Callable[[BaseException, int, float], object] = lambda *_: None,
) -> Iterator[AbstractContextManager[object]]:
    """
    Yield one attempt after another, each a context, until one succeeds.

    It is tenacity's own loop (https://tenacity.readthedocs.io/en/latest/#retrying-code-block).
    With any time at all there is a second attempt, whatever comes between the two.

    Args:
        left: Returns the seconds that are left. It is asked after each failure, since a
            budget gets back what is spent on another one.
        may_pass: Tells whether a failure may not last; any other is raised at once.
        pause: Returns how long to pause after so many attempts, in seconds, unless less is left.
        before_pause: Gets each failure that is not the last, the number of attempts and the pause.

    Raises:
        Exception: The last failure.
    """
    first = _FirstAttempt(lambda error: may_pass(error) and left() > 0)
    yield first
    if first.failure is None:
        return
    # Imported only here: what waits for nothing does not pay for it.
    import tenacity

    def say(state: RetryCallState) -> None:
        if state.outcome is not None and (error := state.outcome.exception()) is not None:
            before_pause(error, state.attempt_number, state.upcoming_sleep)

    retrying = tenacity.Retrying(
        stop=lambda state: state.attempt_number > 1 and left() <= 0,
        wait=lambda state: max(0.0, min(pause(state.attempt_number), left())),
        retry=tenacity.retry_if_exception(may_pass),
        before_sleep=say,
        reraise=True,
    )
    for attempt in retrying:
        if attempt.retry_state.attempt_number > 1:
            yield attempt
        else:
            # The attempt that has been made already counts as the first.
            with attempt:
                raise first.failure


class _FirstAttempt:
    """The attempt before tenacity is imported: keep a failure that allows another attempt."""

    def __init__(self, may_pass: Callable[[BaseException], bool]) -> None:
        self._may_pass = may_pass
        self.failure: BaseException | None = None

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object, /
    ) -> bool:
        """Keep a failure that may pass."""
        if not isinstance(error, Exception) or not self._may_pass(error):
            return False
        self.failure = error
        return True


def _growing(attempts: int) -> float:
    """Return a pause that doubles each time, with a little chance in it."""
    import random

    exponential: float = _FIRST_PAUSE * 2 ** min(attempts - 1, 10)
    # Starts that wait for the same thing shall not look in step.
    return min(exponential, _LONGEST_PAUSE) + random.uniform(0, _FIRST_PAUSE)  # noqa: S311


def _say_waiting(emit: Emit, error: NotYetError, attempt: int, pause: float) -> None:
    """Log one failed look and the pause before the next."""
    emit(
        "volume.waiting",
        f"{error.message} Looking again in {pause:.1f} s.",
        attempt=attempt,
        reason=error.reason,
        next_wait=round(pause, 3),
        **({"hint": error.hint} if error.hint else {}),
    )
