"""
A first install: built as a file of our own, verified, then linked into place.

Nothing half-made is ever at the database's path.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from migrator.backup_step import prune_and_clean
from migrator.backups.catalog import readable_backups
from migrator.backups.owner import has_path
from migrator.change.apply import apply_and_verify
from migrator.context import Change, Context
from migrator.database.lock import lost_lock
from migrator.database.workspace import like_database
from migrator.errors import (
    DiskError,
    MigrationFailedError,
    NotReadyError,
    OutcomeUnknownError,
)
from migrator.files import create_file, fsync_directory, sidecars
from migrator.inspect.beside import databases_beside, told_beside
from migrator.model import Outcome
from migrator.recovery.phases import enter, note, uninterrupted
from migrator.recovery.rollback import forget
from migrator.recovery.run_error import as_failure
from migrator.session.guard import open_guard
from migrator.session.session import Session
from migrator.strategy.in_place import InPlaceSession
from migrator.strategy.on_copy import CopySession, set_header

NO_DATABASE = "There is no database, as before this run."


def create(ctx: Context, change: Change) -> Outcome:
    """
    Create the database by the same all-or-nothing run as any other.

    What is built, verified and put in place is one file: a descriptor of it is held
    from before SQLite opens it until it has its name.

    Raises:
        LockedError: The run's lock was removed.
        NotReadyError: A file appeared at its path meanwhile.
    """
    _say_beside(ctx)
    _say_others(ctx)
    noted = note(ctx, change, None)
    enter(ctx, "prepare", noted)
    with _nothing_on_failure(ctx), _held_file(ctx) as held:
        set_header(ctx.layout.new, change.header)
        enter(ctx, "migrate", noted)
        with _session(ctx, change) as session:
            steps = apply_and_verify(ctx, change, session, None)
        _require_named(ctx)
        os.fsync(held)
        enter(ctx, "publish", noted)
        with uninterrupted():
            _place(ctx, held)
        found = os.fstat(held)
    prune_and_clean(ctx, None)
    change.ended(ctx)
    made = tuple(step.identity for step in steps)
    return Outcome("created", made, file=(found.st_dev, found.st_ino))


@contextlib.contextmanager
def _held_file(ctx: Context) -> Iterator[int]:
    """Create the file that will become the database, and keep a descriptor of it."""
    descriptor = create_file(ctx.layout.new, like_database(ctx.layout))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _require_named(ctx: Context) -> None:
    """
    See to it that the file that was built still has the name that it is linked by.

    Raises:
        LockedError: It is gone with the run's lock: somebody removed the whole directory.
        MigrationFailedError: A migration has removed or renamed it.
    """
    if os.path.lexists(ctx.layout.new):
        return
    ctx.require_lock()
    message = (
        f"A migration has taken {str(ctx.layout.new)!r} away, the database that was being built."
    )
    hint = "Leave the file where it is: it is put in place at the end."
    raise MigrationFailedError(message, hint=hint, reason="migration.failed")


def _say_others(ctx: Context) -> None:
    """Warn if there are backups of this path, and the database counts as another one."""
    backups = [each for each in readable_backups(ctx.layout) if has_path(ctx.layout, each)]
    if backups:
        ctx.emit(
            "backup.others",
            f"Backups of another database of this path lie in {str(ctx.layout.backup_dir)!r}; the"
            " one here begins anew.",
            level="warning",
            path=str(ctx.layout.backup_dir),
            count=len(backups),
        )


def _say_beside(ctx: Context) -> None:
    """Warn about other databases in the directory: one of them may be meant."""
    names = databases_beside(ctx.layout, open_them=not ctx.inline)
    if names:
        ctx.emit(
            "database.missing",
            f"{str(ctx.layout.database)!r} does not exist and is created; {told_beside(names)}.",
            level="warning",
            beside=list(names),
        )


@contextlib.contextmanager
def _session(ctx: Context, change: Change) -> Iterator[Session]:
    """Within, the new file takes the change; afterwards all of it is in the file."""
    temporary = None if ctx.inline else ctx.layout.temporary
    if change.needs == "in-place":
        with contextlib.closing(open_guard(ctx.layout.new, temporary=temporary)) as guard:
            guard.begin()
            yield InPlaceSession(guard, worker=not ctx.inline)
            guard.commit()
        return
    with contextlib.closing(CopySession(ctx.layout.new, temporary)) as session:
        yield session
        # The file goes alone to its place, and closing says nothing of a checkpoint that failed.
        session.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    _require_whole(ctx.layout.new)


def _require_whole(path: Path) -> None:
    """Raise where a journal beside a closed file holds what the file does not."""
    for sidecar in sidecars(path):
        if os.path.lexists(sidecar) and os.stat(sidecar).st_size:
            message = f"The new database is not whole: SQLite has left {str(sidecar)!r} beside it."
            raise DiskError(message, hint="Check the volume and its disk.")


@contextlib.contextmanager
def _nothing_on_failure(ctx: Context) -> Iterator[None]:
    try:
        yield
    except OutcomeUnknownError:
        # With the run's note the next start recovers it.
        raise
    except BaseException as error:
        failure = as_failure(ctx, error)
        forget(ctx)
        if ctx.progress.began:
            none = not os.path.lexists(ctx.layout.database)
            ctx.emit(
                "restore.finished",
                NO_DATABASE if none else "What this run had built is discarded.",
                method="discarded",
                identical=none or None,
            )
        if failure is error or isinstance(error, KeyboardInterrupt):
            raise
        raise failure from error


def _place(ctx: Context, held: int) -> None:
    """
    Give the finished file its name, unless something has taken it.

    Args:
        ctx: The run.
        held: A descriptor of the file that was verified: by its old name, where the lock was
            removed, another run may have put another one by now.
    """
    new, database = ctx.layout.new, ctx.layout.database
    take_back: Callable[[Path], None] = os.unlink
    try:
        # A link never replaces anything; the old name goes with the work files.
        os.link(new, database, follow_symlinks=False)
    except FileExistsError:
        raise _appeared(database) from None
    except OSError:
        if os.path.lexists(database):
            raise _appeared(database) from None
        # A file system without links.
        os.rename(new, database)
        take_back = _rename_to(new)
    if not os.path.samestat(os.lstat(database), os.fstat(held)):
        take_back(database)
        raise lost_lock(ctx.layout.lock, f"Another file than the verified one lay at {str(new)!r}.")
    try:
        fsync_directory(database.parent)
    except OSError as error:
        raise _perhaps_placed(database, error) from error


def _rename_to(new: Path) -> Callable[[Path], None]:
    return lambda path: os.rename(path, new)


def _appeared(database: Path) -> NotReadyError:
    message = f"A file appeared at {str(database)!r} while the database was being created."
    hint = "Find out what else creates it, then start again."
    return NotReadyError(message, hint=hint, reason="database.appeared")


def _perhaps_placed(database: Path, error: OSError) -> OutcomeUnknownError:
    message = (
        f"The database {str(database)!r} was created, but the disk failed while its name was made"
        f" durable: {error.strerror}."
    )
    hint = "Check the disk, then start again: the next start recovers it by itself."
    return OutcomeUnknownError(message, hint=hint)
