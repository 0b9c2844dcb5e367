"""
The finished backups: their names, the facts beside each, and whether they are sound.

A finished backup is a pair: `app.db-000012-20260131T120000Z.db` and the same
name with `.json` behind it. During its making there is `.<name>.json.partial`,
which reserves the counter and is locked by its maker, and `.<name>.partial`.
They become the pair in an order that shows after any crash what is left
(`migrator.backups.retention.remove_unfinished`).
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from migrator.backups import owner
from migrator.backups.backup import FORMAT, Backup
from migrator.backups.database_id import is_id
from migrator.backups.database_id import read as id_of
from migrator.backups.directory import entries, is_regular
from migrator.database.pages import UncheckableError, check_structure, digest_file
from migrator.database.run_state import JOURNAL_MODES
from migrator.errors import MigratorError, MisfitError
from migrator.file_errors import refusal
from migrator.files import open_regular
from migrator.model import Applied

if TYPE_CHECKING:
    from pathlib import Path

    from migrator.database.workspace import Layout


MADE_BY_RUNS: Final = ("up", "down")
START: Final = "start"
"""The reason of a backup that was made before a version of the application was started."""
_LARGEST = 16 << 20
_STAMPED = r"-[0-9]{8}T[0-9]{6}Z\.db\Z"
"""How the name of a backup ends that this program has made."""


# -- reading --------------------------------------------------------------------------


def list_backups(layout: Layout) -> list[Backup]:
    """
    List the finished backups of this database, newest first.

    Raises:
        MisfitError: A later version of this program wrote one.
        MigratorError: The directory cannot be read, and why.
    """
    return owner.of_this(layout, all_backups(layout))


def known_backups(layout: Layout) -> list[Backup]:
    """List the same for housekeeping, without what cannot be read or understood."""
    with suppress(MigratorError):
        return owner.of_this(layout, readable_backups(layout))
    return []


def removable_backups(layout: Layout) -> list[Backup]:
    """List those of them that may be removed, to limit their number or to free space."""
    with suppress(MigratorError):
        return owner.may_go(layout, readable_backups(layout))
    return []


def readable_backups(layout: Layout) -> list[Backup]:
    """List the readable backups of every database with this one's file name."""
    with suppress(OSError):
        return read_backups(layout, strict=False)
    return []


def all_backups(layout: Layout) -> list[Backup]:
    """
    List the finished backups of every database with this one's file name, newest first.

    Raises:
        MisfitError: A later version of this program wrote one, of this database perhaps.
        MigratorError: The directory cannot be read, and why.
    """
    try:
        return read_backups(layout, strict=True)
    except OSError as error:
        raise refusal(error, layout.backup_dir, "listing the backups in") from error


def read_backups(layout: Layout, *, strict: bool) -> list[Backup]:
    """
    List the same, and let errors of the system through.

    Raises:
        MisfitError: A later version of this program wrote one, and `strict`.
        OSError: The directory cannot be read.
    """
    found = []
    own = id_of(layout) if strict else None
    for entry in entries(layout):
        if entry.facts and entry.finished:
            backup = read_facts(layout.backup_dir / entry.name, strict=strict, own=own)
            if backup is not None and is_regular(backup.path):
                found.append(backup)
    return sorted(found, key=lambda backup: (backup.counter, backup.name), reverse=True)


def undescribed(layout: Layout) -> list[tuple[int, Path]]:
    """
    Return the counter and path of each backup whose facts cannot be understood, newest first.

    Their names are those that this program gives, with the time; they may be this database's,
    unless their id is another's. Those of a later version of this program are not meant.

    Raises:
        OSError: The directory cannot be read.
    """
    own = id_of(layout)
    found = []
    for entry in entries(layout):
        facts = layout.backup_dir / entry.name
        path = facts.with_suffix("")
        if not (
            entry.facts and entry.finished and re.search(_STAMPED, path.name) and is_regular(path)
        ):
            continue
        with suppress(MisfitError):
            if read_facts(facts) is None and read_id(facts) in (None, own):
                found.append((entry.counter, path))
    return sorted(found, reverse=True)


def highest_counter(layout: Layout) -> int:
    """
    Return the highest counter in the directory, of any database; 0 without backups.

    A file that only looks like a backup does not count: it must not raise the number.
    """
    finished = [
        (entry.counter, backup.counter)
        for entry in entries(layout)
        if entry.facts and entry.finished
        if (backup := read_facts(layout.backup_dir / entry.name, strict=False)) is not None
    ]
    begun = [entry.counter for entry in entries(layout) if not entry.finished]
    return max([0, *begun, *(counter for pair in finished for counter in pair)])


