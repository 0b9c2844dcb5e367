"""
Migrations as a change: they run one after another, whichever way makes the run atomic.

Where they run is a `Session`. Everything else is the same for both kinds of it: events,
checks, the row-loss guard, history rows, and what a failure is called.
"""

from __future__ import annotations

import os
import sqlite3
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migrator.change import effect
from migrator.change.forked import end_if_forked
from migrator.context import Change, Context, Step
from migrator.errors import (
    DiskError,
    MigrationFailedError,
    MigratorError,
    MisfitError,
    VerificationError,
    describe,
    said,
    within_a_run,
)
from migrator.log.hints import command, perhaps_there
from migrator.log.translate import (
    is_damage,
    is_disk_failure,
    is_out_of_space,
    is_unopened,
)
from migrator.model import Script, way_of
from migrator.parsing import header_pragmas
from migrator.recovery.lost_locks import raise_loss, require_locks
from migrator.session.record import FailedStatement
from migrator.session.recording import RecordingConnection
from migrator.session.session import Session
from migrator.sqlite import primary_code
from migrator.verify.checks import read_schema
from migrator.verify.row_loss import RowGuard

_CUT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrations(Change):
    """Migrations, loaded, in the order in which they run; or in which they are undone."""

    scripts: tuple[Script, ...]

    @property
    def needs(self) -> str:
        """`in-place` where all of them can run in one transaction, else `copy`."""
        return way_of(self.scripts, undoes=self.undoes)

    @property
    def header(self) -> dict[str, str]:
        """What the first file sets before the first table."""
        return header_pragmas.leading(self.scripts)

    @property
    def rows(self) -> tuple[str, ...]:
        """Their rows in the history, spelled as there."""
        if not self.undoes:
            return tuple(script.entry.identity for script in self.scripts)
        moved = {script.entry.key for script in self.scripts}
        return tuple(row.identity for row in self.applied if row.key in moved)

    def expected(self) -> Counter[object]:
        """Return the keys that the history is to hold afterwards."""
        moved = {script.entry.key for script in self.scripts}
        # A version may be there twice, spelled `1` and `001`, from another runner.
        keys = Counter(row.key for row in self.applied if row.key not in moved)
        if not self.undoes:
            keys.update(moved)
        return keys

    def apply(self, ctx: Context, session: Session, old: Path | None = None) -> tuple[Step, ...]:
        """
        Run them one after another with their history rows; commit nothing.

        Raises:
            MigrationFailedError: One failed.
            VerificationError: One lost rows that it did not say it would lose, or
                its own check failed.
            DiskError: SQLite could not write.
        """
        with RowGuard(session.conn, ctx.settings.row_guard, ctx.history.table, old) as guard:
            with session.engine():
                ctx.history.prepare(session.conn)
                guard.begin()
            if ctx.observer is not None:
                ctx.observer.begin(ctx, session, old)
            ctx.progress.began = True
            steps = []
            for script in self.scripts:
                steps.append(_step(ctx, self, session, guard, script))
                ctx.progress.suspect |= session.record.suspect
        if ctx.settings.row_guard != "off":
            took = (
                f"The rows of the tables that were touched were counted in {guard.seconds:.1f} s."
            )
            ctx.emit("rows.counted", took, level="debug", seconds=round(guard.seconds, 3))
        for table, why in guard.uncounted.items():
            message = f"The rows of {table!r} cannot be counted ({why}): a loss is not noticed."
            ctx.emit("rows.uncounted", message, level="warning", table=table, error=why)
        return tuple(steps)


def _step(
    ctx: Context, batch: Migrations, session: Session, guard: RowGuard, script: Script
) -> Step:
    """Run one migration and write its history row."""
    ctx.require_lock()  # without it, files of ours may be another run's by now
    facts = {"version": script.entry.version, "name": script.entry.name}
    verb = "Undoing" if batch.undoes else "Applying"
    message = f"{verb} {script.entry.label}."
    ctx.emit("migration.started", message, **facts, file=script.entry.file)
    section = script.sql_down if batch.undoes else script.sql_up
    if section is not None and effect.is_empty(section):
        message = f"{script.entry.label} has no statement: it changes nothing."
        ctx.emit("migration.empty", message, level="warning", **facts, file=script.entry.file)
    if ctx.observer is not None:
        ctx.observer.started(script, session)
    started = time.monotonic()
    try:
        with effect.interrupted_by(script):
            removed = _apply_one(ctx, batch, session, guard, script)
            _note(ctx, batch, session, script, time.monotonic() - started)
    except MigratorError as error:
        seconds = round(time.monotonic() - started, 3)
        if ctx.observer is not None:
            ctx.observer.failed(script, session, error)
        if isinstance(error, MigrationFailedError | DiskError | VerificationError):
            _say_failed(ctx, script, error, seconds)
        raise
    seconds = time.monotonic() - started
    ctx.emit(
        "migration.finished",
        f"{script.entry.label} was {'undone' if batch.undoes else 'applied'} in {seconds:.2f} s.",
        **facts,
        seconds=round(seconds, 3),
        rows_removed=removed,
    )
    step = Step(script.entry.identity, seconds, removed, tuple(session.record.renames))
    if ctx.observer is not None:
        ctx.observer.finished(script, session, step)
    return step


