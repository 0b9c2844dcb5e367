"""
Supervise a worker, from the process that becomes the application.

It records what the worker claims over a pipe, for others to check; it owns stderr, passes
signals on, kills a worker that ignores them, and kills what the worker leaves behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import selectors
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from migrator.errors import MigratorError
from migrator.model import Emit, Outcome
from migrator.process import orphans, reports
from migrator.process.signals import Signals
from migrator.process.worker import DRAIN, Task, become_worker, flush, unread

GRACE = 1.5
"""Seconds between SIGTERM and SIGKILL for the worker: a stop may take two in all."""
ALIVE = 10.0
"""Seconds between two `migration.progress`, or `verify.progress`, events."""
_TEXT = 500
_CHUNK = 8192
"""Bytes read before the parent looks at its signals again: output may be endless."""
_LONGEST_LINE = 4096
_FULLEST = 1 << 20
"""Bytes: no pipe of an ordinary user holds more (pipe(7)), whatever a worker says."""


@dataclass(slots=True)
class Ending:
    """
    How a worker ended.

    `result` is what its task returned, `error` what it raised on purpose,
    `crash` a traceback of a bug, each as the worker claims it; all three are
    None when it ended without a report (`describe` then says how). `doubtful`
    says that a report was malformed, or that more followed it. `migration` is
    the one that was started and not finished, `began` whether any was started,
    `phase` the last one reported, `signum` the signal that this process received
    meanwhile.
    """

    result: dict[str, Any] | None = None
    error: MigratorError | None = None
    crash: str | None = None
    status: int = 0
    migration: dict[str, Any] | None = None
    began: bool = False
    phase: str = ""
    signum: int | None = None
    seconds: float = 0.0
    doubtful: bool = False

    @property
    def reported(self) -> bool:
        """Whether the worker has reported the end of its work."""
        return self.result is not None or self.error is not None or self.crash is not None

    @property
    def credible(self) -> bool:
        """
        Whether it reported once, at the end, and then exited as a worker does.

        In the middle of a migration it can only report a failure.
        """
        in_order = self.reported and not self.doubtful and self.status == 0
        return in_order and (self.migration is None or self.error is not None)

    @property
    def claim(self) -> Outcome | None:
        """What it claims to have done of a run, as far as it is credible."""
        if self.result is None or not self.credible:
            return None
        return reports.read_outcome(self.result)

    @property
    def perhaps_out_of_memory(self) -> bool:
        """Whether the kernel may have killed the worker because memory ran out (SIGKILL)."""
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL

    @property
    def perhaps_out_of_space(self) -> bool:
        """
        Whether the kernel may have killed the worker because the disk is full (SIGBUS).

        SQLite maps the `-shm` of a WAL database, and the disk may have no block for a page
        that it writes to.
        """
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGBUS

    def describe(self) -> str:
        """Describe for people how the worker's process ended."""
        if os.WIFSIGNALED(self.status):
            name = signal.Signals(os.WTERMSIG(self.status)).name
            memory = ", perhaps out of memory" if self.perhaps_out_of_memory else ""
            full = ", perhaps because a disk was full" if self.perhaps_out_of_space else ""
            return f"was killed by {name}{memory}{full}"
        return f"ended by itself with exit code {os.WEXITSTATUS(self.status)}"


@dataclass(slots=True)
class _Watch:
    """What the parent knows of a running worker."""

    pid: int
    emit: Emit
    ending: Ending
    mark: bytes
    printed: int
    verifying: str | None = None
    report: bytearray = field(default_factory=bytearray)
    output: bytearray = field(default_factory=bytearray)
    alive_at: float = 0.0
    started_at: float = 0.0
    kill_at: float | None = None
    killed: bool = False
    reaped: bool = False

    @property
    def quiet(self) -> bool:
        """Whether the worker is in a phase that may take long, and shows nothing by itself."""
        working = self.ending.migration is not None or self.verifying is not None
        return not working and self.ending.phase in _LONG

    @property
    def busy(self) -> bool:
        """Whether there is something that may take long."""
        return self.ending.migration is not None or self.verifying is not None or self.quiet


