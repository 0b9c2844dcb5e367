"""
What is true of a database and its migrations right now, found by looking only.

Every start asks this first, and `status`, `plan` and `check` answer with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from functools import partial

from migrator import plan
from migrator.database.workspace import Layout
from migrator.errors import (
    DiskError,
    MigratorError,
    MisfitError,
    NoPermissionError,
    NotReadyError,
    UsageError,
)
from migrator.formats.source import Source
from migrator.inspect.database import DatabaseView, inspect_database
from migrator.inspect.location import check_not_lost, translated_errors_at_once
from migrator.log.hints import command
from migrator.model import Applied, Conflict, Emit, Entry, Settings
from migrator.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.backups.backup import Backup


class DatabaseStatus(Value):
    """What a look at both sides found: the database's, and the migrations'."""

    sight: DatabaseView
    entries: tuple[Entry, ...]
    pending: tuple[Entry, ...]
    problems: tuple[Conflict, ...]
    left_alone: bool = False
    """Whether the database does not exist and is the application's to create."""
    source: Source | None = None
    """The migrations themselves, None where they cannot be read."""

    @property
    def up_to_date(self) -> bool:
        """Whether nothing is pending, and no earlier run has to be recovered."""
        return not (self.pending or self.unsettled) or (
            self.left_alone and self.sight.unfinished is None and not self.sight.running
        )

    @property
    def unsettled(self) -> bool:
        """Whether another run is under way, or an earlier one has left something."""
        sight = self.sight
        return bool(sight.running or sight.unfinished or sight.needs_recovery)

    @property
    def format(self) -> str | None:
        """Whose migrations they are, as `--format` says it; None where they cannot be read."""
        return None if self.source is None else self.source.format.name

    @property
    def applied(self) -> tuple[Applied, ...]:
        """The history, empty where it could not be read."""
        return self.sight.history or ()


def inspect_status(settings: Settings, layout: Layout, source: Source) -> DatabaseStatus:
    """
    Look at the database and at the names of the migrations.

    Raises:
        MisfitError: The names are no set of migrations, or the history's table
            belongs to somebody else.
        DamagedError: The file is not an SQLite database.
        NotReadyError: It cannot be read at the moment.
    """
    # A fault of the names comes before one of the database, wherever they can be told first.
    entries = () if source.undecided else source.entries()
    try:
        sight = inspect_database(layout, source, settings.history_table)
    except UsageError:
        raise
    except MigratorError:
        if source.undecided:
            source.entries()
        raise
    if source.undecided:
        entries = source.entries()
    matched = plan.compare(entries, sight.history or (), source.format)
    return DatabaseStatus(
        sight,
        entries,
        matched.pending,
        matched.problems,
        left_alone=source.needs_database and not sight.exists,
        source=source,
    )


def changed(found: DatabaseStatus) -> tuple[Conflict, ...]:
    """
    Return the applied migrations whose text is not the one that was applied.

    Raises:
        MisfitError: One of them cannot be read any more.
    """
    if found.source is None or not found.source.format.has_checksums:
        return ()
    applied = {row.key for row in found.applied}
    read = found.source.scripts([entry for entry in found.entries if entry.key in applied])
    return plan.changed(read, found.applied)


def _all_misfits(settings: Settings, found: DatabaseStatus) -> tuple[Conflict, ...]:
    """
    Return the misfits that are known, with the changed texts where the others refuse already.

    The first kind of several decides and all are listed, but a start that is
    not refused for another reason compares texts later, once it has the lock.
    """
    refused = any(problem.kind not in settings.accept for problem in found.problems)
    if not (found.pending and refused) or "changed" in settings.accept:
        return found.problems
    with contextlib.suppress(MisfitError):
        return (*found.problems, *changed(found))
    return found.problems


def refuse_or_warn(settings: Settings, layout: Layout, found: DatabaseStatus, emit: Emit) -> None:
    """
    Refuse what may not be started, and warn about what may.

    Raises:
        MisfitError: Files and history do not fit, or the history is another tool's.
        NotReadyError: The database does not exist and may not be created, or was lost; or its
            name is one with which it could not be backed up, now or before the next upgrade.
    """
    if found.sight.unfinished is None:
        refuse_lost(settings, layout, found)
    if found.pending and not found.left_alone:
        from migrator.backups.names import refuse_long_name

        refuse_long_name(layout)
    misfits, pending = _all_misfits(settings, found), bool(found.pending)
    problems = refuse_misfits(settings, layout, found, misfits, something_pending=pending)
    if found.pending and found.sight.foreign is not None:
        foreign = found.sight.foreign
        if "foreign" not in settings.accept:
            baseline = partial(command, settings, "baseline")
            plan.refuse_foreign(foreign, found.entries, baseline, found.format)
        told = plan.told_foreign(foreign)
        problems = (*problems, Conflict("foreign", foreign.version or "", told))
    warn_of(problems, emit)


