"""
Running the commands: as real processes, or forked from one that has imported everything.

The second is for thousands of cases; it differs from the first by what Python's
own start does, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.faults.launching import Done, Launcher, run
from tests.support.processes import PACKAGES

Runner = Callable[[Sequence[str]], Done]
"""Runs `entrypoint …` or `migrator …` to its end."""


def processes(packages: Path = PACKAGES) -> Runner:
    """Return a runner that starts a process for each."""
    return lambda words: run(words, {}, packages)


@contextmanager
def forks() -> Iterator[Runner]:
    """Yield a runner that forks for each a process that has imported the packages."""
    launcher = Launcher({})
    try:
        yield launcher.run
    finally:
        launcher.close()