_LONG = {
    "recovery": "An interrupted run is being recovered",
    "backup": "The backup is being made and checked",
    "commit": "The commit is being made durable, and read back",
    "publish": "The migrated copy is being published and compared",
    "restore": "A backup is being put back and compared",
    "restored": "What was put back is being checked",
    "prune": "Old backups are being looked at and removed",
}
"""What is done in the phases that may take long, as a sentence."""


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
            watch = _Watch(pid, emit, Ending(), mark, printed=output)
            try:
                # The worker's ends: while this process has them open, it never sees the pipes' end.
                while len(mine) > 2:
                    os.close(mine.pop())
                _wait(watch, signals, report, output)
            finally:
                _end(watch, before, marked=marked)
            # After `_end`, so that no leftover child writes any more.
            _drain(watch, report, output)
            watch.ending.signum = signals.received
            watch.ending.seconds = round(time.monotonic() - watch.started_at, 3)
            return watch.ending
    finally:
        for number in mine:
            os.close(number)
        orphans.subreaper(on=False)


def _end(watch: _Watch, before: set[int], *, marked: bool) -> None:
    """Kill the worker and its descendants, however the supervision ended."""
    if not watch.reaped:
        _kill(watch.pid, signal.SIGKILL)
        _, watch.ending.status = os.waitpid(watch.pid, 0)
    orphans.end_leftovers(before, marked=marked)


def _wait(watch: _Watch, signals: Signals, report: int, output: int) -> None:
    """Follow the worker until its process has ended."""
    with selectors.DefaultSelector() as selector:
        for number in (report, output, signals.wakeup):
            os.set_blocking(number, False)
            selector.register(number, selectors.EVENT_READ)
        while not _ended(watch):
            for key, _ in selector.select(_pause(watch)):
                number = key.fd
                if number == report:
                    more = _read_report(watch, report)
                elif number == output:
                    # What was printed was printed after what is reported already.
                    more = unread(report) > 0 or _read_output(watch, output)
                else:
                    more = signals.drain()
                if not more:
                    selector.unregister(number)
            _pass_on(watch, signals)
            _say_alive(watch)


def _ended(watch: _Watch) -> bool:
    """Reap the worker if it has ended."""
    pid, status = os.waitpid(watch.pid, os.WNOHANG)
    watch.ending.status = status
    watch.reaped = pid == watch.pid
    return watch.reaped


def _pause(watch: _Watch) -> float:
    """Return the timeout for `select`, in seconds."""
    now = time.monotonic()
    # At least once a second: the worker's end is then noticed even without a SIGCHLD.
    until = [now + 1.0]
    if watch.kill_at is not None and not watch.killed:
        until.append(watch.kill_at)
    if watch.busy:
        until.append(watch.alive_at)
    return max(0.0, min(until) - now)


def _pass_on(watch: _Watch, signals: Signals) -> None:
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


def _say_alive(watch: _Watch) -> None:
    migration, verifying = watch.ending.migration, watch.verifying
    now = time.monotonic()
    if not watch.busy or now < watch.alive_at:
        return
    watch.alive_at = now + ALIVE
    seconds = round(now - watch.started_at, 3)
    if migration is not None:
        message = f"{_label(migration)} has been running for {seconds:.0f} s."
        watch.emit("migration.progress", message, **_identity(migration), seconds=seconds)
    elif verifying is not None:
        message = f"The new state has been verified for {seconds:.0f} s."
        watch.emit("verify.progress", message, check=verifying, seconds=seconds)
    else:
        phase = watch.ending.phase
        message = f"{_LONG[phase]}: {seconds:.0f} s so far."
        watch.emit("run.progress", message, phase=phase, seconds=seconds)


def _read(number: int, buffer: bytearray, take: Callable[[bytes], None]) -> bool:
    """Read some of a pipe and hand it on line by line; False at its end."""
    data = _some(number, _CHUNK)
    if data is None:
        return True
    _split(data, buffer, take)
    return bool(data)


def _some(number: int, most: int) -> bytes | None:
    """Read so many bytes of a pipe at most; nothing at its end, None where there is nothing yet."""
    try:
        return os.read(number, most)
    except BlockingIOError:
        return None


def _split(data: bytes, buffer: bytearray, take: Callable[[bytes], None]) -> None:
    """Hand on whole lines, and keep the rest in the buffer."""
    searched = len(buffer)
    buffer += data
    while (at := buffer.find(b"\n", searched)) >= 0:
        take(bytes(buffer[:at]))
        del buffer[: at + 1]
        searched = 0


def _read_report(watch: _Watch, report: int) -> bool:
    """Read some of the report pipe; keep only the beginning of an endless line."""
    more = _read(report, watch.report, lambda line: _on_report(watch, line))
    del watch.report[reports.LONGEST :]
    return more


