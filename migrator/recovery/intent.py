"""What a restore notes about itself, and whether the database is still what it was then."""

from __future__ import annotations

import contextlib
import enum
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from migrator.backups.backup import Backup
from migrator.backups.catalog import list_backups
from migrator.backups.find import find_backup, reference
from migrator.context import Context
from migrator.database import run_state
from migrator.database.checksum import fingerprint, is_between
from migrator.database.pages import copy_pages, same_pages
from migrator.database.raw_file import LiveFile
from migrator.database.run_state import RunState
from migrator.database.workspace import like_database
from migrator.errors import MigratorError, RestoreError, UsageError
from migrator.exclusive import ExclusiveDatabase
from migrator.files import open_regular, remove, sidecars
from migrator.log.hints import command
from migrator.process import audit_hook


def found_now(ctx: Context, live: ExclusiveDatabase, kept: Backup | None = None) -> dict[str, Any]:
    """
    Describe the database that a restore replaces, so that the next start recognises it.

    Args:
        ctx: The run.
        live: The database.
        kept: Its backup.
    """
    mode = live.journal_mode()
    found: dict[str, Any] = {"found": "pages"}
    if mode in run_state.JOURNAL_MODES:
        found["mode"] = mode
    if kept is not None:
        found["kept"] = kept.name
    with live.guard.engine():
        found["schema_version"] = schema_version(live.conn)
    # Not needed for the restore: without it the next start just overwrites nothing.
    with contextlib.suppress(OSError, sqlite3.Error, MigratorError), pages_of(ctx, live) as file:
        found["fingerprint"] = fingerprint(file)
    return found


def schema_version(conn: sqlite3.Connection) -> int:
    """Return the number to which SQLite's backup API adds one when it commits."""
    return int(conn.execute("PRAGMA schema_version").fetchone()[0])


@contextlib.contextmanager
def pages_of(ctx: Context, live: ExclusiveDatabase) -> Iterator[int]:
    """
    Yield a descriptor of the database's content, while no other process has it open.

    If only SQLite may open the file, it is the descriptor of a copy.

    Raises:
        OSError: There is no space for the copy.
    """
    live.checkpoint()
    if live.raw is not None:
        yield live.raw.descriptor
        return
    copy = ctx.layout.home / "found.db"
    try:
        remove(copy)
        with live.guard.engine():
            copy_pages(live.conn, copy, like_database(ctx.layout).private)
        number = open_regular(copy)
        try:
            yield number
        finally:
            os.close(number)
    finally:
        remove(copy)


def restoring(ctx: Context, chosen: Backup) -> str:
    """Return the command that restores a backup: by its path if it is another database's."""
    return command(ctx.settings, "restore", reference(ctx.layout, chosen))


def noted(ctx: Context, chosen: Backup, found: dict[str, Any], reason: str = "restore") -> RunState:
    """Return the note by which the next start finishes an interrupted restore, or refuses to."""
    return RunState(
        run_id=ctx.run_id,
        phase="restore",
        since=run_state.now(),
        reason=reason,
        database=str(ctx.layout.database),
        backup=chosen.name,
        journal_mode=chosen.journal_mode,
        extra={
            **found,
            "source": str(chosen.path),
            "sha256": chosen.sha256,
            "app_version": chosen.from_app_version,
        },
        format=run_state.FORMAT,
    )


class Standing(enum.Enum):
    """What a database is to an interrupted restore."""

    FOUND = "what it was then"
    RESTORED = "the backup already"
    CHANGED = "something else, since somebody has written to it"


def standing(ctx: Context, live: ExclusiveDatabase, left: RunState, chosen: Backup) -> Standing:
    """
    Compare a database, held alone, with both states of an interrupted restore.

    Raises:
        OSError: There is no space to look.
    """
    with pages_of(ctx, live) as file:
        if _same_as(file, chosen.path):
            return Standing.RESTORED
        if left.extra.get("fingerprint") == fingerprint(file):
            return Standing.FOUND
        if any(_same_as(file, path) for path in _kept(ctx, left)):
            return Standing.FOUND
    return Standing.CHANGED


