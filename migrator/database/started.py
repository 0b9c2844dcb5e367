"""
Which version of the application was started last: whose state the database is.

It lies in the directory `app.db.migrator/application/`: earlier versions of this program
delete unknown files in `app.db.migrator/`, but no directories. It is written under the
run's lock, before that version is started, and a restore sets it back.
"""

from __future__ import annotations

from migrator.access import read_small
from migrator.database.workspace import make_home
from migrator.files import fsync_directory, make_directory, unlink, write_atomic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.database.workspace import Layout
    from migrator.files import Ownership

_LARGEST = 1 << 16


def read(layout: Layout) -> str | None:
    """
    Read the version that was started last; None where that is unknown.

    Raises:
        NotReadyError: Something other than a regular file is in its place.
        NoPermissionError: It may not be read.
        DiskError: It cannot be read.
    """
    data = read_small(layout.started, _LARGEST, layout.database)
    return None if data is None else _parse(data)


def _parse(data: bytes) -> str | None:
    """Return the version, None for what this program did not write."""
    try:
        line = data.decode().partition("\n")[0]
    except UnicodeDecodeError:
        return None
    return line if line and line.isprintable() else None


def write(layout: Layout, version: str, ownership: Ownership) -> None:
    """
    Note the version that is about to be started, durably; only under the lock.

    Raises:
        OSError: It cannot be written; after a crash it is the old or the new one.
    """
    owner = ownership.private
    make_home(layout, ownership)
    make_directory(layout.started.parent, owner)
    write_atomic(layout.started, f"{version}\n".encode(), owner)


def forget(layout: Layout) -> None:
    """
    Forget it, durably: whose state the database is is not known.

    Raises:
        OSError: The disk failed.
    """
    try:
        unlink(layout.started)
    except (FileNotFoundError, NotADirectoryError):
        return
    fsync_directory(layout.started.parent)


def set_back(layout: Layout, version: str | None, ownership: Ownership) -> None:
    """
    Note whose state a restore has put back.

    Where there is no space for it, it is forgotten instead, which takes none: the next
    start then makes a backup, and takes no version for too old.

    Raises:
        OSError: The disk failed.
    """
    if version is None:
        forget(layout)
        return
    try:
        write(layout, version, ownership)
    except OSError:
        forget(layout)
