"""`migrator backup`: a verified backup at once, also beside a running application."""

from __future__ import annotations

import contextlib

from migrator.commands.kinds import Done, Run
from migrator.model import Outcome
from migrator.terminal import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

    from migrator.backups import create
    from migrator.context import Context
    from migrator.engine.parent import Parent
    from migrator.model import Applied
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

    One read transaction holds what is copied and what is noted about it together. In WAL
    mode an application goes on writing meanwhile; without WAL its commits wait for the copy.

    Raises:
        NotReadyError: There is no database, or it stayed locked.
        DamagedError: It is damaged.
        BackupError: The backup cannot be written, or there is no space for it.
    """
    import os
    import sqlite3

    from migrator.backups import create
    from migrator.backups.names import refuse_long_name
    from migrator.backups.retention import prune_backups
    from migrator.backups.space import require_space
    from migrator.database.uri import database_uri
    from migrator.errors import MigratorError
    from migrator.inspect.status import missing
    from migrator.recovery.after_crash import recover
    from migrator.recovery.phases import enter
    from migrator.recovery.rollback import as_run_error

    database = ctx.layout.database
    with as_run_error(ctx):
        recover(ctx)
        if not os.path.lexists(database):
            raise missing(ctx.layout)
        enter(ctx, "backup")
        refuse_long_name(ctx.layout)
        source = sqlite3.connect(
            database_uri(database), uri=True, timeout=ctx.deadline.remaining(), isolation_level=None
        )
        with contextlib.closing(source):
            source.execute("BEGIN")
            ((pages, size),) = source.execute("SELECT * FROM pragma_page_count, pragma_page_size")
            require_space(ctx.layout, pages * size, 0, ctx.emit)
            saved = create.make(
                source,
                ctx.layout,
                _facts(ctx, source),
                ctx.emit,
                structural=ctx.settings.verify,
                dedupe=True,
            )
        with contextlib.suppress(OSError, MigratorError):
            keep = max(1, ctx.settings.backup_keep)
            prune_backups(ctx.layout, keep, {saved.name}, None, ctx.emit)
        return Outcome("backed_up", (saved.name,), str(saved.path))


def _facts(ctx: Context, source: sqlite3.Connection) -> create.Facts:
    from migrator.backups import create

    applied = _applied(ctx, source)
    return create.Facts(
        reason=create.MANUAL,
        run_id=ctx.run_id,
        version=applied[-1].identity if applied else None,
        applied=applied,
        journal_mode=str(source.execute("PRAGMA journal_mode").fetchone()[0]).lower(),
    )


def _applied(ctx: Context, source: sqlite3.Connection) -> tuple[Applied, ...]:
    """Return what is applied; nothing where the history's table is somebody else's."""
    from migrator.errors import MisfitError

    with contextlib.suppress(MisfitError):
        return ctx.history.read(source)
    return ()
