"""
Putting a backup back: its pages written as one SQLite transaction, and compared.

Never a file copied over the database: a `-wal` left beside it would be played
into the old pages.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from migrator.backups import backup
from migrator.backups.catalog import Backup
from migrator.errors import (
    DamagedError,
    MigratorError,
    RestoreError,
    UsageError,
)
from migrator.report.hints import command
from migrator.safety.context import Context
from migrator.safety.live import Live, open_live
from migrator.safety.on_failure import cleared_on_failure, explained
from migrator.safety.phases import Report, enter, report
from migrator.safety.recovery import give_up, settle
from migrator.safety.saving import facts_of, housekeep, make_backup
from migrator.storage import state
from migrator.storage.copying import pump, uri
from migrator.storage.layout import like_database
from migrator.storage.state import RunState
from migrator.system import protection
from migrator.system.files import (
    Ownership,
    create_file,
    fsync_directory,
    make_directory,
    remove,
    sidecars,
)


def restore(ctx: Context, wanted: str | None, before: str | None) -> Report:
    """
    Put a backup back, after a backup of what it replaces.

    Args:
        ctx: The run.
        wanted: A backup's name or path, or `latest`.
        before: Instead: the newest backup that this version is not applied in.

    Raises:
        UsageError: There is no such backup.
        DamagedError: It is damaged.
        RestoreError: It could not be put back.
    """
    ctx.settings = replace(ctx.settings, in_use="wait")
    with explained(ctx):
        chosen = _settled(ctx, wanted, before)
        if not ctx.layout.database.exists():
            return _place(ctx, chosen)
        try:
            live = open_live(ctx)
        except DamagedError:
            return _replace(ctx, chosen)
        with contextlib.closing(live):
            if _is_there(live, chosen):
                return report("up_to_date")
            replaced = _save(ctx, live, chosen)
            write_back(ctx, live, chosen, reason="restore")
            # Before the database is released: a note that stayed behind would
            # have the next start restore it once more.
            housekeep(ctx, replaced, {chosen.name})
            _require_forgotten(ctx)
        return report("migrated", [chosen.name], replaced)


def _settled(ctx: Context, wanted: str | None, before: str | None) -> Backup:
    """
    Settle what an interrupted run has left, and find the backup that was meant.

    An interrupted restore that cannot be finished, for its backup is gone or
    damaged, gives way to this one: that is the way out of it.
    """
    try:
        settle(ctx)
    except RestoreError as error:
        chosen = choose(ctx, wanted, before)
        refuse_damaged(ctx, chosen)
        give_up(ctx, error)
        return chosen
    chosen = choose(ctx, wanted, before)
    refuse_damaged(ctx, chosen)
    return chosen


def choose(ctx: Context, wanted: str | None, before: str | None) -> Backup:
    """
    Find the backup that was meant.

    Raises:
        UsageError: There is none.
    """
    if before is not None:
        return _choose_before(ctx, before)
    if wanted == "latest":
        newest = backup.newest(ctx.layout)
        if newest is None:
            raise _no_backup(ctx, "There is no backup made by `up` or `down`")
        return newest
    return backup.find(ctx.layout, wanted or "")


def _choose_before(ctx: Context, version: str) -> Backup:
    from migrator.definitions.source import version_key

    by_name = ctx.source.by_name
    key = version if by_name else version_key(version)
    known = [entry.key for entry in ctx.source.entries()]
    backups = [each for each in backup.list_backups(ctx.layout) if each.reason != "restore"]
    seen = {_key(row, by_name=by_name) for each in backups for row in each.applied}
    if key is None or key not in (*known, *seen, *_applied(ctx)):
        message = f"There is no migration {version!r}."
        raise UsageError(
            message,
            hint=f"`{command(ctx.settings, 'status')}` lists the versions.",
        )
    for each in backups:
        if key not in {_key(row, by_name=by_name) for row in each.applied}:
            return each
    raise _no_backup(ctx, f"There is no backup from before {version!r}")


def _applied(ctx: Context) -> set[object]:
    """Return what is applied in the database, as far as it can still be read."""
    from migrator.looking.survey import survey

    with contextlib.suppress(MigratorError):
        found = survey(ctx.settings, ctx.layout, ctx.source)
        return {row.key for row in found.applied}
    return set()


def _key(row: object, *, by_name: bool) -> object:
    from migrator.definitions.source import version_key

    name, version = getattr(row, "name", None), getattr(row, "version", None)
    return name if by_name else version_key(version or "") or version


def _no_backup(ctx: Context, text: str) -> UsageError:
    message = f"{text} of {str(ctx.layout.database)!r} in {str(ctx.layout.backup_dir)!r}."
    hint = f"`{command(ctx.settings, 'backups')}` lists what is there."
    return UsageError(message, hint=hint, reason="backup.unknown")


def refuse_damaged(ctx: Context, chosen: Backup) -> None:
    """
    Check a backup against its checksum before anything is done with it.

    Raises:
        DamagedError: It does not hold what was backed up.
    """
    trouble = backup.verify_backup(chosen)
    if trouble is None:
        return
    hint = f"Take another one; `{command(ctx.settings, 'backups')}` lists them."
    raise DamagedError(trouble, hint=hint, reason="backup.damaged")


def resume(ctx: Context, left: RunState) -> None:
    """
    Finish a restore that was interrupted; doing it again from the start is the same.

    Raises:
        RestoreError: Its backup is gone or damaged.
    """
    ctx.settings = replace(ctx.settings, in_use="wait")
    try:
        chosen = backup.find(ctx.layout, left.backup or "")
        refuse_damaged(ctx, chosen)
    except (UsageError, DamagedError) as error:
        message = f"The interrupted restore cannot be finished: {error.message}"
        raise RestoreError(message, hint=error.hint) from error
    if not ctx.layout.database.exists():
        _move_in(ctx, chosen)
        return
    try:
        live = open_live(ctx)
    except DamagedError:
        _move_in(ctx, chosen)
        return
    with contextlib.closing(live):
        write_back(ctx, live, chosen, reason=left.reason)


def _is_there(live: Live, chosen: Backup) -> bool:
    """Tell whether the database is the backup already, its journal mode included."""
    mode = chosen.journal_mode or live.journal_mode()
    return live.same_as(chosen.path) is True and live.journal_mode() == mode


def _save(ctx: Context, live: Live, chosen: Backup) -> Backup | None:
    """Back the database up before it is replaced; a damaged one is kept as it is instead."""
    enter(ctx, "backup", _noted(ctx, chosen))
    with cleared_on_failure(ctx), live.guard.engine():
        try:
            applied = ctx.history.read(live.conn)
        except (sqlite3.Error, MigratorError):
            applied = ()
        facts = facts_of(ctx, live, applied, "restore")
        same = backup.same_state(ctx.layout, live.raw) if live.raw is not None else None
        if same is not None:
            return backup.reuse(ctx.layout, same, facts, ctx.emit)
        try:
            return make_backup(ctx, live, facts, {chosen.name})
        except DamagedError:
            keep_failed(ctx, live)
            return None


def write_back(ctx: Context, live: Live, chosen: Backup, *, reason: str = "undo") -> None:
    """
    Write a backup's pages into the database, which nobody else has, and compare.

    `reason` is `restore` where that is what was asked for, and `undo` where a
    failed run is taken back.

    Raises:
        RestoreError: The pages could not be written, or are not the backup's.
    """
    noted = _noted(ctx, chosen, reason)
    if reason == "restore":
        # Where this cannot be noted, nothing has been touched.
        enter(ctx, "restore", noted)
    ctx.began = True
    with _person_needed(ctx, chosen):
        if reason != "restore":
            enter(ctx, "restore", noted)
        mode = chosen.journal_mode or live.journal_mode()
        with live.guard.engine():
            _pump_back(live, chosen)
        enter(ctx, "restored")
        live.checkpoint()
        live.set_journal_mode(mode)
        identical = live.same_as(chosen.path)
        if identical is False:
            message = f"{str(live.path)!r} does not hold the pages of {chosen.name!r}."
            raise RestoreError(message, hint="Check the volume and its disk.")
    ctx.emit(
        "restore.finished",
        f"The database was restored from {chosen.name}.",
        method="backup",
        identical=identical,
        path=str(chosen.path),
    )


def _pump_back(live: Live, chosen: Backup) -> None:
    source = sqlite3.connect(uri(chosen.path, "mode=ro&immutable=1"), uri=True)
    with contextlib.closing(source):
        if _page_size(source) != _page_size(live.conn):
            # A WAL database takes no other page size. Otherwise it stays in WAL: the mode
            # is not part of the transaction, and a crash would show the old rows without it.
            live.conn.execute("PRAGMA journal_mode = DELETE").fetchall()
        pump(source, live.conn)


def _page_size(conn: sqlite3.Connection) -> int:
    return int(conn.execute("PRAGMA page_size").fetchone()[0])


def _require_forgotten(ctx: Context) -> None:
    """
    Make sure that the next start does not restore once more, over what is written until then.

    Raises:
        RestoreError: The note of this restore cannot be removed.
    """
    path = ctx.layout.state
    if os.path.lexists(path):
        with contextlib.suppress(OSError):
            state.clear(path)
    if os.path.lexists(path):
        message = (
            f"The database {str(ctx.layout.database)!r} was restored, but the note of it,"
            f" {str(path)!r}, cannot be removed: the next start would restore it once more."
        )
        raise RestoreError(message, hint=f"Remove it before anything else starts: rm '{path}'")


@contextlib.contextmanager
def _person_needed(ctx: Context, chosen: Backup) -> Iterator[None]:
    """Turn whatever goes wrong while pages are written back into the call for a person."""
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
            f" then run `{command(ctx.settings, 'restore', chosen.name)}`."
        )
        raise RestoreError(message, hint=hint, data={"backup": str(chosen.path)}) from error


# --- where no SQLite database stands ---------------------------------------


def _place(ctx: Context, chosen: Backup) -> Report:
    """Put a backup where there is no database."""
    enter(ctx, "restore", _noted(ctx, chosen))
    ctx.began = True
    with _person_needed(ctx, chosen):
        _move_in(ctx, chosen)
    housekeep(ctx, None, {chosen.name})
    _require_forgotten(ctx)
    return report("migrated", [chosen.name])


def _replace(ctx: Context, chosen: Backup) -> Report:
    """Put a backup in the place of a file that is no database any more."""
    keep_failed(ctx)
    return _place(ctx, chosen)


def _move_in(ctx: Context, chosen: Backup) -> None:
    """
    Rename a verified copy of a backup to the database's path.

    What stood there goes with its sidecars, which belong to nothing any more;
    done again after a crash, this ends the same.
    """
    owner = like_database(ctx.layout)
    _copy(chosen.path, ctx.layout.new, owner)
    for sidecar in sidecars(ctx.layout.database):
        remove(sidecar)
    os.rename(ctx.layout.new, ctx.layout.database)
    fsync_directory(ctx.layout.database.parent)
    if chosen.journal_mode and chosen.journal_mode != "delete":
        with contextlib.closing(open_live(ctx)) as live:
            live.set_journal_mode(chosen.journal_mode)
    ctx.emit(
        "restore.finished",
        f"The database was restored from {chosen.name}.",
        method="backup",
        identical=True,
        path=str(chosen.path),
    )


def _copy(source: Path, target: Path, owner: Ownership) -> None:
    remove(target)
    number = create_file(target, owner)
    with open(number, "wb") as file, source.open("rb") as original:
        shutil.copyfileobj(original, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())


def keep_failed(ctx: Context, live: Live | None = None) -> None:
    """
    Keep one replaced database for inspection, where there is space.

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


def _keep_open_one(ctx: Context, live: Live) -> None:
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
    # SQLite does not have it open here: it is no database.
    with protection.allowed():
        _copy(path, ctx.layout.failed / path.name, like_database(ctx.layout).private)


def _noted(ctx: Context, chosen: Backup, reason: str = "restore") -> RunState:
    return RunState(
        run_id=ctx.run_id,
        phase="restore",
        since=state.now(),
        reason=reason,
        database=str(ctx.layout.database),
        backup=chosen.name,
        journal_mode=chosen.journal_mode,
    )
