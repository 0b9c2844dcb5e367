"""
Tell volumes apart, as far as that is visible from within a container.

In containers every database may have the same path. Two volumes of one machine differ in
the directory of the file system that is mounted, which proc_pid_mountinfo(5) calls the root:
`/var/lib/docker/volumes/NAME/_data`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

_MOUNTS: Final = "/proc/self/mountinfo"
_ESCAPE = re.compile(r"\\([0-7]{3})")
_GENERATED = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Generated names: of anonymous volumes, of claims and Pods in Kubernetes."""


def place_of(directory: Path) -> str | None:
    """
    Return where a directory is on its file system, as `ID:PATH`; None if unknown.

    `ID` is the file system's own (statvfs(3), `f_fsid`), `PATH` the same whatever the
    directory is mounted as.
    """
    try:
        number = os.statvfs(directory).f_fsid
    except OSError:
        return None
    root, point = _mount(directory)
    if not number or not root:
        return None
    below = os.path.relpath(directory, point)
    return f"{number & (1 << 64) - 1:x}:{os.path.normpath(os.path.join(root, below))}"


def are_two(one: str | None, other: str | None) -> bool:
    """Tell whether two places are certainly two volumes, both named by a person."""
    # Other file systems, or generated names, prove nothing: the second volume may replace the
    # first one, which was lost.
    if one is None or other is None or _GENERATED.search(one) or _GENERATED.search(other):
        return False
    (mine, here), (its, there) = (each.partition(":")[::2] for each in (one, other))
    return mine == its and here != there


def is_one_mount(one: Path, other: Path) -> bool:
    """Tell whether two directories are reached through the same mount."""
    return _mount(one) == _mount(other)


def _mount(directory: Path) -> tuple[str, str]:
    """Return the root and the mount point of a directory's mount."""
    found = ("", "")
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                root, point = (_plain(field) for field in line.split(" ", 5)[3:5])
                # Of several mounts in one place the last one is visible.
                if len(point) >= len(found[1]) and directory.is_relative_to(point):
                    found = root, point
    except (OSError, ValueError):
        return "", ""
    return found


def _plain(field: str) -> str:
    """Undo the kernel's octal escapes of space, tab, newline and backslash."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), field)
