"""
The run itself, from a held lock to a new and proven database, or the old one.

Everything here happens in the worker, or in the caller's process for the
Python API. `upgrade` tells the story.
"""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from migrator import backup, plan, proof, state
from migrator.copying import pump
from migrator.catalog import Backup
from migrator.context import Batch, Context
from migrator.errors import (
    DiskError,
    MigratorError,
    NotReadyError,
    OutcomeUnknownError,
    RestoreError,
    VerificationError,
)
from migrator.failures import of_sqlite, of_system
from migrator.hints import command
from migrator.inplace import GuardDesk, begin, commit
from migrator.layout import like_database
from migrator.live import Live, open_live
from migrator.model import Applied, Emit, Script
from migrator.outcome import as_bug
from migrator.recording import database_uri
from migrator.recovery import remove_litter, remove_work_files, settle
from migrator.steps import run_batch
from migrator.survey import Survey, judge, survey

Report = dict[str, Any]


def upgrade(ctx: Context) -> Report:
    """Apply what is pending."""
    with explained(ctx):
        settle(ctx)
        found = look_again(ctx)
        if found.up_to_date:
            say_plan(ctx.emit, found, None)
            return report("no_database" if found.left_alone else "up_to_date")
        batch = prepare(ctx, found)
        if not found.sight.exists:
            from migrator import install

            return install.create(ctx, batch)
        return execute(ctx, batch, "up")


def look_again(ctx: Context) -> Survey:
    """
    Look under the lock: another run may have done the work meanwhile.

    Raises:
        MisfitError: Files and history do not fit.
    """
    from migrator.live import open_plain

    found = survey(ctx.settings, ctx.layout, ctx.source)
    if found.sight.needs_recovery:
        open_plain(ctx).close()
        found = survey(ctx.settings, ctx.layout, ctx.source)
    found = replace(found, sight=replace(found.sight, running=False))
    judge(ctx.settings, ctx.layout, found, ctx.emit)
    return found


def say_plan(emit: Emit, found: Survey, way: str | None) -> None:
    """Send `plan.ready`."""
    how = f"; the way is {way}" if way else ""
    emit(
        "plan.ready",
        f"{len(found.pending)} migrations are pending,"
        f" {len(found.applied)} have been applied{how}.",
        pending=len(found.pending),
        applied=len(found.applied),
        way=way,
    )


def prepare(ctx: Context, found: Survey) -> Batch:
    """
    Read, check and import what is pending, before anything is written.

    Raises:
        MisfitError: A file cannot be parsed or imported, has been changed, or
            requires what is not there.
    """
    scripts = ctx.source.scripts()
    keys = {row.key for row in found.applied}
    pending = {entry.key for entry in found.pending}
    refuse_changed(ctx, found, scripts)
    if not ctx.source.by_name:
        from migrator.scripts import check_requires

        check_requires(scripts, keys)
    chosen = [script for script in scripts if script.entry.key in pending]
    ctx.way = Batch(tuple(chosen), found.applied).way
    say_plan(ctx.emit, found, ctx.way)
    return Batch(load(ctx, chosen), found.applied)


def refuse_changed(ctx: Context, found: Survey, scripts: Sequence[Script]) -> None:
    """Refuse applied files whose text has been changed, or warn, as told."""
    problems = plan.changed(scripts, found.applied)
    plan.refuse_misfits(
        (*found.problems, *problems),
        ctx.settings.accept,
        something_pending=True,
        newer_hint="",
    )
    for problem in problems:
        ctx.emit(
            "history.misfit",
            problem.message,
            level="warning",
            kind=problem.kind,
            version=problem.version,
        )


def load(ctx: Context, scripts: Sequence[Script]) -> tuple[Script, ...]:
    """Import migrations one by one, telling which, should one end the process."""
    loaded: list[Script] = []
    for script in scripts:
        enter(ctx, f"import {script.entry.file or script.entry.name}")
        loaded += ctx.source.load([script])
    enter(ctx, "prepare")
    return tuple(loaded)


