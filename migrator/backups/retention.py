"""
Remove old backups, and what interrupted makers of backups left behind.

Housekeeping fails no run: what cannot be removed stays, and the next run tries again.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from migrator.backups import database_id
from migrator.backups.backup import Backup
from migrator.backups.catalog import (
    MADE_BY_RUNS,
    START,
    read_facts,
    read_id,
    removable_backups,
    verify_backup,
)
from migrator.backups.directory import facts_path, names, partial_path
from migrator.backups.owner import belongs, by_trust
from migrator.database import started
from migrator.errors import MigratorError
from migrator.files import fsync_directory, remove, rename
from migrator.process.descriptors import try_flock

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from migrator.database.workspace import Layout
    from migrator.model import Emit


def prune_backups(
    layout: Layout,
    keep: int,
    protect: Collection[str],
    own: str | None,
    emit: Emit,
) -> None:
    """
    Remove the surplus backups; only after a verified run.

    With `keep` 0 remove the run's own backup, since the new state is verified, and all
    older ones but the newest. Never remove the last good backup besides the run's own, nor
    the one that `latest` means: repeating a restore must change nothing. Nor the one from
    before the first start of the version that runs: it leads back.

    Args:
        layout: The database's paths.
        keep: How many finished backups to keep.
        protect: Names that an unfinished run needs.
        own: The name of this run's backup.
        emit: Gets `backup.pruned` for each removed backup.
    """
    backups = removable_backups(layout)
    if keep == 0:
        for backup in [each for each in backups if each.name == own and own not in protect]:
            prune_one(layout, backup, "keep", emit)
        backups = [each for each in backups if each.name != own]
    surplus = _surplus(backups, max(keep, 1))
    # Reading a whole backup takes time: do that only if something is about to be removed.
    last = _last_good(backups, own) if surplus else None
    runs = (each for each in by_trust(layout, backups) if each.reason in MADE_BY_RUNS)
    latest, before = next(runs, None), _before_this_version(layout, backups)
    for backup in surplus:
        if backup.name not in protect and backup not in (last, latest, before):
            prune_one(layout, backup, "keep", emit)


def _before_this_version(layout: Layout, backups: list[Backup]) -> Backup | None:
    """Return the backup from before the first start of the application's version that runs."""
    with suppress(MigratorError):
        last = started.read(layout)
        return next((each for each in backups if last in each.app_versions), None)
    return None


def _surplus(backups: list[Backup], keep: int) -> list[Backup]:
    """
    Return the backups older than the newest `keep` sound ones, oldest first.

    Of those before the starts of an application that tells no version, the first of each
    day is kept before the others: an application that crashes and is started again and
    again must not push out the state from before it began to.
    """
    of_the_day: dict[str, Backup] = {}
    restarts = []
    for backup in reversed(backups):
        if backup.reason == START and not backup.app_versions:
            first = of_the_day.setdefault(backup.created_at[:10], backup)
            if backup not in (first, backups[0]):
                restarts.append(backup)
    sound = [each for each in backups if each.intact]
    more = max(0, len(sound) - keep)
    gone = [each for each in restarts if each.intact][:more]
    sound = [each for each in sound if each not in gone][:keep]
    # A backup that is cut off does not count, and must not push out a sound one.
    if len(sound) < keep:
        return gone
    older = backups[backups.index(sound[-1]) + 1 :] if sound else backups
    return [each for each in reversed(backups) if each in gone or each in older]


def _last_good(backups: list[Backup], own: str | None = None) -> Backup | None:
    """Return the newest sound backup; the run's own has just been checked."""
    for backup in backups:
        if backup.name == own or verify_backup(backup) is None:
            return backup
    return None


def drop_oldest(layout: Layout, protect: Collection[str], emit: Emit) -> bool:
    """Remove the oldest backup but the last good one, for a quota; return whether it did."""
    spare = spare_backups(layout, protect)
    return bool(spare) and prune_one(layout, spare[0], "space", emit)


def spare_backups(layout: Layout, protect: Collection[str]) -> list[Backup]:
    """List the backups that may be deleted for space, oldest first: all but the last good one."""
    backups = removable_backups(layout)
    last = _last_good(backups) if backups else None
    return [each for each in reversed(backups) if each != last and each.name not in protect]


