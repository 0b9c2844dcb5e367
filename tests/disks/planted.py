"""Bugs that only a full disk shows, planted into a copy of the packages."""

from __future__ import annotations

from dataclasses import dataclass

from tests.faults.planted import Bug


@dataclass(frozen=True, slots=True)
class FullBug:
    """
    A bug, and where it shows.

    Args:
        bug: The bug; its scene is one of tests/disks.
        kind: On which kind of disk.
        rooms: With how many KiB left, the likeliest first.
    """

    bug: Bug
    kind: str
    rooms: tuple[int, ...]


def _bug(name: str, file: str, old: str, new: str, scene: str) -> Bug:
    return Bug(name, file, old, new, scene, (), ())


BUGS = (
    FullBug(
        _bug(
            "a run that failed for want of space keeps its own backup",
            "migrator/recovery/rollback.py",
            "        if in_the_way(ctx, failure, saved):\n",
            "        if False:\n",
            "up in-place wal",
        ),
        "ext4",
        (1800,),
    ),
    FullBug(
        _bug(
            "the room that a rollback takes on btrfs is not made",
            "migrator/recovery/rollback.py",
            "        if not is_lack_of_space(ctx, error) or not may_give_way(ctx, saved):\n",
            "        if True:\n",
            "up in-place delete",
        ),
        "btrfs quota",
        (1000,),
    ),
    FullBug(
        _bug(
            "a restore keeps its own backup on a full disk",
            "migrator/recovery/disk_full.py",
            "        if saved is not None and not noted and in_the_way(ctx, error, saved):\n",
            "        if False:\n",
            "restore wal",
        ),
        "ext4",
        (2140,),
    ),
    FullBug(
        _bug(
            "the room that a restore takes after its commit is not asked for",
            "migrator/change/restore.py",
            "    if not has_space(ctx.layout.home, needed):\n",
            "    if False:\n",
            "restore wal",
        ),
        "btrfs quota",
        (376,),
    ),
    FullBug(
        _bug(
            "the last good backup goes as well",
            "migrator/backups/retention.py",
            "if each != last and each.name not in protect]",
            "if each.name not in protect]",
            "up in-place delete crowded",
        ),
        "ext4",
        (700,),
    ),
    FullBug(
        _bug(
            "the unfinished copy of a failed run stays",
            "migrator/recovery/temporary_files.py",
            "    clean_home(layout)\n",
            "    del layout\n",
            "up copy delete",
        ),
        "ext4",
        (2140,),
    ),
    FullBug(
        _bug(
            "the copy of a run that was killed stays in the way of its settling",
            "migrator/recovery/after_crash.py",
            "    remove_temporary_files(ctx.layout)\n    outcome = _settle(ctx, left)\n",
            "    outcome = _settle(ctx, left)\n    remove_temporary_files(ctx.layout)\n",
            "up copy wal mapping",
        ),
        "ext4",
        (1792, 2048),
    ),
)
