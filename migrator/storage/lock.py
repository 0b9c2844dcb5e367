"""
The one lock: `flock` on an empty file beside the database.

It is held by an open file description, which a worker shares by inheritance,
and ends with the last process that has it. Nothing is ever written into the
file, and it is never deleted, since another process may be about to lock it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.errors import InterruptedRunError, LockedError, MigratorError, NotReadyError
from migrator.storage.layout import like_database, make_home
from migrator.system.files import (
    create_file,
    kind_of,
    open_directory,
    refusal,
    unsafe_entry,
)

if TYPE_CHECKING:
    from pathlib import Path

    from migrator.model import Emit
    from migrator.storage.layout import Layout

_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_AT_ONCE = 0.05
"""Seconds of attempts even with a timeout of 0: somebody may only be looking."""
_LONGEST_PAUSE = 1.0
_SAY_AGAIN = 10.0


@dataclass(slots=True)
class RunLock:
    """
    The lock, held.

    `descriptor` is close-on-exec and inherited by a forked worker; `waited` is
    the time in seconds that another run took.
    """

    descriptor: int
    waited: float

    @classmethod
    def acquire(
        cls,
        layout: Layout,
        timeout: float,
        emit: Emit,
    ) -> RunLock:
        """
        Take the lock, creating our directory and the file where they are missing.

        Args:
            layout: The database's paths.
            timeout: Seconds to wait for another run to finish; 0 looks once.
            emit: Gets `lock.waiting` when it has to wait, and `lock.acquired`.

        Raises:
            LockedError: Another run still had it at the end of that time.
            NotReadyError: The file system has no working locks, or what is in
                the lock's place is no regular file.
            NoPermissionError: Directory or file cannot be opened for writing.
            DiskError: The disk failed or is full.
        """
        began = time.monotonic()
        waiter = _Waiter(layout, began, timeout, emit)
        while True:
            descriptor = _open_lock(layout)
            try:
                held = _try(descriptor, layout.lock)
                if held and _still_named(descriptor, layout.lock):
                    waited = time.monotonic() - began
                    emit("lock.acquired", "The lock is held.", seconds=round(waited, 3))
                    return cls(descriptor, waited)
                if not held:
                    waiter.pause()
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def release(self) -> None:
        """
        Close our descriptor; the lock ends once every process that shares it has.

        `LOCK_UN` would take it from the worker as well.
        """
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def probe(path: Path) -> bool:
    """
    Say whether somebody holds the lock, creating nothing and waiting for nothing.

    A missing file, or one that may not be opened, counts as not held.
    """
    descriptor = _open_existing(path)
    if descriptor is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    finally:
        os.close(descriptor)
    return False


def _open_existing(path: Path) -> int | None:
    # On NFS `flock` becomes a record lock, for which the mode of the descriptor matters.
    for mode in (os.O_RDWR, os.O_RDONLY):
        try:
            descriptor = os.open(path, mode | _FLAGS)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                continue
            return None
        return descriptor
    return None


def _open_lock(layout: Layout) -> int:
    try:
        return _open_or_create(layout)
    except OSError as error:
        raise refusal(error, layout.lock, "opening the lock") from error


def _open_or_create(layout: Layout) -> int:
    """Open the lock, creating it at most once; it may appear meanwhile, but never vanishes."""
    flags = os.O_RDWR | _FLAGS
    try:
        with open_directory(layout.home) as home:
            descriptor = os.open(layout.lock.name, flags, dir_fd=home)
    except (FileNotFoundError, NotADirectoryError):
        descriptor = _create(layout)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise unsafe_entry(layout.lock, kind_of(layout.lock))
    return descriptor


def _create(layout: Layout) -> int:
    ownership = like_database(layout)
    make_home(layout, ownership)
    try:
        return create_file(layout.lock, ownership.private)
    except FileExistsError:
        with open_directory(layout.home) as home:
            return os.open(layout.lock.name, os.O_RDWR | _FLAGS, dir_fd=home)


def _try(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise _no_locks(error, path) from error
    return True


def _no_locks(error: OSError, path: Path) -> MigratorError:
    if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
        return refusal(error, path, "locking")
    said = os.strerror(error.errno or 0)
    return NotReadyError(
        f"Locks do not work on the file system of {str(path)!r}: {said}.",
        hint="Put the database on a local disk, or mount the share with locking.",
        reason="volume.no_locks",
        retryable=False,
    )


def _still_named(descriptor: int, path: Path) -> bool:
    """Look whether the path still leads to what was locked: somebody may have cleaned up."""
    held = os.fstat(descriptor)
    try:
        named = os.lstat(path)
    except FileNotFoundError:
        return False
    return (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino)


@dataclass(slots=True)
class _Waiter:
    """The pauses between attempts: short at first, then up to a second, by the monotonic clock."""

    layout: Layout
    began: float
    timeout: float
    emit: Emit
    attempt: int = 0
    said: float | None = None

    def pause(self) -> None:
        """Sleep before the next attempt, or raise when the time is over."""
        now = time.monotonic()
        waited = now - self.began
        left = max(self.timeout, _AT_ONCE) - waited
        if left <= 0:
            raise _locked(self.layout, self.timeout)
        if waited >= _AT_ONCE and (self.said is None or now - self.said >= _SAY_AGAIN):
            self.said = now
            self._say(waited)
        time.sleep(min(left, self._length()))
        self.attempt += 1

    def _length(self) -> float:
        # The jitter comes from the clock: this is no place to import `random` for.
        jitter = 0.5 + (time.monotonic_ns() ^ os.getpid() * 7919) % 1000 / 1000
        growing: float = 0.005 * 2 ** min(self.attempt, 8)
        return min(_LONGEST_PAUSE, growing) * min(jitter, 1.0)

    def _say(self, waited: float) -> None:
        self.emit(
            "lock.waiting",
            f"Another run is under way{_holder(self.layout)}; waiting for it to finish.",
            attempt=self.attempt + 1,
            seconds=round(waited, 3),
            timeout=self.timeout,
        )


def _holder(layout: Layout) -> str:
    """Say what the run that holds the lock has noted about itself, if it can be read."""
    from migrator.storage import state

    try:
        noted = state.read(layout.state)
    except InterruptedRunError:
        raise
    except MigratorError:
        return ""
    if noted is None:
        return ""
    return f" ({noted.run_id}, {noted.phase} since {noted.since})"


def _locked(layout: Layout, timeout: float) -> LockedError:
    return LockedError(
        f"Another run{_holder(layout)} still held the lock {str(layout.lock)!r} "
        f"after {timeout:g} seconds.",
        hint="Start again once it has finished, or allow more time with --lock-timeout.",
    )
