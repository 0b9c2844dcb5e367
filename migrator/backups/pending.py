"""An unfinished backup: reserve its name, write its files, publish them."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.backups.catalog import highest_counter
from migrator.backups.directory import facts_path, partial_path
from migrator.backups.names import backup_path, reservation
from migrator.backups.retention import lock_if_free
from migrator.errors import BackupError, MigratorError
from migrator.files import FULL, create_file, fsync_directory, remove, rename, write_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Self

    from migrator.backups.backup import Backup
    from migrator.database.workspace import Layout
    from migrator.files import Ownership


@dataclass(slots=True)
class PendingBackup:
    """
    A reserved counter and name in the backup directory, while the backup is unfinished.

    The reservation is the file of the facts under its unfinished name. Its maker holds a
    lock on it, so that another database with the same file name, sharing the directory, can
    tell a running backup from leftovers. Until the facts are known it holds the id of the
    `database`.
    """

    path: Path
    counter: int
    descriptor: int
    database: str

    @classmethod
    def reserve(cls, layout: Layout, ownership: Ownership, database: str) -> Self:
        """
        Take the next counter in the directory, counting all databases.

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
        """Lock the reservation; false if another database removed it as leftover, or was first."""
        locked = lock_if_free(self.descriptor)
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
        """Give both files their names, durably."""
        # Longer than the reservation, so that nothing of it stays behind.
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        write_all(self.descriptor, bytes(backup.encoded()))
        # The facts are durable, under their unfinished name, before the database gets its name,
        # and get their own name last: `remove_unfinished` finishes what a crash cuts off.
        os.fsync(self.descriptor)
        fsync_directory(self.path.parent)
        rename(self.partial, self.path)
        try:
            rename(self.facts, backup.json_path)
            fsync_directory(self.path.parent)
        except OSError:
            # Without its facts it would look like somebody's own copy, and stay for ever;
            # with them, another attempt would make a second backup of the same state.
            remove(self.path)
            remove(backup.json_path)
            raise

    def close(self) -> None:
        """Remove what is unfinished, and release the reservation."""
        if os.fstat(self.descriptor).st_nlink > 0:
            remove(self.partial)
            remove(self.facts)
        os.close(self.descriptor)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn system errors of the backup directory into `BackupError`."""
    try:
        yield
    except OSError as error:
        raise cannot_write(error.errno, path) from error
    except MigratorError as error:
        if error.reason != "volume.unsafe_entry":
            raise
        raise BackupError(error.message, hint=error.hint, reason="backup.permission") from error


def cannot_write(number: int | None, path: Path, what: str = "backup") -> BackupError:
    """Return the error for a failed write in the backup directory, by its errno."""
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
        hint = "A part of that path is not a directory: name another one with --backup-dir."
        return BackupError(msg, hint=hint)
    return BackupError(msg, hint="Look at the disk of the backup directory (dmesg).")


_ROOM = (
    "Enlarge the volume, delete what is not needed there, "
    "or put the backups on another one with --backup-dir."
)
