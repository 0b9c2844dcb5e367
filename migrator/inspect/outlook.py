"""What `plan` says about the volume and the statements, beside what is pending."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from migrator.backups.space import existing, free
from migrator.database.raw_file import LiveFile
from migrator.files import sidecars

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from migrator.database.workspace import Layout
    from migrator.model import Script, Section

_REWRITE = frozenset({"UPDATE", "INSERT", "REPLACE", "WITH", "VACUUM", "REINDEX"})
"""First words of statements that may write a table anew."""


def space(layout: Layout, database_bytes: int, scripts: Sequence[Script] | None) -> dict[str, Any]:
    """
    Return what is free where the run writes, and what rebuilt tables may take beside that.

    A rebuild writes a table once more into the file and again into the journal (or the
    `-wal`), so twice the database is as much as it can be; 0 where no statement of SQL
    writes a table anew.
    """
    rewrites = scripts is None or any(map(_may_rewrite, scripts))
    return {
        "space_free_bytes": _free(layout.database.parent),
        "space_rewrite_bytes": 2 * database_bytes if rewrites else 0,
        "backup_dir": str(layout.backup_dir),
        "backup_free_bytes": _free(layout.backup_dir),
    }


def _free(directory: Path) -> int | None:
    with suppress(OSError):
        return free(existing(directory))
    return None


def _may_rewrite(script: Script) -> bool:
    if script.sql_up is None:
        return True
    return any(_is_rewrite(each.keyword, each.text) for each in script.sql_up.statements)


def _is_rewrite(keyword: str, text: str) -> bool:
    """Tell whether a statement may write many rows: not an INSERT of values."""
    if keyword in ("INSERT", "REPLACE"):
        return "SELECT" in text.upper()
    return keyword in _REWRITE or (keyword == "ALTER" and "DROP" in text.upper())


def is_in_use(database: Path) -> bool | None:
    """
    Tell whether another process on this kernel has the database open; None if unknown.

    It asks for a lease that it gives back at once (fcntl(2)), and takes no lock of SQLite's.
    """
    answers = []
    for path in (database, *sidecars(database)):
        if os.path.lexists(path):
            with suppress(OSError), LiveFile.open(path) as file:
                answers.append(file.lease_free())
    if False in answers:
        return True
    return None if None in answers or not answers else False


def statements(scripts: Sequence[Script] | None, pending: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the statements of each pending migration; None for one in Python."""
    known = {script.entry.key: script.sql_up for script in scripts or ()}
    return [
        {"version": entry.version, "file": entry.file, "sql": _told(known.get(entry.key))}
        for entry in pending
    ]


def _told(section: Section | None) -> list[str] | None:
    return None if section is None else [each.text for each in section.statements]