def prune_one(layout: Layout, backup: Backup, reason: str, emit: Emit) -> bool:
    """Remove a backup and say why, if it could be removed."""
    if not remove_backup(layout, backup):
        return False
    message = {
        "keep": f"The backup {backup.name} was removed: newer ones are kept.",
        "space": f"The backup {backup.name} was removed to make space for a newer one.",
    }[reason]
    emit("backup.pruned", message, path=str(backup.path), reason=reason, bytes=backup.bytes)
    return True


def remove_backup(layout: Layout, backup: Backup) -> bool:
    """Delete a finished backup durably, and return whether that succeeded."""
    # The database first: after a crash, facts without a database are recognised as leftovers.
    if not remove(backup.path):
        return False
    with suppress(OSError):
        fsync_directory(layout.backup_dir)
        remove(backup.json_path)
        fsync_directory(layout.backup_dir)
    return True


# -- what a crash left ----------------------------------------------------------------


def remove_unfinished(layout: Layout) -> None:
    """
    Finish or remove what interrupted backups and prunings left; only under the run's lock.

    - unfinished files that no living process holds, unless another database's: remove,
    - a database in place whose facts were about to follow: put these in place,
    - this database's facts without their database: remove.

    A `.db` without facts may be a person's own copy, and is left alone.
    """
    with suppress(OSError, MigratorError):
        # Reservations first: they tell whether the other files of their name are in use.
        before = names(layout)
        for name in before:
            if name.endswith(".json.partial"):
                _settle(layout, layout.backup_dir / name[1 : -len(".json.partial")])
        for name in names(layout):
            path = layout.backup_dir / name
            if name.endswith(".db.partial"):
                _remove_unreserved(path)
            elif name.endswith(".db.json"):
                _remove_orphan(layout, path)
            elif name.endswith(".db.json.tmp"):
                _remove_replacement(layout, path)
        if before != names(layout):
            fsync_directory(layout.backup_dir)


def _settle(layout: Layout, path: Path) -> None:
    """Finish or remove one unfinished backup, unless its maker lives or has another database."""
    facts = partial_path(facts_path(path))
    # A reservation without an id is an earlier version's, or was cut off before it had one.
    if read_id(facts) not in (None, database_id.read(layout)):
        return
    with _claimed(facts) as free:
        if not free:
            return
        # Without its final name the database was never a finished backup: remove both files.
        if not os.path.lexists(path):
            remove(partial_path(path))
            remove(facts)
            return
        # The facts became durable before the database got its name.
        noted = read_facts(facts, strict=False)
        if noted is not None and path.stat().st_size == noted.bytes:
            rename(facts, facts_path(path))
            # If a crash left both names of one file, renaming did nothing.
            remove(facts)


def _remove_unreserved(partial: Path) -> None:
    name = partial.name.removesuffix(".partial")
    if not os.path.lexists(partial.with_name(f"{name}.json.partial")):
        remove(partial)


def _remove_orphan(layout: Layout, facts: Path) -> None:
    if os.path.lexists(facts.with_suffix("")):
        return
    backup = read_facts(facts, strict=False)
    if backup is not None and belongs(layout, backup):
        remove(facts)


def _remove_replacement(layout: Layout, temporary: Path) -> None:
    """Remove a file that was to replace a backup's facts, and did not."""
    facts = temporary.with_name(temporary.name[1 : -len(".tmp")])
    backup = read_facts(facts, strict=False)
    if backup is not None and belongs(layout, backup):
        remove(temporary)


@contextmanager
def _claimed(facts: Path) -> Iterator[bool]:
    """
    Lock a reservation if its process has ended, and tell whether that succeeded.

    On a file system without locks it counts as free: a crash loop must not fill the disk.
    """
    try:
        descriptor = os.open(facts, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        yield lock_if_free(descriptor)
    finally:
        os.close(descriptor)


def lock_if_free(descriptor: int) -> bool:
    """Lock a file, and tell whether it was free; it counts as free where locks do not work."""
    try:
        return try_flock(descriptor)
    except OSError:
        return True
