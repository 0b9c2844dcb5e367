"""
A rehearsal, from the look at the database to the report: read `rehearse` first.

It is a whole run, with its lock, its backup and its way of being atomic, on a copy of
the database in a directory of its own. So it ends as the real start would. The real
database is read in one transaction, and nothing beside it is written.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from migrator import access
from migrator._version import __version__
from migrator.backups import space
from migrator.backups.catalog import known_backups
from migrator.database.rehearsal_place import keep, place
from migrator.database.workspace import like_database, make_home
from migrator.engine.parent import Parent
from migrator.errors import (
    InterruptedRunError,
    LockedError,
    MigrationFailedError,
    MigratorError,
    NotReadyError,
    UsageError,
)
from migrator.file_errors import refusal
from migrator.inspect.status import DatabaseStatus, refuse_or_warn
from migrator.inspect.texts import fitting
from migrator.log.outcome import as_bug
from migrator.rehearsal.compared import compared
from migrator.rehearsal.copied import copy, unreadable
from migrator.rehearsal.copy_parent import CopyParent, as_of
from migrator.rehearsal.report import (
    Comparison,
    Expected,
    MigrationReport,
    Rehearsal,
    migration_from,
)
from migrator.rehearsal.watch import Watch, unsaid
from migrator.run import bring_up_to_date
from migrator.statement import Statement
from migrator.wait import wait_until_ready

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    What a rehearsal was asked for.

    Args:
        directory: Where the copy is made, None: in `app.db.migrator/`.
        keep: Whether the copies stay.
        queries: The statements of `--queries`.
    """

    directory: Path | None = None
    keep: bool = False
    queries: tuple[Statement, ...] = ()


@dataclass(slots=True)
class _Found:
    """What a rehearsal has found so far, for its report, however it ends."""

    began_at: str
    status: DatabaseStatus | None = None
    way: str | None = None
    migrations: list[MigrationReport] = field(default_factory=list)
    bytes_after: int | None = None
    copy_seconds: float = 0.0
    run_seconds: float | None = None
    measure_seconds: float = 0.0
    journal: int = 0
    comparison: Comparison | None = None
    kept: str | None = None


def rehearse(parent: Parent, wanted: Wanted) -> tuple[Rehearsal, MigratorError | None]:
    """
    Run what is pending on a copy, and say what came of it.

    Returns:
        The report, and the error that a real start would end with, if it would.

    Raises:
        InterruptedRunError: A signal came; nothing is left of the rehearsal.
        UsageError: The directory that was named does not exist: no start would end so.
    """
    if wanted.directory is not None and not wanted.directory.is_dir():
        message = f"The directory {str(wanted.directory)!r} of `--in` does not exist."
        raise UsageError(message, hint="Make it, or name another one.", data={"option": "--in"})
    found = _Found(datetime.now(UTC).isoformat(timespec="seconds"))
    error = None
    try:
        with parent.signals.noted_within():
            _rehearse(parent, wanted, found)
    except InterruptedRunError as interrupted:
        _about_a_rehearsal(interrupted)
        interrupted.hint = "Start again: nothing is left of the rehearsal."
        raise
    except MigratorError as failure:
        error = _about_a_rehearsal(failure)
    return _report(parent, found, error), error


def _rehearse(parent: Parent, wanted: Wanted, found: _Found) -> None:
    """Look, ask for space, copy, run on the copy, compare."""
    status = found.status = wait_until_ready(
        lambda: parent.when_free(parent.survey), parent.deadline, parent.emit, level=None
    )
    _refuse_unsettled(status)
    refuse_or_warn(parent.settings, parent.layout, status, parent.emit)
    if status.up_to_date:
        return
    found.way = _way(parent, status)
    _require_space(parent, wanted, found)
    with _directory(parent, wanted) as home:
        _on_copy(parent, wanted, found, home)


