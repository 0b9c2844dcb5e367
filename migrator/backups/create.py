"""
Make backups: copy, make durable, check, then give them their names.

`migrator.backups.catalog` reads them, `migrator.backups.retention` removes them.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from migrator._version import __version__
from migrator.backups.backup import Backup, Facts
from migrator.backups.catalog import known_backups, verify_backup
from migrator.backups.owner import relative_path
from migrator.backups.pending import PendingBackup, cannot_write, writing
from migrator.backups.retention import drop_oldest
from migrator.backups.reuse import identified, reuse
from migrator.database import started
from migrator.database.file_copy import UnequalError, UnreadableError, copied_file
from migrator.database.pages import (
    UncheckableError,
    check_structure,
    content_size,
    copy_pages,
    digest_file,
    same_pages,
)
from migrator.database.volume import place_of
from migrator.database.workspace import like_database, make_backup_dir
from migrator.errors import BackupError, DamagedError, MigratorError
from migrator.files import open_regular
from migrator.log.translate import of_sqlite, of_system
from migrator.sqlite import primary_code

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path
    from typing import Any

    from migrator.database.raw_file import LiveFile
    from migrator.database.workspace import Layout
    from migrator.files import Ownership
    from migrator.model import Emit


_EVERY: Final = 1.0
_READ_ERRORS = (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ)


MANUAL = "manual"
"""The reason of a backup that a person, or a timer, has asked for."""


def make(
    source: sqlite3.Connection,
    layout: Layout,
    facts: Facts,
    emit: Emit,
    *,
    live: LiveFile | None = None,
    structural: str = "quick",
    dedupe: bool = False,
    protect: Collection[str] = (),
) -> Backup:
    """
    Make a finished backup: complete, checked, fsynced, with its checksum noted.

    If the disk or a quota is full, delete the oldest backups first, down to the last good
    one. After any failure nothing unfinished stays.

    Args:
        source: A connection to the database, with no write transaction open.
        layout: The database's paths.
        facts: What the backup is for.
        emit: Gets `backup.started`, `backup.progress`, `backup.finished`.
        live: The database's file, if all of the database is in it and nobody can write to
            it: then it is copied as a file, and compared.
        structural: `quick` or `full`.
        dedupe: Whether to return, after copying, an older backup of the same state
            instead; for callers that cannot use `same_state`, without `live`.
        protect: Names of backups that must not be deleted to free space.

    Raises:
        DamagedError: The database is damaged.
        DiskError: The database cannot be read.
        NotReadyError: The database stayed locked.
        BackupError: The backup cannot be written.
    """
    job = _Job(source, layout, facts, emit, live, structural, dedupe)
    while True:
        try:
            # A quota shows only by a failed write: drop a backup and try again, until it fits.
            return job.run()
        except BackupError as error:
            if error.reason != "backup.no_space" or not drop_oldest(layout, protect, emit):
                raise


@dataclass(frozen=True, slots=True)
class _Job:
    """One attempt, or several, at one backup."""

    source: sqlite3.Connection
    layout: Layout
    facts: Facts
    emit: Emit
    live: LiveFile | None
    structural: str
    dedupe: bool

    def run(self) -> Backup:
        """Make the backup, or find that there is one."""
        with writing(self.layout.backup_dir):
            ownership = like_database(self.layout)
            make_backup_dir(self.layout, ownership)
        own = identified(self.layout)
        with writing(self.layout.backup_dir):
            slot = PendingBackup.reserve(self.layout, ownership, own)
        try:
            return self._fill(slot, ownership)
        except sqlite3.Error as error:
            raise _copy_failed(error, self.layout.database, slot) from error
        except OSError as error:
            raise of_system(error, "while the database was compared with its backup") from error
        finally:
            slot.close()

    def _fill(self, slot: PendingBackup, ownership: Ownership) -> Backup:
        report = _Report(self.emit, slot.path, time.monotonic())
        if self.live is not None:
            found, sha256 = self._copy_file(self.live, slot, ownership, report)
        else:
            if (same := self._copy(slot, ownership, report)) is not None:
                return reuse(self.layout, same, self.facts, self.emit)
            found, sha256 = self._examine(slot), ""
        self._judge(slot, found)
        with writing(slot.path):
            backup = self._describe(slot, sha256 or digest_file(slot.partial))
            slot.publish(backup)
        report.finished(backup)
        return backup

    def _size(self) -> int:
        pages, size = (
            int(self.source.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "page_size")
        )
        return pages * size

    def _candidates(self) -> list[Backup]:
        if not self.dedupe:
            return []
        wanted = (self._size(), self.facts.journal_mode)
        backups = known_backups(self.layout)
        return [each for each in backups if (each.bytes, each.journal_mode) == wanted]

    def _copy(self, slot: PendingBackup, ownership: Ownership, report: _Report) -> Backup | None:
        """Copy through SQLite; returns an older backup of the same state, where one is wanted."""
        candidates = self._candidates()
        # With candidates the copy may be thrown away: say `backup.started` only if it is kept.
        if not candidates:
            report.started(self._size())
        with writing(slot.partial):
            copy_pages(self.source, slot.partial, ownership, report.progress)
        if candidates:
            if (same := _same(slot.partial, candidates)) is not None:
                return same
            report.started(self._size())
        return None

    def _copy_file(
        self, live: LiveFile, slot: PendingBackup, ownership: Ownership, report: _Report
    ) -> tuple[list[str] | UncheckableError, str]:
        """
        Copy the file itself, and check the copy while it is compared with the file.

        Returns:
            What the check found, and the copy's checksum.
        """
        report.started(self._size())
        try:
            with (
                writing(slot.partial),
                copied_file(live.descriptor, slot.partial, ownership, report.progress) as copy,
            ):
                found = self._examine(slot)
        except UnreadableError as error:
            error.cause.filename = str(self.layout.database)
            raise of_system(error.cause, "while it was backed up") from error
        except UnequalError as error:
            raise _miscopied(slot.path) from error
        return found, copy.sha256

    def _examine(self, slot: PendingBackup) -> list[str] | UncheckableError:
        """Check the copy's structure; returns the damage, or what SQLite cannot check."""
        try:
            return check_structure(slot.partial, self.structural)
        except UncheckableError as error:
            return error
        except sqlite3.Error as error:
            raise cannot_write(errno.EIO, slot.path) from error

    def _judge(self, slot: PendingBackup, found: list[str] | UncheckableError) -> None:
        """Refuse to begin with a damaged database."""
        if isinstance(found, UncheckableError):
            self._say_unchecked(slot, str(found))
        elif found:
            msg = f"The database {str(self.layout.database)!r} is damaged: {found[0]}."
            hint = (
                "Nothing was changed. `migrator backups` lists what can be restored; "
                "`sqlite3 FILE .recover` may save what can still be read."
            )
            raise DamagedError(msg, hint=hint, data={"problems": found})

    def _say_unchecked(self, slot: PendingBackup, said: str) -> None:
        proof = "compared with the database byte by byte" if self.live else "checksummed only"
        self.emit(
            "backup.check_incomplete",
            f"SQLite cannot check the structure of the backup ({said}); it was {proof}.",
            level="warning",
            path=str(slot.path),
            error=said,
        )

    def _describe(self, slot: PendingBackup, sha256: str) -> Backup:
        return Backup(
            path=slot.path,
            counter=slot.counter,
            created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            bytes=slot.partial.stat().st_size,
            sha256=sha256,
            version=self.facts.version,
            applied=self.facts.applied,
            reason=self.facts.reason,
            journal_mode=self.facts.journal_mode,
            run_id=self.facts.run_id,
            database=str(self.layout.database),
            relative=relative_path(self.layout),
            program=__version__,
            id=slot.database,
            volume=place_of(self.layout.database.parent),
            app_versions=(self.facts.app_version,) if self.facts.app_version else (),
            from_app_version=self._last_started(),
        )

    def _last_started(self) -> str | None:
        """Return whose state this is; no backup fails because that cannot be read."""
        with suppress(MigratorError):
            return started.read(self.layout)
        return None


