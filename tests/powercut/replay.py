"""
Power cuts by replay: `python -m tests.prove --only replay`.

Every change that a run makes on the volume is recorded with its data. For the
moment after each of them the states that POSIX allows a file system to be found
in are built and asked the four questions of tests/faults: old or new to a plain
`sqlite3`; what the next start makes of it; the backups. Once a run has said that
it succeeded, only new will do.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.scenes import SCENES
from tests.powercut.recording import recorder
from tests.powercut.scenery import Cut, Scenery
from tests.support.proof import Effort, Row, Stopwatch


@dataclass(slots=True)
class Findings:
    """
    What was found in one scene.

    Args:
        operations: After how many the power was cut, those of a next start included.
        states: Distinct states that were opened.
        broken: Those in which a promise did not hold, one sentence each.
        kinds: Kinds of states that a start may tell apart.
        starts: Starts that were made from a state.
        failed: Those after which a promise did not hold.
        cut_again: Next starts whose power was cut as well.
        seconds: How long the starts took.
    """

    operations: int = 0
    states: int = 0
    broken: list[str] = field(default_factory=list)
    kinds: int = 0
    starts: int = 0
    failed: list[str] = field(default_factory=list)
    cut_again: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Size:
    """
    How much of a scene is tried.

    Args:
        subsets: Random subsets at each operation.
        most: Of how many pending changes each is dropped, or kept, alone.
        starts: Starts for each kind of state.
        at_most: Starts in all; None for no limit.
        again: Next starts whose power is cut as well.
        seconds: After how many no further start is made; None for no limit.
    """

    subsets: int = 12
    most: int = 48
    starts: int = 3
    at_most: int | None = None
    again: int = 20
    seconds: float | None = None


SMALL = Size(subsets=2, most=4, starts=1, at_most=1, again=1)


def examine(stage: Scenery, size: Size, seed: str) -> Findings:
    """Build every state of a scene and ask; then start after some of each kind, and cut again."""
    watch = Stopwatch(size.seconds)
    chance = random.Random(f"{seed} {stage.scene.name}")  # noqa: S311 - nothing secret
    found = Findings()
    kinds = _open(stage, size, chance, found)
    found.kinds = len(kinds)
    chosen = representatives(kinds, size.starts, chance)
    _start(stage, chosen[: size.at_most], watch, found)
    for cut in chosen[: size.again]:
        if not watch.spent:
            stage.start_from(cut)
            found.cut_again += 1
            _open(stage, size, chance, found, f"{_place(cut)}, and in the next start: ")
    return found


def _open(
    stage: Scenery, size: Size, chance: random.Random, found: Findings, before: str = ""
) -> Mapping[bytes, list[Cut]]:
    """Open every state after what was recorded last; returns the sound ones by their kind."""
    kinds: dict[bytes, list[Cut]] = defaultdict(list)
    found.operations += len(stage.operations)
    for cut in stage.cuts(chance, size.subsets, size.most):
        verdict = stage.ask(cut)
        found.states += 1
        if verdict.problems:
            found.broken.append(f"{before}{_place(cut)}: {'; '.join(verdict.problems)}.")
        else:
            kinds[stage.kind(cut, verdict)].append(cut)
    return kinds


def _start(stage: Scenery, cuts: Sequence[Cut], watch: Stopwatch, found: Findings) -> None:
    """Start after each cut, while there is time, and after a few where there is none."""
    began = watch.seconds
    for n, cut in enumerate(cuts):
        if watch.spent and n >= FEWEST:
            break
        verdict = stage.start(cut)
        found.starts += 1
        if verdict.problems:
            found.failed.append(f"{_place(cut)}: {'; '.join(verdict.problems)}.")
    found.seconds = watch.seconds - began


def representatives(
    kinds: Mapping[bytes, list[Cut]], number: int, chance: random.Random
) -> list[Cut]:
    """Return so many of each kind, the first of each before the second of any."""
    shuffled = [chance.sample(cuts, min(number, len(cuts))) for cuts in kinds.values()]
    chance.shuffle(shuffled)
    return [cuts[n] for n in range(number) for cuts in shuffled if n < len(cuts)]


def _place(cut: Cut) -> str:
    return f"Cut after operation {cut.after}, {cut.what}"


def rows(effort: Effort) -> Iterator[Row]:
    """Examine every scene, or with a budget as many as it has time for."""
    library = recorder(effort.directory)
    names, size = list(SCENES), Size()
    if effort.seconds is not None:
        random.Random(effort.seed).shuffle(names)  # noqa: S311 - nothing secret
        turns = max(1, int(effort.seconds / A_SCENE))
        names = names[: effort.jobs * turns]
        size = Size(3, 8, 1, None, 2, effort.share(turns))
    with ProcessPoolExecutor(effort.jobs) as pool:
        jobs = [
            pool.submit(_examined, name, effort.directory / f"{n}", library, size, effort.seed)
            for n, name in enumerate(names)
        ]
        for job in jobs:
            yield from job.result()


A_SCENE = 20.0
"""Seconds that a scene with a budget should have."""
FEWEST = 4
"""Starts for which there is always time."""


def _examined(name: str, directory: Path, library: Path, size: Size, seed: str) -> list[Row]:
    """Return two rows: the states, and the starts from some of them."""
    watch = Stopwatch()
    stage = Scenery(name, directory, library)
    found = examine(stage, size, seed)
    stage.close()
    spent = watch.seconds - found.seconds
    return [
        Row("replay", name, found.operations, found.states, tuple(found.broken), spent),
        Row(
            "replay",
            f"{name}: the next start",
            found.kinds,
            found.starts,
            tuple(found.failed),
            found.seconds,
        ),
    ]
