"""The compiled shim, and the file through which it is told what to do."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("shim.c")
ENTRIES = 16384
_NUMBER = re.compile(r"(?<=/)#\d+(?= \(deleted\)$)")

WRITE, SYNC, CREATE, REMOVE, RENAME, LINK, SIZE, OWNER, MAP = (1 << n for n in range(9))
"""Kinds of calls, as bits."""
NEEDS_SPACE = WRITE | CREATE | LINK
NEEDS_PERMISSION = CREATE | REMOVE | RENAME | LINK
EVERYTHING = 511

ACTIONS = (
    "count",
    "all-before",
    "all-after",
    "worker-before",
    "worker-after",
    "parent-before",
    "parent-after",
    "torn",
    "short",
    "error-once",
    "error-on",
)


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """
    One fault: what happens at the N-th call.

    Args:
        point: N, from 1; 0 counts only.
        action: One of `ACTIONS`.
        error: The errno of an error.
    """

    point: int
    action: str
    error: int = 0

    @property
    def kills(self) -> bool:
        """Whether a process is killed by it."""
        return self.action not in ("count", "short", "error-once", "error-on")

    @property
    def mask(self) -> int:
        """The kinds of calls that a lasting error makes fail."""
        if self.error == errno.EACCES:
            return NEEDS_PERMISSION
        return NEEDS_SPACE if self.error in (errno.ENOSPC, errno.EDQUOT) else EVERYTHING

    def __str__(self) -> str:
        """Return its name, which `parse` reads back."""
        name = f":{errno.errorcode[self.error]}" if self.error else ""
        return f"{self.action}{name}@{self.point}"

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read `action[:ERRNO]@N`."""
        what, _, point = text.partition("@")
        action, _, name = what.partition(":")
        return cls(int(point), action, getattr(errno, name) if name else 0)


@dataclass(frozen=True, slots=True)
class Call:
    """One counted call: whose, which, on what (relative to the volume)."""

    pid: int
    kind: int
    name: str
    path: str

    def __str__(self) -> str:
        """Return it as in a trace, but for the number of a file that never had a name."""
        return f"{self.name} {_NUMBER.sub('#', self.path)}"


class _Entry(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_int32),
        ("kind", ctypes.c_uint32),
        ("name", ctypes.c_char * 24),
        ("path", ctypes.c_char * 96),
    )


class _Control(ctypes.Structure):
    _fields_ = (
        ("count", ctypes.c_uint64),
        ("point", ctypes.c_uint64),
        ("seed", ctypes.c_uint64),
        ("epoch", ctypes.c_int64),
        ("action", ctypes.c_uint32),
        ("error", ctypes.c_uint32),
        ("mask", ctypes.c_uint32),
        ("fired", ctypes.c_uint32),
        ("root", ctypes.c_char * 1024),
        ("entries", _Entry * ENTRIES),
    )


class Shim:
    """
    The shim with a control file of its own.

    Args:
        library: What `compiled` returned.
        control: Where the control file goes.
    """

    def __init__(self, library: Path, control: Path) -> None:
        self.env = {"LD_PRELOAD": str(library), "FAULT_CONTROL": str(control)}
        with control.open("w+b") as file:
            file.truncate(ctypes.sizeof(_Control))
            self._map = mmap.mmap(file.fileno(), 0)
        self._control = _Control.from_buffer(self._map)

    def arm(self, fault: Fault, root: Path, run: int = 1) -> None:
        """
        Count from zero, and inject this fault.

        Args:
            fault: The fault.
            root: The directory whose calls count.
            run: Runs of one number have the same ids, times and random bytes, and
                their clock ticks every five seconds only.
        """
        control = self._control
        control.root = os.fsencode(root)
        control.count, control.fired, control.seed = 0, 0, run
        control.epoch = int(time.monotonic())
        control.action, control.error = ACTIONS.index(fault.action), fault.error
        control.mask = fault.mask
        control.point = fault.point

    @property
    def fired(self) -> int:
        """How many calls the fault has met."""
        return int(self._control.fired)

    def calls(self) -> list[Call]:
        """Return what was counted since `arm`."""
        count = int(self._control.count)
        assert count <= ENTRIES, f"{count} calls are more than the control file has room for."
        return [
            Call(each.pid, each.kind, each.name.decode(), os.fsdecode(each.path))
            for each in self._control.entries[:count]
        ]


def compiled(directory: Path) -> Path:
    """Compile the shim, or skip the test on a machine without a compiler that is not CI's."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        message = "needs cc"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    library = directory / "shim.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return library
