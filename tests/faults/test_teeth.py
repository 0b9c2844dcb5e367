"""Bugs planted into a copy of the packages: a harness that finds none of them proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.harness import Stage
from tests.faults.planted import BUGS, Bug
from tests.faults.scenes import SCENES
from tests.faults.shim import Fault

pytestmark = [pytest.mark.faults, pytest.mark.timeout(0)]

_TRIES = 40


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_a_planted_bug_is_found(
    bug: Bug,
    stages: Path,
    tmp_path: Path,
    library: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """The harness finds this bug with the faults that it is for."""
    stage = Stage(SCENES[bug.scene], stages, library)
    stage.use(bug.plant(tmp_path / "planted"))
    tried = 0
    for fault in _candidates(stage, bug):
        verdict = stage.play(fault)
        if verdict.problems:
            record_property("found", f"at try {tried + 1}: {verdict}")
            return
        tried += 1
    pytest.fail(f"None of {tried} faults showed that {bug.name}.")


def _candidates(stage: Stage, bug: Bug) -> Iterator[Fault]:
    """Yield the bug's faults at the calls where it may show, from the likeliest on."""
    numbers = [
        number
        for number, call in enumerate(stage.calls, 1)
        if any(str(call).endswith(words) for words in bug.calls)
    ]
    assert numbers, f"No call of {bug.scene!r} ends with one of {bug.calls}."
    middle = numbers[-1 if bug.late else len(numbers) // 2]
    numbers.sort(key=lambda number: abs(number - middle))
    faults = [Fault.parse(f"{action}@{number}") for number in numbers for action in bug.actions]
    yield from faults[:_TRIES]
