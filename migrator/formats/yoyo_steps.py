"""
The steps of yoyo's migrations in Python, run on the run's own connection.

Their files import `step` and `group` from `yoyo`. They are given ours, also where yoyo is
installed: its own would look for a connection of its own.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from types import ModuleType
from typing import Any

from migrator.errors import MisfitError
from migrator.model import Script
from migrator.parsing import python_file
from migrator.parsing.directory import misfit
from migrator.value import replace

APPLY, ROLLBACK = "apply", "rollback"

Work = str | Callable[[Any], Any] | None
"""What a step does: a statement, a function that takes the connection, or nothing."""

_IGNORED = (None, "all", APPLY, ROLLBACK)
_GIVEN = ("step", "group", "transaction")
_numbers = count(1)


@dataclass(eq=False, slots=True)
class Step:
    """
    One step of a migration.

    Args:
        work: What it does, by direction.
        ignore_errors: In which direction SQLite's errors are passed over; `all` is both.
        file: The file that adds it, and the line.
    """

    work: dict[str, Work]
    ignore_errors: str | None
    file: tuple[str, int]

    def has(self, direction: str) -> bool:
        """Tell whether it does anything."""
        return bool(self.work[direction])

    def run(self, conn: sqlite3.Connection, direction: str, *, savepoint: bool) -> None:
        """Do it; undo what it has done so far if its error is to be ignored."""
        name = f"yoyo_step_{next(_numbers)}"
        if savepoint:
            conn.execute(f"SAVEPOINT {name}")
        try:
            self._do(conn, direction, savepoint=savepoint)
        except sqlite3.DatabaseError as error:
            if self.ignore_errors not in (direction, "all"):
                raise
            if savepoint:
                conn.execute(f"ROLLBACK TO {name}")
            print(f"The step on line {self.file[1]} failed, which it allows: {error}")  # noqa: T201 - becomes a log line

    def _do(self, conn: sqlite3.Connection, direction: str, *, savepoint: bool) -> None:
        del savepoint
        work = self.work[direction]
        if isinstance(work, str) and work:
            _at(self.file, lambda: conn.execute(work).fetchall())
        elif callable(work):
            work(conn)


@dataclass(eq=False, slots=True)
class Group(Step):
    """Several steps as one."""

    steps: Sequence[Step] = ()

    def has(self, direction: str) -> bool:
        """Tell whether one of them does anything."""
        return any(step.has(direction) for step in self.steps)

    def _do(self, conn: sqlite3.Connection, direction: str, *, savepoint: bool) -> None:
        for step in self.steps if direction == APPLY else reversed(self.steps):
            step.run(conn, direction, savepoint=savepoint)


class Collector:
    """What a file adds while it is run."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def step(self, apply: Work, rollback: Work = None, ignore_errors: str | None = None) -> Step:
        """Add a step."""
        for work in (apply, rollback):
            if not (work is None or isinstance(work, str) or callable(work)):
                msg = f"A step is SQL or a function, not {work!r}."
                raise TypeError(msg)
        found = Step({APPLY: apply, ROLLBACK: rollback}, _checked(ignore_errors), _caller())
        self.steps.append(found)
        return found

    def group(
        self,
        *given: Step | Iterable[Step],
        steps: Iterable[Step] = (),
        ignore_errors: str | None = None,
    ) -> Group:
        """Make one step of those given, which were added before."""
        found = [*steps]
        for each in given:
            found += [each] if isinstance(each, Step) else [*each]
        for each in found:
            self.steps.remove(each)
        group = Group({}, _checked(ignore_errors), _caller(), found)
        self.steps.append(group)
        return group


def _checked(ignore_errors: str | None) -> str | None:
    if ignore_errors not in _IGNORED:
        msg = f"ignore_errors is {ignore_errors!r}, not 'all', 'apply' or 'rollback'."
        raise ValueError(msg)
    return ignore_errors


def _caller() -> tuple[str, int]:
    """Return file and line of what calls a method of the collector."""
    frame = sys._getframe(2)  # noqa: SLF001 - documented, and what tracebacks are made of
    return frame.f_code.co_filename, frame.f_lineno


def load(script: Script) -> Script:
    """
    Run a migration's file, and take the steps that it adds.

    Raises:
        MisfitError: It does not run, or needs more of yoyo than its steps.
    """
    path = script.entry.path
    if path is None or path.suffix != ".py":
        return script
    collector = Collector()
    given = {
        "step": collector.step,
        "group": collector.group,
        "transaction": collector.group,
        "collector": collector,
    }
    source = python_file.read_bytes(path)
    with _as_yoyo(given):
        try:
            python_file.load_module(path, source, given, version=script.entry.version)
        except MisfitError as error:
            if _is_of_yoyo(error.__cause__):
                raise _needs_yoyo(script, error) from error
            raise
    steps = collector.steps
    # What does nothing is undone by doing nothing.
    has_down = any(step.has(ROLLBACK) for step in steps) or not any(
        step.has(APPLY) for step in steps
    )
    runs = partial(_run, steps, transactional=script.transactional)
    return replace(
        script,
        up=partial(runs, APPLY),
        down=partial(runs, ROLLBACK) if has_down else None,
        has_down=has_down,
    )


def _run(
    steps: Sequence[Step], direction: str, conn: sqlite3.Connection, *, transactional: bool
) -> None:
    """Run all steps as yoyo does: with plain rows, in one transaction or without one."""
    conn.row_factory = None
    conn.isolation_level = None
    if transactional:
        conn.execute("BEGIN")
    for step in steps if direction == APPLY else reversed(steps):
        step.run(conn, direction, savepoint=transactional)
    if conn.in_transaction:
        conn.commit()


def _at(place: tuple[str, int], work: Callable[[], object]) -> None:
    """Call something from a line of a file, so that an error's traceback has that line."""
    file, line = place
    exec(compile("\n" * (line - 1) + "work()", file, "exec"), {"work": work})  # noqa: S102


@contextlib.contextmanager
def _as_yoyo(given: dict[str, Any]) -> Iterator[None]:
    """Within, `yoyo` is a module that has what is given."""
    before = sys.modules.get("yoyo")
    module = ModuleType("yoyo")
    vars(module).update({name: given[name] for name in _GIVEN})
    sys.modules["yoyo"] = module
    try:
        yield
    finally:
        sys.modules.pop("yoyo", None)
        if before is not None:
            sys.modules["yoyo"] = before


def _is_of_yoyo(error: BaseException | None) -> bool:
    """Tell whether a file imports of yoyo what is not there."""
    return isinstance(error, ImportError) and str(error.name).partition(".")[0] == "yoyo"


def _needs_yoyo(script: Script, error: MisfitError) -> MisfitError:
    return misfit(
        script.entry,
        f"it needs more of yoyo than steps: {error.__cause__}.",
        hint=(
            "Here `yoyo` has step, group and transaction: write the migration with them, or run"
            " yoyo itself with `--migrate-command` (MIGRATOR_MIGRATE_COMMAND)."
        ),
        reason="migrations.import",
        line=error.data.get("line"),
    )
