"""How a run ends whose worker has lost SQLite's locks: what the parent process says of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from migrator.errors import LocksLostError, MigratorError, RestoreError
from migrator.model import Emit
from migrator.recovery.lost_locks import settle_loss
from migrator.recovery.rollback import say_as_before

if TYPE_CHECKING:
    from migrator.engine.parent import Action
    from migrator.process.supervisor import Ending


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
    found, trouble = again.claim, again.error
    if found is not None and found.kind == "as_before":
        # The worker says it itself where it has put the backup back.
        if found.method is not None and found.method != "backup":
            say_as_before(emit, found.method, found.identical)
        return lost
    if found is not None:
        message, hint = f"{lost.message} {found.unsettled}", found.hint or ""
    else:
        why = f" It could not be undone: {trouble.message}" if trouble is not None else ""
        message = f"{lost.message}{why} Nothing of the run is committed."
        hint = trouble.hint if trouble is not None and trouble.hint else "Start again."
    data = {**lost.data, "backup": found.backup if found is not None else None}
    return RestoreError(message, hint=hint, reason=lost.reason, data=data)
