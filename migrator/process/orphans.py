"""
Find and kill the processes that a worker leaves behind, and no others.

As the subreaper this process adopts every orphaned descendant of the worker; as
PID 1 of a container also the orphans of `docker exec`. Only the former may be
killed. So the worker has a mark that its descendants inherit whatever they do
(fork, exec, a session of their own, an emptied environment): a resource limit that
no kernel since Linux 2.4 applies (`RLIMIT_LOCKS`, getrlimit(2)), and that can be
read for every process (proc_pid_limits(5)).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

_RLIMIT_LOCKS = 10
_LINE = b"Max file locks"
_MARK = 0x736C6974
_REAP = 5.0
"""Seconds to wait until all of them have ended."""


def mark() -> None:
    """Mark this process and its future descendants."""
    import resource

    with contextlib.suppress(OSError, ValueError):
        hard = resource.getrlimit(_RLIMIT_LOCKS)[1]
        resource.setrlimit(_RLIMIT_LOCKS, (_mark_below(hard), hard))


def is_marked() -> bool:
    """Tell whether this process is a worker or descends from one."""
    import resource

    try:
        soft, hard = resource.getrlimit(_RLIMIT_LOCKS)
    except (OSError, ValueError):
        return False
    return hard != 0 and soft == _mark_below(hard)


def ancestors() -> set[int]:
    """Return the ids of the processes that this one descends from, as far as they are visible."""
    found: set[int] = set()
    parent = _parent_of(str(os.getpid()))
    while parent and parent not in found:
        found.add(parent)
        parent = _parent_of(str(parent))
    return found


def subreaper(*, on: bool) -> None:
    """Adopt orphaned descendants from now on, or no longer (prctl(2))."""
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(36, int(on), 0, 0, 0)


def children() -> set[int]:
    """Return the ids of this process's children."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return set()
    own = os.getpid()
    return {int(name) for name in names if name.isdigit() and _parent_of(name) == own}


def can_mark() -> bool:
    """Tell whether workers can be marked here (not in some sandboxes)."""
    import resource

    try:
        soft, hard = resource.getrlimit(_RLIMIT_LOCKS)
        resource.setrlimit(_RLIMIT_LOCKS, (soft, hard))
    except (OSError, ValueError):
        return False
    return hard != 0 and soft != _mark_below(hard)


def end_leftovers(before: set[int], *, marked: bool = True) -> None:
    """
    Kill and reap what an ended worker left behind.

    Args:
        before: Children that this process had before the worker.
        marked: Whether it was marked; without a mark, every child that appeared since counts as
            the worker's.
    """
    sign = _expected_mark() if marked else None
    deadline = time.monotonic() + _REAP
    while time.monotonic() < deadline:
        adopted = children() - before
        ours = {pid for pid in adopted if sign is None or _locks_limit(pid) in (sign, None)}
        for pid in ours:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        # Also those that are not killed: they are children now, and would stay zombies.
        for pid in adopted:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        # Again, until none is left: a killed process's children are adopted only now.
        if not ours:
            return
        time.sleep(0.001)


def _expected_mark() -> bytes:
    """Return the mark as another process's limits show it."""
    import resource

    hard = resource.getrlimit(_RLIMIT_LOCKS)[1]
    return str(_mark_below(hard)).encode()


def _mark_below(hard: int) -> int:
    """Return the mark, at most the hard limit (-1 is no limit)."""
    return _MARK if hard < 0 or hard > _MARK else max(hard - 1, 0)


def _locks_limit(pid: int) -> bytes | None:
    """Return a process's soft limit as the kernel writes it, None where it cannot be read."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/limits", "rb") as lines:
        for line in lines:
            if line.startswith(_LINE):
                return line.removeprefix(_LINE).split()[0]
    return None


def _parent_of(pid: str) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None
