"""Remove what interrupted runs leave on the volume: work files and unfinished backups."""

from __future__ import annotations

from migrator.backups.retention import remove_unfinished
from migrator.database.workspace import Layout, clean_home


def remove_temporary_files(layout: Layout) -> None:
    """Remove work files and unfinished backups; finished backups stay."""
    remove_work_files(layout)
    remove_unfinished(layout)


def remove_work_files(layout: Layout) -> None:
    """Remove the run's own copies of the database, with their journals."""
    clean_home(layout)