def _read_output(watch: _Watch, output: int) -> bool:
    """Read some of the output pipe; keep only the beginning of an endless line."""
    more = _read(output, watch.output, lambda line: _on_output(watch, line))
    del watch.output[_LONGEST_LINE:]
    return more


def _drain(watch: _Watch, report: int, output: int) -> None:
    """Read the rest of both pipes, the reports first: what was printed is of the last one."""
    while _holds(report) and _read_report(watch, report):
        pass
    deadline = time.monotonic() + DRAIN
    while _holds(output) and _read_output(watch, output):
        if time.monotonic() > deadline:
            break
    if watch.report:
        # A line that was cut off.
        _on_report(watch, bytes(watch.report))
    _end_line(watch)


def _read_printed(watch: _Watch, left: Any) -> None:
    """Read as much as was unread when a migration ended: its worker waits only so long for that."""
    left = min(left, _FULLEST) if isinstance(left, int) else 0
    while left > 0 and (data := _some(watch.printed, min(left, _CHUNK))):
        left -= len(data)
        _split(data, watch.output, lambda line: _on_output(watch, line))
    # Some of that may have been read before, and the next migration have begun to print.
    if not unread(watch.printed):
        _end_line(watch)


def _end_line(watch: _Watch) -> None:
    """Hand on an unfinished line of output as it is."""
    if watch.output:
        _on_output(watch, bytes(watch.output))
        watch.output.clear()


def _holds(number: int) -> bool:
    """Tell whether a pipe has data, or its end, to read now."""
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))


def _on_report(watch: _Watch, line: bytes) -> None:
    """Record a line of the report pipe; a line without the mark is output."""
    if not line.startswith(watch.mark):
        _on_output(watch, line)
        return
    ending, what = watch.ending, reports.read(line.removeprefix(watch.mark))
    # A line after the last report, or a malformed one, was not written by the engine.
    ending.doubtful = ending.doubtful or ending.reported or what is None
    if what is None:
        return
    if "event" not in what:
        ending.result = what.get("result", ending.result)
        ending.error = what.get("error", ending.error)
        ending.crash = what.get("crash", ending.crash)
        return
    _follow(watch, what["event"], what["fields"], what.get("unread"))
    # What shows itself needs no other sign of life.
    watch.alive_at = (
        max(watch.alive_at, time.monotonic() + ALIVE) if watch.quiet else watch.alive_at
    )
    if what["event"] != "phase":
        watch.emit(what["event"], what["message"], level=what["level"], **what["fields"])


def _follow(watch: _Watch, event: str, fields: dict[str, Any], unread_then: Any) -> None:
    """Remember the worker's phase and migration."""
    if event == "phase":
        watch.ending.phase = fields["phase"]
        watch.verifying = None
        _start_clock(watch)
    elif event == "migration.started":
        watch.ending.migration = fields
        watch.ending.began = True
        _start_clock(watch)
    elif event == "verify.started":
        watch.verifying = str(fields.get("check"))
        _start_clock(watch)
    elif event in ("verify.finished", "verify.failed") and fields.get("check") == watch.verifying:
        watch.verifying = None
    elif event in ("migration.finished", "migration.failed"):
        _read_printed(watch, unread_then)
        watch.ending.migration = None


def _start_clock(watch: _Watch) -> None:
    watch.started_at = time.monotonic()
    watch.alive_at = watch.started_at + ALIVE


def _on_output(watch: _Watch, line: bytes) -> None:
    text = line.decode(errors="backslashreplace").rstrip("\r")[:_TEXT]
    if not text.strip():
        return
    migration = watch.ending.migration
    who = _label(migration) if migration else "The run"
    fields = _identity(migration) if migration else {"version": None, "name": None}
    watch.emit("migration.output", f"{who} printed: {text}", **fields, text=text)


def _identity(migration: dict[str, Any]) -> dict[str, Any]:
    return {"version": migration.get("version"), "name": migration.get("name")}


def _label(migration: dict[str, Any]) -> str:
    return f"Migration {migration.get('version')} ({migration.get('name')})"


def _pipe() -> tuple[int, int]:
    """Make a pipe above the standard descriptors, even if those are closed."""
    ends = os.pipe()
    above = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3) for number in ends]
    for number in ends:
        os.close(number)
    return above[0], above[1]
