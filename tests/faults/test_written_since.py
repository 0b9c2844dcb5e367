"""
A restore that is killed at any call, then an application that writes, then a start.

What the application has written is in the database after that, or in a backup: the restore
is an intent from the past by then. Some calls of each scene are tried, as many as in
test_faults.py; every one is by `python -m tests.prove --only double`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import written
from tests.faults.harness import Stage
from tests.faults.plan import evenly
from tests.faults.planted import Bug
from tests.faults.scenes import SCENES
from tests.faults.shim import Fault

pytestmark = [pytest.mark.faults, pytest.mark.timeout(0)]


@pytest.mark.parametrize("command", written.COMMANDS)
@pytest.mark.parametrize("name", written.RESTORES)
def test_what_was_written_behind_a_killed_restore_is_somewhere(
    name: str,
    command: str,
    stages: Path,
    library: Path,
    points: int,
    seed: str,
    record_property: Callable[[str, object], None],
) -> None:
    """Nothing that was written since is lost: 0 or 82, the row in the database or in a backup."""
    stage = Stage(SCENES[name], stages, library)
    faults = evenly(written.kills(stage.calls), f"{seed}{name}{command}")[:points]
    record_property("faults", len(faults))
    then = written.COMMANDS[command]
    assert [] == [each for fault in faults for each in written.write_since(stage, fault, then)]


BLIND = Bug(
    "an interrupted restore is finished without a look",
    "migrator/recovery/after_crash.py",
    "    if found is Standing.CHANGED:\n",
    "    if found == 'never':\n",
    "restore delete clean",
    ("all-before",),
    ("pwrite app.db",),
)


def test_a_restore_that_is_finished_without_a_look_is_found(
    stages: Path,
    tmp_path: Path,
    library: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """The question tells the right program from one that overwrites what was written since."""
    stage = Stage(SCENES[BLIND.scene], stages, library)
    stage.use(BLIND.plant(tmp_path / "planted"))
    points = [n for n, call in enumerate(stage.calls, 1) if str(call).endswith(BLIND.calls)]
    start = written.COMMANDS["start"]
    kills = (Fault(point, "all-before") for point in points)
    found = next(filter(None, (written.write_since(stage, each, start) for each in kills)))
    record_property("found", found[0])
    assert "in no database and in no backup" in found[0]
