"""Which faults are tried, in an order whose every beginning is spread over all of them."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterable, Sequence

from tests.faults import shim
from tests.faults.shim import Call, Fault

ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EACCES)


def kills_at(point: int, call: Call, leader: int) -> list[Fault]:
    """Return every kill at one call."""
    kills = ["all-before", "all-after"]
    if call.pid != leader:
        # The parent calls nothing while there is a worker: it is everybody then.
        kills += ["worker-before", "worker-after", "parent-before", "parent-after"]
    if call.kind & shim.WRITE:
        kills.append("torn")
    return [Fault(point, action) for action in kills]


def faults_at(point: int, call: Call, leader: int) -> list[Fault]:
    """Return every fault at one call."""
    found = kills_at(point, call, leader)
    if call.kind & shim.WRITE:
        found.append(Fault(point, "short"))
    for error in ERRORS:
        found.append(Fault(point, "error-once", error))
        lasting = Fault(point, "error-on", error)
        if call.kind & lasting.mask:
            # Elsewhere it would begin with the next call that it is for.
            found.append(lasting)
    return found


def every_fault(calls: Sequence[Call]) -> list[list[Fault]]:
    """Return every fault at each call."""
    return [faults_at(point, call, calls[0].pid) for point, call in enumerate(calls, 1)]


def every_kill(calls: Sequence[Call]) -> list[list[Fault]]:
    """Return every kill at each call."""
    return [kills_at(point, call, calls[0].pid) for point, call in enumerate(calls, 1)]


def evenly(faults: Iterable[Sequence[Fault]], seed: object) -> list[Fault]:
    """
    Return all faults: one at each point, then a second one at each, until none is left.

    However few are taken from the beginning, they lie all over the run.

    Args:
        faults: Those at each point.
        seed: Anything; the same one gives the same order.
    """
    chance = random.Random(f"{seed}")  # noqa: S311 - nothing secret
    left = [chance.sample(each, len(each)) for each in faults]
    first = chance.random()
    ordered = []
    while left := [each for each in left if each]:
        ordered += [left[n].pop() for n in scattered(len(left), first)]
    return ordered


def scattered(number: int, first: float = 0.0) -> list[int]:
    """Return the numbers below one so that each lies in the largest gap of those before it."""
    golden = (5**0.5 - 1) / 2
    places = [(first + n * golden) % 1 for n in range(number)]
    rank = {place: n for n, place in enumerate(sorted(places))}
    return [rank[place] for place in places]
