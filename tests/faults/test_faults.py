"""
A fault at any call that changes the volume: killed, torn, refused, and started again.

By default a few in each scene, spread over its calls and over what can go wrong.
`SQLITE_ENTRYPOINT_FAULTS=all` tries every fault at every call (hours), a number so
many in each scene; `SQLITE_ENTRYPOINT_FAULTS_SEED` chooses others. The command
`python -m tests.faults.sweep --points all` does the same with a table at its end.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.harness import Stage
from tests.faults.plan import double_faults, every_fault, spread
from tests.faults.scenes import SCENES

pytestmark = [pytest.mark.faults, pytest.mark.timeout(0)]


@pytest.mark.parametrize("name", SCENES)
def test_every_end_is_old_or_new(
    name: str,
    stages: Path,
    library: Path,
    points: int | None,
    seed: str,
    record_property: Callable[[str, object], None],
) -> None:
    """After a fault the database is old or new, as was said, and the next start ends rightly."""
    stage = Stage(SCENES[name], stages, library)
    faults = (
        every_fault(stage.calls) if points is None else spread(stage.calls, points, seed + name)
    )
    verdicts = [stage.play(fault) for fault in faults]
    record_property("calls", len(stage.calls))
    record_property("faults", sum(verdict.fired for verdict in verdicts))
    assert not [str(verdict) for verdict in verdicts if verdict.problems]


@pytest.mark.parametrize(
    "name",
    [
        "up in-place wal clean",
        "up copy delete clean",
        "install in-place",
        "down in-place delete clean",
        "restore delete clean",
    ],
)
def test_the_recovery_may_be_killed_as_well(
    name: str,
    stages: Path,
    library: Path,
    points: int | None,
    seed: str,
    record_property: Callable[[str, object], None],
) -> None:
    """A start that settles an interrupted run can be killed, and the next one settles both."""
    stage = Stage(SCENES[name], stages, library)
    pairs = double_faults(stage.calls, points or 200, seed + name)
    verdicts = [stage.play(fault, then) for fault, then in pairs]
    record_property("faults", 2 * len(verdicts))
    assert not [str(verdict) for verdict in verdicts if verdict.problems]