def _on_copy(parent: Parent, wanted: Wanted, found: _Found, home: Path) -> None:
    """Copy the database, have the run done on the copy, and compare before with after."""
    database = home / parent.layout.database.name
    parent.emit(
        "rehearsal.started",
        f"The run is rehearsed in {str(home)!r}.",
        path=str(home),
        bytes=found.status.sight.bytes if found.status else 0,
    )
    began = time.monotonic()
    if found.status is not None and found.status.sight.exists:
        copy(parent, database)
    found.copy_seconds = round(time.monotonic() - began, 3)
    results = home / "measured.jsonl"
    inner = CopyParent(parent, database, Watch(database, results, home / "scratch"))
    began = time.monotonic()
    try:
        bring_up_to_date(inner)
        found.run_seconds = time.monotonic() - began
    except MigratorError as error:
        as_of(error, database, parent.layout.database)
        _take(found, results, error)
        raise
    _take(found, results, None)
    before = next((each.path for each in known_backups(inner.layout)), None)
    found.bytes_after = database.stat().st_size
    found.comparison, rows = compared(
        parent, before, database, found.migrations, wanted.queries, home / "scratch"
    )
    if not parent.source.has_history:
        # What it did statement by statement only the command knows: the two files tell the rest.
        found.migrations[:] = [replace(each, rows=rows) for each in found.migrations]
    if wanted.keep:
        files = {"after.db": database} | ({"before.db": before} if before is not None else {})
        found.kept = str(keep(home, files))


# --- before the copy --------------------------------------------------------------


def _refuse_unsettled(status: DatabaseStatus) -> None:
    """
    Refuse to rehearse on what another run is about to change, or has to recover first.

    Raises:
        LockedError: A run is under way.
        NotReadyError: An interrupted run, or a killed application, has left something.
    """
    sight = status.sight
    if sight.running:
        message = "A run is under way."
        raise LockedError(message, hint="Rehearse when it has ended.", reason="run.under_way")
    if sight.unfinished is not None:
        why = f"run {sight.unfinished.run_id} was interrupted"
        raise unreadable(why)
    if sight.needs_recovery is not None:
        raise unreadable(sight.needs_recovery)


def _way(parent: Parent, status: DatabaseStatus) -> str:
    """Return the way that the run takes, with its files refused as the run refuses them."""
    if not status.sight.exists:
        return "create"
    scripts = (
        None
        if parent.source.is_code
        else fitting(parent.settings, parent.layout, parent.emit, parent.source, status)
    )
    return parent.way(status.pending, scripts)


def _require_space(parent: Parent, wanted: Wanted, found: _Found) -> None:
    """
    Require the space for the real start, and for the rehearsal.

    The rehearsal has a copy, its backup, and copies of the tables that are compared; on a copy
    of the copy, that and a journal as well.

    Raises:
        BackupError: There is not enough.
    """
    status = found.status
    if status is None or not status.sight.exists:
        return
    size = status.sight.bytes
    with _permitted(parent.layout.database.parent, "asking for the free space of"):
        space.require_space_for_run(parent.layout, size, found.way or "in-place")
        parts = 5 if found.way == "copy" else 3
        directory = wanted.directory or parent.layout.database.parent
        space.require_space_for_rehearsal(directory, parts * size)


@contextlib.contextmanager
def _directory(parent: Parent, wanted: Wanted) -> Iterator[Path]:
    """Make the directory of the rehearsal, and remove it afterwards."""
    layout = parent.layout
    if wanted.directory is not None:
        above, ours = wanted.directory, False
    else:
        with _elsewhere():
            access.require_mounted_writable(layout.database)
        above, ours = layout.home, not os.path.lexists(layout.home)
    try:
        with _permitted(above, "making the copy's directory in"):
            owner = like_database(layout)
            if wanted.directory is None:
                make_home(layout, owner)
            made = place(above, owner)
            home = made.__enter__()
        try:
            yield home
        finally:
            made.__exit__(None, None, None)
    finally:
        if ours:
            _remove_if_unused(above)


def _remove_if_unused(home: Path) -> None:
    """Remove `app.db.migrator/` where it was made for this, and nothing else is in it."""
    with contextlib.suppress(OSError):
        if os.listdir(home) == [".gitignore"]:
            os.unlink(home / ".gitignore")
            os.rmdir(home)


