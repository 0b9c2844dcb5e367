"""
Tell which database a backup belongs to: by its id, and by its path only if there is no id.

A path identifies nothing: in every container the database may be `/data/app.db`, and
several may share a backup directory. It counts

- for backups from before databases had an id,
- in a directory on the database's own volume, which no other database uses,
- for a database that is missing with its id: its whole volume is lost.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from migrator.backups import database_id
from migrator.database import volume
from migrator.errors import UsageError
from migrator.terminal import quote

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from migrator.backups.backup import Backup
    from migrator.database.workspace import Layout
    from migrator.files import Ownership

_NAMED = 3


def of_this(layout: Layout, backups: Collection[Backup]) -> list[Backup]:
    """
    Return this database's backups of a directory, in their order.

    Raises:
        MigratorError: The database's id cannot be read.
    """
    ids = _ids(layout, backups)
    return [
        each for each in backups if each.id in ids or (each.id is None and has_path(layout, each))
    ]


def _ids(layout: Layout, backups: Collection[Backup]) -> set[str]:
    """Return the ids that are, or may have been, this database's."""
    own = database_id.read(layout)
    if own is not None:
        return {own}
    found = [each for each in backups if has_path(layout, each)]
    ids = {each.id for each in found if each.id is not None}
    # No other database uses this directory, so the ids are all this one's, old and new.
    if is_beside(layout):
        return ids
    # It exists and has no id: the backups with an id are another database's.
    if os.path.lexists(layout.database):
        return set()
    # It is missing, with its id: leave out only what was certainly on another volume.
    here = volume.place_of(layout.database.parent)
    return {
        each.id for each in found if each.id is not None and not volume.are_two(here, each.volume)
    }


def belongs(layout: Layout, backup: Backup) -> bool:
    """
    Tell whether a backup is certainly this database's, for housekeeping.

    Raises:
        MigratorError: The database's id cannot be read.
    """
    if backup.id is None:
        return has_path(layout, backup)
    return backup.id == database_id.read(layout)


def is_certain(layout: Layout, backup: Backup) -> bool:
    """
    Tell whether more than its path says that a backup is this database's.

    Raises:
        MigratorError: The database's id cannot be read.
    """
    if is_beside(layout):
        return True
    return backup.id is not None and backup.id == database_id.read(layout)


def has_path(layout: Layout, backup: Backup) -> bool:
    """
    Tell whether a backup is of a database with this one's path.

    The volume may be mounted elsewhere than when the backup was made; in a directory on
    that volume the name decides.
    """
    return (
        backup.database == str(layout.database)
        or backup.relative == relative_path(layout)
        or is_beside(layout)
    )


def relative_path(layout: Layout) -> str:
    """Return the database's path as seen from the backup directory."""
    return os.path.relpath(layout.database, layout.backup_dir)


def is_beside(layout: Layout) -> bool:
    """Tell whether the backups lie on the database's own volume, in its directory."""
    home = layout.database.parent
    if home not in (layout.backup_dir, layout.backup_dir.parent):
        return False
    return volume.is_one_mount(layout.backup_dir, home)


def may_go(layout: Layout, backups: Sequence[Backup]) -> list[Backup]:
    """
    Return this database's backups that retention may remove.

    If the directory shows that another database has the same path, backups from before
    there was an id may be that one's.

    Raises:
        MigratorError: The database's id cannot be read.
    """
    ours = of_this(layout, backups)
    if is_beside(layout):
        return ours
    mine = {each.path for each in ours}
    others = (each for each in backups if each.path not in mine)
    if any(each.id is not None and has_path(layout, each) for each in others):
        return [each for each in ours if each.id is not None]
    return ours


def by_trust(layout: Layout, ours: Sequence[Backup]) -> list[Backup]:
    """
    Order this database's backups, newest first, those with its id before all others.

    In a shared directory a later one without an id is another database's, made by an
    earlier version of this program.
    """
    if is_beside(layout):
        return list(ours)
    return sorted(ours, key=lambda each: each.id is None)


def take(layout: Layout, ownership: Ownership, backups: Collection[Backup]) -> str:
    """
    Return the database's id; if it has none, give it a new one or that of its backups.

    Args:
        layout: The database's paths; the run's lock is held.
        ownership: The file's owner and mode.
        backups: The backups in its directory.

    Raises:
        MigratorError: The id cannot be read.
        OSError: It cannot be written.
    """
    own = database_id.read(layout)
    if own is not None:
        return own
    # Several ids may be this database's: none of them is better than a new one.
    ids = _ids(layout, backups)
    return database_id.write(layout, ownership, ids.pop() if len(ids) == 1 else None)


def refuse_several(ours: Collection[Backup], wanted: str) -> None:
    """
    Refuse to choose if the backups are of several databases, and the one here is lost.

    Args:
        ours: The backups that may be this database's.
        wanted: What was asked for, as it was typed.

    Raises:
        UsageError: They have several ids.
    """
    newest: dict[str, Backup] = {}
    for each in ours:
        if each.id is not None:
            newest.setdefault(each.id, each)
    if len(newest) < 2:
        return
    some = list(newest.values())
    msg = (
        f"Which backup {wanted!r} means cannot be told: {len(some)} databases of this path have"
        f" backups in {str(some[0].path.parent)!r}, and which of them was here is lost with its id."
    )
    named = " or ".join(f"`migrator restore {quote(each.name)}`" for each in some[:_NAMED])
    hint = f"`migrator backups` lists them. Name the backup, as the newest of each: {named}."
    raise UsageError(msg, hint=hint, reason="backup.ambiguous")
