"""
The checks on the database's volume, before anything is read or written there.

A problem that may still pass is a `NotYetError`, which `wait_until_ready`
repeats; any other ends the start at once. The checks create and write nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from entrypoint.volume import mounts
from entrypoint.volume.mounts import Volume
from migrator import access
from migrator.errors import NotReadyError
from migrator.inspect.location import check_directory, check_file, check_not_lost, translated_errors
from migrator.wait import NotYetError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.model import Emit

_LOCKLESS = frozenset({"9p"})
_LOCKLESS_OPTIONS = frozenset({"nolock", "nobrl", "local_lock=all", "local_lock=posix"})
_DOUBTFUL = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "virtiofs", "overlay", "vfat", "msdos"}
)
_NOT_MOUNTED = "volume.not_mounted"
_VOLUME_HINT = (
    "Mount a named volume: `docker run -v NAME:{directory} …`; in a compose file"
    ' `services: {{app: {{volumes: ["NAME:{directory}"]}}}}` and `volumes: {{NAME: {{}}}}`.'
    " `--mount ignore` (MIGRATOR_MOUNT=ignore) starts anyway, and the data is lost with"
    " the container."
)


def inspect(
    database: Path,
    backup_dir: Path,
    *,
    create: str,
    mount_policy: str,
    container: bool,
    emit: Emit,
    unfinished: bool = False,
    as_user: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> None:
    """
    Check the volume of a database once, and the database as a file.

    Whether it is writable is checked only before something is written:
    `access.require_writable`.

    Args:
        database: The resolved path.
        backup_dir: The directory of the finished backups.
        create: `auto`, or `never` for a database that somebody else creates.
        mount_policy: `require`, `warn` or `ignore`.
        container: Whether this is a container; mounts matter only there.
        emit: Gets the warnings, once all checks have passed.
        unfinished: Whether an interrupted run is to be recovered first: the
            database may be missing until then.
        as_user: Entered around the checks of files, to do them as another user.

    Raises:
        NotYetError: The problem may still pass.
        NotReadyError: It cannot: no volume, a single file, no locks, more links.
        DamagedError: The database's path is not a regular file.
        NoPermissionError: The database may not be read.
    """
    volume = mounts.classify(database, mounts.read())
    policy = mount_policy if container else "ignore"
    with translated_errors(database.parent):
        check_locks(database, volume)
        # Before the mount: the hint for a single file is the more helpful one.
        check_single_file(database, volume)
        check_mount(database, volume, policy, emit)
        with as_user():
            check_directory(database.parent)
            if check_file(database):
                access.require_readable(database)
            if not unfinished:
                check_not_lost(database, backup_dir, create)
    if container:
        warn(database, volume, policy, emit)


def check_locks(database: Path, volume: Volume) -> None:
    """Refuse a mount on which locks do not work, or not between machines."""
    mount = volume.mount
    options = _LOCKLESS_OPTIONS.intersection((*mount.options, *mount.super_options))
    if mount.fstype in _LOCKLESS:
        why = f"it is on {mount.fstype}"
    elif options:
        why = f"{mount.mount_point!r} is mounted with {min(options)!r}"
    else:
        return
    from migrator.database.lock_selftest import no_locks

    raise no_locks(database, why)


def check_mount(database: Path, volume: Volume, policy: str, emit: Emit) -> None:
    """
    Refuse, with `require`, a volume that is lost with the container.

    Raises:
        NotYetError: The directory receives mounts from outside, so that the
            volume may still arrive.
        NotReadyError: No volume can arrive there.
    """
    if policy != "require" or not _refused(database, volume):
        return
    msg = f"{_description(database, volume)} No volume is mounted there."
    if volume.kind == "anonymous":
        msg = f"{_description(database, volume)} It holds no database yet."
    error = NotReadyError(
        msg,
        hint=_volume_hint(database),
        reason=_NOT_MOUNTED,
        retryable=False,
    )
    fields = {"kind": volume.kind, "fstype": volume.fstype, "hint": error.hint}
    if _may_arrive(database, volume):
        raise NotYetError(error, event=_NOT_MOUNTED, fields=fields)
    emit(_NOT_MOUNTED, error.message, level="error", **fields)
    raise error


def check_single_file(database: Path, volume: Volume) -> None:
    """Refuse a database that is mounted as a single file: its journal would be lost."""
    if not volume.single_file:
        return
    hint = (
        f"Mount its directory instead: `docker run -v DIRECTORY:{database.parent} …`"
        f" (compose: `DIRECTORY:{database.parent}`)."
    )
    if os.path.isdir(database):
        msg = (
            f"{str(database)!r} is a mount point and a directory: Docker makes one when the file"
            " to be mounted does not exist."
        )
    else:
        msg = (
            f"{str(database)!r} is mounted as a single file: its `-wal` and `-journal` would be"
            " outside of the mount, and recent changes would be lost with the container."
        )
    raise NotReadyError(msg, hint=hint, reason="volume.single_file", retryable=False)


def warn(database: Path, volume: Volume, policy: str, emit: Emit) -> None:
    """Warn about data that does not last, and about locks that may not be reliable."""
    fields = {"kind": volume.kind, "fstype": volume.fstype}
    if policy != "ignore" and volume.kind == "empty-dir":
        text = f"{_description(database, volume)} Use a PersistentVolumeClaim for data that lasts."
        emit("volume.warning", text, level="warning", reason="volume.empty_dir", **fields)
    elif policy != "ignore" and not volume.lasting:
        text = f"{_description(database, volume)} {_volume_hint(database)}"
        emit(_NOT_MOUNTED, text, level="warning", **fields)
    elif volume.fstype in _DOUBTFUL or volume.fstype.startswith("fuse"):
        text = (
            f"{str(database)!r} is on {volume.fstype}, where file locks and fsync are not always"
            " reliable: keep it on a local file system or a block volume."
        )
        emit("volume.warning", text, level="warning", reason="volume.file_system", **fields)


def _refused(database: Path, volume: Volume) -> bool:
    if volume.kind == "anonymous":
        # Restarts of this container find their data there, so they are only warned.
        return not os.path.lexists(database)
    return volume.kind in ("container-layer", "tmpfs")


def _volume_hint(database: Path) -> str:
    if database.parent == Path("/"):
        move = f"Give the database a directory of its own: `--database /data/{database.name}`. "
        return move + _VOLUME_HINT.format(directory="/data")
    return _VOLUME_HINT.format(directory=database.parent)


def _may_arrive(database: Path, volume: Volume) -> bool:
    """Tell whether a volume can still be mounted there from outside."""
    point = volume.mount.mount_point
    below = point not in ("/", str(database.parent))
    return volume.kind != "anonymous" and below and volume.mount.receives


def _description(database: Path, volume: Volume) -> str:
    directory = str(database.parent)
    what = {
        "container-layer": "in the container's own layer and is lost with the container",
        "tmpfs": f"in memory ({volume.fstype}) and is lost with the container",
        "anonymous": (
            f"on the anonymous volume {(volume.name or '')[:12]}…: the next container gets"
            " another, empty one"
        ),
        "empty-dir": "in an emptyDir, which is lost with its Pod",
    }[volume.kind]
    return f"{directory!r}, the directory of the database, is {what}."
