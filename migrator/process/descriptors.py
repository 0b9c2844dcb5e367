"""
Open the standard descriptors, and close in a forked child those that it must not keep.

A standard descriptor may be closed when the program starts (`2>&-`). The next file
that is opened takes its number, and text for stderr could end up in one of this
program's files, or in the database.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
from _thread import RLock
from collections.abc import Callable


def open_missing_standard_streams() -> None:
    """
    Open /dev/null for each of the descriptors 0 to 2 that is closed.

    It is close-on-exec: the application finds the descriptors closed, as they were.
    """
    for number in (0, 1, 2):
        try:
            fcntl.fcntl(number, fcntl.F_GETFD)
        except OSError:
            _fill(number)
    # Python made no stream for a descriptor that was closed when it started.
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for good
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for good


def _fill(number: int) -> None:
    opened = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    if opened != number:
        os.dup2(opened, number, inheritable=False)
        os.close(opened)


_private: set[int] = set()
_forking = RLock()
"""Held during a fork, and while a descriptor is opened and registered."""
_followed: list[int] = []


def keep_from_children(*numbers: int) -> None:
    """
    Have every child that this process forks close these descriptors at once.

    Close-on-exec is not enough: a child that stays in Python would hold the lock for as
    long as it lives.
    """
    with _unforked():
        _private.update(numbers)


def open_for_itself(open_it: Callable[[], int]) -> int:
    """Open a descriptor that no child keeps, not even one forked at this moment."""
    with _unforked():
        descriptor = open_it()
        _private.add(descriptor)
        return descriptor


def _unforked() -> RLock:
    """Return the lock without which no thread of this process forks a child from Python."""
    if not _followed:
        _followed.append(os.getpid())
        os.register_at_fork(
            before=_forking.acquire, after_in_parent=_forking.release, after_in_child=_forget
        )
    return _forking


def close(descriptor: int) -> None:
    """Close a descriptor, private or not; its number may then become another file's."""
    with _forking:
        _private.discard(descriptor)
        os.close(descriptor)


def try_flock(descriptor: int) -> bool:
    """
    Lock a file without waiting, and tell whether it was free.

    Raises:
        OSError: The file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _forget() -> None:
    """Close, in a child, its parent's descriptors; once, since it may reuse the numbers."""
    for number in _private:
        with contextlib.suppress(OSError):
            os.close(number)
    _private.clear()
    _forking.release()
