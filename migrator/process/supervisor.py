"""
Supervise a worker, from the process that becomes the application.

It records what the worker claims over a pipe, for others to check; it owns stderr, passes
signals on, kills a worker that ignores them, and kills what the worker leaves behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import time
from collections.abc import Callable

from migrator.model import Emit
from migrator.process import orphans, reports
from migrator.process.signals import Signals
from migrator.process.watch import Watch
from migrator.process.worker import Task, become_worker, flush, unread
from migrator.process.worker_ending import Ending

GRACE = 1.5
"""Seconds between SIGTERM and SIGKILL for the worker: a stop may take two in all."""


def supervise(
    task: Task,
    *,
    emit: Emit,
    signals: Signals,
    prepare: Callable[[], None] = lambda: None,
    private: tuple[int, ...] = (),
) -> Ending:
    """
    Run a task in a forked child and wait for its end.

    The child dies with this process, its descriptors 1 and 2 become
    `migration.output` events, its standard input is empty, and whatever
    processes it leaves behind are killed.

    Args:
        task: The work; its return value must be JSON.
        emit: Where the child's events go.
        signals: Those that stop this process are passed on.
        prepare: Called first in the child: the privileges are dropped there.
        private: Descriptors (the lock's) that children of the child must not keep.
    """
    report, report_end = _pipe()
    output, output_end = _pipe()
    # Before the fork, so that older children are never taken for the worker's.
    before, marked = orphans.children(), orphans.can_mark()
    orphans.subreaper(on=True)
    mark = reports.new_mark()
    # Or the child would inherit unwritten text, and print it once more.
    flush()
    parent = os.getpid()
    mine = [report, output, report_end, output_end]
    try:
        # From before the fork on: an exception between fork and watch would leave the worker alone.
        with signals.deferred():
            pid = os.fork()
            if pid == 0:
                theirs = (report, output, *signals.descriptors)
                become_worker(task, prepare, parent, report_end, output_end, theirs, private, mark)
            watch = Watch(pid, report, output, mark, emit)
            try:
                # The worker's ends: while this process has them open, it never sees the pipes' end.
                while len(mine) > 2:
                    os.close(mine.pop())
                _wait(watch, signals)
            finally:
                _end(watch, before, marked=marked)
            # After `_end`, so that no leftover child writes any more.
            watch.drain()
            watch.ending.signum = signals.received
            watch.ending.seconds = round(time.monotonic() - watch.started_at, 3)
            return watch.ending
    finally:
        for number in mine:
            os.close(number)
        orphans.subreaper(on=False)


def _end(watch: Watch, before: set[int], *, marked: bool) -> None:
    """Kill the worker and its descendants, however the supervision ended."""
    if not watch.reaped:
        _kill(watch.pid, signal.SIGKILL)
        _, watch.ending.status = os.waitpid(watch.pid, 0)
    orphans.end_leftovers(before, marked=marked)


def _wait(watch: Watch, signals: Signals) -> None:
    """Follow the worker until its process has ended."""
    with selectors.DefaultSelector() as selector:
        for number in (watch.reported, watch.printed, signals.wakeup):
            os.set_blocking(number, False)
            selector.register(number, selectors.EVENT_READ)
        while not _ended(watch):
            for key, _ in selector.select(_pause(watch)):
                number = key.fd
                if number == watch.reported:
                    more = watch.read_report()
                elif number == watch.printed:
                    # What was printed was printed after what is reported already.
                    more = unread(watch.reported) > 0 or watch.read_output()
                else:
                    more = signals.drain()
                if not more:
                    selector.unregister(number)
            _pass_on(watch, signals)
            watch.say_alive()


def _ended(watch: Watch) -> bool:
    """Reap the worker if it has ended."""
    pid, status = os.waitpid(watch.pid, os.WNOHANG)
    watch.ending.status = status
    watch.reaped = pid == watch.pid
    return watch.reaped


def _pause(watch: Watch) -> float:
    """Return the timeout for `select`, in seconds."""
    now = time.monotonic()
    # At least once a second: the worker's end is then noticed even without a SIGCHLD.
    until = [now + 1.0]
    if watch.kill_at is not None and not watch.killed:
        until.append(watch.kill_at)
    if watch.busy:
        until.append(watch.alive_at)
    return max(0.0, min(until) - now)


def _pass_on(watch: Watch, signals: Signals) -> None:
    """Pass a signal on to the worker, and kill it if it does not end."""
    if signals.received is None or watch.killed:
        return
    now = time.monotonic()
    # SIGTERM first: a migration may have a handler that ends what it has started.
    if watch.kill_at is None:
        watch.kill_at = now + GRACE
        _kill(watch.pid, signal.SIGTERM)
    elif now >= watch.kill_at:
        watch.killed = True
        _kill(watch.pid, signal.SIGKILL)


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _pipe() -> tuple[int, int]:
    """Make a pipe above the standard descriptors, even if those are closed."""
    ends = os.pipe()
    above = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3) for number in ends]
    for number in ends:
        os.close(number)
    return above[0], above[1]