def execute(ctx: Context, batch: Batch, reason: str) -> Report:
    """Run a batch on an existing database, whichever way it needs."""
    if not batch.transactional:
        refuse_beside_others(ctx)
    with contextlib.closing(open_live(ctx)) as live:
        way = _in_place if batch.transactional else _on_copy
        saved = way(ctx, batch, live, reason)
    housekeep(ctx, saved)
    return report("migrated", [script.entry.identity for script in batch.scripts], saved)


# --- way A ----------------------------------------------------------------


def _in_place(ctx: Context, batch: Batch, live: Live, reason: str) -> Backup:
    """Back up, migrate and verify in one transaction, commit, and read back."""
    alone = ctx.settings.in_use == "wait"
    if not alone:
        begin(ctx, live.guard)
    saved = save(ctx, batch, live, reason)
    enter(ctx, "migrate", note(ctx, batch, reason, saved))
    with undone_on_failure(ctx, live, saved):
        if alone:
            begin(ctx, live.guard)
        with live.guard.engine():
            orphans = proof.before(ctx, live.conn)
        run_batch(ctx, batch, GuardDesk(live.guard))
        with live.guard.engine():
            proof.prove(ctx, batch, live.conn, orphans)
        enter(ctx, "commit")
        _commit(ctx, live)
    with restored_on_failure(ctx, live, saved), live.guard.engine():
        proof.read_back(ctx, batch, live.conn)
    return saved


def _commit(ctx: Context, live: Live) -> None:
    with uninterrupted():
        commit(ctx, live.guard)


# --- way B ----------------------------------------------------------------


def _on_copy(ctx: Context, batch: Batch, live: Live, reason: str) -> Backup:
    """Back up, migrate and verify a copy, publish its pages, and read back."""
    saved = save(ctx, batch, live, reason)
    enter(ctx, "migrate", note(ctx, batch, reason, saved))
    with undone_on_failure(ctx, live, saved):
        wanted = _migrate_copy(ctx, batch, saved)
        noted = note(ctx, batch, reason, saved, wanted_journal_mode=wanted)
        enter(ctx, "publish", noted)
        with uninterrupted():
            _publish(ctx, live, wanted)
    with restored_on_failure(ctx, live, saved):
        with live.guard.engine():
            proof.read_back(ctx, batch, live.conn)
        live.checkpoint()
        if live.same_as(ctx.layout.work) is False:
            message = f"{str(ctx.layout.database)!r} does not hold the pages that were published."
            raise VerificationError(message, reason="verify.published")
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
    from migrator.oncopy import CopyDesk, copy_backup, set_mode

    owner = like_database(ctx.layout).private
    copy_backup(saved.path, ctx.layout.work, owner, saved.journal_mode or "delete")
    desk = CopyDesk(ctx.layout.work, batch, ctx.layout.temporary)
    with contextlib.closing(desk):
        orphans = proof.before(ctx, desk.conn)
        run_batch(ctx, batch, desk)
        proof.prove(ctx, batch, desk.conn, orphans)
    return set_mode(ctx.layout.work, "delete")


def _publish(ctx: Context, live: Live, wanted: str) -> None:
    """
    Write the work copy's pages into the live database, as one transaction.

    A WAL database cannot take another page size
    (https://sqlite.org/pragma.html#pragma_page_size), so it leaves WAL first.
    """
    uri = database_uri(ctx.layout.work)
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as work, live.guard.engine():
        if wanted != "wal" or _page_size(work) != _page_size(live.conn):
            live.set_journal_mode("delete")
        pump(work, live.conn)


def _page_size(conn: sqlite3.Connection) -> int:
    return int(conn.execute("PRAGMA page_size").fetchone()[0])


# --- what all ways share --------------------------------------------------


def save(ctx: Context, batch: Batch, live: Live, reason: str) -> Backup:
    """
    Have a verified backup of the database as it is: the newest one, if that is it.

    Raises:
        BackupError: It could not be made, or there is no space for the run.
        DamagedError: The database is damaged.
    """
    enter(ctx, "backup", note(ctx, batch, reason, None))
    with cleared_on_failure(ctx):
        same = backup.same_state(ctx.layout, live.raw) if live.raw is not None else None
        size = ctx.layout.database.stat().st_size
        kept = {same.name} if same is not None else set()
        backup.check_space(
            ctx.layout, size, batch.way, ctx.emit, protect=kept, backed_up=same is not None
        )
        facts = facts_of(ctx, live, batch.applied, reason)
        if same is not None:
            return backup.reuse(ctx.layout, same, facts, ctx.emit)
        return make_backup(ctx, live, facts)


