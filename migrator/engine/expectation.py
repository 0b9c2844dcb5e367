"""
What a run is to make of the database, and whether the database confirms it.

The parent process plans it under the lock, before the worker begins; what the worker
then reports is a claim, and this is what it is checked against.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migrator import app_version
from migrator.backups.backup import Backup
from migrator.backups.catalog import known_backups
from migrator.database import started
from migrator.database.raw_file import LiveFile
from migrator.engine.parent import READABLE
from migrator.errors import DamagedError, MigratorError, MisfitError
from migrator.inspect.database import DatabaseView, inspect_database
from migrator.model import Applied, Outcome
from migrator.wait import wait_until_ready

if TYPE_CHECKING:
    from migrator.engine.parent import Parent


@dataclass(slots=True)
class Expectation:
    """
    Nothing in particular: nothing of what was done shows in the database.

    Args:
        host: The run's parent process.
        changed: The migrations, or the backup, that the run was for, as people call them.
    """

    parent: Parent
    changed: tuple[str, ...] = ()

    def lacking(self, claim: Outcome | None) -> str | None:
        """
        Look at the database, and say what of the aim it does not hold.

        Where nothing can be asked of it, a report is all that there is.

        Args:
            claim: What a credible worker reported, or None.

        Returns:
            A clause for people, None where the database confirms all.

        Raises:
            NotReadyError: Somebody's lock kept readers out until the end of the budget.
        """
        return None if claim is not None else "nobody has reported that it is done"

    def outcome(self, claim: Outcome | None) -> Outcome:
        """Return the outcome of a run that the database has confirmed."""
        del claim
        return Outcome("migrated" if self.changed else "up_to_date", self.changed)

    def sight(self) -> DatabaseView:
        """Look at the database, waiting within the budget while it is locked for readers."""
        from migrator.exclusive import STOP_IT

        parent = self.parent

        def look() -> DatabaseView:
            table = parent.settings.history_table
            return inspect_database(parent.layout, parent.source, table)

        return wait_until_ready(
            lambda: parent.when_free(look, STOP_IT),
            parent.deadline,
            parent.emit,
            ready=READABLE,
            level=None,
        )


@dataclass(slots=True)
class HistoryRows(Expectation):
    """
    What the history is to hold, and what not.

    Args:
        there: The migrations that are to be in it, by key, as people call them.
        gone: Those that are not.
        may_lack: Whether there need be no database: it is the application's to create.
        existed: Whether there was one before.
        before: What was in it before, by key, where its rows do not name the run that added them.
    """

    there: Mapping[Any, str] = field(default_factory=dict)
    gone: Mapping[Any, str] = field(default_factory=dict)
    may_lack: bool = False
    existed: bool = True
    before: frozenset[Any] | None = None
    _exists: bool = True

    def lacking(self, claim: Outcome | None) -> str | None:
        """Say which row the history lacks, or has still; what this run has added is kept."""
        try:
            sight = self.sight()
        except (DamagedError, MisfitError) as error:
            return error.message.rstrip(".")
        self._exists = sight.exists
        if not sight.exists:
            return None if self.may_lack else "it does not exist"
        if sight.needs_recovery is not None:
            return f"it cannot be read, because {sight.needs_recovery}"
        rows = sight.history or ()
        keys = {row.key for row in rows}
        missing = [name for key, name in self.there.items() if key not in keys]
        left = [name for key, name in self.gone.items() if key in keys]
        if not self.gone:
            self.changed = tuple(row.identity for row in rows if self._is_new(row))
        if missing:
            return f"its history lacks {', '.join(missing[:5])}"
        if left:
            return f"its history still has {', '.join(left[:5])}"
        return None if claim is None else self._other_file(claim)

    def _is_new(self, row: Applied) -> bool:
        if self.before is None:
            return row.run_id == self.parent.run_id
        return row.key in self.there and row.key not in self.before

    def _other_file(self, claim: Outcome) -> str | None:
        """Say so if the file there is not the one that the worker verified."""
        if claim.file is None:
            return None
        with contextlib.suppress(OSError):
            found = os.stat(self.parent.layout.database)
            if claim.file == (found.st_dev, found.st_ino):
                return None
        return "the file there is not the one that was verified"

    def outcome(self, claim: Outcome | None) -> Outcome:
        """Return what the database says that the run has done."""
        if not self._exists:
            return Outcome("no_database")
        if self.existed or not self.changed:
            return Expectation.outcome(self, claim)
        return Outcome("created", self.changed)


@dataclass(slots=True)
class BackupPages(Expectation):
    """
    A backup's pages, in the database.

    Args:
        chosen: The backup, or None.
        before: What the database's file was known by before the run.
    """

    chosen: Backup | None = None
    before: tuple[int, ...] | None = None

    def lacking(self, claim: Outcome | None) -> str | None:
        """
        Say whether the pages are others.

        Somebody may have written to the database since it was released. Then it is
        another file than before, and its history is the backup's.
        """
        if self.chosen is None:
            return "no such backup is there"
        database = self.parent.layout.database
        try:
            with LiveFile.open(database) as file:
                same = file.same_as(self.chosen.path)
        except OSError as error:
            return f"it cannot be compared with the backup: {error.strerror or error}"
        if same or (claim is not None and self._was_written_to(self.chosen)):
            return None
        return f"it does not hold the pages of {self.chosen.name}"

    def _was_written_to(self, chosen: Backup) -> bool:
        if stamp(self.parent.layout.database) in (None, self.before):
            return False
        with contextlib.suppress(MigratorError):
            rows = self.sight().history
            # The backup's applied are noted with the backup, whatever their kind.
            wanted = [(row.version, row.name) for row in chosen.applied]
            return rows is not None and sorted(map(str, wanted)) == sorted(
                str((row.version, row.name)) for row in rows
            )
        return False

    def outcome(self, claim: Outcome | None) -> Outcome:
        """Return the backup's name, unless the database was that already, and the other one's."""
        if claim is not None and claim.kind == "up_to_date":
            return claim
        saved = None if claim is None else claim.backup
        paths = {str(each.path) for each in known_backups(self.parent.layout)}
        return Outcome("migrated", self.changed, backup=saved if saved in paths else None)


@dataclass(slots=True)
class BackupMade(Expectation):
    """A backup that the worker has made, or found."""

    def lacking(self, claim: Outcome | None) -> str | None:
        """Say whether the backup that was reported is not there, or not whole."""
        if claim is None:
            return "nobody has reported that it is done"
        for each in known_backups(self.parent.layout):
            if claim.changed == (each.name,) and each.intact:
                self.changed = (each.name,)
                return None
        return "the backup that was reported is not there"

    def outcome(self, claim: Outcome | None) -> Outcome:
        """Return the backup's name; no migration was applied."""
        del claim
        return Outcome("backed_up", self.changed)


