"""
Where the lines go: whole, and without letting a reader that has stopped hold up a stop.

Writing to a pipe that nobody empties blocks, and a signal does not end that
(signal(7)): the process would follow no SIGTERM any more. So a pipe is waited
for before it is written to.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable

_CLEAR = "\r\x1b[K"
_ATOMIC = 4096
"""PIPE_BUF: what a pipe with room takes without blocking, and in one piece (pipe(7))."""
_LOOK_MS = 100
_PATIENCE = 1.0
"""Seconds that a non-blocking descriptor, or a stop, lets a full pipe hold a line up."""
_LAST = 0.3
"""Seconds that the last line has, once a stop has found the pipe full."""


class Sink:
    """Whole lines, and a bar in the last one, on a descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._drawn = False
        self._torn = False
        self._stuck = False
        self.stopping: Callable[[], bool] = lambda: False
        """Asked while a pipe is full: whether this process is to end."""

    def write(self, line: str, *, last: bool = False) -> None:
        """
        Write a line, in place of the bar where there is one.

        Args:
            line: Without its end.
            last: Whether it is the run's last word, worth another moment's wait.
        """
        before = _CLEAR if self._drawn else ""
        self._drawn = False
        self._write_all(f"{before}{line}\n".encode("utf-8", "backslashreplace"), last=last)

    # structlog calls the method that is named like the level.
    debug = info = warning = error = write

    def draw(self, bar: str) -> None:
        """Redraw the bar on the same line."""
        self._drawn = True
        self._write_all(f"{_CLEAR}{bar}".encode())

    def _write_all(self, data: bytes, *, last: bool = False) -> None:
        """Write all of `data`, in one call where the system takes it; give up without a word."""
        rest = memoryview(b"\n" + data if self._torn else data)
        whole = len(rest)
        try:
            file = stat.S_ISREG(os.fstat(self._fd).st_mode)
            while rest and (file or self._has_space(last=last)):
                with contextlib.suppress(BlockingIOError):
                    rest = rest[os.write(self._fd, rest if file else rest[:_ATOMIC]) :]
        except OSError:
            return
        finally:
            # What comes after a line that was cut off begins a line of its own.
            self._torn = bool(rest) and (self._torn or len(rest) < whole)

    def _has_space(self, *, last: bool) -> bool:
        """Wait until the descriptor can be written to: without end, unless a signal arrives."""
        import select

        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        began = time.monotonic()
        while not poll.poll(0 if self._stuck and not last else _LOOK_MS):
            if self._gives_up(time.monotonic() - began, last=last):
                return False
        self._stuck = False
        return True

    def _gives_up(self, waited: float, *, last: bool) -> bool:
        if self.stopping():
            self._stuck = True
            return not last or waited >= _LAST
        return waited >= _PATIENCE and not os.get_blocking(self._fd)