def make_backup(ctx: Context, live: Live, facts: backup.Facts) -> Backup:
    """Copy the database into a new backup; beside others through a connection of its own."""
    full = ctx.settings.verify
    if ctx.settings.in_use == "wait":
        with live.guard.engine():
            return backup.make(
                live.conn,
                ctx.layout,
                facts,
                ctx.emit,
                live=live.raw,
                structural=full,
                dedupe=live.raw is None,
            )
    # The write transaction is open already; SQLite would wait for its end for
    # ever on the same connection, and reads the state before it on another.
    with contextlib.closing(sqlite3.connect(database_uri(live.path), uri=True)) as source:
        return backup.make(source, ctx.layout, facts, ctx.emit, structural=full, dedupe=True)


def facts_of(
    ctx: Context, live: Live, applied: Sequence[Applied], reason: str
) -> backup.Facts:
    """Return what is noted beside a backup of the database as it is."""
    return backup.Facts(
        reason=reason,
        run_id=ctx.run_id,
        version=applied[-1].identity if applied else None,
        applied=tuple(applied),
        journal_mode=live.journal_mode(),
    )


def note(
    ctx: Context, batch: Batch, reason: str, saved: Backup | None, **extra: Any
) -> state.RunState:
    """Return what is noted of the run in `state.json`, but for the phase."""
    if batch.down:
        extra["undone"] = [script.entry.identity for script in batch.scripts]
    return state.RunState(
        run_id=ctx.run_id,
        phase="prepare",
        since=state.now(),
        reason=reason,
        way=ctx.way,
        database=str(ctx.layout.database),
        backup=saved.name if saved is not None else None,
        journal_mode=saved.journal_mode if saved is not None else None,
        extra=extra,
    )


@contextlib.contextmanager
def cleared_on_failure(ctx: Context) -> Iterator[None]:
    """Leave nothing behind where the run ends before the first migration."""
    try:
        yield
    except BaseException:
        forget(ctx)
        raise


@contextlib.contextmanager
def undone_on_failure(ctx: Context, live: Live, saved: Backup) -> Iterator[None]:
    """
    Undo the run when anything fails, and prove that the database is as before.

    Raises:
        OutcomeUnknownError: The disk failed at the commit, and goes on failing.
    """
    try:
        yield
    except BaseException as error:
        failure = as_failure(ctx, error)
        try:
            _undo(ctx, live, saved)
        except (sqlite3.Error, OSError) as second:
            raise _not_undone(ctx, failure, second) from error
        if is_full(failure) and saved.run_id == ctx.run_id:
            backup.remove_backup(ctx.layout, saved)
        forget(ctx)
        if isinstance(error, KeyboardInterrupt):
            raise
        raise failure from error


def _undo(ctx: Context, live: Live, saved: Backup) -> None:
    """Roll back, and compare the database with the backup where nobody else can write."""
    live.guard.rollback()
    remove_work_files(ctx.layout)
    if ctx.settings.in_use == "wait":
        live.checkpoint()
        if saved.journal_mode and live.journal_mode() != saved.journal_mode:
            live.set_journal_mode(saved.journal_mode)
    identical = live.same_as(saved.path)
    if identical is False:
        put_back(ctx, live, saved)
        return
    ctx.emit(
        "restore.finished",
        "The database is as it was before this run.",
        method="rollback" if ctx.way == "in-place" else "discarded",
        identical=identical,
    )


def _not_undone(ctx: Context, failure: MigratorError, second: Exception) -> MigratorError:
    """
    Return the error for a rollback that the disk did not allow.

    Nothing is lost by it: the journal is on the disk, and whoever opens the
    database next rolls back, or finds the commit complete.
    """
    message = (
        f"The disk failed while the run on {str(ctx.layout.database)!r} was being undone"
        f" ({second}), after this: {failure.message}"
    )
    hint = "Check the disk, then start again: the next start settles it by itself."
    if ctx.phase in ("commit", "publish"):
        return OutcomeUnknownError(message, hint=hint, data=failure.data)
    return DiskError(message, hint=hint, data={**failure.data, "outcome": "failed_restored"})


