"""Test that file locks work on a volume, on the run's lock file, never on the database."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from migrator.errors import NotReadyError
from migrator.file_errors import refusal
from migrator.process.descriptors import try_flock

_PENDING_BYTE = 0x40000000
"""Where SQLite takes its locks; a lock may lie beyond the end of the empty file."""

_HELD = (errno.EAGAIN, errno.EACCES)
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def lock_self_test(lock_file: Path) -> None:
    """
    Prove that both kinds of lock exclude others.

    Call it with the lock held: otherwise another process may take the test for a run.
    The file must exist; it stays empty.

    Raises:
        NotReadyError: They do not.
    """
    try:
        first = os.open(lock_file, _FLAGS)
    except OSError as error:
        raise refusal(error, lock_file, "opening the lock") from error
    try:
        second = os.open(lock_file, _FLAGS)
        try:
            works = _flock_works(first, second) and _fcntl_works(first)
        finally:
            os.close(second)
    except OSError as error:
        raise no_locks(lock_file, error.strerror or str(error)) from error
    finally:
        os.close(first)
    if not works:
        raise no_locks(lock_file, "a lock did not keep another process out")


def no_locks(database: Path, why: str) -> NotReadyError:
    """Return the error for a volume on which locks do not work."""
    msg = (
        f"File locks do not work where {str(database)!r} lies ({why}):"
        " two processes would damage the database."
    )
    hint = (
        "Keep the database on a local file system or a block volume, or mount the share with"
        " locks (NFS without `nolock` and `local_lock`, SMB without `nobrl`)."
    )
    return NotReadyError(msg, hint=hint, reason="volume.no_locks", retryable=False)


def _flock_works(first: int, second: int) -> bool:
    """Tell whether two descriptors of one file exclude each other."""
    if not try_flock(first):
        # This program holds it already, so the lock has just excluded this attempt.
        return True
    try:
        return not try_flock(second)
    finally:
        fcntl.flock(first, fcntl.LOCK_UN)


def _fcntl_works(descriptor: int) -> bool:
    """Tell whether another process sees a record lock of this one."""
    if not _record_lock(descriptor):
        # On NFS a flock is a record lock of the whole file: seen, so it works.
        return True
    child = os.fork()
    if child == 0:
        os._exit(_child(descriptor))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _child(descriptor: int) -> int:
    try:
        return 1 if _record_lock(descriptor) else 0
    except BaseException:  # noqa: BLE001 - nothing may leave this child but its exit code
        return 2


def _record_lock(descriptor: int) -> bool:
    """Take SQLite's pending byte for writing, unless another process has it."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _PENDING_BYTE)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True
