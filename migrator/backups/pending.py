"""A backup while it is unfinished: its place in the order, its files, and their becoming one."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.backups.catalog import highest_counter
from migrator.backups.directory import facts_path, partial_path
from migrator.backups.names import backup_path, reservation
from migrator.backups.retention import try_lock
from migrator.errors import BackupError, MigratorError
from migrator.files import FULL, create_file, fsync_directory, remove, rename, write_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Self

    from migrator.backups.catalog import Backup
    from migrator.database.workspace import Layout
    from migrator.files import Ownership


@dataclass(slots=True)
class PendingBackup:
    """
    A counter and a name of our own in the backup directory, while the backup is unfinished.

    The reservation is the file of the facts under its unfinished name. Its
    maker holds a lock on it, so that a neighbour (a database of the same file
    name may share the directory) can tell a backup under way from litter; until
    the facts are known it says whose it is, the id of the `database`.
    """

    path: Path
    counter: int
    descriptor: int
    database: str

    @classmethod
    def reserve(cls, layout: Layout, ownership: Ownership, database: str) -> Self:
        """
        Take the next counter in the directory, whoever had the ones before.

        Raises:
            OSError: Nothing can be created there.
        """
        counter = highest_counter(layout)
        while True:
            counter += 1
            path = backup_path(layout, counter)
            with suppress(FileExistsError):
                descriptor = create_file(reservation(path), ownership)
                slot = cls(path, counter, descriptor, database)
                try:
                    if slot.is_ours():
                        write_all(descriptor, b'{"id": "%s"}\n' % database.encode("ascii"))
                        return slot
                except BaseException:
                    slot.close()
                    raise
                slot.close()

    def is_ours(self) -> bool:
        """Lock the reservation; false where a neighbour took it for litter, or was first."""
        locked = try_lock(self.descriptor)
        taken = os.path.lexists(self.path) or os.path.lexists(facts_path(self.path))
        return locked and not taken and os.fstat(self.descriptor).st_nlink > 0

    @property
    def partial(self) -> Path:
        """The database while it is unfinished."""
        return partial_path(self.path)

    @property
    def facts(self) -> Path:
        """The facts while they are unfinished."""
        return reservation(self.path)

    def publish(self, backup: Backup) -> None:
        """
        Give both files their names, durably.

        The facts are durable before the database has its name, with the name that
        they have until then, and get theirs last, so that a crash in between is
        finished by `clean`.
        """
        # Longer than what stands there: nothing of that is left behind it.
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        write_all(self.descriptor, bytes(backup.encoded()))
        os.fsync(self.descriptor)
        fsync_directory(self.path.parent)
        rename(self.partial, self.path)
        try:
            rename(self.facts, backup.json_path)
            fsync_directory(self.path.parent)
        except OSError:
            # Without its facts it would be taken for somebody's own copy, and stay for ever;
            # with them, another attempt would make a second backup of the same state.
            remove(self.path)
            remove(backup.json_path)
            raise

    def close(self) -> None:
        """Remove what is unfinished, and let go of the reservation."""
        if os.fstat(self.descriptor).st_nlink > 0:
            remove(self.partial)
            remove(self.facts)
        os.close(self.descriptor)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says of the backup directory into `BackupError`."""
    try:
        yield
    except OSError as error:
        raise cannot_write(error.errno, path) from error
    except MigratorError as error:
        if error.reason != "volume.unsafe_entry":
            raise
        raise BackupError(error.message, hint=error.hint, reason="backup.permission") from error


def cannot_write(number: int | None, path: Path, what: str = "backup") -> BackupError:
    """Say why a file in the backup directory cannot be written, from the system's number."""
    said = os.strerror(number) if number else "unknown error"
    msg = f"The {what} {str(path)!r} cannot be written: {said}."
    if number in FULL:
        return BackupError(msg, hint=_ROOM, reason="backup.no_space")
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        directory = path if os.path.isdir(path) else path.parent
        hint = (
            f"Let user {os.geteuid()} write to {str(directory)!r}, "
            "or name another directory with --backup-dir."
        )
        return BackupError(msg, hint=hint, reason="backup.permission")
    if number == errno.ENOTDIR:
        hint = "A part of that path is no directory: name another one with --backup-dir."
        return BackupError(msg, hint=hint)
    return BackupError(msg, hint="Look at the disk of the backup directory (dmesg).")


_ROOM = (
    "Enlarge the volume, delete what is not needed there, "
    "or put the backups on another one with --backup-dir."
)
