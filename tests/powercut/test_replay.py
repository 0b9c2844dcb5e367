"""
Power cuts by replay: a few scenes, and the bugs that it must find.

The whole of it is `python -m tests.prove --only replay`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.planted import Bug
from tests.powercut.planted import BUGS
from tests.powercut.replay import SMALL, Size, examine
from tests.powercut.scenery import Scenery

pytestmark = [pytest.mark.faults, pytest.mark.timeout(0)]

SEED = "1"


@pytest.mark.parametrize(
    "name",
    [
        "up in-place delete clean",
        "up in-place wal hot",
        "up in-place delete hot failing",
        "up copy wal clean",
        "up copy mode delete clean",
        "install in-place",
        "install copy wal",
        "down in-place wal clean",
        "restore page_size delete clean",
        "inline up in-place wal hot",
    ],
)
def test_after_a_power_cut_the_database_is_old_or_new(
    name: str, tmp_path: Path, library: Path
) -> None:
    """Whatever has reached the disk, the database is old or new, and once success is said, new."""
    stage = Scenery(name, tmp_path / "scene", library)
    found = examine(stage, SMALL, SEED)
    assert found.states > found.operations
    assert found.starts == SMALL.at_most
    assert found.cut_again == SMALL.again
    assert [] == found.broken
    assert [] == found.failed


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_a_planted_bug_is_found(
    bug: Bug, tmp_path: Path, library: Path, record_property: Callable[[str, object], None]
) -> None:
    """The replay finds a sync that is left out."""
    stage = Scenery(bug.scene, tmp_path / "scene", library)
    stage.use(bug.plant(tmp_path / "planted"))
    chance = random.Random(SEED)  # noqa: S311 - nothing secret
    size = Size() if bug.calls else SMALL
    cuts = stage.cuts(chance, size.subsets, size.most)
    for cut in reversed(list(cuts)) if bug.late else cuts:
        if not bug.calls and (verdict := stage.ask(cut)).problems:
            break
        if cut.what.startswith(bug.calls or "-") and (verdict := stage.start(cut)).problems:
            break
    else:
        pytest.fail(f"No state showed that {bug.name}.")
    record_property("found", f"after {cut.what}: {verdict.problems}")
