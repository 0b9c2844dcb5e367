"""
Whether another user can read the Python that this process runs on.

A late import opens its file as the user that the process is by then: in a home
directory that only root may enter, it would fail.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from shlex import quote

from entrypoint import privileges
from entrypoint.identities import User
from migrator.errors import NoPermissionError

_NEEDED = ("entrypoint", "migrator", "os", "sqlite3", "_sqlite3", "structlog", "tenacity")


def require_python(user: User) -> None:
    """
    Refuse a user that may not read what the run still has to import.

    Raises:
        NoPermissionError: That user cannot read Python or one of the packages; or
            root may not become that user here.
    """
    files = list(_files())
    with privileges.acting_as(user):
        closed = [path for path in files if not os.access(path, os.R_OK, effective_ids=True)]
        closed_at = _first_closed(closed[0]) if closed else None
    if closed_at is not None:
        raise _refused(closed_at, closed, user)


def _files() -> Iterator[Path]:
    """Yield one file of each package that a run needs; for one in an archive, the archive."""
    for name in _NEEDED:
        origin = getattr(sys.modules.get(name), "__file__", None)
        if origin is None:
            spec = PathFinder.find_spec(name)
            origin = spec.origin if spec is not None else None
        if origin is None or not os.path.isabs(origin):
            continue  # built in
        path = Path(origin)
        while not path.exists():
            path = path.parent
        yield path


def _first_closed(path: Path) -> Path:
    """Return what closes the path to this user: a directory, or the file itself."""
    for part in reversed(path.parents):
        if not os.access(part, os.X_OK, effective_ids=True):
            return part
    return path


def _refused(closed_at: Path, closed: list[Path], user: User) -> NoPermissionError:
    verb = "enter" if closed_at.is_dir() else "read"
    message = (
        f"{user} may not {verb} {str(closed_at)!r}, but Python needs {str(closed[0])!r}: nothing"
        " can run as that user."
    )
    hint = (
        f"Install Python and its packages where everybody can read them, or run"
        f" `{_chmod_commands(closed)}` when building the image."
    )
    return NoPermissionError(message, hint=hint, reason="privileges.python_unreachable")


def _chmod_commands(closed: list[Path]) -> str:
    """Return commands that let everybody read these files."""
    directories = {part for path in closed for part in path.parents if not _has(part, stat.S_IXOTH)}
    packages = {path.parent for path in closed if not _has(path, stat.S_IROTH)}
    commands = []
    if directories:
        commands.append(f"chmod a+x {' '.join(quote(str(each)) for each in sorted(directories))}")
    if packages or not commands:
        places = packages or {path.parent for path in closed}
        commands.append(f"chmod -R a+rX {' '.join(quote(str(each)) for each in sorted(places))}")
    return " && ".join(commands)


def _has(path: Path, bit: int) -> bool:
    return bool(path.stat().st_mode & bit)