def _apply_one(
    ctx: Context, batch: Migrations, session: Session, guard: RowGuard, script: Script
) -> dict[str, int]:
    """Let a migration do its work, and look at what it did; returns rows said to go, per table."""
    pid = os.getpid()
    try:
        room = ctx.process_states.isolated(script.entry.key, code=script.is_code)
        lent = session.migration(script, down=batch.undoes)
        with room, lent as conn, _observed(ctx, conn):
            if not batch.undoes:
                _check(session, script, script.check_before, "check_before", conn)
            effect.call(script, conn, down=batch.undoes)
            if not batch.undoes:
                _check(session, script, script.check_after, "check_after", conn)
            end_if_forked(pid, None)
            require_locks(ctx, script)
        _raise_hidden(session)
    except BaseException as error:
        end_if_forked(pid, error)
        raise_loss(ctx, script, error)
        if isinstance(error, effect.CheckFailedError):
            raise error.failure from error.__cause__
        if ctx.inline and isinstance(error, KeyboardInterrupt):
            raise
        failure = _failure(ctx, session, script, error, batch)
        if not ctx.inline:
            # What the migration's frames hold may be all the memory that there is.
            traceback.clear_frames(error.__traceback__)
        raise failure from error
    try:
        with session.engine():
            guard.conn = session.conn  # on a copy it is another one after each migration
            if session.record.schema_written:
                read_schema(session.conn)
            return guard.check(session.record, script.entry, script.allow_row_loss)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if not is_damage(error):
            raise
        raise _damaged(ctx, script, error) from error


def _observed(ctx: Context, conn: sqlite3.Connection) -> AbstractContextManager[object]:
    """Return what has the statements of a rehearsal measured, and nothing in a run."""
    if ctx.observer is None or not isinstance(conn, RecordingConnection):
        return nullcontext()
    return ctx.observer.lend(conn)


def _damaged(ctx: Context, script: Script, error: Exception) -> VerificationError:
    """Return the error for a migration after which the database cannot be read: it could before."""
    message = f"Migration {script.entry.label} has damaged the database: {error}."
    hint = f"Mend {script.entry.label} and start again; {ctx.undone}."
    data = _found(script, "schema", error)
    return VerificationError(message, hint=hint, reason="verify.structure", data=data)


def _found(script: Script, check: str, error: Exception) -> dict[str, Any]:
    """Return the data of a check that a migration has not passed."""
    return {
        "version": script.entry.version,
        "name": script.entry.name,
        "file": script.entry.file,
        "check": check,
        "error": str(error),
    }


def _raise_hidden(session: Session) -> None:
    """Raise what the migration has swallowed, where the run cannot go on after it."""
    hidden = session.failure(None)
    if hidden is not None:
        raise hidden.error


def _check(
    session: Session,
    script: Script,
    check: Callable[..., Any] | None,
    name: str,
    conn: sqlite3.Connection,
) -> None:
    """Run one of a migration's own checks; any exception is a failed verification."""
    if check is None:
        return
    try:
        effect.refuse_unrun(name, check(conn))
    except (Exception, SystemExit) as error:
        found = session.record.blame(error)
        if found is not None and is_disk_failure(found.error):
            raise
        said_so = isinstance(error, effect.NotRunError | SystemExit)
        text = _text(error) if said_so else describe(error)
        message = f"`{name}` of {script.entry.label} failed: {text.rstrip('.')}."
        data = {
            "version": script.entry.version,
            "name": script.entry.name,
            "file": script.entry.file,
            "line": _line(script, error, None, down=False),
            "statement": found.text[:_CUT] if found is not None and found.text else None,
            "check": name,
            "error": text,
        }
        hint = f"Mend the data, or the check in {script.entry.label}."
        hint = effect.own_hint(script, found.error if found is not None else error) or hint
        failure = VerificationError(message, hint=hint, reason=f"verify.{name}", data=data)
        raise effect.CheckFailedError(failure) from error