@contextlib.contextmanager
def _permitted(directory: Path, doing: str) -> Iterator[None]:
    """Say what the system says of the rehearsal's place as an operator reads it."""
    with _elsewhere():
        try:
            yield
        except OSError as error:
            raise refusal(error, directory, doing) from error


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    """Say to what cannot be written that the copy may lie elsewhere."""
    try:
        yield
    except NotReadyError as error:
        if error.reason == "volume.read_only":
            error.hint = "Name a directory that can be written with `--in DIR`."
        raise


# --- the run on the copy ------------------------------------------------------------


def _take(found: _Found, results: Path, error: MigratorError | None) -> None:
    """Read what was measured, and fill in what was not reached, or ended the worker."""
    measured: dict[tuple[str, str], MigrationReport] = {}
    with contextlib.suppress(OSError):
        for line in results.read_text(encoding="utf-8").splitlines():
            # Migrations can write to the file too: skip lines that are not ours.
            with contextlib.suppress(ValueError, TypeError, KeyError):
                _take_line(found, measured, json.loads(line))
    for entry in found.status.pending if found.status is not None else ():
        known = measured.get((entry.version, entry.name))
        state, why = "applied" if error is None else "not_reached", None
        if error is not None and error.data.get("version") == entry.version:
            state, why = "failed", error.message
        report = known or MigrationReport(entry.version, entry.name, entry.file, state, error=why)
        if known is not None and state == "failed" and known.state != "failed":
            report = replace(known, state=state, error=why)
        if known is None and error is not None and error.reason == "rows.lost":
            report = replace(report, losses=unsaid(error))
        found.migrations.append(report)


def _take_line(
    found: _Found, measured: dict[tuple[str, str], MigrationReport], what: dict[str, Any]
) -> None:
    found.measure_seconds = float(what["measure_seconds"])
    if "committed" in what:
        found.journal = max(found.journal, *map(int, what["committed"].values()))
    else:
        report = migration_from(what["migration"])
        measured[report.version, report.name] = report
        found.journal = max(found.journal, report.journal_peak_bytes, report.wal_peak_bytes)


# --- the report ---------------------------------------------------------------------


def _about_a_rehearsal(error: MigratorError) -> MigratorError:
    """Make an error of the copy's run one of the rehearsal: the database is untouched."""
    ran = isinstance(error, MigrationFailedError) or bool(error.began)
    error.data.pop("backup", None)
    error.began, error.applied = None, 0
    if error.exit_code != MigratorError.exit_code:
        interrupted = isinstance(error, InterruptedRunError)
        error.outcome = "rehearsed" if ran and not interrupted else "refused"
    return error


def _report(parent: Parent, found: _Found, error: MigratorError | None) -> Rehearsal:
    status = found.status
    return Rehearsal(
        format=FORMAT,
        program=__version__,
        run_id=parent.run_id,
        database=str(parent.layout.database),
        began_at=found.began_at,
        exit_code=0 if error is None else error.exit_code,
        error=None if error is None else error.message,
        reason=None if error is None else error.reason,
        hint=None if error is None else error.hint,
        way=found.way,
        pending=len(status.pending) if status is not None else 0,
        migrations=tuple(found.migrations),
        bytes_before=status.sight.bytes if status is not None else 0,
        bytes_after=found.bytes_after,
        copy_seconds=found.copy_seconds,
        measure_seconds=round(found.measure_seconds, 3),
        comparison=found.comparison,
        expected=_expected(parent, found),
        kept=found.kept,
    )


def _expected(parent: Parent, found: _Found) -> Expected | None:
    """Say what the real start will take, where anything is pending."""
    if found.status is None or found.way is None:
        return None
    layout, size = parent.layout, found.status.sight.bytes
    needed = 0
    if found.status.sight.exists:
        needed = space.space_needed(layout, size, found.way)
    try:
        there = space.free(layout.database.parent)
    except OSError as error:
        raise as_bug(error, " when the free space was asked for") from error
    peak = None
    if found.bytes_after is not None:
        copies = size + (found.bytes_after if found.way == "copy" else 0)
        peak = copies + found.journal + max(0, found.bytes_after - size)
    seconds = None
    if found.run_seconds is not None:
        seconds = round(max(0.0, found.run_seconds - found.measure_seconds), 3)
    return Expected(seconds, needed, peak, there, there >= max(needed, peak or 0))