def refuse_misfits(
    settings: Settings,
    layout: Layout,
    found: DatabaseStatus,
    problems: Collection[Conflict],
    *,
    something_pending: bool = True,
) -> tuple[Conflict, ...]:
    """
    Refuse misfits that are not accepted, and return those to warn about.

    Raises:
        MisfitError: One of them forbids a start.
    """
    return plan.refuse_conflicts(
        problems,
        settings.accept,
        something_pending=something_pending,
        newer_hint=lambda: way_back(settings, layout, found),
    )


def warn_of(problems: Iterable[Conflict], emit: Emit) -> None:
    """Log accepted conflicts, those with the same sentence in one line."""
    said: set[str] = set()
    for each in problems:
        if each.message in said:
            continue
        said.add(each.message)
        facts = {"kind": each.kind, "version": each.version or None}
        emit("history.misfit", each.message, level="warning", **facts)


def refuse_lost(settings: Settings, layout: Layout, found: DatabaseStatus) -> None:
    """
    Raise where a start would wait for a database: it is missing or empty, and no first install.

    Raises:
        NotReadyError: `--create never`, or its journal or its backups are there without it.
    """
    if not found.sight.exists:
        refuse_missing(settings, layout)
    with translated_errors_at_once(layout.database.parent):
        check_not_lost(layout.database, layout.backup_dir, settings.create)


def refuse_missing(settings: Settings, layout: Layout) -> None:
    """
    Raise where a database does not exist and may not be created.

    Raises:
        NotReadyError: `--create never`.
    """
    if settings.create != "never":
        return
    message = f"There is no database at {str(layout.database)!r}, and `--create` is 'never'."
    hint = (
        "Mount the volume that has it, or start with `--create auto` (MIGRATOR_CREATE=auto)"
        " for a first install."
    )
    raise NotReadyError(message, hint=hint, reason="database.missing")


def missing(layout: Layout) -> NotReadyError:
    """Return the error of a command that needs a database."""
    message = f"There is no database at {str(layout.database)!r}."
    hint = "Check `--database` (MIGRATOR_DATABASE) and whether its volume is mounted."
    return NotReadyError(message, hint=hint, reason="database.missing", retryable=False)


def way_back(settings: Settings, layout: Layout, found: DatabaseStatus) -> str:
    """
    Name the ways out of a database that is newer, as commands.

    The newer image's `down` keeps what was written since; the newest backup that holds
    nothing but what is known here does not. Where nothing is known here, the migrations are
    missing, and not the image's age is at fault.
    """
    from migrator.backups.catalog import list_backups
    from migrator.backups.owner import by_trust

    entries = found.entries
    if not entries:
        where = f" in {settings.migrations!r}" if settings.migrations else ""
        return (
            f"There are no migrations{where}: mount or copy them there, or name where they are"
            " with --migrations (MIGRATOR_MIGRATIONS)."
        )

    known = {(entry.version, entry.name) for entry in entries}
    names = {entry.name for entry in entries if entry.key == entry.name}
    backups: list[Backup] = []
    with contextlib.suppress(DiskError, NoPermissionError, NotReadyError):
        backups = by_trust(layout, list_backups(layout))
    keys = {entry.key for entry in entries}
    last = [row.identity for row in found.applied if row.key in keys][-1:]
    undo = command(settings, "down", "--to", *last)
    kept = ""
    if last and (found.source is None or found.source.format.goes_back):
        kept = (
            f" In the newer image `{undo}` leads back too, and keeps what was written since,"
            " but for what it removes itself."
        )
    for backup in backups:
        rows = backup.applied
        if all((row.version, row.name) in known or row.name in names for row in rows):
            line = command(settings, "restore", backup.name)
            return (
                f"Start an image that has these migrations, or go back with `{line}`"
                f" (what was written since that backup is lost).{kept}"
            )
    return (
        f"Start an image that has these migrations; no backup here leads back to this image.{kept}"
    )


def say_plan(emit: Emit, found: DatabaseStatus, way: str | None) -> None:
    """Send `plan.ready`, as a warning if there are no migrations at all: a mount may be missing."""
    for file, why in () if found.source is None else found.source.ignored():
        message = f"{file} looks like a migration and is not run: {why}."
        emit("migrations.ignored", message, level="warning", file=file)
    how = f"; the way is {way}" if way else ""
    pending = f"Pending migrations: {len(found.pending)}"
    # A command is not listed either where it has said that it has nothing to do.
    none = not found.entries and (found.source is None or found.source.has_history)
    if none:
        pending = "There are no migrations, so none is pending"
    emit(
        "plan.ready",
        f"{pending}; applied: {len(found.applied)}{how}.",
        level="warning" if none else "info",
        pending=len(found.pending),
        applied=len(found.applied),
        way=way,
        format=found.format,
    )
