"""Errors for what the kernel refuses, and for something else where our files belong."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from migrator.errors import DiskError, MigratorError, NoPermissionError, NotReadyError
from migrator.terminal import quote


def unsafe_entry(
    path: Path, found: str, belongs: str = "a file or directory of this program", doing: str = ""
) -> NotReadyError:
    """Return the error for something else where a file of this program, or of SQLite, belongs."""
    msg = f"{doing}{str(path)!r} is {found}, where {belongs} belongs."
    move = f"mv {quote(str(path))} {quote(f'{path}.moved')}"
    return NotReadyError(
        msg,
        hint=f"Find out who put it there, then move it away: `{move}`.",
        reason="volume.unsafe_entry",
        retryable=False,
    )


def refusal(error: OSError, path: Path, doing: str) -> MigratorError:
    """
    Turn what the kernel said into the error that an operator reads.

    Args:
        error: What was raised.
        path: What was being used.
        doing: What was being done, as `creating the directory`.
    """
    said = os.strerror(error.errno) if error.errno else str(error)
    msg = f"While {doing} {str(path)!r}: {said}."
    match error.errno:
        case errno.EACCES | errno.EPERM:
            directory = path if os.path.isdir(path) else path.parent
            hint = f"Give user {os.geteuid()} permission to read and write {str(directory)!r}."
            return NoPermissionError(msg, hint=hint)
        case errno.EROFS | errno.ENOENT:
            gone = error.errno == errno.ENOENT
            hint = "Mount the volume for reading and writing."
            if gone:
                hint = f"Check that {str(path.parent.parent)!r} exists and its volume is mounted."
            reason = "volume.directory_missing" if gone else "volume.read_only"
            return NotReadyError(msg, hint=hint, reason=reason, retryable=gone)
        case errno.ENAMETOOLONG:
            hint = "Give the database a shorter name: some of its files have longer ones."
            return NotReadyError(msg, hint=hint, reason="volume.unusable", retryable=False)
        case errno.ELOOP | errno.ENOTDIR | errno.EISDIR | errno.EEXIST | errno.ENXIO:
            return _in_the_way(path, f"While {doing} {str(path)!r}: ")
        case errno.ENOSPC | errno.EDQUOT:
            hint = "Free space on the volume, then start again."
            return DiskError(msg, hint=hint, reason="disk.full")
    return DiskError(msg, hint="Look at the disk and the kernel's log (dmesg).")


def _in_the_way(path: Path, doing: str) -> NotReadyError:
    """Name what is at a path, or at its nearest existing parent."""
    at = next(each for each in (path, *path.parents) if os.path.lexists(each))
    if at == path:
        return unsafe_entry(path, kind_of(path))
    if os.path.isdir(at):
        return unsafe_entry(path, "something else")
    return unsafe_entry(at, kind_of(at), "a directory", doing)


def kind_of(path: Path) -> str:
    """Name what a path is, as a person would: `a symbolic link`, `a directory`..."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return "nothing"
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a directory",
        stat.S_IFREG: "a file",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")
