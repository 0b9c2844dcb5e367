"""The parent process of the run on the copy, which keeps its worker from the real database."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from migrator.database.workspace import Layout
from migrator.engine.parent import Parent
from migrator.errors import MigratorError
from migrator.rehearsal.watch import Watch
from migrator.value import replace

_TOLD = ("migration.", "plan.", "rows.", "verify.")
"""The events of the run on the copy that are told as a run's are; the others are for debugging."""


class CopyParent(Parent):
    """
    The parent process of the run on the copy.

    Args:
        real: That of the real database.
        database: The copy.
        observer: Measures in the worker.
    """

    def __init__(self, real: Parent, database: Path, observer: Watch) -> None:
        settings = replace(
            real.settings, database=database, backup_dir=database.parent / "backups", backup_keep=1
        )
        self._real = real
        layout = Layout.of(settings)
        super().__init__(
            settings, layout, real.log, real.signals, real.deadline, prepare=self._prepare
        )
        self.emit = self._tell
        self.observer = observer

    def _tell(self, event: str, message: str, *, level: str = "info", **fields: Any) -> None:
        """Pass an event on, as one of a rehearsal."""
        told = level if event.startswith(_TOLD) else "debug"
        self._real.emit(event, message, level=told, rehearsal=True, **fields)

    def _prepare(self) -> None:
        """Keep the worker from the real database: migrations find the copy in its place."""
        from migrator.process import audit_hook

        self._real.prepare()
        audit_hook.forbid(self._real.layout.database)
        if "MIGRATOR_DATABASE" in os.environ:
            os.environ["MIGRATOR_DATABASE"] = str(self.layout.database)


def as_of(error: MigratorError, copy: Path, real: Path) -> None:
    """Make an error name the database instead of its copy, which is gone by then."""
    error.message, error.hint = (
        text.replace(str(copy), str(real)) for text in (error.message, error.hint)
    )
    error.args = (error.message,)
