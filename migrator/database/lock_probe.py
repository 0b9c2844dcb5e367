"""Probe whether the run's lock is held, as every start does."""

from __future__ import annotations

import errno
import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

LOCK_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def probe(path: Path) -> bool:
    """
    Tell whether the lock is held, without creating or waiting for anything.

    A missing file, or one that may not be opened, counts as not held.
    """
    descriptor = _open_existing(path)
    if descriptor is None:
        return False
    try:
        # Shared, so that two looks at once do not take each other for a run.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    finally:
        os.close(descriptor)
    return False


def _open_existing(path: Path) -> int | None:
    # On NFS `flock` becomes a record lock, which needs a writable descriptor.
    for mode in (os.O_RDWR, os.O_RDONLY):
        try:
            descriptor = os.open(path, mode | LOCK_FLAGS)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                continue
            return None
        return descriptor
    return None
