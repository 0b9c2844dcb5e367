"""What every harness of the proof is given, and the row that it says of each fixture."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Effort:
    """
    How much a harness tries.

    Args:
        directory: An empty directory of its own.
        seconds: What it may take, about; None for everything there is.
        seed: Chooses among what is not tried whole; printed with the table.
        jobs: How many processes at once.
    """

    directory: Path
    seconds: float | None = None
    seed: str = "1"
    jobs: int = 2

    def share(self, number: int) -> float | None:
        """Return the seconds that one of so many fixtures has."""
        return None if self.seconds is None else self.seconds / number


@dataclass(frozen=True, slots=True)
class Row:
    """
    One line of the table in docs/reliability.md.

    Args:
        harness: The harness: its key in `tests.prove.HARNESSES`.
        fixture: What was put to the test.
        points: Where a fault was possible: operations, sizes, bytes, starts.
        tried: Faults that were met, or states that were opened.
        broken: Those after which a promise did not hold, one sentence each,
            however many promises that were; also what could not be tried.
        seconds: How long it took.
    """

    harness: str
    fixture: str
    points: int
    tried: int
    broken: tuple[str, ...]
    seconds: float

    @property
    def survived(self) -> int:
        """How many were survived; what broke without a try takes none of them away."""
        return max(0, self.tried - len(self.broken))


def not_tried(harness: str, fixture: str, lack: str) -> Row:
    """Return the row of what this machine cannot try: that is no success."""
    return Row(harness, fixture, 0, 0, (f"{fixture}: not tried: needs {lack}.",), 0.0)


Harness = Callable[[Effort], Iterator[Row]]
"""A function that yields a row as soon as it knows it."""


class Stopwatch:
    """Seconds since it was made, and whether a budget is spent."""

    def __init__(self, budget: float | None = None) -> None:
        self._began = time.monotonic()
        self._budget = budget

    @property
    def seconds(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._began

    @property
    def limited(self) -> bool:
        """Whether there is a budget."""
        return self._budget is not None

    @property
    def spent(self) -> bool:
        """Whether the budget is spent; never, where there is none."""
        return self._budget is not None and self.seconds > self._budget
