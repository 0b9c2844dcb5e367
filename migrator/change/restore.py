"""`restore`: a backup takes the place of the database, which is backed up first."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import Any

from migrator.backup_step import facts_of, make_backup, prune_and_clean
from migrator.backups import create
from migrator.backups.backup import Backup
from migrator.backups.catalog import START, list_backups
from migrator.backups.find import (
    find_backup,
    newest_backup,
    newest_before_app,
    refuse_undescribed,
)
from migrator.backups.owner import by_trust, refuse_several
from migrator.backups.reuse import reuse
from migrator.backups.space import require_space
from migrator.context import Context
from migrator.database import run_state, started
from migrator.database.workspace import like_database
from migrator.errors import (
    DamagedError,
    MigratorError,
    RestoreError,
    UsageError,
)
from migrator.exclusive import STOP_IT, ExclusiveDatabase, open_exclusive
from migrator.files import has_space
from migrator.log.hints import command
from migrator.log.translate import of_system
from migrator.model import Outcome
from migrator.recovery.after_crash import give_way, recover, unfinished_restore
from migrator.recovery.copy_back import (
    keep_failed,
    person_needed,
    prepare_file,
    refuse_damaged,
    replace_file,
    write_back,
)
from migrator.recovery.disk_full import as_before_without_space, no_space, space_for
from migrator.recovery.intent import fingerprint_of, found_now, noted
from migrator.recovery.lineage import say_whose
from migrator.recovery.phases import enter
from migrator.recovery.rollback import cleared_on_failure
from migrator.recovery.run_error import as_run_error


def restore(
    ctx: Context,
    wanted: str | None,
    before: str | None,
    before_app: str | None = None,
    *,
    abandon: bool = False,
) -> Outcome:
    """
    Put a backup back, after a backup of what it replaces.

    Args:
        ctx: The run.
        wanted: A backup's name or path, or `latest`.
        before: Instead: the newest backup that this version is not applied in.
        before_app: Instead: the newest from before this version of the application started.
        abandon: Instead: forget a restore that was interrupted, and restore nothing.

    Raises:
        UsageError: There is no such backup.
        DamagedError: It is damaged.
        RestoreError: It could not be put back.
    """
    with as_run_error(ctx):
        if abandon:
            if unfinished_restore(ctx) is None:
                recover(ctx)
            give_way(ctx, "It is abandoned.")
            return Outcome("up_to_date")
        chosen = _chosen(ctx, wanted, before, before_app)
        say_whose(ctx, chosen, wanted)
        if not ctx.layout.database.exists():
            return _place(ctx, chosen, {"found": "nothing"})
        try:
            live = open_exclusive(ctx, STOP_IT, alone=True)
        except DamagedError:
            return _replace(ctx, chosen)
        with contextlib.closing(live):
            if _is_there(live, chosen):
                _set_version_back(ctx, chosen)
                return Outcome("up_to_date")
            replaced = _save(ctx, live, chosen)
            with as_before_without_space(ctx, live, chosen, replaced):
                _require_space_for_all(ctx, chosen)
                intent = noted(ctx, chosen, found_now(ctx, live, replaced))
                write_back(ctx, live, chosen, intent)
            _set_version_back(ctx, chosen)
            # Before the database is released: a note that stayed behind would
            # have the next start restore it once more.
            prune_and_clean(ctx, replaced, {chosen.name})
            _require_forgotten(ctx)
        kept = None if replaced is None else str(replaced.path)
        return Outcome("migrated", (chosen.name,), kept)


def _chosen(ctx: Context, wanted: str | None, before: str | None, before_app: str | None) -> Backup:
    """
    Find the backup to restore, and recover an interrupted run.

    An interrupted restore gives way to this one, once it is certain that this one can be.
    """
    if unfinished_restore(ctx) is None:
        recover(ctx)
    chosen = choose(ctx, wanted, before, before_app)
    refuse_damaged(ctx, chosen)
    give_way(ctx, "Another restore takes its place.")
    return chosen


def choose(
    ctx: Context, wanted: str | None, before: str | None, before_app: str | None = None
) -> Backup:
    """
    Find the backup that was meant.

    Raises:
        UsageError: There is no such backup.
        DamagedError: Nothing can be told of one that may be meant.
    """
    if before is not None:
        return _choose_before(ctx, before)
    if before_app is not None:
        found = newest_before_app(ctx.layout, before_app)
        refuse_undescribed(ctx.layout, found, f"--before-app-version {before_app}")
        if found is None:
            raise _no_backup(ctx, f"There is no backup from before version {before_app!r}")
        return found
    if wanted == "latest":
        last = newest_backup(ctx.layout)
        refuse_undescribed(ctx.layout, last, "latest")
        if last is None:
            raise _no_backup(ctx, "There is no backup made by `up` or `down`", _started(ctx))
        return last
    return find_backup(ctx.layout, wanted or "")


def _choose_before(ctx: Context, version: str) -> Backup:
    fmt = ctx.source.format
    key = fmt.key(version)
    known = {entry.key for entry in ctx.source.entries()}
    backups = [each for each in list_backups(ctx.layout) if each.reason != "restore"]
    seen = {
        each.name: {fmt.key_of(row.version, row.name) for row in each.applied} for each in backups
    }
    if key is None or key not in known.union(*seen.values(), _applied(ctx)):
        message = f"There is no migration {version!r}."
        raise UsageError(
            message,
            hint=f"`{command(ctx.settings, 'status')}` lists the versions.",
        )
    earlier = [each for each in backups if key not in seen[each.name]]
    refuse_several(earlier, f"--before {version}")
    found = next(iter(by_trust(ctx.layout, earlier)), None)
    refuse_undescribed(ctx.layout, found, f"--before {version}")
    if found is not None:
        return found
    raise _no_backup(ctx, f"There is no backup from before {version!r}")


def _applied(ctx: Context) -> set[object]:
    """Return what is applied in the database, as far as it can still be read."""
    from migrator.inspect.status import inspect_status

    with contextlib.suppress(MigratorError):
        found = inspect_status(ctx.settings, ctx.layout, ctx.source)
        return {row.key for row in found.applied}
    return set()


def _started(ctx: Context) -> str:
    """Say how to go back before the start of an application that migrates itself."""
    last = newest_backup(ctx.layout, (START,))
    if last is None:
        return ""
    words = ("--before-app-version", last.app_version) if last.app_version else (last.name,)
    line = command(ctx.settings, "restore", *words)
    return f" The newest from before a start of the application: `{line}`."


def _no_backup(ctx: Context, text: str, more: str = "") -> UsageError:
    message = f"{text} of {str(ctx.layout.database)!r} in {str(ctx.layout.backup_dir)!r}."
    hint = f"`{command(ctx.settings, 'backups')}` lists what is there.{more}"
    return UsageError(message, hint=hint, reason="backup.unknown")


def _is_there(live: ExclusiveDatabase, chosen: Backup) -> bool:
    """Tell whether the database is the backup already, its journal mode included."""
    mode = chosen.journal_mode or live.journal_mode()
    return live.same_as(chosen.path) is True and live.journal_mode() == mode


def _save(ctx: Context, live: ExclusiveDatabase, chosen: Backup) -> Backup | None:
    """Back the database up before it is replaced; keep the file instead if it is damaged."""
    enter(ctx, "backup")
    with cleared_on_failure(ctx), live.guard.engine():
        try:
            applied = ctx.history.read(live.conn)
        except (sqlite3.Error, MigratorError):
            applied = ()
        facts = facts_of(ctx, applied, "restore", live.journal_mode())
        same = create.same_state(ctx.layout, live.raw, facts) if live.raw is not None else None
        size = 0 if same is not None else ctx.layout.database.stat().st_size
        kept = {chosen.name} if same is None else {chosen.name, same.name}
        # No slack on top: on a full disk, a restore may be what is to make room.
        require_space(ctx.layout, size, chosen.bytes, ctx.emit, kept)
        # Only now: with no space left, even this note could not be written.
        enter(ctx, "backup", noted(ctx, chosen, {}))
        if same is not None:
            return reuse(ctx.layout, same, facts, ctx.emit)
        try:
            return make_backup(ctx, live, facts, {chosen.name})
        except DamagedError:
            keep_failed(ctx, live)
            return None


def _require_space_for_all(ctx: Context, chosen: Backup) -> None:
    """
    Try whether there is room for a restore as a whole, since a quota is invisible.

    In WAL mode the half of it is written after the commit, when nothing can be taken
    back any more.

    Raises:
        DiskError: There is not, and nothing has been touched.
    """
    needed = space_for(ctx, chosen)
    if not has_space(ctx.layout.home, needed):
        raise no_space(ctx, chosen, f"it takes {needed} bytes beside the database")


def _set_version_back(ctx: Context, chosen: Backup) -> None:
    """Note the version of the application whose state the database is again."""
    try:
        started.set_back(ctx.layout, chosen.from_app_version, like_database(ctx.layout))
    except OSError as error:
        raise of_system(error, "while the version of the application was noted") from error


def _require_forgotten(ctx: Context) -> None:
    """
    Make sure that the next start does not restore once more, over what is written until then.

    Raises:
        RestoreError: The note of this restore cannot be removed.
    """
    path = ctx.layout.state
    if os.path.lexists(path):
        with contextlib.suppress(OSError):
            run_state.clear(path)
    if os.path.lexists(path):
        message = (
            f"The database {str(ctx.layout.database)!r} was restored, but the note of it,"
            f" {str(path)!r}, cannot be removed: the next start would restore it once more."
        )
        raise RestoreError(message, hint=f"Remove it before anything else starts: rm '{path}'")


# --- where there is no SQLite database ---------------------------------------


def _place(ctx: Context, chosen: Backup, found: dict[str, Any]) -> Outcome:
    """Restore a backup where the database is missing."""
    intent = noted(ctx, chosen, found)
    with cleared_on_failure(ctx):
        enter(ctx, "backup", intent)
        prepare_file(ctx, chosen)
    with person_needed(ctx, chosen):
        replace_file(ctx, chosen, intent)
    _set_version_back(ctx, chosen)
    prune_and_clean(ctx, None, {chosen.name})
    _require_forgotten(ctx)
    return Outcome("migrated", (chosen.name,))


def _replace(ctx: Context, chosen: Backup) -> Outcome:
    """Replace a file that is no longer a database by a backup."""
    keep_failed(ctx)
    found = {"found": "file", "fingerprint": fingerprint_of(ctx.layout.database)}
    return _place(ctx, chosen, found)
