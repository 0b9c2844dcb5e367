"""Backups, and what lies in their directory, for the tests of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from migrator.backups.backup import Backup, Facts
from migrator.backups.create import make
from migrator.database.workspace import Layout
from migrator.model import Applied
from tests.support.files import opened
from tests.support.recorder import Recorder

UP = Facts(
    reason="up",
    run_id="01J",
    version="002",
    applied=(Applied("001", "001", "users", "t1"), Applied("002", "002", "notes", "t2")),
    journal_mode="wal",
)
ID = "0123456789abcdef0123456789abcdef"
RESTORE = Facts(reason="restore", run_id="01K", journal_mode="wal")


def back_up(layout: Layout, facts: Facts = UP, emit: Recorder | None = None, **more: Any) -> Backup:
    """Make a backup through a plain connection."""
    with opened(layout.database) as conn:
        return make(conn, layout, facts, emit or Recorder(), **more)


def change(layout: Layout) -> None:
    """Bring the database to another state of the same size."""
    with opened(layout.database) as conn:
        conn.execute("UPDATE users SET name = lower(hex(randomblob(1))) WHERE id = 1")


def several(layout: Layout, count: int) -> list[Backup]:
    """Make backups of as many states; oldest first."""
    made = []
    for _ in range(count):
        change(layout)
        made.append(back_up(layout))
    return made


def left(layout: Layout) -> set[str]:
    """Name what the backup directory holds beside the `.gitignore`."""
    return {path.name for path in layout.backup_dir.iterdir()} - {".gitignore"}


def pair(*backups: Backup) -> set[str]:
    """Name the files of finished backups."""
    return {name for each in backups for name in (each.name, f"{each.name}.json")}


def damage(path: Path) -> None:
    """Overwrite the second page."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xaa" * 4096)


MUTATING = {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate", "sqlite3.connect"}
