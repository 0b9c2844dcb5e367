"""Name backups, and refuse a database whose name is too long for that."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from migrator.backups.directory import facts_path, partial_path
from migrator.backups.space import existing
from migrator.errors import NotReadyError

if TYPE_CHECKING:
    from pathlib import Path

    from migrator.database.workspace import Layout


def backup_path(layout: Layout, counter: int) -> Path:
    """Return the path of a backup with this place in the order, made now."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return layout.backup_dir / f"{layout.database.name}-{counter:06d}-{stamp}.db"


def reservation(path: Path) -> Path:
    """Return the path that reserves a backup's name, the longest of its files' names."""
    return partial_path(facts_path(path))


def refuse_long_name(layout: Layout) -> None:
    """
    Refuse a database whose backups would have too long a name, if the limit is known.

    Raises:
        NotReadyError: Its name is too long.
    """
    longest = len(os.fsencode(reservation(backup_path(layout, 1)).name))
    with suppress(OSError):
        most = os.pathconf(existing(layout.backup_dir), "PC_NAME_MAX")
        if longest > most:
            raise _too_long(layout, longest, most)


def _too_long(layout: Layout, longest: int, most: int) -> NotReadyError:
    limit = len(os.fsencode(layout.database.name)) - (longest - most)
    msg = (
        f"The name of {str(layout.database)!r} is too long: its backups in"
        f" {str(layout.backup_dir)!r} would have names of {longest} bytes, and {most} are possible"
        f" there. The database's own may have {limit}."
    )
    hint = f"Name one of at most {limit} bytes in `--database` (MIGRATOR_DATABASE)."
    if os.path.lexists(layout.database):
        hint = (
            "Stop what uses the database, rename it (and its `-wal` or `-journal`, if there is one)"
            f" to at most {limit} bytes, and give that name in `--database` (MIGRATOR_DATABASE)."
        )
    return NotReadyError(msg, hint=hint, reason="volume.unusable", retryable=False)
