"""
The checks on the place where the database lies, before anything is read or written there.

What cannot pass ends at once with its own error; what can still pass is a
`NotYetError`, for `wait.wait_until_ready` to repeat. Looking creates and
writes nothing: a place that is looked at stays as it was.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from entrypoint import mounts
from entrypoint.mounts import Volume
from migrator import access
from migrator.errors import DamagedError, DiskError, MigratorError, NotReadyError
from migrator.wait import NotYetError

if TYPE_CHECKING:
    from migrator.model import Emit

_LOCKLESS = frozenset({"9p"})
_LOCKLESS_OPTIONS = frozenset({"nolock", "nobrl", "local_lock=all", "local_lock=posix"})
_DOUBTFUL = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "virtiofs", "overlay", "vfat", "msdos"}
)
_GONE = frozenset({errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.ENODEV})
_DENIED = frozenset({errno.EACCES, errno.EPERM})
_NOT_MOUNTED = "volume.not_mounted"
_VOLUME_HINT = (
    "Mount a named volume: `docker run -v NAME:{directory} …`; in a compose file"
    ' `services: {{app: {{volumes: ["NAME:{directory}"]}}}}` and `volumes: {{NAME: {{}}}}`.'
    " `--mount ignore` (MIGRATOR_MOUNT=ignore) starts all the same, and the data is lost with"
    " the container."
)


@dataclass(frozen=True, slots=True)
class Place:
    """What the checks found: where the database lies, and whether there is one yet."""

    database: Path
    volume: Volume
    exists: bool


def inspect(
    database: Path,
    backup_dir: Path,
    *,
    create: str,
    mount_policy: str,
    container: bool,
    emit: Emit,
    unfinished: bool = False,
    admit: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Place:
    """
    Look once at the place of a database, and at the database as a file.

    Whether it may be written is another question, asked only when something has
    to be written: `access.require_writable`.

    Args:
        database: The resolved path.
        backup_dir: Where the finished backups lie.
        create: `auto`, or `never` for a database that has to come from elsewhere.
        mount_policy: `require`, `warn` or `ignore`.
        container: Whether this is one; on a host nothing is said about mounts.
        emit: Gets the warnings, once everything else is right.
        unfinished: Whether an interrupted run is to be settled first: it may
            have left anything but a place that is lost.
        admit: Entered around the looks at files, to do them as another user.

    Raises:
        NotYetError: What is wrong may still pass.
        NotReadyError: It cannot: no volume, a single file, no locks, more links.
        DamagedError: Something else stands in the database's place.
        NoPermissionError: The database may not be read.
    """
    volume = mounts.classify(database, mounts.read())
    policy = mount_policy if container else "ignore"
    with _explained(database.parent):
        check_locks(database, volume)
        check_mount(database, volume, policy, emit)
        with admit():
            check_directory(database.parent)
            check_single_file(database, volume)
            exists = check_file(database)
            if exists:
                access.require_readable(database)
            elif not unfinished:
                check_missing(database, backup_dir, create)
    place = Place(database, volume, exists)
    if container:
        warn(place, policy, emit)
    return place


def check_locks(database: Path, volume: Volume) -> None:
    """Refuse a file system whose mount says that locks do not reach other machines, or at all."""
    mount = volume.mount
    options = _LOCKLESS_OPTIONS.intersection((*mount.options, *mount.super_options))
    if mount.fstype in _LOCKLESS:
        raise no_locks(database, f"it lies on {mount.fstype}")
    if options:
        raise no_locks(database, f"{mount.mount_point!r} is mounted with {min(options)!r}")


def no_locks(database: Path, why: str) -> NotReadyError:
    """Return the error of a place where locks do not work."""
    msg = (
        f"File locks do not work where {str(database)!r} lies ({why}):"
        " two processes would damage the database."
    )
    hint = (
        "Keep the database on a local file system or a block volume, or mount the share with"
        " locks (NFS without `nolock` and `local_lock`, SMB without `nobrl`)."
    )
    return NotReadyError(msg, hint=hint, reason="volume.no_locks", retryable=False)


def check_mount(database: Path, volume: Volume, policy: str, emit: Emit) -> None:
    """
    Refuse, with `require`, a place whose data goes with the container.

    Raises:
        NotYetError: The place lies below a mount that receives others from
            outside, so that the volume may still arrive.
        NotReadyError: No volume can arrive there any more.
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


