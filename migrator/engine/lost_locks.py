"""How a run ends whose worker has lost SQLite's locks: what the parent process says of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from migrator.errors import LocksLostError, MigratorError, RestoreError
from migrator.model import Emit
from migrator.recovery.lost_locks import settle_loss
from migrator.recovery.rollback import say_as_before

if TYPE_CHECKING:
    from migrator.engine.parent import Action
    from migrator.process.supervisor import Ending

_HINTS = {
    "theirs": "Look at what was written. To go back to before the run",
    "put_back": "Take what is needed from the kept file, then start again. To put it back",
    "damaged": "Stop what uses the database, then go back to before the run",
}


def conclude_loss(
    emit: Emit, lost: LocksLostError, work: Callable[[Action], Ending]
) -> MigratorError:
    """
    Settle the database after a worker that gave up, and say what has become of it.

    Args:
        emit: Where `restore.finished` goes.
        lost: What the worker has found.
        work: Has another worker do something, under the same lock.

    Returns:
        The error that ends the run.
    """
    if lost.reason == "journal.lost":
        # With its locks, SQLite has rolled back in the worker.
        return lost
    replaced = lost.reason == "database.replaced"
    again = work(lambda ctx: settle_loss(ctx, replaced=replaced))
    settled, trouble = again.result or {}, again.error
    found = settled.get("found")
    if found == "as_before":
        if not settled.get("said"):
            say_as_before(emit, settled.get("method", "rollback"), settled.get("identical"))
        return lost
    data = {**lost.data, "backup": settled.get("backup")}
    if found is None:
        why = f" It could not be undone: {trouble.message}" if trouble is not None else ""
        message = f"{lost.message}{why} Nothing of the run is committed."
        hint = trouble.hint if trouble is not None and trouble.hint else "Start again."
        return RestoreError(message, hint=hint, reason=lost.reason, data=data)
    return RestoreError(
        f"{lost.message} {_state(found, settled)}",
        hint=f"{_HINTS[found]}: `{settled['restore']}`.",
        reason=lost.reason,
        data=data,
    )


def _state(found: str, settled: dict[str, Any]) -> str:
    saved = f"the state before the run is in {settled['backup']!r}"
    if found == "theirs":
        return (
            "The database is not as before: it holds what another process has written since, and"
            f" that is kept; {saved}."
        )
    if found == "put_back":
        return (
            "Another process had written and the database was damaged: the backup was put back,"
            f" and what had been written is in {settled['kept']!r}."
        )
    return f"The database is damaged or replaced, and others may be using it; {saved}."
