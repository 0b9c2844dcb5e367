"""The compiled recorder, and the log of operations that it writes."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("recorder.c")
OPERATIONS = (
    "create",
    "write",
    "size",
    "sync",
    "mode",
    "mkdir",
    "remove",
    "rename",
    "link",
    "said",
)
_RECORD = struct.Struct("=IiQQIIQ")


@dataclass(frozen=True, slots=True)
class Operation:
    """
    One call that changed something, or a word of success or failure to the world.

    Args:
        name: One of `OPERATIONS`.
        inode: Of the file that it is about; 0 for a removal.
        number: The offset of a write, the new size, or the mode.
        path: Relative to the volume.
        target: Where it was renamed to.
        data: What was written, or said.
    """

    name: str
    inode: int = 0
    number: int = 0
    path: str = ""
    target: str = ""
    data: bytes = b""

    def __str__(self) -> str:
        """Return it as in a trace."""
        where = f"{self.path or '.'}{f' -> {self.target}' if self.target else ''}"
        what = f" {self.number}+{len(self.data)}" if self.name == "write" else ""
        return f"{self.name} {where}{what}"


class Recorder:
    """
    The recorder with files of its own.

    Args:
        library: What `compiled` returned.
        directory: Where its files go.
        root: The directory whose operations are recorded.
    """

    def __init__(self, library: Path, directory: Path, root: Path) -> None:
        self._log, lock = directory / "operations", directory / "operations-lock"
        lock.write_bytes(bytes(4096))
        self.env = {
            "LD_PRELOAD": str(library),
            "RECORDER_ROOT": str(root),
            "RECORDER_LOG": str(self._log),
            "RECORDER_LOCK": str(lock),
        }
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._log.write_bytes(b"")

    def operations(self) -> list[Operation]:
        """Return what was recorded since."""
        return list(_parsed(self._log.read_bytes()))


def _parsed(log: bytes) -> Iterator[Operation]:
    at = 0
    while at < len(log):
        kind, _, inode, number, *sizes = _RECORD.unpack_from(log, at)
        at += _RECORD.size
        parts = []
        for size in sizes:
            parts.append(log[at : at + size])
            at += size
        path, target = os.fsdecode(parts[0]), os.fsdecode(parts[1])
        yield Operation(OPERATIONS[kind], inode, number, path, target, parts[2])


def compiled(source: Path, directory: Path, *flags: str) -> Path:
    """Compile a library or a program; skip on a machine without what it needs, unless it is CI."""
    made = directory / source.stem
    compiler = shutil.which("cc") or shutil.which("gcc")
    command = [compiler or "cc", "-O2", "-o", str(made), str(source), *flags]
    done = None
    if compiler is not None:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode == 0:
            return made
    message = f"needs {' '.join(command)}: {done.stderr if done else 'no compiler'}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def recorder(directory: Path) -> Path:
    """Compile the recorder."""
    return compiled(SOURCE, directory, "-shared", "-fPIC", "-ldl")
