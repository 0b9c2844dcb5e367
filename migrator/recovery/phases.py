"""The phases of a run: reported to the parent process, and noted on the volume."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

from migrator.backups.backup import Backup
from migrator.context import Change, Context
from migrator.database import run_state
from migrator.database.workspace import like_database
from migrator.log.translate import of_system
from migrator.process.signals import Signals
from migrator.value import replace

_COMMITTED = ("restored", "prune")
"""Phases after the one step that counts."""


def enter(ctx: Context, phase: str, noted: run_state.RunState | None = None) -> None:
    """
    Enter a phase: report it to the parent process, and note it on the volume if given a note.

    Raises:
        LockedError: The run's lock was removed, and nothing is committed yet.
        DiskError: The disk does not take the note.
        NoPermissionError: The note may not be written.
    """
    # After the commit a lost lock must not fail the run: the parent says what became of it.
    if phase not in _COMMITTED:
        ctx.require_lock()
    ctx.progress.phase = phase
    if not ctx.inline:
        ctx.emit("phase", phase, phase=phase)
    if noted is None:
        return
    noted = replace(noted, phase=phase, since=run_state.now())
    try:
        run_state.write(ctx.layout.state, noted, like_database(ctx.layout))
    except OSError as error:
        raise of_system(error, "while the run's state was noted") from error


_DOING = {
    "": "before the run began",
    "recovery": "while an interrupted run was being recovered",
    "prepare": "while the migrations were being read",
    "backup": "while the database was being backed up",
    "migrate": "while the migrations were running",
    "commit": "at the commit",
    "publish": "while the migrated copy was being published",
    "restore": "while a backup was being put back",
    "restored": "when the backup had been put back",
    "prune": "while old backups were being removed",
}


def doing_in(phase: str) -> str:
    """Describe what a run does in a phase."""
    if phase.startswith("import "):
        return f"while {phase.removeprefix('import ')} was being imported"
    return _DOING.get(phase, f"in the phase {phase!r}")


def undone_by(way: str | None) -> str:
    """Return the method that undoes a run: SQLite's rollback, or its copy deleted."""
    return "discarded" if way in ("copy", "create") else "rollback"


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Block termination signals during the commit."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, Signals.HANDLED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def note(ctx: Context, change: Change, saved: Backup | None, **extra: Any) -> run_state.RunState:
    """Return the run's note for `state.json`; `enter` adds the phase."""
    if not ctx.source.has_history:
        extra["by_pages"] = True
    elif change.undoes or not ctx.source.format.notes_runs:
        extra["undone" if change.undoes else "applied"] = list(change.rows)
    if ctx.progress.counter is not None:
        extra["change_counter"] = ctx.progress.counter
    return run_state.RunState(
        run_id=ctx.run_id,
        phase="prepare",
        since=run_state.now(),
        reason=change.reason,
        way=change.way,
        database=str(ctx.layout.database),
        backup=saved.name if saved is not None else None,
        journal_mode=saved.journal_mode if saved is not None else None,
        extra=extra,
    )
