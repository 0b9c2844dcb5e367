"""How much space a run needs, and whether it is there before the first byte is written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from migrator.backups.retention import prune_one, spare_backups
from migrator.errors import BackupError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from migrator.database.workspace import Layout
    from migrator.model import Emit

_SLACK = 64 << 20
_MIB = 1 << 20
_COPYING = (0x9123683E, 0x2FC12FC1, 0xCA451A4E)
"""`f_type` of btrfs, ZFS and bcachefs."""


def space_needed(layout: Layout, database_bytes: int, way: str) -> int:
    """
    Return how many bytes a run needs in all, on any volume.

    Way A writes a backup; way B a backup, the copy that it migrates and, during the
    publishing, a journal of the same size. The slack is for what migrations add and for
    the other journals: 64 MiB, less on a small volume.

    Args:
        layout: The database's paths.
        database_bytes: Its size, including the `-wal`.
        way: `in-place` or `copy`.
    """
    return sum(_parts(layout, database_bytes, way)) + _slack(layout.database.parent)


def _parts(
    layout: Layout, database_bytes: int, way: str, *, backed_up: bool = False
) -> tuple[int, int]:
    """Split the need, without the slack, between backup directory and database directory."""
    backup = 0 if backed_up or not layout.database.exists() else database_bytes
    return backup, 2 * database_bytes if way == "copy" else 0


def _slack(directory: Path) -> int:
    found = os.statvfs(existing(directory))
    return min(_SLACK, found.f_frsize * found.f_blocks // 16)


def free(directory: Path) -> int:
    """Return how many bytes an ordinary user may still write below a directory."""
    found = os.statvfs(existing(directory))
    return found.f_frsize * found.f_bavail


def existing(directory: Path) -> Path:
    """Return the directory, or the nearest above it that exists."""
    while not directory.exists():
        directory = directory.parent
    return directory


def copies_on_write(directory: Path) -> bool:
    """
    Tell whether overwriting a file takes new blocks: on btrfs, ZFS and bcachefs.

    It asks `statfs(2)`, which Python lacks; without an answer it returns true.
    """
    import ctypes

    answer = ctypes.create_string_buffer(256)
    if ctypes.CDLL(None).statfs(os.fsencode(directory), answer) != 0:
        return True
    kind = ctypes.c_long.from_buffer(answer).value
    return kind & 0xFFFFFFFF in _COPYING


def check_space(
    layout: Layout,
    database_bytes: int,
    way: str,
    emit: Emit,
    *,
    protect: Collection[str] = (),
    backed_up: bool = False,
) -> None:
    """
    Refuse a run without enough space, after deleting the oldest backups if that helps.

    Quotas cannot be seen here; a run that meets one ends as safely, only later.

    Raises:
        BackupError: There is not enough space.
        OSError: A file system cannot be asked.
    """
    backup, work = _parts(layout, database_bytes, way, backed_up=backed_up)
    require_space(layout, backup, work + _slack(layout.database.parent), emit, protect)


def require_space_for_run(layout: Layout, database_bytes: int, way: str) -> None:
    """
    Refuse a run without enough space as `check_space` does, and remove nothing.

    Raises:
        BackupError: There is not enough space, not even after deleting the oldest backups.
    """
    backup, work = _parts(layout, database_bytes, way)
    work += _slack(layout.database.parent)
    home, store = existing(layout.database.parent), existing(layout.backup_dir)
    spare = sum(each.bytes for each in spare_backups(layout, ()))
    if home.stat().st_dev == store.stat().st_dev:
        backup, work = backup + work, 0
    elif free(home) < work:
        raise _no_space(home, work, free(home))
    if free(store) + spare < backup:
        raise _no_space(store, backup, free(store) + spare)


def require_space_for_rehearsal(directory: Path, needed: int) -> None:
    """
    Refuse a rehearsal without enough space.

    Raises:
        BackupError: There is not enough space.
    """
    needed, there = needed + _slack(directory), free(directory)
    if there < needed:
        msg = (
            f"The rehearsal needs {needed / _MIB:.1f} MiB in {str(directory)!r} ({needed} bytes),"
            f" and {there / _MIB:.1f} MiB are free ({there} bytes)."
        )
        hint = "Make space, or name a directory on another volume with `--in DIR`."
        data = {"needed_bytes": needed, "free_bytes": there}
        raise BackupError(msg, hint=hint, reason="backup.no_space", data=data)


def require_space(
    layout: Layout, backup: int, work: int, emit: Emit, protect: Collection[str] = ()
) -> None:
    """
    Refuse a write without enough space, after deleting the oldest backups if that helps.

    Args:
        layout: The database's paths.
        backup: Bytes that are written to the backup directory.
        work: Bytes that are written beside the database.
        emit: Gets `backup.pruned` for each removed backup.
        protect: Names of backups that must not be removed.

    Raises:
        BackupError: There is not enough space.
        OSError: A file system cannot be asked.
    """
    home, store = existing(layout.database.parent), existing(layout.backup_dir)
    if home.stat().st_dev == store.stat().st_dev:
        _demand(layout, store, backup + work, emit, protect)
        return
    _demand(layout, store, backup, emit, protect)
    there = free(home)
    if there < work:
        raise _no_space(home, work, there)


def _demand(layout: Layout, store: Path, needed: int, emit: Emit, protect: Collection[str]) -> None:
    if free(store) >= needed or make_space(layout, needed, protect, emit):
        return
    raise _no_space(store, needed, free(store))


def make_space(layout: Layout, needed: int, protect: Collection[str], emit: Emit) -> bool:
    """
    Remove the oldest backups, down to the last good one, until `needed` bytes are free.

    Remove nothing if that would not be enough.

    Returns:
        Whether there is enough space now.
    """
    spare = spare_backups(layout, protect)
    if free(layout.backup_dir) + sum(backup.bytes for backup in spare) < needed:
        return False
    for backup in spare:
        if free(layout.backup_dir) >= needed:
            break
        prune_one(layout, backup, "space", emit)
    return free(layout.backup_dir) >= needed


def _no_space(directory: Path, needed: int, there: int) -> BackupError:
    msg = (
        f"The run needs {needed / _MIB:.1f} MiB in {str(directory)!r} ({needed} bytes), "
        f"and {there / _MIB:.1f} MiB are free ({there} bytes)."
    )
    return BackupError(
        msg,
        hint="Enlarge the volume, delete what is not needed there, "
        "or put the backups on another one with --backup-dir.",
        reason="backup.no_space",
        data={"needed_bytes": needed, "free_bytes": there},
    )
