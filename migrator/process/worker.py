"""
The worker: the forked child that does a piece of work and reports over a pipe.

Migrations are other people's code. They run in a process that is not trusted, that
shares nothing with the application, and that can be killed at any moment, because
SQLite's journal makes that safe.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import termios
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from migrator.errors import MigratorError
from migrator.model import Emit
from migrator.process import orphans, reports
from migrator.process.descriptors import keep_from_children
from migrator.process.signals import Signals

DRAIN = 0.5
"""Seconds that one side of a pipe gives the other to read it."""
_BOUNDARIES = ("migration.started", "migration.finished", "migration.failed")

Task = Callable[[Emit], dict[str, Any]]


def become_worker(
    task: Task,
    prepare: Callable[[], None],
    parent: int,
    report: int,
    output: int,
    theirs: tuple[int, ...],
    private: tuple[int, ...],
    mark: bytes,
) -> NoReturn:
    """
    Do the work in this newly forked process, report, and exit.

    Args:
        task: The work.
        prepare: Called first: the privileges are dropped there.
        parent: The process that waits for the report.
        report: The pipe for reports.
        output: The pipe for what is printed.
        theirs: Descriptors that are the parent's alone.
        private: Descriptors (the lock's) that children of this process must not keep.
        mark: What its reports begin with.
    """
    code = 70
    try:
        for number in theirs:
            os.close(number)
        orphans.mark()
        _detach(output)
        # A signal ends the worker at once: the parent reports it, and SQLite's journal
        # undoes what was not committed.
        signal.set_wakeup_fd(-1)
        for number in (*Signals.HANDLED, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        emit = _Pipe(report, output, mark)
        keep_from_children(report, output, *private)
        answer: dict[str, Any]
        try:
            # First of all, so that nothing below is done as root.
            prepare()
            _die_with(parent)
            answer = {"result": task(emit)}
        except MigratorError as error:
            answer = {"error": reports.dump(error)}
        except BaseException:  # noqa: BLE001 - the parent must hear of any error
            answer = {"crash": traceback.format_exc()}
        emit.send(answer)
        code = 0
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        # No finalizers and no `atexit`: what a migration registered there must not run.
        os._exit(code)


class _Pipe:
    """
    The child's end of the report pipe: one JSON object a line.

    It and the output pipe have no common order. So the parent reads what was reported before
    what was printed, and before the start and the end of each migration the worker gives it
    time to read what was printed.
    """

    def __init__(self, number: int, output: int, mark: bytes) -> None:
        self._number = number
        self._output = output
        self._mark = mark
        self._pid = os.getpid()

    def __call__(self, event: str, message: str, *, level: str = "info", **fields: Any) -> None:
        what: dict[str, Any] = {
            "event": event,
            "message": message,
            "level": level,
            "fields": fields,
        }
        if event in _BOUNDARIES:
            flush()
            _let_read(self._output)
            what["unread"] = unread(self._output)
        self.send(what)

    def send(self, what: dict[str, Any]) -> None:
        if os.getpid() != self._pid:
            return
        data = reports.spell(self._mark, what)
        while data:
            data = data[os.write(self._number, data) :]


def _let_read(pipe: int) -> None:
    """Wait briefly until the parent has emptied a pipe."""
    deadline = time.monotonic() + DRAIN
    while unread(pipe) and time.monotonic() < deadline:
        time.sleep(0.0005)


def unread(pipe: int) -> int:
    """Return how many bytes a pipe holds, asked at either of its ends (FIONREAD, pipe(7))."""
    waiting = bytearray(4)
    with contextlib.suppress(OSError):
        fcntl.ioctl(pipe, termios.FIONREAD, waiting)
    return int.from_bytes(waiting, sys.byteorder)


def _detach(output: int) -> None:
    """Give the child an empty standard input, and the output pipe for what it prints."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if null > 2:
        os.close(null)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115


def _die_with(parent: int) -> None:
    """
    Ask the kernel to kill this process when its parent ends (prctl(2)).

    A change of credentials clears this setting, so it comes afterwards; a parent that
    has ended already is noticed by its process id.
    """
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(70)


def flush() -> None:
    """Flush stdout and stderr."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
