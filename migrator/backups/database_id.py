"""
A database's id, by which its backups are recognised under any path.

In every container the database may be `/data/app.db`, and several may share a backup
directory. The id lies in the directory `app.db.migrator/identity/`: earlier versions
delete unknown files in `app.db.migrator/`, but no directories.
"""

from __future__ import annotations

import os
import re
from shlex import quote
from typing import TYPE_CHECKING

from migrator.access import read_small
from migrator.database.workspace import make_home
from migrator.errors import MisfitError
from migrator.files import make_directory, write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from migrator.database.workspace import Layout
    from migrator.files import Ownership

_ID = re.compile(r"[0-9a-f]{32}")
_LARGEST = 1 << 10


def read(layout: Layout) -> str | None:
    """
    Read the id; None if the database has no id yet, or its volume was lost.

    Raises:
        MisfitError: The file holds something else.
        NotReadyError: Something other than a regular file is in its place.
        NoPermissionError: It may not be read.
        DiskError: It cannot be read.
    """
    path = layout.identity
    data = read_small(path, _LARGEST, layout.database)
    if data is None:
        return None
    text = data.decode("ascii", "replace").removesuffix("\n")
    if not _ID.fullmatch(text):
        raise _unreadable(path)
    return text


def write(layout: Layout, ownership: Ownership, wanted: str | None = None) -> str:
    """
    Give the database an id, durably: a new one, or the one that it had; only under the lock.

    Args:
        layout: The database's paths.
        ownership: The file's owner and mode.
        wanted: The id that it had before it was lost; None for a new one.

    Raises:
        OSError: It cannot be written; after a crash it is complete or missing.
    """
    made = wanted or os.urandom(16).hex()
    owner = ownership.private
    make_home(layout, ownership)
    make_directory(layout.identity.parent, owner)
    write_atomic(layout.identity, f"{made}\n".encode("ascii"), owner)
    return made


def is_id(text: str) -> bool:
    """Tell whether a text has the form of an id."""
    return _ID.fullmatch(text) is not None


def _unreadable(path: Path) -> MisfitError:
    return MisfitError(
        f"{str(path)!r} does not hold the id that this program writes there, "
        "so which backups are this database's is unknown.",
        hint=f"No crash leaves it so. Delete it: `rm {quote(str(path))}`. The database then gets "
        "a new id with its next backup; earlier ones can be restored by their paths.",
        reason="identity.unreadable",
    )