def read_facts(
    path: Path, *, strict: bool = True, own: str | None = None, directory: int | None = None
) -> Backup | None:
    """
    Read the facts beside a backup; None if they cannot be understood.

    Args:
        path: The file with the facts.
        strict: Whether to raise for a backup of a later version.
        own: This database's id: a later version's backup of another one does not count.
        directory: The descriptor of the directory to which `path` is relative, if it is.

    Raises:
        MisfitError: A later version of this program wrote it, and `strict`.
    """
    try:
        with os.fdopen(open_regular(path, directory), "rb") as file:
            fields = json.loads(file.read(_LARGEST))
        number = _number(fields["format"])
        if strict and number > FORMAT and not (own and fields.get("id") not in (None, own)):
            raise _newer(path, number)
        return _parse(path, fields) if number <= FORMAT else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def read_id(path: Path, directory: int | None = None) -> str | None:
    """Read only the database's id in a file of facts, even an unfinished one; None if missing."""
    try:
        with os.fdopen(open_regular(path, directory), "rb") as file:
            return _id(json.loads(file.read(_LARGEST))["id"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _newer(path: Path, found: int) -> MisfitError:
    return MisfitError(
        f"A later version of this program wrote the backup {str(path)!r} "
        f"(format {found}; this one knows {FORMAT}).",
        hint="Use that later version for backups and restores.",
        reason="backup.newer_format",
    )


def _parse(path: Path, fields: dict[str, Any]) -> Backup:
    return Backup(
        path=path.with_suffix(""),
        counter=_number(fields["counter"]),
        created_at=_text(fields["created_at"]),
        bytes=_number(fields["bytes"]),
        sha256=_text(fields["sha256"]),
        version=_perhaps(fields["version"]),
        applied=tuple(_row(row) for row in fields["applied"]),
        reason=_text(fields["reason"]),
        journal_mode=_journal_mode(fields["journal_mode"]),
        run_id=_text(fields["run_id"]),
        database=_text(fields["database"]),
        relative=_text(fields["relative"]),
        program=_text(fields["program"]),
        id=_id(fields.get("id")),
        volume=_perhaps(fields.get("volume")),
        app_versions=_versions(fields),
        from_app_version=_perhaps(fields.get("from_app_version")),
    )


def _row(row: dict[str, Any]) -> Applied:
    version, name = _perhaps(row["version"]), _text(row["name"])
    applied_at = _perhaps(row["applied_at"])
    return Applied(key=version or name, version=version, name=name, applied_at=applied_at)


# Anybody may have written a file on the volume: a value of another type makes the whole
# description unreadable, and does not get any further.


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _perhaps(value: Any) -> str | None:
    return None if value is None else _text(value)


def _versions(fields: dict[str, Any]) -> tuple[str, ...]:
    """Read the versions before whose start it was made; where no list is noted, the one."""
    one = _perhaps(fields.get("app_version"))
    found = fields.get("app_versions", [] if one is None else [one])
    if not isinstance(found, list):
        raise TypeError
    return tuple(map(_text, found))


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise TypeError
    return value


def _id(value: Any) -> str | None:
    if value is not None and not is_id(_text(value)):
        raise ValueError
    return _perhaps(value)


def _journal_mode(value: Any) -> str | None:
    if value not in JOURNAL_MODES:
        raise ValueError
    return _perhaps(value)


# -- checking -------------------------------------------------------------------------


def verify_backup(backup: Backup) -> str | None:
    """
    Compare a backup with its checksum, and check its structure.

    Returns:
        What is wrong, as a sentence; None if nothing is.
    """
    from migrator.database.beside import Beside

    path = str(backup.path)
    try:
        size = backup.path.stat().st_size
        if size != backup.bytes:
            return f"The backup {path!r} has {size} bytes instead of {backup.bytes}."
        with Beside(lambda: _damage(backup.path)) as check:
            if digest_file(backup.path) != backup.sha256:
                return f"The backup {path!r} does not have the checksum that was noted with it."
            damage = check.result()
    except OSError as error:
        return f"The backup {path!r} cannot be read: {error.strerror}."
    except sqlite3.Error as error:
        return f"The backup {path!r} cannot be read: {error}."
    return f"The backup {path!r} is damaged: {damage[0]}." if damage else None


def _damage(path: Path) -> list[str]:
    """Return what is wrong with a backup's structure, as far as SQLite can check it."""
    try:
        return check_structure(path)
    except UncheckableError:
        return []
