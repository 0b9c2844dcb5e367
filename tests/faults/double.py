"""A second kill, while the start after the first one recovers from it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults import shim
from tests.faults.contents import digest_of
from tests.faults.harness import Stage
from tests.faults.plan import scattered
from tests.faults.scenes import fresh
from tests.faults.shim import Call, Fault

_NUMBERS = re.compile("[0-9]+")


@dataclass(frozen=True, slots=True)
class Left:
    """
    What a kill has left.

    Args:
        fault: The kill.
        volume: A copy of the volume as it was then.
        calls: Those of the start that follows.
        own: How many of them are the recovery's: the others end like an undisturbed start.
    """

    fault: Fault
    volume: Path
    calls: Sequence[Call]
    own: int

    def kills(self, rest: int) -> list[Fault]:
        """
        Return the second kills: at each call of the recovery, and at some of what follows.

        Args:
            rest: At how many calls of what follows.
        """
        follows = len(self.calls) - self.own
        points = [*range(1, self.own + 1)]
        points += sorted(self.own + 1 + n for n in scattered(follows)[:rest])
        return [
            Fault(point, action)
            for point in points
            for action in ("all-before", "torn")
            if action != "torn" or self.calls[point - 1].kind & shim.WRITE
        ]

    def some_kills(self, number: int, first: float) -> list[Fault]:
        """Return so many of them, each with one of what follows, from anywhere on."""
        kills = self.kills(1)
        return [kills[n] for n in scattered(len(kills), first)[:number]]


def states_left(stage: Stage, faults: Iterable[Fault], copy: Path) -> Iterator[Left]:
    """
    Yield what these kills leave, each state once.

    Args:
        stage: The scene.
        faults: The kills.
        copy: Where the state is kept until the next one is asked for.
    """
    seen = set()
    for fault in faults:
        left = stage.leave(fault)
        digest = digest_of(stage.volume)
        if left and digest not in seen:
            seen.add(digest)
            fresh(stage.volume, copy)
            calls = stage.recover()
            yield Left(fault, copy, calls, _own(calls, stage.undisturbed))


def _own(calls: Sequence[Call], undisturbed: Sequence[Call]) -> int:
    """Return how many calls come before those that are an undisturbed start's as well."""
    same = 0
    for one, other in zip(reversed(calls), reversed(undisturbed), strict=False):
        if _what(one) != _what(other):
            break
        same += 1
    return len(calls) - same


def _what(call: Call) -> str:
    """Return a call without what differs from run to run: counters and times in names."""
    return _NUMBERS.sub("0", str(call))
