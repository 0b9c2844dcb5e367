"""
Sweep the corpus of bad and hostile input: a row for each group, and one for the splitter of SQL.

Every command is run on every damaged volume, forked from a process that has
imported everything; in the tests the same cases are run in processes of their own.
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.corpus import splitter
from tests.corpus.case import COMMANDS, play
from tests.corpus.groups import GROUPS, cases
from tests.corpus.place import SEEDS, sound
from tests.corpus.runs import forks
from tests.support.proof import Effort, Row, Stopwatch

HARNESS = "input"


def rows(effort: Effort) -> Iterator[Row]:
    """Yield a row for each group of cases, and the splitter's."""
    for seed in SEEDS:
        # Made here once: the processes that are forked have it then.
        sound(seed)
    share = effort.share(len(GROUPS) + 1)
    for group in GROUPS:
        yield _row(group, effort, share)
    yield _splitter(effort, share)


def _row(group: str, effort: Effort, share: float | None) -> Row:
    watch = Stopwatch()
    points, tried, broken = 0, 0, []
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(effort.jobs, mp_context=fork) as pool:
        parts = [
            pool.submit(_part, group, effort.seed, part, effort.jobs, share, effort.directory)
            for part in range(effort.jobs)
        ]
        for part in parts:
            points, more, problems = part.result()
            tried += more
            broken += problems
    return Row(HARNESS, group, points * len(COMMANDS), tried, tuple(broken), watch.seconds)


def _part(
    group: str, seed: str, part: int, of: int, share: float | None, directory: Path
) -> tuple[int, int, list[str]]:
    """Run one process's part of a group; returns its cases, what was tried, what was broken."""
    found = cases(group, seed)
    tried, broken = 0, []
    watch = Stopwatch(share)
    with forks() as run:
        for case, command in itertools.product(found[part::of], COMMANDS):
            if watch.spent:
                break
            verdict = play(case, command, directory / f"part-{part}", run)
            tried += 1
            if verdict.problems:
                broken.append(str(verdict))
    return len(found), tried, broken


def _splitter(effort: Effort, share: float | None) -> Row:
    watch = Stopwatch(share if share is not None else splitter.SECONDS)
    tried, broken = splitter.sweep(effort.seed, watch)
    return Row(HARNESS, "scripts cut into statements", tried, tried, tuple(broken), watch.seconds)