@dataclass(slots=True)
class ReadyToStart(BackupMade):
    """A backup of the state, or no database; and the version noted that is about to be started."""

    def lacking(self, claim: Outcome | None) -> str | None:
        """Say what of it is not there."""
        layout, version = self.parent.layout, self.parent.settings.app_version
        if claim is None or claim.kind not in _BEFORE_A_START:
            return "nobody has reported that it is done"
        if version is not None and not app_version.same(started.read(layout), version):
            return f"the start of version {version!r} is not noted"
        exists = os.path.lexists(layout.database)
        if exists is (claim.kind == "no_database"):
            return "whether there is a database has changed"
        # A version that has been started before needs no other backup.
        if not exists or (version is not None and not claim.changed):
            return None
        return BackupMade.lacking(self, claim)

    def outcome(self, claim: Outcome | None) -> Outcome:
        """Return what came of it; no migration was applied."""
        kind = "backed_up" if claim is None else claim.kind
        return Outcome(kind, self.changed if kind == "backed_up" else ())


_BEFORE_A_START = ("backed_up", "up_to_date", "no_database")


@dataclass(slots=True)
class Commanded(Expectation):
    """
    What another tool's command made of the database, which only the tool can tell.

    No code of others has run in the worker itself, so its report is its own; the pages
    that were published it has read back. Without a report the pages tell: a run that has
    not committed leaves those of the newest backup.

    Args:
        existed: Whether there was a database before.
    """

    existed: bool = True

    def lacking(self, claim: Outcome | None) -> str | None:
        """Say so where the database cannot be read after all, or holds what it held before."""
        sight = self.sight()
        if not sight.exists:
            return "it does not exist"
        if sight.needs_recovery is not None:
            return f"it cannot be read, because {sight.needs_recovery}"
        if claim is None and self.existed and self._is_as_saved():
            return "it holds what it held before"
        return None

    def _is_as_saved(self) -> bool:
        """Tell whether the pages are those of the newest backup; True without a backup."""
        newest = known_backups(self.parent.layout)[:1]
        with contextlib.suppress(OSError), LiveFile.open(self.parent.layout.database) as file:
            return not newest or file.same_as(newest[0].path)
        return True

    def outcome(self, claim: Outcome | None) -> Outcome:
        """Return what was reported, or what the pages say."""
        if claim is not None:
            return claim
        names = tuple(entry.identity for entry in self.parent.source.entries())
        return Outcome("migrated" if self.existed else "created", names)