def _note(
    ctx: Context, batch: Migrations, session: Session, script: Script, seconds: float
) -> None:
    """
    Write a migration's history row, or take it away.

    Raises:
        VerificationError: The migration has written to the history's table itself.
    """
    try:
        with session.engine():
            _write_history(ctx, batch, session.conn, script, seconds)
    except sqlite3.Error as error:
        if primary_code(error) not in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT):
            raise
        table = ctx.history.table
        message = (
            f"Migration {script.entry.label} has changed the history's table {table!r},"
            f" so that its own row cannot be noted there: {error}."
        )
        hint = f"No migration may write to {table!r}: take that out of {script.entry.label}."
        data = _found(script, "history", error)
        raise VerificationError(message, hint=hint, reason="verify.history", data=data) from error


def _write_history(
    ctx: Context, batch: Migrations, conn: sqlite3.Connection, script: Script, seconds: float
) -> None:
    if not batch.undoes:
        ctx.history.record(conn, script, seconds, ctx.run_id)
        return
    for row in batch.applied:
        if row.key == script.entry.key:
            ctx.history.erase(conn, row)


def _say_failed(ctx: Context, script: Script, error: MigratorError, seconds: float) -> None:
    data = error.data
    ctx.emit(
        "migration.failed",
        error.message,
        level="error",
        version=script.entry.version,
        name=script.entry.name,
        seconds=seconds,
        file=data.get("file", script.entry.file),
        line=data.get("line"),
        statement=data.get("statement"),
        error=data.get("error", error.message),
    )


# --- what a failure is called ---------------------------------------------


def _failure(
    ctx: Context, session: Session, script: Script, error: BaseException, batch: Migrations
) -> MigratorError:
    """Turn what a migration raised into the error that ends the run."""
    if (failed := _of_the_application(error)) is not None:
        return failed
    found = session.failure(error)
    first = within_a_run(error) or (found.error if found is not None else error)
    line = _line(script, error, found, down=batch.undoes)
    text = _text(first)
    where = script.entry.label + ("" if line is None else f", line {line}")
    data = {
        "version": script.entry.version,
        "name": script.entry.name,
        "file": script.entry.file,
        "line": line,
        "statement": found.text[:_CUT] if found is not None and found.text else None,
        "error": text,
    }
    full = is_out_of_space(first, ctx.layout.database.parent)
    if full or is_disk_failure(first):
        message = f"The disk failed while {where} ran: {text}."
        hint = "Make space on the volume, or check its disk; the migration itself may be fine."
        reason = "disk.full" if full else "disk.failed"
        return DiskError(message, hint=hint, reason=reason, data=data)
    doing = "could not be undone" if batch.undoes else "failed"
    message = f"Migration {where} {doing}: {text.rstrip('.')}."
    usual = f"Mend {script.entry.label} and start again; {ctx.undone}."
    if batch.undoes and ctx.source.format.checks_down:
        again = command(ctx.settings, "down", "--accept", "changed")
        usual = f"Mend {script.entry.label} and undo it with `{again}`; {ctx.undone}."
    hint = effect.own_hint(script, first) or usual
    if not (batch.applied or batch.undoes or batch.creates) and "already exists" in text:
        data["otherwise"] = hint
        hint = f"{perhaps_there(ctx.settings, script.entry)} Otherwise: {hint}"
    if found is not None and is_unopened(first):
        hint = (
            "Where the statement opens no file itself, SQLite could not open one of its own beside"
            f" the database: check the volume and start again. Otherwise: {hint}"
        )
    return MigrationFailedError(message, hint=hint, data=data)


def _of_the_application(error: BaseException) -> MisfitError | None:
    """Return an error if what `--connect` names has failed, and not the migration."""
    if isinstance(error, MisfitError) and error.reason == "connect.failed":
        return error
    return None


def _line(
    script: Script, error: BaseException, found: FailedStatement | None, *, down: bool
) -> int | None:
    """Return the line of an `.sql` file's statement, or of the innermost frame in a `.py` file."""
    if (script.sql_down if down else script.sql_up) is not None:
        return found.line if found is not None else None
    trace, line = error.__traceback__, None
    while trace is not None:
        if script.entry.path and trace.tb_frame.f_code.co_filename == str(script.entry.path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _text(error: BaseException) -> str:
    """Return an exception's own words, cut."""
    if isinstance(error, sqlite3.Error):
        return said(lambda: str(error))[:_CUT]
    if isinstance(error, effect.NotRunError):
        return str(error)
    if isinstance(error, SystemExit):
        return f"it called sys.exit({said(lambda: repr(error.code))})"[:_CUT]
    return describe(error)
