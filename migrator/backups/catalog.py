"""
The finished backups: their names, what is noted beside each, and whether they are sound.

A finished backup is a pair: `app.db-000012-20260131T120000Z.db` and the same
name with `.json` behind it. While it is made there is `.<name>.json.partial`,
which reserves the counter and is locked by its maker, and `.<name>.partial`.
The order in which these become the pair makes every crash tell what it left
(`migrator.backups.retention.clean`).
"""

from __future__ import annotations

import errno
import json
import os
import re
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from migrator.errors import MisfitError, UsageError
from migrator.model import Applied
from migrator.storage.copying import UncheckableError, check_structure, digest_file
from migrator.storage.state import JOURNAL_MODES
from migrator.system.files import open_regular, realpath, refusal

if TYPE_CHECKING:
    from collections.abc import Collection

    from migrator.storage.layout import Layout

FORMAT: Final = 1
MADE_BY_RUNS: Final = ("up", "down")
_LARGEST = 16 << 20
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class Backup:
    """
    One finished backup.

    Args:
        path: The SQLite file.
        counter: The place in the order; that of the name, or a later one when
            a later run found the database in this very state again.
        created_at: ISO 8601 in UTC, for people only.
        version: The highest version applied in it, None where there is none.
        reason: What made it: `up`, `down` or `restore`.
        journal_mode: The database's own, which a restore gives back.
        relative: The database's path as seen from the backup directory.
    """

    path: Path
    counter: int
    created_at: str
    bytes: int
    sha256: str
    version: str | None
    applied: tuple[Applied, ...]
    reason: str
    journal_mode: str | None
    run_id: str
    database: str
    relative: str
    program: str

    @property
    def name(self) -> str:
        """The file's name, which is what commands take."""
        return self.path.name

    @property
    def json_path(self) -> Path:
        """Where the facts are noted."""
        return facts_path(self.path)

    @property
    def intact(self) -> bool:
        """Whether the file is there in its full length; nothing is read."""
        with suppress(OSError):
            return self.path.stat().st_size == self.bytes
        return False

    def facts(self) -> dict[str, Any]:
        """Return what is noted beside the file."""
        return {
            "format": FORMAT,
            "name": self.name,
            "path": str(self.path),
            "counter": self.counter,
            "created_at": self.created_at,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "verified": True,
            "version": self.version,
            "applied": [
                {"version": row.version, "name": row.name, "applied_at": row.applied_at}
                for row in self.applied
            ],
            "reason": self.reason,
            "journal_mode": self.journal_mode,
            "run_id": self.run_id,
            "database": self.database,
            "relative": self.relative,
            "program": self.program,
        }

    def encoded(self) -> bytearray:
        """Return the facts as they stand in the file."""
        return bytearray(json.dumps(self.facts(), indent=1) + "\n", "ascii")


def facts_path(path: Path) -> Path:
    """Name the file that holds the facts of a backup."""
    return path.with_name(path.name + ".json")


def partial_path(path: Path) -> Path:
    """Name a file while it is unfinished."""
    return path.with_name(f".{path.name}.partial")


def relative_path(layout: Layout) -> str:
    """Say where the database lies as seen from the backup directory."""
    return os.path.relpath(layout.database, layout.backup_dir)


# -- reading --------------------------------------------------------------------------


def list_backups(layout: Layout) -> list[Backup]:
    """
    List the finished backups of this database, newest first.

    Raises:
        MisfitError: A later version of this program wrote one.
        MigratorError: The directory cannot be read, and why.
    """
    try:
        return [backup for backup in _all(layout, strict=True) if belongs(layout, backup)]
    except OSError as error:
        raise refusal(error, layout.backup_dir, "listing the backups in") from error


def known_backups(layout: Layout) -> list[Backup]:
    """List the same for housekeeping: what cannot be read or understood is passed over."""
    with suppress(OSError):
        return [backup for backup in _all(layout, strict=False) if belongs(layout, backup)]
    return []


def belongs(layout: Layout, backup: Backup) -> bool:
    """
    Say whether a backup is of this database.

    The volume may be mounted elsewhere than when the backup was made, and two
    databases of one file name may share the directory.
    """
    return backup.database == str(layout.database) or backup.relative == relative_path(layout)


def _all(layout: Layout, *, strict: bool) -> list[Backup]:
    found = []
    for name in names(layout):
        if (path := layout.backup_dir / name).suffix == ".json" and not name.startswith("."):
            backup = read_facts(path, strict=strict)
            if backup is not None and backup.path.exists():
                found.append(backup)
    return sorted(found, key=lambda backup: (backup.counter, backup.name), reverse=True)


