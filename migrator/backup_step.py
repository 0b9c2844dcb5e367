"""Back up before a run, and prune old backups after it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Sequence

from migrator.backups import create
from migrator.backups.backup import Backup, Facts
from migrator.backups.names import refuse_long_name
from migrator.backups.retention import prune_backups, remove_backup
from migrator.backups.reuse import reuse
from migrator.backups.space import check_space, require_space
from migrator.context import Change, Context
from migrator.database.pages import read_header
from migrator.database.uri import database_uri
from migrator.errors import BackupError, MigratorError, MisfitError
from migrator.exclusive import ExclusiveDatabase
from migrator.files import ENOUGH, has_space
from migrator.model import Applied
from migrator.recovery.phases import enter, note
from migrator.recovery.rollback import cleared_on_failure, forget, may_give_way


def back_up(ctx: Context, change: Change, live: ExclusiveDatabase) -> Backup:
    """
    Return a verified backup of the current state: the newest one if it matches, or a new one.

    Raises:
        BackupError: It could not be made, or there is no space for the run.
        DamagedError: The database is damaged.
    """
    enter(ctx, "backup")
    with cleared_on_failure(ctx):
        facts = facts_of(ctx, change.applied, change.reason, live.journal_mode())
        header = read_header(live.raw.descriptor) if live.raw is not None else None
        ctx.progress.counter = None if header is None else header.change_counter
        same = create.same_state(ctx.layout, live.raw, facts) if live.raw is not None else None
        size = ctx.layout.database.stat().st_size
        kept = {same.name} if same is not None else set()
        ready = same is not None
        check_space(ctx.layout, size, change.way, ctx.emit, protect=kept, backed_up=ready)
        # Only now: with no space left, even this note could not be written.
        enter(ctx, "backup", note(ctx, change, None))
        if same is not None:
            return reuse(ctx.layout, same, facts, ctx.emit)
        saved = make_backup(ctx, live, facts)
        if ctx.inline and ctx.settings.in_use == "allow" and facts.journal_mode == "wal":
            _require_space_for_shared_memory(ctx, saved)
        return saved


def _require_space_for_shared_memory(ctx: Context, saved: Backup) -> None:
    """
    Refuse a run in its caller's process that would end it where the disk is full.

    Beside others SQLite maps the `-shm` of a WAL database, and the kernel sends SIGBUS to
    who writes to a mapped page that finds no block. What `statvfs` calls free cannot all be
    written on btrfs or under a quota, so it is tried.

    Raises:
        BackupError: There is not enough; a backup that this run made has been deleted again.
    """
    home = ctx.layout.home
    if has_space(home, ENOUGH):
        return
    if may_give_way(ctx, saved):
        remove_backup(ctx.layout, saved)
    message = f"After the backup less than {ENOUGH >> 20} MiB of space are left in {str(home)!r}."
    hint = (
        "Enlarge the volume or its quota, delete what is not needed there,"
        " or put the backups on another one (`backup_dir`)."
    )
    raise BackupError(message, hint=hint, reason="backup.no_space")


def make_backup(
    ctx: Context, live: ExclusiveDatabase, facts: Facts, protect: Collection[str] = ()
) -> Backup:
    """
    Copy the database into a new backup; beside others, through another connection.

    `protect` names backups that must not go to make room for it.
    """
    refuse_long_name(ctx.layout)
    full = ctx.settings.verify
    if live.alone:
        with live.guard.engine():
            return create.make(
                live.conn,
                ctx.layout,
                facts,
                ctx.emit,
                live=live.whole_file(),
                structural=full,
                dedupe=live.raw is None,
                protect=protect,
            )
    # The write transaction is open already; SQLite would wait for its end for
    # ever on the same connection, and reads the state before it on another.
    with contextlib.closing(sqlite3.connect(database_uri(live.path), uri=True)) as source:
        return create.make(source, ctx.layout, facts, ctx.emit, structural=full, dedupe=True)


def back_up_beside(ctx: Context, reason: str, app_version: str | None = None) -> Backup:
    """
    Return a verified backup of the current state, even while an application is running.

    One read transaction holds what is copied and what is noted about it together. In WAL
    mode an application goes on writing meanwhile; without WAL its commits wait for the copy.
    The backups are pruned, down to one at least: nothing has been verified that could stand
    in its place.

    Args:
        ctx: The run.
        reason: What it is made for: `manual` or `start`.
        app_version: The version of the application that is about to be started.

    Raises:
        NotReadyError: The database stayed locked.
        DamagedError: It is damaged.
        BackupError: The backup cannot be written, or there is no space for it.
    """
    enter(ctx, "backup")
    refuse_long_name(ctx.layout)
    uri = database_uri(ctx.layout.database)
    source = sqlite3.connect(uri, uri=True, timeout=ctx.deadline.remaining(), isolation_level=None)
    with contextlib.closing(source):
        source.execute("BEGIN")
        ((pages, size),) = source.execute("SELECT * FROM pragma_page_count, pragma_page_size")
        require_space(ctx.layout, pages * size, 0, ctx.emit)
        mode = str(source.execute("PRAGMA journal_mode").fetchone()[0]).lower()
        facts = facts_of(ctx, _applied(ctx, source), reason, mode, app_version)
        full = ctx.settings.verify
        saved = create.make(source, ctx.layout, facts, ctx.emit, structural=full, dedupe=True)
    with contextlib.suppress(OSError, MigratorError):
        keep = max(1, ctx.settings.backup_keep)
        prune_backups(ctx.layout, keep, {saved.name}, None, ctx.emit)
    return saved


def _applied(ctx: Context, source: sqlite3.Connection) -> tuple[Applied, ...]:
    """Return what is applied; nothing if the history table belongs to the application."""
    with contextlib.suppress(MisfitError):
        return ctx.history.read(source)
    return ()


def facts_of(
    ctx: Context,
    applied: Sequence[Applied],
    reason: str,
    mode: str,
    app_version: str | None = None,
) -> Facts:
    """Return what to note beside a backup of the current state."""
    return Facts(
        reason=reason,
        run_id=ctx.run_id,
        version=applied[-1].identity if applied else None,
        applied=tuple(applied),
        journal_mode=mode,
        app_version=ctx.settings.app_version if reason == "up" else app_version,
    )


def prune_and_clean(ctx: Context, saved: Backup | None, protect: Collection[str] = ()) -> None:
    """Tidy up after a run that is done, and prune the backups; fails no run."""
    enter(ctx, "prune")
    own = saved.name if saved is not None else None
    with contextlib.suppress(OSError, MigratorError):
        prune_backups(ctx.layout, ctx.settings.backup_keep, protect, own, ctx.emit)
    # Last: if the run is killed before this, its note shows that it was committed.
    forget(ctx)
