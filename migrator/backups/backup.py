"""A backup, and what is noted about it in the file beside it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from migrator.backups.directory import facts_path
from migrator.model import Applied

if TYPE_CHECKING:
    from pathlib import Path

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Facts:
    """What a run notes about its backup."""

    reason: str
    run_id: str
    version: str | None = None
    applied: tuple[Applied, ...] = ()
    journal_mode: str | None = None
    app_version: str | None = None
    """The version of the application that is about to be started."""


@dataclass(frozen=True, slots=True)
class Backup:
    """
    One finished backup.

    Args:
        path: The SQLite file.
        counter: The place in the order; that of the name, or a later one if a later
            run found the database in the same state.
        created_at: ISO 8601 in UTC, for people only.
        version: The highest version applied in it, or None.
        reason: What made it: `up`, `down`, `restore`, `manual` or `start`.
        journal_mode: The database's own, which a restore puts back.
        relative: The database's path as seen from the backup directory.
        id: The database's id; None in a backup from before there were ids.
        volume: Where the database's directory lay (`migrator.database.volume`).
        app_versions: The versions of the application before whose first start it was made,
            the latest last: its state is from before them.
        from_app_version: The version that had been started last then: whose state it is.
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
    id: str | None = None
    volume: str | None = None
    app_versions: tuple[str, ...] = ()
    from_app_version: str | None = None

    @property
    def app_version(self) -> str | None:
        """The version of the application that was starting when it was made, if one was."""
        return self.app_versions[-1] if self.app_versions else None

    @property
    def name(self) -> str:
        """The file's name, which commands accept."""
        return self.path.name

    @property
    def json_path(self) -> Path:
        """The file of the facts."""
        return facts_path(self.path)

    @property
    def intact(self) -> bool:
        """Whether the file has its full length; reads nothing."""
        with suppress(OSError):
            return self.path.stat().st_size == self.bytes
        return False

    def facts(self) -> dict[str, Any]:
        """Return the facts beside the file."""
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
            "id": self.id,
            "volume": self.volume,
            "app_version": self.app_version,
            "app_versions": list(self.app_versions),
            "from_app_version": self.from_app_version,
        }

    def encoded(self) -> bytearray:
        """Return the facts as bytes for the file."""
        return bytearray(json.dumps(self.facts(), indent=1) + "\n", "ascii")
