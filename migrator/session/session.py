"""Where a change is applied: the guarded connection to the database, or connections to a copy."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from migrator.model import Script
from migrator.session.record import FailedStatement, Record


class Session(Protocol):
    """Where migrations run."""

    @property
    def conn(self) -> sqlite3.Connection:
        """The engine's own connection, on which nothing of a migration's is in force."""

    def engine(self) -> AbstractContextManager[object]:
        """Within, `conn` does what the engine says, unrecorded and unrefused."""

    def migration(
        self, script: Script, *, down: bool = False
    ) -> AbstractContextManager[sqlite3.Connection]:
        """Within, one migration has the connection; its changes are kept at the end."""

    def alone(self) -> AbstractContextManager[Path]:
        """Within, another process has the copy, whose path this is; only on a copy."""

    @property
    def record(self) -> Record:
        """What the last migration did."""

    def failure(self, error: BaseException | None) -> FailedStatement | None:
        """
        Return what went wrong first in SQLite, or was refused; None for nothing.

        `error` is what the migration raised, None where it returned.
        """
