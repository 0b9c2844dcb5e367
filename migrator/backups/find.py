"""Find the backup that a command means: the newest, or one by its name or path."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Final

from migrator.backups import database_id, owner
from migrator.backups.catalog import (
    MADE_BY_RUNS,
    all_backups,
    known_backups,
    list_backups,
    read_facts,
)
from migrator.backups.directory import facts_path
from migrator.errors import UsageError
from migrator.files import realpath

if TYPE_CHECKING:
    from collections.abc import Collection

    from migrator.backups.catalog import Backup
    from migrator.database.workspace import Layout

_LONGEST_NAME: Final = 255


def newest_backup(layout: Layout, reasons: Collection[str] = MADE_BY_RUNS) -> Backup | None:
    """
    Return the newest backup that was made for one of these reasons.

    Raises:
        UsageError: They may belong to several databases, and this one is lost.
        MisfitError: A later version of this program wrote one.
        MigratorError: The directory cannot be read, and why.
    """
    backups = [each for each in list_backups(layout) if each.reason in reasons]
    owner.refuse_several(backups, "latest")
    return next(iter(owner.by_trust(layout, backups)), None)


def find_backup(layout: Layout, wanted: str) -> Backup:
    """
    Find a backup by its name, with or without `.db`, or by its path.

    A name means one of this database's backups. A path may lead to any backup, also of
    another database with the same file name.

    Raises:
        UsageError: It does not exist, or belongs to another database.
        MisfitError: A later version of this program wrote it.
        MigratorError: The directory cannot be read.
    """
    backups = list_backups(layout)
    for backup in backups:
        if wanted in (backup.name, backup.path.stem):
            return backup
    if os.sep not in wanted:
        _refuse_others(layout, wanted)
    path = _path_of(wanted)
    if path is not None and (os.sep in wanted or path.is_file()):
        return _find_path(layout, path)
    known = f"{str(layout.backup_dir)!r} has no backup"
    msg = f"{known} {wanted[:_LONGEST_NAME]!r} of {str(layout.database)!r}."
    raise _unknown(msg, f"The newest is {backups[0].name}." if backups else "")


def _refuse_others(layout: Layout, wanted: str) -> None:
    """Refuse the name of another database's backup in the same directory."""
    for backup in all_backups(layout):
        if wanted in (backup.name, backup.path.stem):
            called = repr(backup.database)
            called += " as well" if backup.database == str(layout.database) else ""
            msg = (
                f"The backup {backup.name!r} is of another database than"
                f" {str(layout.database)!r}: of one with another id, called {called}."
            )
            hint = (
                "`migrator backups` lists those of this one. To put that one here all the same,"
                f" give its path: `migrator restore {quote(str(backup.path))}`."
            )
            raise UsageError(msg, hint=hint, reason="backup.unknown")


def reference(layout: Layout, backup: Backup) -> str:
    """Return a backup's name for `find_backup`, or its path if it is another database's."""
    ours = any(each.path == backup.path for each in known_backups(layout))
    return backup.name if ours else str(backup.path)


def _path_of(wanted: str) -> Path | None:
    """Return the path that was meant, None if it cannot exist: a NUL, too long, an unknown home."""
    try:
        path = realpath(Path(wanted).expanduser())
    except (ValueError, RuntimeError):
        return None
    try:
        os.lstat(facts_path(path))
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
    return path


def _find_path(layout: Layout, path: Path) -> Backup:
    backup = read_facts(facts_path(path))
    if backup is None or not path.is_file():
        msg = f"{str(path)!r} is not a finished backup: a file and its '.json' belong together."
        raise _unknown(msg)
    if not _has_name(layout, backup):
        msg = f"{str(path)!r} is a backup of {backup.database!r}, not of {str(layout.database)!r}."
        raise _unknown(msg, "To restore it there, name that database with --database.")
    return backup


def _has_name(layout: Layout, backup: Backup) -> bool:
    if Path(backup.database).name == layout.database.name:
        return True
    return backup.id is not None and backup.id == database_id.read(layout)


def _unknown(message: str, more: str = "") -> UsageError:
    hint = f"`migrator backups` lists what there is. {more}".rstrip()
    return UsageError(message, hint=hint, reason="backup.unknown")
