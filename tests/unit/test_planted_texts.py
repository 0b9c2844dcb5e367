"""The text that a planted bug replaces stands where it says: found in a second, not by the slow test."""

from __future__ import annotations

import importlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.planted import Bug
from tests.support.processes import PACKAGES
from tests.support.teeth import Planted

TESTS = Path(__file__).parents[1]
_SOURCE = re.compile(r"(migrator|entrypoint)/.+\.py")
HOLDERS = sorted(
    ".".join(path.relative_to(TESTS.parent).with_suffix("").parts)
    for path in TESTS.rglob("*.py")
    if path != Path(__file__) and any(f"{name}(" in path.read_text() for name in ("Bug", "planted"))
)


def texts_in(value: object) -> Iterator[tuple[str, str]]:
    """Yield file and text of the bugs that a module's value holds, however deep."""
    if isinstance(value, Planted):
        value = value.bug
    if isinstance(value, Bug):
        yield value.file, value.old
    elif isinstance(value, dict):
        yield from texts_in(list(value.values()))
    elif isinstance(value, list | tuple):
        # A table of bugs has the file in one column, and the text in the next.
        for file, text in itertools.pairwise(value):
            if isinstance(file, str) and isinstance(text, str) and _SOURCE.fullmatch(file):
                yield file, text
        for each in value:
            yield from texts_in(each)


def texts_of(module: str) -> Iterator[tuple[str, str]]:
    """Yield those of all values of a module."""
    for value in vars(importlib.import_module(module)).values():
        yield from texts_in(value)


def test_the_modules_with_planted_bugs_are_found() -> None:
    """Most of the bugs are values of a module, which this test reads."""
    found = {each for name in HOLDERS for each in texts_of(name)}
    assert len(found) > 60


@pytest.mark.parametrize("name", HOLDERS)
def test_the_text_is_there_once(name: str) -> None:
    """A change that moves such a line takes the planted bug along."""
    wrong = [
        f"{file}: {text!r}"
        for file, text in texts_of(name)
        if (PACKAGES / file).read_text(encoding="utf-8").count(text) != 1
    ]
    assert wrong == []
