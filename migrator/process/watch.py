"""
What the parent hears of a running worker: its reports, what it prints, and how long it is silent.

Two pipes come from the worker: its reports, each line with a mark, and its descriptors 1 and 2.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from migrator.model import Emit
from migrator.process import reports
from migrator.process.worker import DRAIN, unread
from migrator.process.worker_ending import Ending

ALIVE = 10.0
"""Seconds between two `migration.progress`, or `verify.progress`, events."""
_TEXT = 500
_CHUNK = 8192
"""Bytes read before the parent looks at its signals again: output may be endless."""
_LONGEST_LINE = 4096
_FULLEST = 1 << 20
"""Bytes: no pipe of an ordinary user holds more (pipe(7)), whatever a worker says."""

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


@dataclass(slots=True)
class Watch:
    """What the parent knows of a running worker."""

    pid: int
    reported: int
    """The descriptor of the pipe with the reports."""
    printed: int
    """The descriptor of the pipe that is the worker's standard output and error."""
    mark: bytes
    """With it each line of a report begins."""
    emit: Emit
    ending: Ending = field(default_factory=Ending)
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

    def say_alive(self) -> None:
        """Say every ten seconds that the worker goes on, and with what."""
        migration, verifying = self.ending.migration, self.verifying
        now = time.monotonic()
        if not self.busy or now < self.alive_at:
            return
        self.alive_at = now + ALIVE
        seconds = round(now - self.started_at, 3)
        if migration is not None:
            message = f"{_label(migration)} has been running for {seconds:.0f} s."
            self.emit("migration.progress", message, **_identity(migration), seconds=seconds)
        elif verifying is not None:
            message = f"The new state has been verified for {seconds:.0f} s."
            self.emit("verify.progress", message, check=verifying, seconds=seconds)
        else:
            phase = self.ending.phase
            message = f"{_LONG[phase]}: {seconds:.0f} s so far."
            self.emit("run.progress", message, phase=phase, seconds=seconds)

    def read_report(self) -> bool:
        """Read some of the reports, False at their end; of an endless line keep the beginning."""
        more = _read(self.reported, self.report, self._on_report)
        del self.report[reports.LONGEST :]
        return more

    def read_output(self) -> bool:
        """Read some of the output, False at its end; of an endless line keep the beginning."""
        more = _read(self.printed, self.output, self._on_output)
        del self.output[_LONGEST_LINE:]
        return more

    def drain(self) -> None:
        """Read the rest of both pipes."""
        # Reports first: the last output belongs to the migration that they name last.
        while _holds(self.reported) and self.read_report():
            pass
        deadline = time.monotonic() + DRAIN
        while _holds(self.printed) and self.read_output():
            if time.monotonic() > deadline:
                break
        if self.report:
            # A line that was cut off.
            self._on_report(bytes(self.report))
        self._end_line()

    def _read_printed(self, left: Any) -> None:
        """Read what a migration had printed when it ended: its worker waits for no more."""
        left = min(left, _FULLEST) if isinstance(left, int) else 0
        while left > 0 and (data := _some(self.printed, min(left, _CHUNK))):
            left -= len(data)
            _split(data, self.output, self._on_output)
        # Some of that may have been read before, and the next migration have begun to print.
        if not unread(self.printed):
            self._end_line()

    def _end_line(self) -> None:
        """Pass an unfinished line of output on."""
        if self.output:
            self._on_output(bytes(self.output))
            self.output.clear()

    def _on_report(self, line: bytes) -> None:
        """Record a line of the report pipe; a line without the mark is output."""
        if not line.startswith(self.mark):
            self._on_output(line)
            return
        ending, what = self.ending, reports.read(line.removeprefix(self.mark))
        # A line after the last report, or a malformed one, was not written by the engine.
        ending.doubtful = ending.doubtful or ending.reported or what is None
        if what is None:
            return
        if "event" not in what:
            ending.result = what.get("result", ending.result)
            ending.error = what.get("error", ending.error)
            ending.crash = what.get("crash", ending.crash)
            return
        self._follow(what["event"], what["fields"], what.get("unread"))
        # What shows itself needs no other sign of life.
        self.alive_at = (
            max(self.alive_at, time.monotonic() + ALIVE) if self.quiet else self.alive_at
        )
        if what["event"] != "phase":
            self.emit(what["event"], what["message"], level=what["level"], **what["fields"])

    def _follow(self, event: str, fields: dict[str, Any], unread_then: Any) -> None:
        """Remember the worker's phase and migration."""
        if event == "phase":
            self.ending.phase = fields["phase"]
            self.verifying = None
            self._start_clock()
        elif event == "migration.started":
            self.ending.migration = fields
            self.ending.began = True
            self._start_clock()
        elif event == "verify.started":
            self.verifying = str(fields.get("check"))
            self._start_clock()
        elif (
            event in ("verify.finished", "verify.failed") and fields.get("check") == self.verifying
        ):
            self.verifying = None
        elif event in ("migration.finished", "migration.failed"):
            self._read_printed(unread_then)
            self.ending.migration = None

    def _start_clock(self) -> None:
        self.started_at = time.monotonic()
        self.alive_at = self.started_at + ALIVE

    def _on_output(self, line: bytes) -> None:
        text = line.decode(errors="backslashreplace").rstrip("\r")[:_TEXT]
        if not text.strip():
            return
        migration = self.ending.migration
        who = _label(migration) if migration else "The run"
        fields = _identity(migration) if migration else {"version": None, "name": None}
        self.emit("migration.output", f"{who} printed: {text}", **fields, text=text)


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


def _holds(number: int) -> bool:
    """Tell whether a pipe has data, or its end, to read now."""
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))


def _identity(migration: dict[str, Any]) -> dict[str, Any]:
    return {"version": migration.get("version"), "name": migration.get("name")}


def _label(migration: dict[str, Any]) -> str:
    return f"Migration {migration.get('version')} ({migration.get('name')})"