@dataclass(slots=True)
class _Report:
    """The events of one backup, at most one a second."""

    emit: Emit
    path: Path
    began: float
    said: float = 0.0

    def started(self, size: int) -> None:
        self._send("backup.started", f"The backup {self.path.name} is being made.", size)

    def progress(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - max(self.said, self.began) < _EVERY:
            return
        self.said = now
        share = 100 * done // total if total else 100
        message = f"The backup is {share} % complete."
        self._send("backup.progress", message, done, total_bytes=total)

    def finished(self, backup: Backup) -> None:
        message = f"The backup {backup.name} was made and checked."
        self._send("backup.finished", message, backup.bytes, name=backup.name)

    def _send(self, event: str, message: str, size: int, **more: Any) -> None:
        seconds = round(time.monotonic() - self.began, 3)
        self.emit(event, message, path=str(self.path), bytes=size, seconds=seconds, **more)


# -- backups of the same state --------------------------------------------------------


def same_state(layout: Layout, live: LiveFile, facts: Facts) -> Backup | None:
    """
    Find a sound backup that holds exactly what the database holds.

    Only while nobody can write to the database, and in WAL mode after a `TRUNCATE`
    checkpoint. The journal mode is part of the state, although a backup is never in WAL
    mode itself: a failed run puts it back.
    """
    backups = [each for each in known_backups(layout) if each.journal_mode == facts.journal_mode]
    with suppress(OSError):
        size = live.size
        for backup in backups:
            # The cheap comparisons first: `verify_backup` reads the file and checks its structure.
            same = backup.bytes == size and live.same_as(backup.path)
            if same and verify_backup(backup) is None:
                return backup
    return None


def _same(partial: Path, candidates: list[Backup]) -> Backup | None:
    for backup in candidates:
        with suppress(OSError):
            if _equal(partial, backup.path) and verify_backup(backup) is None:
                return backup
    return None


def _equal(one: Path, other: Path) -> bool:
    left = open_regular(one)
    try:
        right = open_regular(other)
        try:
            return content_size(left) == content_size(right) and same_pages(left, right)
        finally:
            os.close(right)
    finally:
        os.close(left)


# -- what can go wrong ----------------------------------------------------------------


def _miscopied(path: Path) -> BackupError:
    msg = f"The backup {str(path)!r} does not equal the database that it was copied from."
    return BackupError(msg, hint="Look at the disk of the backup directory (dmesg).")


def _copy_failed(error: sqlite3.Error, database: Path, slot: PendingBackup) -> MigratorError:
    """Tell a failure of the database from one of the backup."""
    code = primary_code(error)
    # Only the backup is written, so a full disk, or an I/O error while writing, is its own.
    if code == sqlite3.SQLITE_FULL:
        return cannot_write(errno.ENOSPC, slot.partial)
    if code == sqlite3.SQLITE_IOERR and error.sqlite_errorcode not in _READ_ERRORS:
        return cannot_write(_why(slot), slot.partial)
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return cannot_write(errno.EACCES, slot.partial)
    return of_sqlite(error, database, "while it was backed up")


def _why(slot: PendingBackup) -> int:
    """Try to write, since SQLite does not report the system's reason for an I/O error (a quota)."""
    try:
        os.pwrite(slot.descriptor, bytes(1 << 16), 0)
        os.fsync(slot.descriptor)
    except OSError as error:
        return error.errno or errno.EIO
    return errno.EIO