def check_directory(directory: Path) -> None:
    """Wait for a directory that is missing, or that has no directory on its way."""
    try:
        found = os.stat(directory)
    except FileNotFoundError:
        msg = f"The directory {str(directory)!r} does not exist."
        hint = f"Mount a volume there, or make it: `mkdir -p {quote(str(directory))}`."
        raise NotYetError(
            NotReadyError(msg, hint=hint, reason="volume.directory_missing")
        ) from None
    if not stat.S_ISDIR(found.st_mode):
        raise _no_directory(directory)


def check_single_file(database: Path, volume: Volume) -> None:
    """Refuse a database that is mounted alone: its journal would lie in another place."""
    if not volume.single_file:
        return
    hint = (
        f"Mount its directory instead: `docker run -v DIRECTORY:{database.parent} …`"
        f" (compose: `DIRECTORY:{database.parent}`)."
    )
    if database.is_dir():
        msg = (
            f"{str(database)!r} is a mount point and a directory: Docker makes one where the file"
            " that is to be mounted does not exist."
        )
    else:
        msg = (
            f"{str(database)!r} is mounted as a single file: its `-wal` and `-journal` would lie"
            " outside of that mount, and recent changes would be lost with the container."
        )
    raise NotReadyError(msg, hint=hint, reason="volume.single_file", retryable=False)


def check_file(database: Path) -> bool:
    """
    Refuse what is no plain file with one name.

    Returns:
        Whether the database exists.
    """
    try:
        found = os.stat(database)
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(found.st_mode):
        msg = f"{str(database)!r} is a directory, where the database file should be."
        hint = "Name the file in `--database` (MIGRATOR_DATABASE), not its directory."
        raise DamagedError(msg, hint=hint, reason="database.is_directory")
    if not stat.S_ISREG(found.st_mode):
        msg = f"{str(database)!r} is {_type(found.st_mode)}, where the database file should be."
        raise DamagedError(msg, hint="Name a regular file.", reason="database.not_a_file")
    links = found.st_nlink - _own_links(database, found)
    if links > 1:
        msg = (
            f"{str(database)!r} has {links} hard links: SQLite keeps the journal beside one name"
            " only, and a process that opens another one damages the database."
        )
        hint = (
            f"Find the others with `find / -xdev -samefile {quote(str(database))}` and remove them."
        )
        raise NotReadyError(msg, hint=hint, reason="database.hard_links", retryable=False)
    return True


def check_missing(database: Path, backup_dir: Path, create: str) -> None:
    """Wait where a missing database is not a first install."""
    if create == "never":
        msg = f"{str(database)!r} does not exist, and `--create never` forbids to create it."
        hint = (
            "Check that the right volume is mounted; for a first install leave"
            " `--create` (MIGRATOR_CREATE) at `auto`."
        )
        raise NotYetError(NotReadyError(msg, hint=hint, reason="database.missing"))
    found = strays(database, backup_dir)
    if found:
        msg = (
            f"{str(database)!r} does not exist, but {str(found[0])!r} does: a database was here,"
            " so this is no first install."
        )
        hint = (
            "Bring the database back (`migrator backups`, `migrator restore latest`), or move"
            f" {', '.join(repr(str(path)) for path in found[:3])} away to begin anew."
        )
        raise NotYetError(
            NotReadyError(
                msg, hint=hint, reason="database.missing", data={"found": [str(p) for p in found]}
            )
        )


def strays(database: Path, backup_dir: Path) -> tuple[Path, ...]:
    """
    Return what a database leaves behind: `-wal`, `-journal` and its finished backups.

    In a backup directory that several databases share, a backup that says it is
    another path's is not counted; beside the database the name alone decides,
    since a volume may be mounted elsewhere each time.
    """
    beside = (Path(f"{database}{suffix}") for suffix in ("-wal", "-journal"))
    shared = Path(os.path.realpath(backup_dir)).parent != database.parent
    pattern = re.compile(rf"{re.escape(database.name)}-\d+.*\.db")
    try:
        names = sorted(os.listdir(backup_dir))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        names = []
    backups = [Path(backup_dir, name) for name in names if pattern.fullmatch(name)]
    ours = [path for path in backups if not shared or _backup_of(path) in (None, str(database))]
    return (*(path for path in beside if os.path.lexists(path)), *ours)


