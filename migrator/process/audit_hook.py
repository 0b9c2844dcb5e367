"""
Refuse what a migration's code must not do to the live database past the run's connection.

POSIX record locks of a process vanish when any descriptor of the file is
closed (fcntl(2), https://sqlite.org/howtocorrupt.html 2.2): a `shutil.copy` of
the live database in a migration would drop the locks that SQLite holds, and
another process could write into the middle of the run. A database that is
renamed, replaced or removed under SQLite takes the run's commit with it. And a
registry that opens the database while it is merely being read would write
without a backup.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from migrator.files import sidecars

_OPENED = (
    "{!r} is open in SQLite here; opening it in another way would drop SQLite's locks."
    " Use the connection, or read the backup that was made before this migration."
)
_MOVED = (
    "{!r} is open in SQLite here and may not be removed, renamed, truncated or replaced."
    " Change it through the connection: it takes a rebuilt table as well as a rebuilt file."
)
_MOVING = frozenset(("os.remove", "os.rename", "os.truncate", "os.link", "os.symlink"))
"""The audit events with the path of a file that they would remove or replace."""
_REACHING = _MOVING | {"open", "sqlite3.connect"}
_CONNECTED = "{!r} may not be opened while migrations are only being read."
_REHEARSED = (
    "{!r} is the real database, and a rehearsal works on a copy of it. Use the connection, or the"
    " path in MIGRATOR_DATABASE, which is the copy's meanwhile."
)


class RefusedOpenError(PermissionError):
    """The live database was about to be opened in a way that is not safe now."""


class _Watch:
    """What this process refuses at the moment."""

    def __init__(self) -> None:
        self.files: frozenset[str] = frozenset()
        self.names: frozenset[str] = frozenset()
        self.allowing = 0
        self.foreign = 0
        self.unconnectable: str | None = None
        self.rehearsed: str | None = None
        self.tried_to_connect = False
        self.pid = 0


_watch = _Watch()


def protect(database: Path) -> None:
    """Let only SQLite open the database, for the life of this process."""
    paths = (database, *sidecars(database))
    _watch.files = frozenset(str(path) for path in paths)
    _watch.names = frozenset(path.name for path in paths)
    if _watch.pid != os.getpid():
        _watch.pid = os.getpid()
        sys.addaudithook(_hook)


def forbid(database: Path) -> None:
    """Keep this process from opening a database, because a copy is used in its place."""
    _watch.rehearsed = str(database)


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """Within, the engine itself may open the file, before SQLite has it open."""
    _watch.allowing += 1
    try:
        yield
    finally:
        _watch.allowing -= 1


@contextlib.contextmanager
def foreign_code() -> Iterator[None]:
    """Within, a migration runs: the file may not be moved or removed either."""
    _watch.foreign += 1
    try:
        yield
    finally:
        _watch.foreign -= 1


@contextlib.contextmanager
def unconnectable(database: Path) -> Iterator[_Watch]:
    """Within, not even SQLite opens the database in this process."""
    _watch.unconnectable, _watch.tried_to_connect = str(database), False
    try:
        yield _watch
    finally:
        _watch.unconnectable = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watch.rehearsed is not None and event in _REACHING:
        for path, _ in _moved(arguments) if event in _MOVING else ((arguments[0], -1),):
            if isinstance(path, str | bytes | os.PathLike) and _leads_to(path, _watch.rehearsed):
                raise RefusedOpenError(_REHEARSED.format(path))
    if event == "open":
        if _watch.pid == os.getpid() and not _watch.allowing and _is_watched(arguments[0]):
            raise RefusedOpenError(_OPENED.format(arguments[0]))
    elif event in _MOVING:
        for path, beside in _moved(arguments) if _watch.foreign else ():
            if _is_watched(path, beside):
                raise RefusedOpenError(_MOVED.format(path))
    elif event == "sqlite3.connect" and _leads_to(arguments[0], _watch.unconnectable):
        _watch.tried_to_connect = True
        raise RefusedOpenError(_CONNECTED.format(arguments[0]))


def _moved(arguments: tuple[Any, ...]) -> Iterator[tuple[Any, Any]]:
    """Yield each path of such an event, with the descriptor of its directory."""
    numbers = [each if isinstance(each, int) else -1 for each in arguments[1:]]
    if len(arguments) > 1 and not isinstance(arguments[1], int):
        yield arguments[0], numbers[1] if len(numbers) > 1 else -1
        yield arguments[1], numbers[-1]
    else:
        yield arguments[0], numbers[-1] if numbers else -1


def _is_watched(path: Any, beside: int = -1) -> bool:
    """Tell whether a path, perhaps relative to a directory's descriptor, is a file of SQLite's."""
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    with contextlib.suppress(OSError, ValueError, TypeError):
        text = os.fsdecode(path)
        if beside >= 0 and not os.path.isabs(text):
            text = os.path.join(f"/proc/self/fd/{beside}", text)
        if os.path.basename(text) in _watch.names or os.path.islink(text):
            return os.path.realpath(text) in _watch.files
    return False


def _leads_to(path: Any, database: str | None) -> bool:
    """Tell whether a path, or a URI, is the database's."""
    if database is None:
        return False
    with contextlib.suppress(OSError, ValueError, TypeError):
        text = os.fsdecode(path)
        if text.startswith("file:"):
            from urllib.parse import unquote, urlsplit

            text = unquote(urlsplit(text).path)
        return os.path.realpath(text) == database
    return False
