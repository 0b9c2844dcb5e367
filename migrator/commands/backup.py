"""`migrator backup`: a verified backup at once, also beside a running application."""

from __future__ import annotations

from migrator.commands.kinds import Done, Run
from migrator.model import Outcome
from migrator.terminal import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.context import Context
    from migrator.engine.parent import Parent
    from migrator.options.model import Arguments


def _backup(parent: Parent, _given: Arguments) -> Done:
    from migrator.engine.expectation import backed_up
    from migrator.run import in_worker

    outcome = in_worker(parent, backup, backed_up, settled=True)
    return outcome, printable(str(parent.layout.backup_dir / outcome.changed[0]))


COMMAND = Run(
    "backup",
    "make a verified backup now, also beside a running application; print its path",
    "migrator backup",
    elsewhere=("dump", "snapshot", "save"),
    work=_backup,
)


def backup(ctx: Context) -> Outcome:
    """
    Back the database up as a run does: the worker's half.

    Raises:
        NotReadyError: There is no database, or it stayed locked.
        DamagedError: It is damaged.
        BackupError: The backup cannot be written, or there is no space for it.
    """
    import os

    from migrator.backup_step import back_up_beside
    from migrator.backups.create import MANUAL
    from migrator.inspect.status import missing
    from migrator.recovery.after_crash import recover
    from migrator.recovery.run_error import as_run_error

    with as_run_error(ctx):
        recover(ctx)
        if not os.path.lexists(ctx.layout.database):
            raise missing(ctx.layout)
        saved = back_up_beside(ctx, MANUAL)
        return Outcome("backed_up", (saved.name,), str(saved.path))