def upgraded(parent: Parent) -> Expectation:
    """Expect of an upgrade that all migrations are in the history."""
    source = parent.source
    if not source.has_history:
        return Commanded(parent, existed=os.path.lexists(parent.layout.database))
    existed = os.path.lexists(parent.layout.database)
    before = _before(parent)  # a look, by which the source knows whose migrations these are
    return HistoryRows(
        parent,
        there={entry.key: entry.label for entry in source.entries()},
        may_lack=source.needs_database and not existed,
        existed=existed,
        before=before,
    )


def _before(parent: Parent) -> frozenset[Any] | None:
    """Return the keys in a history of another tool, whose rows name no run; of ours None."""
    if parent.source.format.notes_runs:
        return None
    with contextlib.suppress(MigratorError):
        rows = inspect_database(parent.layout, parent.source, parent.settings.history_table).history
        return frozenset(row.key for row in rows or ())
    return frozenset()


def undone(parent: Parent, to: str | None, steps: int | None) -> Expectation:
    """Expect of a `down`, after recovery, that the last rows are gone and the others are left."""
    from migrator.prepare import rows_to_undo

    rows = Expectation(parent).sight().history or ()
    try:
        gone = rows_to_undo(parent.context(parent.source, parent.emit), rows, to, steps)
    except MigratorError:
        # The worker refuses it; if not, the history must stay as it is.
        gone = []
    keys = {row.key for row in gone}
    return HistoryRows(
        parent,
        tuple(row.identity for row in gone),
        there={row.key: row.identity for row in rows if row.key not in keys},
        gone={row.key: row.identity for row in gone},
    )


def noted(parent: Parent, version: str) -> Expectation:
    """Expect of a `baseline`, after recovery, that all up to a version are in the history."""
    key = parent.source.format.key(version)
    entries = parent.source.entries()
    at = next((at for at, entry in enumerate(entries) if entry.key == key), None)
    there = {row.key: row.identity for row in Expectation(parent).sight().history or ()}
    before = None if parent.source.format.notes_runs else frozenset(there)
    there |= {entry.key: entry.label for entry in entries[: None if at is None else at + 1]}
    return HistoryRows(parent, there=there if at is not None else {key: version}, before=before)


def restored(
    parent: Parent, wanted: str | None, before: str | None, before_app: str | None = None
) -> Expectation:
    """Expect of a `restore` that the database is the backup which is chosen now."""
    from migrator.change.restore import choose

    found = None
    with contextlib.suppress(MigratorError):
        found = choose(parent.context(parent.source, parent.emit), wanted, before, before_app)
    names = () if found is None else (found.name,)
    return BackupPages(parent, names, found, stamp(parent.layout.database))


def backed_up(parent: Parent) -> Expectation:
    """Expect of a `backup` that the one which the worker names exists."""
    return BackupMade(parent)


def ready_to_start(parent: Parent) -> Expectation:
    """Expect what has to be true before an application that migrates itself may start."""
    return ReadyToStart(parent)


def stamp(path: Path) -> tuple[int, ...] | None:
    """Return a file's identity with its size and times, which a write changes; None if missing."""
    with contextlib.suppress(OSError):
        found = os.stat(path)
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
    return None
