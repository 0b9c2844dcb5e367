"""A restore that is killed at a call, then an application that writes, then another command."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.harness import Stage
from tests.faults.launching import Done
from tests.faults.scenes import APPLICATION
from tests.faults.shim import Call, Fault
from tests.support.files import opened, rows

RESTORES = ("restore delete clean", "restore wal clean", "restore page_size wal clean")
"""The scenes in which it is tried."""
COMMANDS = {
    "start": ("entrypoint", "--", "/bin/echo", APPLICATION),
    "restore": ("migrator", "restore", "latest"),
}
"""What comes after the application."""
ORDER = "ORDER 4711"
_QUERY = f"SELECT count(*) FROM notes WHERE text = '{ORDER}'"


def kills(calls: list[Call]) -> list[list[Fault]]:
    """Return one kill at each call of the restore."""
    return [[Fault(point, "all-before")] for point in range(1, len(calls) + 1)]


def write_since(stage: Stage, fault: Fault, command: tuple[str, ...]) -> list[str]:
    """Leave a killed restore, write as an application does, run the command, say what is wrong."""
    at = f"{stage.scene.name} | {fault} {stage.calls[fault.point - 1]}, then {' '.join(command)}"
    if not stage.leave(fault):
        return [f"{at} | the fault was not met"]
    with opened(stage.database) as conn:
        conn.execute("INSERT INTO notes (user_id, text) VALUES (1, ?)", (ORDER,))
    written = stage._look(stage.volume)
    done = stage._run(command, faulty=False)
    problems = list(_wrong(stage, done))
    if done.code == 82 and stage._look(stage.volume) != written:
        problems.append("82, and the database was changed")
    return [f"{at} | {each}" for each in problems]


def _wrong(stage: Stage, done: Done) -> Iterator[str]:
    end = done.last or {}
    if done.code not in (0, 82):
        yield f"exit code {done.code}: {end.get('error')}"
    if done.code == 82 and end["reason"] != "restore.superseded":
        yield f"82 for {end['reason']}"
    places = (stage.database, *(stage.volume / "backups").glob("*.db"))
    if not any(rows(path, _QUERY) > [(0,)] for path in places):
        yield f"the row is in no database and in no backup, after {done.code}"