def warn(place: Place, policy: str, emit: Emit) -> None:
    """Say what is no reason to refuse: data that does not last, locks that may not be reliable."""
    volume, database = place.volume, place.database
    fields = {"kind": volume.kind, "fstype": volume.fstype}
    if policy != "ignore" and volume.kind == "empty-dir":
        text = f"{_description(database, volume)} Use a PersistentVolumeClaim for data that lasts."
        emit("volume.warning", text, level="warning", reason="volume.empty_dir", **fields)
    elif policy != "ignore" and not volume.lasting:
        text = f"{_description(database, volume)} {_volume_hint(database)}"
        emit(_NOT_MOUNTED, text, level="warning", **fields)
    elif volume.fstype in _DOUBTFUL or volume.fstype.startswith("fuse"):
        text = (
            f"{str(database)!r} lies on {volume.fstype}, where file locks and fsync are not always"
            " reliable: keep it on a local file system or a block volume."
        )
        emit("volume.warning", text, level="warning", reason="volume.file_system", **fields)


def _refused(database: Path, volume: Volume) -> bool:
    if volume.kind == "anonymous":
        # A later start finds its data there; only a warning then.
        return not os.path.lexists(database)
    return volume.kind in ("container-layer", "tmpfs")


def _volume_hint(database: Path) -> str:
    if database.parent == Path("/"):
        move = f"Give the database a directory of its own: `--database /data/{database.name}`. "
        return move + _VOLUME_HINT.format(directory="/data")
    return _VOLUME_HINT.format(directory=database.parent)


def _may_arrive(database: Path, volume: Volume) -> bool:
    """Tell whether a volume can still be mounted on the directory from outside."""
    point = volume.mount.mount_point
    below = point not in ("/", str(database.parent))
    return volume.kind != "anonymous" and below and volume.mount.receives


def _description(database: Path, volume: Volume) -> str:
    directory = str(database.parent)
    what = {
        "container-layer": "in the container's own layer and goes with the container",
        "tmpfs": f"in memory ({volume.fstype}) and goes with the container",
        "anonymous": (
            f"on the anonymous volume {(volume.name or '')[:12]}…: the next container gets"
            " another, empty one"
        ),
        "empty-dir": "in an emptyDir, which goes with its Pod",
    }[volume.kind]
    return f"{directory!r}, the directory of the database, lies {what}."


def _type(mode: int) -> str:
    kinds = (
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((name for test, name in kinds if test(mode)), "no regular file")


def _own_links(database: Path, found: os.stat_result) -> int:
    """Count the names in our own directory: a first install that was cut off leaves one."""
    if found.st_nlink == 1:
        return 0
    ours = f"{database}.migrator"
    with contextlib.suppress(OSError), os.scandir(ours) as entries:
        return sum(entry.inode() == found.st_ino for entry in entries)
    return 0


def _backup_of(path: Path) -> str | None:
    """Return the database that a backup says it is of, None where it does not say."""
    import json

    with contextlib.suppress(OSError, ValueError):
        description = json.loads(path.with_suffix(".json").read_text("utf-8"))
        if isinstance(description, dict) and isinstance(description.get("database"), str):
            return str(description["database"])
    return None


def _no_directory(directory: Path) -> NotReadyError:
    msg = f"{str(directory)!r} is no directory, or a part of it is none."
    hint = "Check `--database` (MIGRATOR_DATABASE)."
    return NotReadyError(msg, hint=hint, reason="volume.no_directory", retryable=False)


@contextlib.contextmanager
def _explained(directory: Path) -> Iterator[None]:
    """Translate what the system says of a place that cannot be looked at."""
    try:
        yield
    except NotADirectoryError as error:
        raise _no_directory(directory) from error
    except OSError as error:
        raise _failure(directory, error) from error


def _failure(directory: Path, error: OSError) -> MigratorError:
    path = str(error.filename or directory)
    text = f"{path!r} cannot be looked at: {error.strerror}."
    if error.errno in _DENIED:
        return NotYetError(access.denied(Path(path), "may not be looked at"))
    if error.errno in _GONE:
        hint = "The volume's server does not answer, or the mount is stale: mount it again."
        return NotYetError(NotReadyError(text, hint=hint, reason="volume.stale"))
    if error.errno == errno.EIO:
        return DiskError(text, hint="Check the volume and its disk.")
    return NotReadyError(text, hint="Check the path.", reason="volume.unusable", retryable=False)