def _same_as(file: int, path: Path) -> bool:
    number = open_regular(path)
    try:
        return same_pages(file, number)
    finally:
        os.close(number)


def _kept(ctx: Context, left: RunState) -> Iterator[Path]:
    """
    Yield the backup that the restore made of the state it replaces.

    An earlier version does not note its name: it is the one with that run's id.
    """
    if left.reason == "restore" and "fingerprint" not in left.extra:
        for each in list_backups(ctx.layout):
            named = each.name == left.extra.get("kept")
            made = each.run_id == left.run_id and each.reason == "restore"
            if (named or made) and each.intact:
                yield each.path


def file_is_as_found(ctx: Context, left: RunState) -> bool:
    """Tell whether a file, not a database, is still the one that a restore was to replace."""
    noted = left.extra.get("fingerprint")
    return noted is not None and noted == fingerprint_of(ctx.layout.database)


def fingerprint_of(path: Path) -> str:
    """Return the fingerprint of a file that SQLite does not have open."""
    with audit_hook.allowed(), LiveFile.open(path) as file:
        return fingerprint(file.descriptor)


def written_over(ctx: Context, left: RunState, chosen: Backup) -> bool:
    """
    Tell whether another file was put beside the journal of an interrupted restore.

    Ask before SQLite opens the database: it would play that journal into the new file.
    """
    layout = ctx.layout
    kept = layout.backup_dir / str(left.extra.get("kept"))
    if ctx.inline or not any(map(_has_content, sidecars(layout.database))) or not kept.is_file():
        return False
    with audit_hook.allowed(), LiveFile.open(layout.database) as file:
        numbers = [open_regular(path) for path in (kept, chosen.path)]
        try:
            return not is_between(file.descriptor, *numbers)
        finally:
            for number in numbers:
                os.close(number)


def _has_content(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.stat().st_size > 0
    return False


def target_of(ctx: Context, left: RunState) -> Backup:
    """
    Find the backup that an interrupted restore was putting back.

    Raises:
        RestoreError: It is gone.
    """
    wanted = left.extra.get("sha256")
    missing: UsageError | None = None
    for name in (left.backup or "", left.extra.get("source") or ""):
        try:
            chosen = find_backup(ctx.layout, name)
        except UsageError as error:
            missing = missing or error
            continue
        if wanted in (None, chosen.sha256):
            return chosen
    text = missing.message if missing else f"The backup {left.backup!r} has been replaced since."
    raise unfinishable(ctx, text, missing.hint if missing else "")


def unfinishable(ctx: Context, text: str, hint: str) -> RestoreError:
    """Return the error of an interrupted restore whose backup is gone or damaged."""
    message = f"The interrupted restore cannot be finished: {text}"
    keep = f"`{abandoning(ctx)}` gives up on it, and keeps the database as it is."
    return RestoreError(message, hint=f"{keep} {hint}".rstrip())


def superseded(ctx: Context, left: RunState, chosen: Backup, what: str = "") -> RestoreError:
    """Return the error of an interrupted restore whose database was written to since."""
    what = what or "has been written to since"
    database, wanted = repr(str(ctx.layout.database)), repr(str(chosen.path))
    asked = f"restore of {database} from {wanted}"
    if left.reason != "restore":
        asked = f"return of {database} to {wanted} after a failed run"
    message = (
        f"The {asked} was cut off ({left.since}), and the database {what}:"
        " nothing of it is overwritten."
    )
    hint = (
        f"Choose: `{abandoning(ctx)}` keeps the database as it is now;"
        f" `{restoring(ctx, chosen)}` puts the backup back, after a backup of what is there now."
    )
    return RestoreError(
        message, hint=hint, reason="restore.superseded", data={"backup": str(chosen.path)}
    )


def abandoning(ctx: Context) -> str:
    """Return the command that abandons an interrupted restore."""
    return command(ctx.settings, "restore", "--abandon")
