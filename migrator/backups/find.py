"""Find the backup that a command means: the newest, or one by its name or path."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Final

from migrator import app_version
from migrator.backups import database_id, owner
from migrator.backups.catalog import (
    MADE_BY_RUNS,
    all_backups,
    known_backups,
    list_backups,
    read_facts,
    undescribed,
)
from migrator.backups.directory import facts_path
from migrator.database import started
from migrator.errors import DamagedError, MigratorError, UsageError
from migrator.files import realpath

if TYPE_CHECKING:
    from collections.abc import Collection

    from migrator.backups.backup import Backup
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


def newest_before_app(layout: Layout, version: str) -> Backup | None:
    """
    Return the newest backup whose state is from before a version of the application started.

    It was made before the start of that version; or its state is that of an older one, or
    from before the start of an older one. What a restore has replaced does not count.

    Raises:
        UsageError: Nothing is known of that version; or the backups may belong to several
            databases, and this one is lost.
        MisfitError: A later version of this program wrote one.
        MigratorError: The directory cannot be read, and why.
    """
    backups = [each for each in list_backups(layout) if each.reason != "restore"]
    known = {started.read(layout), *(each.from_app_version for each in backups)}
    known.update(name for each in backups for name in each.app_versions)
    if not any(app_version.same(name, version) for name in known):
        names = ", ".join(sorted(filter(None, known)))
        msg = (
            f"No start of version {version!r} of the application is known of"
            f" {str(layout.database)!r}."
        )
        raise UsageError(
            msg,
            hint=f"`migrator backups` lists the backups. Known are {names or 'none'}.",
            reason="backup.unknown",
        )
    earlier = [each for each in backups if _is_before(each, version)]
    if not earlier:
        # It was started on what a newer one had used (`--accept newer`): before that it was so.
        earlier = [each for each in backups if _was_made_for(each, version)]
    owner.refuse_several(earlier, f"--before-app-version {version}")
    return next(iter(owner.by_trust(layout, earlier)), None)


def _is_before(backup: Backup, version: str) -> bool:
    """Tell whether a backup's state is from before a version of the application started."""
    whose = backup.from_app_version
    order = None if whose is None else app_version.compare(whose, version)
    if order is not None:
        return order < 0
    return _was_made_for(backup, version) or (
        whose is None and any(app_version.is_older(name, version) for name in backup.app_versions)
    )


def _was_made_for(backup: Backup, version: str) -> bool:
    return any(app_version.same(name, version) for name in backup.app_versions)


def leading_back_to(layout: Layout, version: str) -> tuple[str, ...] | None:
    """
    Return the argument of `restore` with which a version of the application can start again.

    Its state is that version's or an older one's; or nobody knows whose it is, but it was
    made before the start of a newer one.

    Returns:
        None where no backup is one, or none can be read.
    """
    try:
        backups = owner.by_trust(layout, list_backups(layout))
    except MigratorError:
        return None
    for backup in backups:
        whose = backup.from_app_version
        fits = bool(backup.app_versions) if whose is None else not _is_newer(whose, version)
        if backup.reason == "restore" or not fits:
            continue
        for name in backup.app_versions:
            with suppress(UsageError):
                if newest_before_app(layout, name) == backup:
                    return "--before-app-version", name
        return (backup.name,)
    return None


def _is_newer(one: str, version: str) -> bool:
    order = app_version.compare(one, version)
    return order is None or order > 0


def refuse_undescribed(layout: Layout, chosen: Backup | None, asked: str) -> None:
    """
    Refuse to take a backup beside a newer one of which nothing can be told any more.

    Args:
        layout: The database's paths.
        chosen: The newest one that may be meant, or None.
        asked: What was asked for, as in `latest`.

    Raises:
        DamagedError: The facts of a newer one cannot be read.
    """
    for counter, path in undescribed(layout):
        if chosen is None or counter > chosen.counter:
            msg = f"{_unreadable(path)}, so that nobody knows whether {asked!r} means it."
            hint = (
                "Name the one that is meant, `migrator restore NAME` (`migrator backups` lists"
                f" them), or move {str(path)!r} and its '.json' away."
            )
            raise DamagedError(msg, hint=hint, reason="backup.damaged")


def describe_undescribed(layout: Layout) -> list[str]:
    """Say of each backup whose facts cannot be understood that they cannot."""
    return [f"{_unreadable(path)}." for _, path in undescribed(layout)]


def _unreadable(path: Path) -> str:
    return f"What is noted beside the backup {str(path)!r} (its '.json') cannot be read"


def find_backup(layout: Layout, wanted: str) -> Backup:
    """
    Find a backup by its name, with or without `.db`, or by its path.

    A name means one of this database's backups. A path may lead to any backup, also of
    another database with the same file name.

    Raises:
        UsageError: It does not exist, or belongs to another database.
        DamagedError: What is noted beside it cannot be read.
        MisfitError: A later version of this program wrote it.
        MigratorError: The directory cannot be read.
    """
    backups = list_backups(layout)
    for backup in backups:
        if wanted in (backup.name, backup.path.stem):
            return backup
    for _, broken in undescribed(layout):
        if wanted in (broken.name, broken.stem, str(broken)):
            hint = (
                "It is a plain SQLite file: `sqlite3` shows whether it is whole, and what it has."
            )
            msg = f"{_unreadable(broken)}."
            raise DamagedError(msg, hint=hint, reason="backup.damaged")
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
                "`migrator backups` lists those of this one. To restore that one here anyway,"
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
