"""
Find the files of a backup directory that have the form of a backup's name.

A backup is a pair, `app.db-000012-20260131T120000Z.db` and the same with `.json`
behind it, which says whose it is. Nothing else is a backup: not `app.db-2.db`, nor a
`.db` alone, nor a link, a directory or a pipe of such a name.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from migrator.database.workspace import Layout


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One name in a backup directory that has the form of a backup's.

    Args:
        name: The name itself.
        backup: The name of the backup's database that it belongs to.
        counter: The backup's place in the order, from its name.
        facts: Whether it is, or becomes, the `.json`.
        finished: Whether it has the form of a finished backup's.
    """

    name: str
    backup: str
    counter: int
    facts: bool
    finished: bool


def named(database: str, names: Iterable[str]) -> list[Entry]:
    """Return the names that have the form of a database's backups, in order."""
    base = re.escape(database)
    form = re.compile(
        rf"(?P<dot>\.)?(?P<backup>{base}-(?P<counter>\d{{6,15}})-\w+\.db)"
        r"(?P<facts>\.json)?(?P<end>\.partial|\.tmp)?",
        re.ASCII,
    )
    found = (form.fullmatch(name) for name in sorted(names))
    return [
        Entry(each[0], each["backup"], int(each["counter"]), bool(each["facts"]), not each["end"])
        for each in found
        if each is not None and bool(each["dot"]) == bool(each["end"])
    ]


def entries(layout: Layout) -> list[Entry]:
    """
    List the backups' files in the backup directory, finished or not.

    Raises:
        OSError: The directory cannot be read; a missing one is empty.
    """
    try:
        return named(layout.database.name, os.listdir(layout.backup_dir))
    except FileNotFoundError:
        return []


def names(layout: Layout) -> list[str]:
    """
    Return the names of the backups' files in the backup directory, finished or not.

    Raises:
        OSError: The directory cannot be read.
    """
    return [entry.name for entry in entries(layout)]


def facts_path(path: Path) -> Path:
    """Return the path of a backup's facts."""
    return path.with_name(path.name + ".json")


def partial_path(path: Path) -> Path:
    """Return the path of a file while it is unfinished."""
    return path.with_name(f".{path.name}.partial")


def is_regular(path: Path) -> bool:
    """Tell whether a regular file is at a path, not a link, a pipe or a device."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode)
