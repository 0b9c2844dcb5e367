"""The text that a planted bug replaces stands where it says: found in a second, not by the slow test."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.planted import Bug
from tests.support.processes import PACKAGES
from tests.support.teeth import Planted

TESTS = Path(__file__).parents[1]
HOLDERS = sorted(
    ".".join(path.relative_to(TESTS.parent).with_suffix("").parts)
    for path in TESTS.rglob("*.py")
    if path != Path(__file__) and any(f"{name}(" in path.read_text() for name in ("Bug", "planted"))
)


def bugs_in(value: object) -> Iterator[Bug]:
    """Yield the bugs that a module's value holds, however deep."""
    if isinstance(value, Bug):
        yield value
    elif isinstance(value, Planted):
        yield value.bug
    elif isinstance(value, dict):
        yield from bugs_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from bugs_in(each)


def test_the_modules_with_planted_bugs_are_found() -> None:
    """Most of the bugs are values of a module, which this test reads."""
    found = [
        bug
        for name in HOLDERS
        for bug in bugs_in(list(vars(importlib.import_module(name)).values()))
    ]
    assert len({(bug.file, bug.old) for bug in found}) > 60


@pytest.mark.parametrize("name", HOLDERS)
def test_the_text_is_there_once(name: str) -> None:
    """A change that moves such a line takes the planted bug along."""
    bugs = bugs_in(list(vars(importlib.import_module(name)).values()))
    wrong = [
        f"{bug.file}: {bug.old!r}"
        for bug in bugs
        if (PACKAGES / bug.file).read_text(encoding="utf-8").count(bug.old) != 1
    ]
    assert wrong == []
