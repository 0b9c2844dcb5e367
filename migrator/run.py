"""
The run itself, from a held lock to a new and proven database, or the old one.

Everything here happens in the worker, or in the caller's process for the
Python API. `upgrade` tells the story.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace

from migrator.backup_step import back_up, prune_and_clean
from migrator.backups.catalog import Backup
from migrator.change.migrations import run_batch
from migrator.context import Batch, Context
from migrator.database.pages import write_pages
from migrator.database.uri import database_uri
from migrator.database.workspace import like_database
from migrator.errors import NotReadyError, VerificationError
from migrator.exclusive import STOP_IT, ExclusiveDatabase, open_exclusive, open_to_recover
from migrator.inspect.location import check_missing
from migrator.inspect.status import DatabaseStatus, inspect_status, refuse_or_warn, say_plan
from migrator.inspect.texts import refuse_changed, refuse_unfit
from migrator.model import Script
from migrator.parsing import header_pragmas
from migrator.recovery.after_crash import recover
from migrator.recovery.lost_locks import require_held, require_locks, watch
from migrator.recovery.phases import Report, enter, note, report, uninterrupted
from migrator.recovery.rollback import as_run_error, restored_on_failure, undone_on_failure
from migrator.strategy.in_place import InPlaceSession, begin, commit
from migrator.verify import proof
from migrator.wait import wait_until_ready


def upgrade(ctx: Context) -> Report:
    """Apply what is pending."""
    with as_run_error(ctx):
        if recover(ctx) is not None:
            _require_no_lost_database(ctx)
        found = look_again(ctx)
        if found.up_to_date:
            say_plan(ctx.emit, found, None)
            return report("no_database" if found.left_alone else "up_to_date")
        batch = prepare(ctx, found)
        if not found.sight.exists:
            from migrator.strategy import new_file

            return new_file.create(ctx, batch)
        return execute(ctx, batch, "up")


def _require_no_lost_database(ctx: Context) -> None:
    """
    Look once more whether a missing database is a first install, now that nothing is unfinished.

    Raises:
        NotReadyError: Its journal or its backups are there without it.
    """
    layout = ctx.layout
    if not os.path.lexists(layout.database):
        wait_until_ready(
            lambda: check_missing(layout.database, layout.backup_dir, ctx.settings.create),
            ctx.deadline,
            ctx.emit,
            level=None,
        )


def look_again(ctx: Context) -> DatabaseStatus:
    """
    Look under the lock: another run may have done the work meanwhile.

    Raises:
        MisfitError: Files and history do not fit.
    """
    found = inspect_status(ctx.settings, ctx.layout, ctx.source)
    if found.sight.needs_recovery:
        open_to_recover(ctx).close()
        found = inspect_status(ctx.settings, ctx.layout, ctx.source)
    found = replace(found, sight=replace(found.sight, running=False))
    refuse_or_warn(ctx.settings, ctx.layout, found, ctx.emit)
    return found


def prepare(ctx: Context, found: DatabaseStatus) -> Batch:
    """
    Read, check and import what is pending, before anything is written.

    Raises:
        MisfitError: A file cannot be parsed or imported, has been changed, or
            requires what is not there.
    """
    scripts = ctx.source.scripts()
    refuse_changed(ctx.settings, ctx.layout, ctx.emit, found, scripts)
    chosen = refuse_unfit(ctx.layout, found, scripts)
    ctx.way = Batch(tuple(chosen), found.applied).way
    say_plan(ctx.emit, found, ctx.way)
    return Batch(load(ctx, chosen), found.applied)


def load(ctx: Context, scripts: Sequence[Script]) -> tuple[Script, ...]:
    """Import migrations one by one, telling which, should one end the process."""
    loaded: list[Script] = []
    for script in scripts:
        enter(ctx, f"import {script.entry.label}")
        with ctx.rooms.isolated(script.entry.key):
            loaded += ctx.source.load([script])
    enter(ctx, "prepare")
    return tuple(loaded)


def execute(ctx: Context, batch: Batch, reason: str) -> Report:
    """Run a batch on an existing database, whichever way it needs."""
    if not batch.transactional:
        refuse_beside_others(ctx)
    hint = "" if batch.transactional else STOP_IT
    first = header_pragmas.leading(batch.scripts)
    with contextlib.closing(open_exclusive(ctx, hint, header=first)) as live:
        way = _in_place if batch.transactional else _on_copy
        saved = way(ctx, batch, live, reason)
    prune_and_clean(ctx, saved)
    return report("migrated", [script.entry.identity for script in batch.scripts], saved)


# --- way A ----------------------------------------------------------------


def _in_place(ctx: Context, batch: Batch, live: ExclusiveDatabase, reason: str) -> Backup:
    """Back up, migrate and verify in one transaction, commit, and read back."""
    alone = ctx.settings.in_use == "wait"
    if not alone:
        begin(ctx, live.guard)
    saved = back_up(ctx, batch, live, reason)
    with undone_on_failure(ctx, live, saved):
        enter(ctx, "migrate", note(ctx, batch, reason, saved))
        if alone:
            begin(ctx, live.guard)
        live.guard.open_journal()
        watch(ctx, live)
        began = time.monotonic()
        with live.guard.engine():
            known = proof.before(ctx, live.conn, saved.path)
        renames = run_batch(ctx, batch, InPlaceSession(live.guard))
        with live.guard.engine():
            proof.verify(ctx, batch, live.conn, known, renames)
        enter(ctx, "commit")
        # The work itself is no waiting for others: it costs nothing of that budget.
        ctx.deadline.extend(time.monotonic() - began)
        _commit(ctx, live)
    with restored_on_failure(ctx, live, saved), live.guard.engine():
        proof.read_back(ctx, batch, live.conn)
    return saved


def _commit(ctx: Context, live: ExclusiveDatabase) -> None:
    with uninterrupted():
        commit(ctx, live.guard)


# --- way B ----------------------------------------------------------------


def _on_copy(ctx: Context, batch: Batch, live: ExclusiveDatabase, reason: str) -> Backup:
    """Back up, migrate and verify a copy, publish its pages, and read back."""
    saved = back_up(ctx, batch, live, reason)
    with undone_on_failure(ctx, live, saved):
        enter(ctx, "migrate", note(ctx, batch, reason, saved))
        watch(ctx, live)
        wanted = _migrate_copy(ctx, batch, saved)
        noted = note(ctx, batch, reason, saved, wanted_journal_mode=wanted)
        enter(ctx, "publish", noted)
        with uninterrupted():
            require_locks(ctx, decisive=True)
            _publish(ctx, live, wanted)
    with restored_on_failure(ctx, live, saved):
        with live.guard.engine():
            proof.read_back(ctx, batch, live.conn)
        require_held(live)
        live.checkpoint()
        if live.same_as(ctx.layout.work) is False:
            message = f"{str(ctx.layout.database)!r} does not hold the pages that were published."
            hint = "Check the volume and its disk, then start again."
            raise VerificationError(message, hint=hint, reason="verify.published")
        live.set_journal_mode(wanted)
    return saved


def refuse_beside_others(ctx: Context) -> None:
    """
    Refuse way B where others may write: it would overwrite what they wrote.

    Raises:
        NotReadyError: `--in-use allow`.
    """
    if ctx.settings.in_use == "wait":
        return
    message = (
        "A pending migration cannot run in a transaction, so the run has to replace the whole"
        f" content of {str(ctx.layout.database)!r}, which `--in-use allow` does not permit."
    )
    hint = "Stop what uses the database and start once with `--in-use wait`."
    raise NotReadyError(message, hint=hint, reason="database.in_use", retryable=False)


def _migrate_copy(ctx: Context, batch: Batch, saved: Backup) -> str:
    """Migrate and verify the work copy; returns the journal mode that it ends in."""
    from migrator.strategy.on_copy import CopySession, copy_backup, set_header, set_mode

    owner = like_database(ctx.layout).private
    copy_backup(saved.path, ctx.layout.work, owner, saved.journal_mode or "delete")
    if not ctx.layout.work.stat().st_size:
        set_header(ctx.layout.work, header_pragmas.leading(batch.scripts))
    temporary = None if ctx.inline else ctx.layout.temporary
    desk = CopySession(ctx.layout.work, batch, temporary)
    with contextlib.closing(desk):
        known = proof.before(ctx, desk.conn, saved.path)
        renames = run_batch(ctx, batch, desk)
        proof.verify(ctx, batch, desk.conn, known, renames)
    return set_mode(ctx.layout.work, "delete")


def _publish(ctx: Context, live: ExclusiveDatabase, wanted: str) -> None:
    """
    Write the work copy's pages into the live database, as one transaction.

    A WAL database cannot take another page size
    (https://sqlite.org/pragma.html#pragma_page_size), so it leaves WAL first.
    """
    uri = database_uri(ctx.layout.work)
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as work, live.guard.engine():
        if wanted != "wal" or _page_size(work) != _page_size(live.conn):
            live.set_journal_mode("delete")
        write_pages(work, live.conn)


def _page_size(conn: sqlite3.Connection) -> int:
    return int(conn.execute("PRAGMA page_size").fetchone()[0])