def names(layout: Layout) -> list[str]:
    """
    Name everything in the backup directory that is called like ours, finished or not.

    Raises:
        OSError: The directory cannot be read; a missing one has nothing in it.
    """
    pattern = _pattern(layout)
    try:
        return sorted(filter(pattern.fullmatch, os.listdir(layout.backup_dir)))
    except FileNotFoundError:
        return []


def _pattern(layout: Layout) -> re.Pattern[str]:
    base = re.escape(layout.database.name)
    return re.compile(rf"\.?({base}-(\d{{6,}})-\w+\.db)(\.json)?(\.partial)?")


def highest_counter(layout: Layout) -> int:
    """Return the highest counter in the directory, whoever's it is; 0 where there is none."""
    pattern = _pattern(layout)
    matches = [match for name in names(layout) if (match := pattern.fullmatch(name))]
    written = [backup.counter for backup in _all(layout, strict=False)]
    return max([0, *written, *(int(match[2]) for match in matches)])


def read_facts(path: Path, *, strict: bool = True) -> Backup | None:
    """
    Read what is noted beside a backup; None where it cannot be understood.

    Raises:
        MisfitError: A later version of this program wrote it, and `strict`.
    """
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            fields = json.loads(file.read(_LARGEST))
        if strict and fields["format"] > FORMAT:
            raise _newer(path, fields["format"])
        return _parse(path, fields) if fields["format"] <= FORMAT else None
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
    )


def _row(row: dict[str, Any]) -> Applied:
    version, name = _perhaps(row["version"]), _text(row["name"])
    applied_at = _perhaps(row["applied_at"])
    return Applied(key=version or name, version=version, name=name, applied_at=applied_at)


# What is noted on a volume may have been written by anybody: a value of another
# kind makes a description that nobody understands, and goes no further.


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _perhaps(value: Any) -> str | None:
    return None if value is None else _text(value)


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise TypeError
    return value


def _journal_mode(value: Any) -> str | None:
    if value not in JOURNAL_MODES:
        raise ValueError
    return _perhaps(value)


def newest(layout: Layout, reasons: Collection[str] = MADE_BY_RUNS) -> Backup | None:
    """
    Return the newest backup that was made for one of these reasons.

    Raises:
        MisfitError: A later version of this program wrote one.
        MigratorError: The directory cannot be read, and why.
    """
    return next((backup for backup in list_backups(layout) if backup.reason in reasons), None)


def find(layout: Layout, wanted: str) -> Backup:
    """
    Find a backup by its name, with or without `.db`, or by its path.

    A path may lead to a backup that lies elsewhere, as long as it is of a
    database of the same file name.

    Raises:
        UsageError: There is none, or it is another database's.
        MisfitError: A later version of this program wrote it.
        MigratorError: The directory cannot be read.
    """
    backups = list_backups(layout)
    for backup in backups:
        if wanted in (backup.name, backup.path.stem):
            return backup
    path = _path_of(wanted)
    if path is not None and (os.sep in wanted or path.is_file()):
        return _find_path(layout, path)
    known = f"{str(layout.backup_dir)!r} has no backup"
    msg = f"{known} {wanted[:_LONGEST_NAME]!r} of {str(layout.database)!r}."
    raise _unknown(msg, f"The newest is {backups[0].name}." if backups else "")


def _path_of(wanted: str) -> Path | None:
    """Return the path that was meant, None for what can be none: a NUL, too long, no such home."""
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
        msg = f"{str(path)!r} is no finished backup: a file and its '.json' belong together."
        raise _unknown(msg)
    if not belongs(layout, backup) and Path(backup.database).name != layout.database.name:
        msg = f"{str(path)!r} is a backup of {backup.database!r}, not of {str(layout.database)!r}."
        raise _unknown(msg, "To restore it there, name that database with --database.")
    return backup


def _unknown(message: str, more: str = "") -> UsageError:
    hint = f"`migrator backups` lists what there is. {more}".rstrip()
    return UsageError(message, hint=hint, reason="backup.unknown")


# -- checking -------------------------------------------------------------------------


def verify_backup(backup: Backup, level: str = "quick") -> str | None:
    """
    Compare a backup with its checksum, then check its structure.

    Returns:
        What is wrong, as a sentence; None where all is well.
    """
    path = str(backup.path)
    try:
        size = backup.path.stat().st_size
        if size != backup.bytes:
            return f"The backup {path!r} has {size} bytes instead of {backup.bytes}."
        if digest_file(backup.path) != backup.sha256:
            return f"The backup {path!r} does not have the checksum that was noted with it."
    except OSError as error:
        return f"The backup {path!r} cannot be read: {error.strerror}."
    try:
        damage = check_structure(backup.path, level)
    except UncheckableError:
        return None
    except sqlite3.Error as error:
        return f"The backup {path!r} cannot be read: {error}."
    return f"The backup {path!r} is damaged: {damage[0]}." if damage else None
