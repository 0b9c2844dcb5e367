"""
The one lock: `flock` on an empty file beside the database.

An open file description holds it, which a worker inherits, so it ends with the last
process that has that description. The file stays empty and is never deleted, since
another process may be about to lock it.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from _thread import get_ident
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.database.lock_probe import LOCK_FLAGS
from migrator.database.workspace import like_database, make_home
from migrator.errors import (
    WITHIN_A_RUN,
    InterruptedRunError,
    LockedError,
    MigratorError,
)
from migrator.file_errors import kind_of, refusal, unsafe_entry
from migrator.files import create_file, open_directory
from migrator.process import orphans
from migrator.process.descriptors import close, open_for_itself, try_flock
from migrator.wait import repeat

if TYPE_CHECKING:
    from pathlib import Path

    from migrator.database.workspace import Layout
    from migrator.model import Emit

_AT_ONCE = 0.05
"""Seconds of attempts even with a timeout of 0: the holder may be a short look."""
_LONGEST_PAUSE = 1.0
_SAY_AGAIN = 10.0


@dataclass(slots=True)
class RunLock:
    """
    The lock, held.

    `descriptor` is close-on-exec and inherited by a forked worker; `waited` is
    the time in seconds that another run took; `identity` is the locked file's
    device and inode.
    """

    descriptor: int
    waited: float
    path: Path
    identity: tuple[int, int]

    @classmethod
    def acquire(
        cls,
        layout: Layout,
        timeout: float,
        emit: Emit,
        *,
        alone: bool = False,
    ) -> RunLock:
        """
        Take the lock, creating `app.db.migrator/` and the file if they are missing.

        Args:
            layout: The database's paths.
            timeout: Seconds to wait for another run to finish; 0 looks once.
            emit: Gets `lock.waiting` when it has to wait, and `lock.acquired`.
            alone: Whether no child of this process shares it: a child forked by any
                thread closes it (the Python API).

        Raises:
            LockedError: Another run still held it at the end of that time, or
                the run that holds it is waiting for this one.
            NotReadyError: The file system has no working locks, or something other
                than a regular file is in the lock's place.
            NoPermissionError: Directory or file cannot be opened for writing.
            DiskError: The disk failed or is full.
        """
        wait = _Wait(layout, timeout, emit, alone, time.monotonic())
        try:
            return repeat(
                wait.attempt,
                wait.left,
                may_pass=lambda error: isinstance(error, _HeldError),
                pause=_pause,
                before_pause=wait.say,
            )
        except _HeldError:
            raise _locked(layout, timeout) from None

    @property
    def lost(self) -> bool:
        """
        Whether the path no longer leads to the locked file, because it was removed.

        The next run locks another file there, and both would work at once.
        """
        try:
            named = os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return (named.st_dev, named.st_ino) != self.identity

    def require(self) -> None:
        """
        Check that the locked file is still in its place.

        Raises:
            LockedError: It was removed, or another file was put in its place.
        """
        if self.lost:
            raise lost_lock(self.path)

    def release(self) -> None:
        """
        Close this process's descriptor; the lock ends once every sharer has closed its own.

        `LOCK_UN` would take it from the worker as well.
        """
        if self.descriptor >= 0:
            _held_here.pop(self.descriptor, None)
            close(self.descriptor)
            self.descriptor = -1


def _open_lock(layout: Layout, *, alone: bool) -> int:
    try:
        if alone:
            return open_for_itself(lambda: _open_or_create(layout))
        return _open_or_create(layout)
    except OSError as error:
        raise refusal(error, layout.lock, "opening the lock") from error


def _open_or_create(layout: Layout) -> int:
    """Open the lock file, creating it at most once; it may appear meanwhile, but never vanishes."""
    flags = os.O_RDWR | LOCK_FLAGS
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
            return os.open(layout.lock.name, os.O_RDWR | LOCK_FLAGS, dir_fd=home)


def _lock(descriptor: int, layout: Layout) -> None:
    try:
        locked = try_flock(descriptor)
    except OSError as error:
        raise _unlockable(error, layout.lock) from error
    if not locked:
        _refuse_own_run(descriptor, layout)
        raise _HeldError


def _unlockable(error: OSError, path: Path) -> MigratorError:
    if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
        from migrator.database.lock_selftest import no_locks

        return no_locks(path, os.strerror(error.errno))
    return refusal(error, path, "locking")


_held_here: dict[int, tuple[int, tuple[int, int]]] = {}
"""The locks held by the Python API in this process: thread and file of each."""


def _refuse_own_run(descriptor: int, layout: Layout) -> None:
    """
    Refuse to wait for a run whose own migration has started this one, and waits for it.

    Raises:
        LockedError: A migration has started this run.
    """
    wanted = _identity(os.fstat(descriptor))
    # In the Python API that run is in this thread; otherwise an ancestor holds the lock.
    if (get_ident(), wanted) not in _held_here.values() and not (
        orphans.is_marked() and _holders(wanted[1]) & orphans.ancestors()
    ):
        return
    msg = (
        f"A migration of the run on {str(layout.database)!r} that is under way has started another"
        " run on the same database, which would wait for the first for ever: a run within a run."
    )
    raise LockedError(
        msg,
        hint="A migration must not start what runs migrations. Where it imports the application,"
        ' have that start its run under `if __name__ == "__main__":`, or in a function that the'
        " migration does not call.",
        reason=WITHIN_A_RUN,
        retryable=False,
    )


def _holders(inode: int) -> set[int]:
    """Return the visible processes that hold a lock on the file with that inode number."""
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as lines:
            rows = [line.split() for line in lines]
    except OSError:
        return set()
    # proc_locks(5): "1: FLOCK ADVISORY WRITE 1234 08:01:5678 0 EOF"; one that waits has a "->".
    return {
        int(row[4])
        for row in rows
        if len(row) == 8 and row[4].isdigit() and row[5].rpartition(":")[2] == str(inode)
    }


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def lost_lock(path: Path, after: str = "", outcome: str | None = None) -> LockedError:
    """
    Return the error of a run whose lock was removed.

    Args:
        path: The lock.
        after: What else is known of the run, as a sentence.
        outcome: What has become of the run, where that is known.
    """
    message = (
        f"The lock {str(path)!r} was removed while this run held it,"
        " so that another run may have begun beside it."
    )
    hint = (
        f"Start again, and remove nothing in {str(path.parent)!r} while something runs: a lock"
        " that no process holds keeps nobody out."
    )
    text = f"{message} {after}".rstrip()
    return LockedError(text, hint=hint, reason="lock.removed", outcome=outcome)


class _HeldError(Exception):
    """Another run has the lock."""


@dataclass(slots=True)
class _Wait:
    """The attempts at the lock, the time left for them, and what is logged meanwhile."""

    layout: Layout
    timeout: float
    emit: Emit
    alone: bool
    began: float
    say_at: float = _AT_ONCE

    def attempt(self) -> RunLock:
        """Take the lock, or raise `_HeldError`."""
        while True:
            descriptor = _open_lock(self.layout, alone=self.alone)
            try:
                _lock(descriptor, self.layout)
                found = _identity(os.fstat(descriptor))
                lock = RunLock(descriptor, self.waited(), self.layout.lock, found)
                # The file may have been removed between opening and locking: then the next
                # run would lock another one.
                if not lock.lost:
                    self.emit("lock.acquired", "The lock is held.", seconds=round(lock.waited, 3))
                    if self.alone:
                        _held_here[descriptor] = get_ident(), found
                    return lock
            except BaseException:
                close(descriptor)
                raise
            close(descriptor)

    def waited(self) -> float:
        """Return the seconds since the first attempt."""
        return time.monotonic() - self.began

    def left(self) -> float:
        """Return the seconds until it is given up."""
        return max(self.timeout, _AT_ONCE) - self.waited()

    def say(self, _error: BaseException, attempts: int, _pause: float) -> None:
        """Log that another run is waited for: not at once, and again now and then."""
        waited = self.waited()
        if waited < self.say_at:
            return
        self.say_at = waited + _SAY_AGAIN
        self.emit(
            "lock.waiting",
            f"Another run is under way{_holder(self.layout)}; waiting for it to finish.",
            attempt=attempts,
            seconds=round(waited, 3),
            timeout=self.timeout,
        )


def _pause(attempts: int) -> float:
    """Return a pause that doubles each time, up to a second, by chance down to half of it."""
    import random

    growing: float = 0.005 * 2 ** min(attempts - 1, 8)
    return min(_LONGEST_PAUSE, growing) * random.uniform(0.5, 1)  # noqa: S311


def _holder(layout: Layout) -> str:
    """Describe the run that holds the lock, by its note, if it can be read."""
    from migrator.database import run_state

    try:
        noted = run_state.read(layout.state)
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
