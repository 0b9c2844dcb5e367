"""
What the current user may do with the database: asked of the kernel, for the effective ids.

Kept apart from the look at the place, because a start that has nothing to
write needs less.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from migrator.errors import MigratorError, NoPermissionError, NotReadyError
from migrator.files import open_regular, sidecars
from migrator.terminal import quote
from migrator.wait import NotYetError

_LOOKS = 3
"""A path that is refused each time was not just gone in between."""


def require_readable(database: Path) -> None:
    """
    Refuse a database, or a sidecar of it, that may not be read.

    Raises:
        NoPermissionError: With owner and mode, and the commands that help.
    """
    if not _may(database, os.R_OK):
        raise denied(database, "may not be read", database)
    for path in sidecars(database):
        if _is_closed(path, os.R_OK):
            raise denied(path, "may not be read", database)


def require_writable(database: Path) -> None:
    """
    Refuse a place that may not be written, when something has to be written.

    Raises:
        NotReadyError: The volume is mounted read-only.
        NotYetError: The directory is not writable yet.
        NoPermissionError: The database or a sidecar may not be written.
    """
    require_mounted_writable(database)
    for path in (database, *sidecars(database)):
        if _is_closed(path, os.R_OK | os.W_OK):
            raise denied(path, "may not be written", database)
    if not _may(database.parent, os.W_OK | os.X_OK):
        raise NotYetError(denied(database.parent, "may not be written", database))


def require_mounted_writable(database: Path) -> None:
    """
    Refuse a volume that is mounted read-only.

    Raises:
        NotReadyError: It is; that cannot pass.
    """
    for path in (database, database.parent):
        if os.path.lexists(path) and _read_only(path):
            msg = f"{str(path)!r} has to be written, and its volume is mounted read-only."
            hint = (
                "Mount it without `:ro` (compose: without `read_only: true`; Kubernetes:"
                " `readOnly: false`). After an error of the disk the kernel itself makes a file"
                " system read-only: see `dmesg`."
            )
            raise NotReadyError(msg, hint=hint, reason="volume.read_only", retryable=False)


def read_small(path: Path, most: int, database: Path | None = None) -> bytes | None:
    """
    Read a small file of our own; None if it does not exist.

    Args:
        path: The file.
        most: How many bytes of it, at most.
        database: Its database, so that the error can name everything that needs permission.

    Raises:
        NotReadyError: Something other than a regular file is in its place.
        NoPermissionError: It may not be read.
        DiskError: It cannot be read.
    """
    try:
        descriptor = open_regular(path)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise denied(path, "may not be read", database) from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            # No run was ever possible here: it needs longer names beside the database.
            return None
        raise _unreadable(path, error) from error
    try:
        return os.read(descriptor, most)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)


def _unreadable(path: Path, error: OSError) -> MigratorError:
    from migrator.file_errors import kind_of, refusal, unsafe_entry

    if error.errno == errno.EINVAL:
        # `open_regular` says so of everything that is not a regular file.
        return unsafe_entry(path, kind_of(path))
    return refusal(error, path, "reading")


def denied(path: Path, what: str, database: Path | None = None) -> NoPermissionError:
    """
    Return the error of a path that the current user may not use.

    Args:
        path: The file or directory.
        what: What may not be done, as in "may not be read".
        database: The one that it belongs to, where that is known.
    """
    us = f"{os.geteuid()}:{os.getegid()}"
    found = _nearest(path)
    if found is None:
        hint = _hint(path, us, None, database)
        return NoPermissionError(f"{str(path)!r} {what} by {us}.", hint=hint)
    there, status = found
    owner = f"{status.st_uid}:{status.st_gid}"
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    whose = "it" if there == path else repr(str(there))
    msg = f"{str(path)!r} {what} by {us}: {whose} belongs to {owner} with mode {mode}."
    if there != path and database is None:
        # A directory that may not be entered hides what is in it.
        database = path
    hint = _hint(there, us, status, database)
    return NoPermissionError(msg, hint=hint, data={"owner": owner, "mode": mode, "user": us})


def _hint(path: Path, us: str, status: os.stat_result | None, database: Path | None) -> str:
    fixed = f"run `{_change_of_owner(path, us, database)}` on the volume"
    if status is None or status.st_uid == os.geteuid():
        return f"Check the mode of {str(path)!r} (`chmod u+rwX {quote(str(path))}`), or {fixed}."
    if status.st_uid == 0:
        uid, _, gid = us.partition(":")
        return (
            "Start the container as root and let it hand the files over:"
            f" {_as_root(uid, gid)}, or {fixed}."
        )
    owner = f"{status.st_uid}:{status.st_gid}"
    return (
        f"Start the container as the owner: `docker run --user {owner} …` (compose:"
        f' `user: "{owner}"`), or as root that becomes the owner:'
        f" {_as_root(status.st_uid, status.st_gid)}, or {fixed}."
    )


def _as_root(uid: int | str, gid: int | str) -> str:
    return (
        f'`docker run --user 0:0 -e PUID={uid} -e PGID={gid} …` (compose: `user: "0:0"` and'
        f" `environment: {{PUID: {uid}, PGID: {gid}}}`)"
    )


def _change_of_owner(path: Path, us: str, database: Path | None) -> str:
    """Return the command that gives us what is in the way, and not only the first of it."""
    if database is None:
        return f"chown {us} {quote(str(path))}"
    if not _may(database.parent, os.X_OK):
        return f"chown -R {us} {quote(str(path))}"
    files = (database.parent, database, *sidecars(database))
    ours = (Path(f"{database}.migrator"), database.parent / "backups")
    flat = [each for each in files if each == path or _is_closed(each)]
    command = f"chown {us} {' '.join(quote(str(each)) for each in flat)}"
    deep = [quote(str(each)) for each in ours if _is_closed(each)]
    return f"{command} && chown -R {us} {' '.join(deep)}" if deep else command


def _is_closed(path: Path, mode: int = os.R_OK | os.W_OK) -> bool:
    """Tell whether a path is there and may not be used."""
    # An application creates and deletes its journal all the time: a missing one is no refusal.
    return all(os.path.lexists(path) and not _may(path, mode) for _ in range(_LOOKS))


def _nearest(path: Path) -> tuple[Path, os.stat_result] | None:
    """Return the status of a path, or of the first directory above it that can be looked at."""
    for there in (path, *path.parents):
        try:
            return there, os.stat(there)
        except OSError:
            continue
    return None


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=True)


def _read_only(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.ENOENT):
            return False
        raise
