"""
Write a backup back: its pages as one SQLite transaction, or as a file where no database is.

Never copy a file over a database: SQLite would play a leftover `-wal` into the old pages.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from migrator.backups.backup import Backup
from migrator.backups.catalog import verify_backup
from migrator.context import Context
from migrator.database import run_state
from migrator.database.file_copy import UnequalError, UnreadableError, copied_file
from migrator.database.pages import page_size, write_pages
from migrator.database.run_state import RunState
from migrator.database.uri import database_uri
from migrator.database.workspace import like_database
from migrator.errors import (
    DamagedError,
    MigratorError,
    OutcomeUnknownError,
    RestoreError,
)
from migrator.exclusive import STOP_IT, ExclusiveDatabase, open_exclusive
from migrator.files import (
    Ownership,
    create_file,
    fsync_directory,
    make_directory,
    open_regular,
    remove,
    sidecars,
)
from migrator.log.hints import command
from migrator.process import audit_hook
from migrator.recovery.intent import fingerprint_of, noted, restoring
from migrator.recovery.phases import enter


def write_back(ctx: Context, live: ExclusiveDatabase, chosen: Backup, intent: RunState) -> None:
    """
    Write a backup's pages into the database, which the run holds alone, and compare.

    `intent` is its note (`noted`).

    Raises:
        RestoreError: The pages could not be written, or are not the backup's.
        OutcomeUnknownError: They are committed, and the disk failed at what comes after.
    """
    asked_for = intent.reason == "restore"
    if asked_for:
        # Outside of `person_needed`: if the note fails, nothing has been touched.
        enter(ctx, "restore", intent)
    ctx.progress.began = True
    with person_needed(ctx, chosen):
        if not asked_for:
            enter(ctx, "restore", intent)
        with live.guard.engine():
            _pump_back(live, chosen)
    # The pages are committed. If the note fails, the next start sees it by the pages.
    with contextlib.suppress(MigratorError):
        enter(ctx, "restored", intent)
    complete(ctx, live, chosen, intent)


def complete(ctx: Context, live: ExclusiveDatabase, chosen: Backup, intent: RunState) -> None:
    """
    Finish a restore after its commit: checkpoint, journal mode, comparison with the backup.

    Raises:
        RestoreError: The database does not hold the backup's pages.
        OutcomeUnknownError: The disk failed; the pages are committed.
    """
    try:
        live.checkpoint()
        live.set_journal_mode(chosen.journal_mode or live.journal_mode())
        identical = live.same_as(chosen.path)
    except (sqlite3.Error, OSError) as error:
        raise _incomplete(ctx, chosen, error) from error
    if identical is False:
        # Nobody wrote these pages, so the disk is wrong: the next start looks again.
        with contextlib.suppress(OSError):
            run_state.write(ctx.layout.state, intent, like_database(ctx.layout))
        with person_needed(ctx, chosen):
            message = f"{str(live.path)!r} does not hold the pages of {chosen.name!r}."
            raise RestoreError(message, hint="Check the volume and its disk.")
    say_restored(ctx, chosen, identical)


def say_restored(ctx: Context, chosen: Backup, identical: bool | None) -> None:
    """Send `restore.finished`."""
    ctx.emit(
        "restore.finished",
        f"The database was restored from {chosen.name}.",
        method="backup",
        identical=identical,
        path=str(chosen.path),
    )


def _incomplete(
    ctx: Context, chosen: Backup, error: sqlite3.Error | OSError
) -> OutcomeUnknownError:
    message = (
        f"The database {str(ctx.layout.database)!r} was restored from {chosen.name!r}, and the"
        f" disk failed after the commit, when its journal was being put in order: {error}."
    )
    hint = (
        "Nothing has to be restored again. Check the disk and its space, then start again:"
        " the next start does what is left."
    )
    return OutcomeUnknownError(message, hint=hint, data={"backup": str(chosen.path)})


def _pump_back(live: ExclusiveDatabase, chosen: Backup) -> None:
    source = sqlite3.connect(database_uri(chosen.path, "ro&immutable=1"), uri=True)
    with contextlib.closing(source):
        if page_size(source) != page_size(live.conn):
            # A WAL database takes no other page size. Otherwise it stays in WAL: the mode
            # is not part of the transaction, and a crash would show the old rows without it.
            live.conn.execute("PRAGMA journal_mode = DELETE").fetchall()
        write_pages(source, live.conn)


@contextlib.contextmanager
def person_needed(ctx: Context, chosen: Backup) -> Iterator[None]:
    """Turn any failure to write pages back into the error that asks for a person."""
    try:
        yield
    except (MigratorError, sqlite3.Error, OSError) as error:
        text = error.message if isinstance(error, MigratorError) else str(error)
        ctx.emit(
            "restore.failed",
            f"The backup could not be put back: {text}",
            level="error",
            method="backup",
            identical=False,
            error=text,
        )
        text = text.rstrip(".")
        message = f"The database {str(ctx.layout.database)!r} could not be restored: {text}."
        hint = (
            f"The backup is {str(chosen.path)!r}. Mend what is wrong with the volume,"
            f" then run `{restoring(ctx, chosen)}`."
        )
        raise RestoreError(message, hint=hint, data={"backup": str(chosen.path)}) from error


def prepare_file(ctx: Context, chosen: Backup) -> None:
    """
    Copy a backup to where it can be renamed to the database's path; nothing there is touched.

    Raises:
        RestoreError: The copy is not the backup.
    """
    if _copied(chosen.path, ctx.layout.new, like_database(ctx.layout)) != chosen.sha256:
        message = f"The copy of {chosen.name!r} does not have the backup's checksum."
        raise RestoreError(message, hint="Find out who else writes to the backup directory.")


def _copied(source: Path, target: Path, owner: Ownership) -> str | None:
    """Copy a backup; returns the checksum of the copy, None if it is not what was copied."""
    remove(target)
    number = open_regular(source)
    try:
        with copied_file(number, target, owner) as copy:
            pass
    except UnreadableError as error:
        raise error.cause from error
    except UnequalError:
        return None
    finally:
        os.close(number)
    return copy.sha256


def replace_file(ctx: Context, chosen: Backup, intent: RunState) -> None:
    """
    Rename the copy that `prepare_file` made to the database's path.

    After a crash this is done again, with the same result.
    """
    enter(ctx, "restore", intent)
    ctx.progress.began = True
    # Before the rename: SQLite would play the old file's sidecars into the new one.
    for sidecar in sidecars(ctx.layout.database):
        remove(sidecar)
    os.rename(ctx.layout.new, ctx.layout.database)
    fsync_directory(ctx.layout.database.parent)
    with contextlib.suppress(MigratorError):
        enter(ctx, "restored", intent)
    if chosen.journal_mode and chosen.journal_mode != "delete":
        with contextlib.closing(open_exclusive(ctx, STOP_IT, alone=True)) as live:
            live.set_journal_mode(chosen.journal_mode)
    say_restored(ctx, chosen, identical=True)


def replace_damaged(ctx: Context, chosen: Backup) -> None:
    """Put a backup where the file is no longer a database, or where a failed run had one."""
    found = {"found": "nothing"}
    if os.path.lexists(ctx.layout.database):
        found = {"found": "file", "fingerprint": fingerprint_of(ctx.layout.database)}
    prepare_file(ctx, chosen)
    replace_file(ctx, chosen, noted(ctx, chosen, found, "undo"))


def _copy(source: Path, target: Path, owner: Ownership) -> None:
    remove(target)
    number = create_file(target, owner)
    with open(number, "wb") as file, open(open_regular(source), "rb") as original:
        shutil.copyfileobj(original, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())


def keep_failed(ctx: Context, live: ExclusiveDatabase | None = None) -> None:
    """
    Keep one replaced database for inspection, if there is space.

    While SQLite has the database open in this process it is read through the
    descriptor that was opened before; closing another one would drop SQLite's
    locks (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    with contextlib.suppress(OSError, MigratorError):
        make_directory(ctx.layout.failed, like_database(ctx.layout).private)
        for old in os.listdir(ctx.layout.failed):
            remove(ctx.layout.failed / old)
        if live is not None:
            _keep_open_one(ctx, live)
            return
        for path in (ctx.layout.database, *sidecars(ctx.layout.database)):
            if path.exists():
                _keep(ctx, path)


def _keep_open_one(ctx: Context, live: ExclusiveDatabase) -> None:
    if live.raw is None:
        return
    owner = like_database(ctx.layout).private
    number = create_file(ctx.layout.failed / live.path.name, owner)
    with open(number, "wb") as file:
        offset = 0
        while chunk := os.pread(live.raw.descriptor, 1 << 20, offset):
            file.write(chunk)
            offset += len(chunk)


def _keep(ctx: Context, path: Path) -> None:
    # It is not a database, so SQLite does not have it open here and has no locks to lose.
    with audit_hook.allowed():
        _copy(path, ctx.layout.failed / path.name, like_database(ctx.layout).private)


def refuse_damaged(ctx: Context, chosen: Backup) -> None:
    """
    Check a backup against its checksum before using it.

    Raises:
        DamagedError: The checksum is another one.
    """
    trouble = verify_backup(chosen)
    if trouble is None:
        return
    hint = f"Choose another one; `{command(ctx.settings, 'backups')}` lists them."
    raise DamagedError(trouble, hint=hint, reason="backup.damaged")
