"""
A restore that is killed at any call, then an application that writes, then a start.

What the application has written is in the database after that, or in a backup: the restore
is an intent from the past by then. Every call of three scenes is tried, each with one kill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.harness import Stage
from tests.faults.launching import Done
from tests.faults.planted import Bug
from tests.faults.scenes import APPLICATION, SCENES
from tests.faults.shim import Fault
from tests.support.files import opened, rows

pytestmark = [pytest.mark.faults, pytest.mark.timeout(0)]

ORDER = "ORDER 4711"
START = ("entrypoint", "--", "/bin/echo", APPLICATION)
AGAIN = ("migrator", "restore", "latest")
_QUERY = f"SELECT count(*) FROM notes WHERE text = '{ORDER}'"


def write_since(stage: Stage, fault: Fault, command: tuple[str, ...]) -> list[str]:
    """Leave a killed restore, write as an application does, start, and say what is wrong."""
    if not stage.leave(fault):
        return ["the fault was not met"]
    with opened(stage.database) as conn:
        conn.execute("INSERT INTO notes (user_id, text) VALUES (1, ?)", (ORDER,))
    written = stage._look(stage.volume)
    done = stage._run(command, faulty=False)
    return [
        f"{fault} at {stage.calls[fault.point - 1]}: {each}" for each in _wrong(stage, done)
    ] + [
        f"{fault}: 82, and the database was changed"
        for _ in range(done.code == 82 and stage._look(stage.volume) != written)
    ]


def _wrong(stage: Stage, done: Done) -> Iterator[str]:
    end = done.last or {}
    if done.code not in (0, 82):
        yield f"exit code {done.code}: {end.get('error')}"
    if done.code == 82 and end["reason"] != "restore.superseded":
        yield f"82 for {end['reason']}"
    places = (stage.database, *(stage.volume / "backups").glob("*.db"))
    if not any(rows(path, _QUERY) > [(0,)] for path in places):
        yield f"the row is in no database and in no backup, after {done.code}"


def kills(stage: Stage) -> list[Fault]:
    """Return one kill at each call of the restore."""
    return [Fault(point, "all-before") for point in range(1, len(stage.calls) + 1)]


@pytest.mark.parametrize("command", [START, AGAIN], ids=["start", "restore"])
@pytest.mark.parametrize(
    "name", ["restore delete clean", "restore wal clean", "restore page_size wal clean"]
)
def test_what_was_written_behind_a_killed_restore_is_somewhere(
    name: str,
    command: tuple[str, ...],
    stages: Path,
    library: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Nothing that was written since is lost: 0 or 82, the row in the database or in a backup."""
    stage = Stage(SCENES[name], stages, library)
    faults = kills(stage)
    record_property("faults", len(faults))
    assert [] == [each for fault in faults for each in write_since(stage, fault, command)]


BLIND = Bug(
    "an interrupted restore is finished without a look",
    "migrator/safety/recovery.py",
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
    found = next(filter(None, (write_since(stage, Fault(n, "all-before"), START) for n in points)))
    record_property("found", found[0])
    assert "in no database and in no backup" in found[0]
