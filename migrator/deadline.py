"""A budget of time that a wall clock's jump cannot change."""

from __future__ import annotations

import time
from collections.abc import Callable


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
        """Give back time that was spent on something with a budget of its own."""
        self._end += seconds