@contextlib.contextmanager
def restored_on_failure(ctx: Context, live: Live, saved: Backup) -> Iterator[None]:
    """Put the backup back when a check after the commit fails, and nobody has seen the new state."""
    try:
        yield
    except BaseException as error:
        failure = as_failure(ctx, error)
        if ctx.settings.in_use != "wait":
            raise _released(ctx, failure, saved) from error
        put_back(ctx, live, saved)
        forget(ctx)
        raise failure from error


def put_back(ctx: Context, live: Live, saved: Backup) -> None:
    """Write a backup's pages back while the database has not been released."""
    from migrator import restore

    restore.keep_failed(ctx, live)
    restore.write_back(ctx, live, saved)


def _released(ctx: Context, failure: MigratorError, saved: Backup) -> RestoreError:
    message = f"A check failed after the commit, with others using the database: {failure.message}"
    hint = (
        "Nothing is overwritten any more by itself. To go back:"
        f" `{command(ctx.settings, 'restore', saved.name)}`."
    )
    data = {"backup": str(saved.path)}
    return RestoreError(message, hint=hint, reason="verify.after_release", data=data)


def forget(ctx: Context) -> None:
    """Remove what only the running of the run needed; housekeeping fails no run."""
    with contextlib.suppress(OSError, MigratorError):
        remove_litter(ctx.layout)
        state.clear(ctx.layout.state)


def housekeep(ctx: Context, saved: Backup | None) -> None:
    """Tidy up after a run that is done, and prune the backups; fails no run."""
    enter(ctx, "prune")
    forget(ctx)
    own = saved.name if saved is not None else None
    with contextlib.suppress(OSError, MigratorError):
        backup.prune(ctx.layout, ctx.settings.backup_keep, (), own, ctx.emit)


def enter(ctx: Context, phase: str, noted: state.RunState | None = None) -> None:
    """
    Enter a phase: tell the parent process, and note it on the volume where told.

    Raises:
        DiskError: It cannot be noted.
        NoPermissionError: Nor may it.
    """
    ctx.phase = phase
    if not ctx.inline:
        ctx.emit("phase", phase, phase=phase)
    if noted is None:
        return
    noted = replace(noted, phase=phase, since=state.now())
    try:
        state.write(ctx.layout.state, noted, like_database(ctx.layout))
    except OSError as error:
        raise of_system(error, "while the run's state was noted") from error


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Keep SIGTERM, SIGINT and SIGHUP waiting for the end of a commit."""
    stops = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def as_failure(ctx: Context, error: BaseException) -> MigratorError:
    """Return the error that ends the run for whatever was raised in it."""
    failure = _translated(ctx, error)
    failure.data.setdefault("began", ctx.began)
    return failure


def _translated(ctx: Context, error: BaseException) -> MigratorError:
    if isinstance(error, MigratorError):
        return error
    doing = f"in the phase {ctx.phase!r}"
    if isinstance(error, sqlite3.Error):
        return of_sqlite(error, ctx.layout.database, doing)
    if isinstance(error, OSError):
        return of_system(error, doing)
    return as_bug(error, f" {doing}")


@contextlib.contextmanager
def explained(ctx: Context) -> Iterator[None]:
    """Give every exception of the run the form in which it is reported."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        failure = as_failure(ctx, error)
        if failure is error:
            raise
        raise failure from error


def is_full(error: MigratorError) -> bool:
    """Tell whether a run failed for want of space."""
    return error.reason in ("disk.full", "backup.no_space")


def report(outcome: str, changed: Sequence[str] = (), saved: Backup | None = None) -> Report:
    """Return what the worker reports, as JSON values."""
    return {
        "outcome": outcome,
        "applied": len(changed),
        "changed": list(changed),
        "backup": str(saved.path) if saved is not None else None,
    }
