"""Which faults are tried: all of them, or a seeded spread."""

from __future__ import annotations

import errno
import random
from collections.abc import Sequence

from tests.faults import shim
from tests.faults.shim import Call, Fault

_KILLS = ("all-before", "all-after", "torn")
_ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT)


def faults_at(point: int, call: Call, calls: Sequence[Call], leader: int) -> list[Fault]:
    """Return every fault that makes sense at one call."""
    kills = ["all-before", "all-after", "caller-before", "caller-after"]
    if call.pid != leader:
        kills.append("parent-before")
    if call.kind & shim.WRITE:
        kills += ["torn", "short"]
    found = [Fault(point, action) for action in kills]
    for error in _ERRORS:
        eligible = error == errno.EIO or call.kind & shim.NEEDS_SPACE
        if eligible:
            found.append(Fault(point, "error-once", error))
            found.append(Fault(point, "error-on", error))
    if call.kind & shim.NEEDS_PERMISSION:
        found.append(Fault(point, "error-once", errno.EACCES))
    return found


def every_fault(calls: Sequence[Call]) -> list[Fault]:
    """Return every fault at every call."""
    leader = calls[0].pid
    return [
        fault
        for point, call in enumerate(calls, 1)
        for fault in faults_at(point, call, calls, leader)
    ]


def spread(calls: Sequence[Call], number: int, seed: object) -> list[Fault]:
    """
    Return some faults, spread evenly over the calls and over the actions.

    Args:
        calls: What a run without a fault does.
        number: How many faults.
        seed: Anything; the same one chooses the same faults.
    """
    chance = random.Random(f"{seed}")  # noqa: S311 - nothing secret
    chosen = []
    leader = calls[0].pid
    tried: dict[str, int] = {}
    for n in range(min(number, len(calls))):
        low, high = n * len(calls) // number, (n + 1) * len(calls) // number
        point = chance.randrange(low, max(high, low + 1)) + 1
        faults = faults_at(point, calls[point - 1], calls, leader)
        chance.shuffle(faults)
        # The action that has been tried least so far.
        fault = min(faults, key=lambda each: tried.get(str(each).partition("@")[0], 0))
        name = str(fault).partition("@")[0]
        tried[name] = tried.get(name, 0) + 1
        chosen.append(fault)
    return chosen


def double_faults(calls: Sequence[Call], number: int, seed: object) -> list[tuple[Fault, Fault]]:
    """Return pairs: a kill of the run, and one of the start that settles it."""
    chance = random.Random(f"double {seed}")  # noqa: S311 - nothing secret
    pairs = []
    for n in range(number):
        low, high = n * len(calls) // number, max((n + 1) * len(calls) // number, 1)
        first = Fault(chance.randrange(low, max(high, low + 1)) + 1, chance.choice(_KILLS))
        pairs.append((first, Fault(chance.randrange(1, len(calls) // 2), chance.choice(_KILLS))))
    return pairs
