"""
Read the database's file without SQLite.

Closing a descriptor of the file drops every POSIX lock that this process has
on it, so a `LiveFile` is opened before SQLite opens the database in this
process, and closed after SQLite has closed it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from migrator.database.pages import content_size, same_pages
from migrator.files import open_regular, sidecars

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self


@dataclass(slots=True)
class LiveFile:
    """A descriptor of the live database, open for reading."""

    path: Path
    descriptor: int

    @classmethod
    def open(cls, path: Path) -> LiveFile:
        """
        Open the database's file; only where SQLite does not have it open in this process.

        Raises:
            OSError: It is missing, may not be read, or is not a regular file.
        """
        return cls(path, open_regular(path))

    def close(self) -> None:
        """Close it; only after SQLite has closed the database in this process."""
        if self.descriptor >= 0:
            with suppress(OSError):  # a migration may have closed it
                os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def is_in_place(self) -> bool:
        """Tell whether it still is the file at the database's path."""
        with suppress(OSError):
            return os.path.samestat(os.lstat(self.path), os.fstat(self.descriptor))
        return False

    @property
    def size(self) -> int:
        """How many bytes of the file belong to the database."""
        return content_size(self.descriptor)

    def same_as(self, other: Path) -> bool:
        """
        Tell whether another file holds the same database.

        The answer holds only while no other process can write to the live file, and in WAL mode
        after a `TRUNCATE` checkpoint.

        Raises:
            OSError: One of the two cannot be read.
        """
        descriptor = open_regular(other)
        try:
            return same_pages(self.descriptor, descriptor)
        finally:
            os.close(descriptor)

    def lease_free(self) -> bool | None:
        """
        Tell whether no other process on this kernel has the file open, not even idle.

        Returns:
            True: no other process. False: one has it. None: unknown, as the file belongs to
            another user or the file system has no leases.
        """
        if not hasattr(fcntl, "F_SETLEASE"):
            return None
        if threading.current_thread() is not threading.main_thread():
            return None
        with _without_sigio():
            # The kernel grants a write lease only on the sole descriptor of a file, those of
            # this process included (fcntl(2), "Leases").
            return self._lease()

    def _lease(self) -> bool | None:
        try:
            fcntl.fcntl(self.descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as error:
            return False if error.errno == errno.EAGAIN else None
        fcntl.fcntl(self.descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return True


@contextmanager
def _without_sigio() -> Iterator[None]:
    """Ignore the signal for another process opening the file; its default action kills."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGIO, before if before is not None else signal.SIG_DFL)


def who_has_open(path: Path) -> list[tuple[int, str]]:
    """
    List the visible processes that have the database or a sidecar open.

    Those of other users, and those outside the container, are not visible.

    Returns:
        Process id and name of the program, in order of the ids.
    """
    wanted = {found for name in (path, *sidecars(path)) if (found := _identity(name))}
    own = os.getpid()
    pids = sorted(int(name) for name in _names(Path("/proc")) if name.isdigit())
    return [(pid, _name(pid)) for pid in pids if pid != own and _has_open(pid, wanted)]


def _has_open(pid: int, wanted: set[tuple[int, int]]) -> bool:
    directory = Path(f"/proc/{pid}/fd")
    return any(_identity(directory / name) in wanted for name in _names(directory))


def _identity(path: Path) -> tuple[int, int] | None:
    # stat() of an entry below /proc is that of the open file, in any mount namespace.
    with suppress(OSError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


def _names(directory: Path) -> list[str]:
    with suppress(OSError):
        return os.listdir(directory)
    return []


def _name(pid: int) -> str:
    """Return a program's name, not its arguments: these may hold secrets."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    return "?"
