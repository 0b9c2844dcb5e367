"""Doubles for what the engine's modules are handed, and children of the test's own process."""

from __future__ import annotations

import os
import pickle
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.support.machine import tool

T = TypeVar("T")


@dataclass
class Recorder:
    """An `Emit` that keeps what it is told."""

    events: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, event: str, message: str, *, level: str = "info", **fields: Any) -> None:
        """Keep one event."""
        self.events.append({"event": event, "message": message, "level": level, **fields})

    @property
    def names(self) -> list[str]:
        """The names of the events in their order."""
        return [event["event"] for event in self.events]

    def named(self, name: str) -> list[dict[str, Any]]:
        """Return the events of that name."""
        return [event for event in self.events if event["event"] == name]


def in_child(work: Callable[[], T], user: tuple[int, int] | None = None) -> T:
    """
    Call something in a forked child and return, or raise, what it did there.

    Args:
        work: What it returns or raises must be picklable.
        user: User and group to become first, with no other groups.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(work, user, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    good, value = pickle.loads(answer)  # noqa: S301  (our own child's words)
    if not good:
        raise value
    return value  # type: ignore[no-any-return]


def _child(work: Callable[[], Any], user: tuple[int, int] | None, writer: int) -> None:
    try:
        if user is not None:
            os.setgroups([])
            os.setgid(user[1])
            os.setuid(user[0])
        answer = pickle.dumps((True, work()))
    except Exception as error:  # noqa: BLE001  (carried to the parent)
        answer = pickle.dumps((False, error))
    os.write(writer, answer)
    os._exit(0)


@contextmanager
def small_disk(path: Path, size: str = "1m") -> Iterator[Path]:
    """Mount a tmpfs of that size at a directory, made if need be. Needs root."""
    path.mkdir(exist_ok=True)
    _call(tool("mount"), "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", path)
    try:
        yield path
    finally:
        _call(tool("umount"), "-l", path)


@contextmanager
def read_only(path: Path, at: Path) -> Iterator[Path]:
    """Show a directory read-only at another place. Needs root."""
    at.mkdir(exist_ok=True)
    _call(tool("mount"), "--bind", path, at)
    try:
        _call(tool("mount"), "-o", "remount,bind,ro", at)
        yield at
    finally:
        _call(tool("umount"), "-l", at)


def _call(*words: str | Path) -> None:
    subprocess.run(words, check=True, capture_output=True)
