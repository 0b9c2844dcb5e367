"""Which of the changes that are not durable have got through when the power is cut."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from tests.powercut.disk import AnyChange, Data, Disk, Mode, Name, Size

SECTOR = 512


def outcomes(
    disk: Disk, chance: random.Random, subsets: int, most: int
) -> Iterator[tuple[str, list[AnyChange]]]:
    """
    Yield what may have got through at this moment: the plain cases, then random ones.

    Args:
        disk: The disk.
        chance: What chooses.
        subsets: How many random subsets.
        most: Of how many changes each is left out, or kept, alone.
    """
    pending = disk.pending
    names: list[AnyChange] = [each for each in pending if isinstance(each, Name | Mode)]
    yield "everything", list(pending)
    if not pending:
        return
    yield "only what was synced", []
    yield "names without data", names
    yield "data without names", [each for each in pending if not isinstance(each, Name)]
    yield "names, and zeros for data", [_zeros(each) for each in pending]
    yield from _single(pending, names, chance, most)
    yield from _by_file(pending)
    yield from _torn(pending, names, chance)
    for n in range(subsets):
        yield f"random subset {n}", _subset(pending, chance, chance.choice((0.1, 0.5, 0.9)))


def _zeros(change: AnyChange) -> AnyChange:
    """Return a write as a file system that has only noted the size shows it."""
    if not isinstance(change, Data):
        return change
    known = change.node.data[change.offset : change.offset + len(change.data)]
    return Data(change.node, change.offset, known.ljust(len(change.data), b"\0"))


def _single(
    pending: Sequence[AnyChange], names: Sequence[AnyChange], chance: random.Random, most: int
) -> Iterator[tuple[str, list[AnyChange]]]:
    chosen = range(len(pending))
    if len(pending) > most:
        chosen = sorted(chance.sample(chosen, most))  # type: ignore[assignment]
    for n in chosen:
        one = pending[n]
        yield f"all but change {n}", [each for each in pending if each is not one]
        yield f"only change {n}", [one]
        if isinstance(one, Data | Size):
            yield f"names and change {n}", [*names, one]


def _by_file(pending: Sequence[AnyChange]) -> Iterator[tuple[str, list[AnyChange]]]:
    nodes = list(dict.fromkeys(each.node for each in pending))
    for n, node in enumerate(nodes):
        others = [each for each in pending if each.node is not node]
        yield f"all but file {n}", others
        yield f"only file {n}", [each for each in pending if each.node is node]
        if not node.is_directory:
            yield (
                f"zeros in file {n}",
                [_zeros(each) if each.node is node else each for each in pending],
            )


def _torn(
    pending: Sequence[AnyChange], names: Sequence[AnyChange], chance: random.Random
) -> Iterator[tuple[str, list[AnyChange]]]:
    last = pending[-1]
    if not isinstance(last, Data) or len(last.data) <= 1:
        return
    sectors = _sectors(last)
    before = list(pending[:-1])
    cuts = [sectors[:1], sectors[: len(sectors) // 2], sectors[len(sectors) // 2 :], sectors[-1:]]
    cuts.append([each for each in sectors if chance.random() < 0.5])
    for n, cut in enumerate(cuts):
        yield f"torn {n}", [*before, *cut]
        yield f"torn {n}, alone", [*names, *cut]


def _sectors(change: Data) -> list[AnyChange]:
    """Cut a write at the sectors of the disk."""
    end = change.offset + len(change.data)
    found: list[AnyChange] = []
    at = change.offset
    while at < end:
        to = min(end, (at // SECTOR + 1) * SECTOR)
        found.append(Data(change.node, at, change.data[at - change.offset : to - change.offset]))
        at = to
    return found


def _subset(pending: Sequence[AnyChange], chance: random.Random, share: float) -> list[AnyChange]:
    """Keep each change, or each sector of a write, by chance."""
    torn = chance.random() < 0.5
    kept: list[AnyChange] = []
    for change in pending:
        parts = _sectors(change) if torn and isinstance(change, Data) else [change]
        for part in parts:
            if chance.random() < share:
                kept.append(part)
            elif chance.random() < 0.3:
                kept.append(_zeros(part) if isinstance(part, Data) else part)
    return kept
