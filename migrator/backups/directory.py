"""
What in a backup directory is called as ours are called; whose it is, its `.json` says.

A backup is a pair, `app.db-000012-20260131T120000Z.db` and the same with `.json`
behind it. Nothing else is one, however it is called: not `app.db-2.db`, nor a
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
    One name in a backup directory that is ours by its form.

    Args:
        name: The name itself.
        backup: The name of the backup's database that it belongs to.
        counter: The backup's place in the order, as its name has it.
        facts: Whether it is, or becomes, the `.json`.
        finished: Whether it is one of a finished pair, by its form.
    """

    name: str
    backup: str
    counter: int
    facts: bool
    finished: bool


def named(database: str, names: Iterable[str]) -> list[Entry]:
    """Return those of the names that are formed as those of a database's backups, in order."""
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
    List what is called like ours in the backup directory, finished or not.

    Raises:
        OSError: The directory cannot be read; a missing one has nothing in it.
    """
    try:
        return named(layout.database.name, os.listdir(layout.backup_dir))
    except FileNotFoundError:
        return []


def names(layout: Layout) -> list[str]:
    """
    Name what is called like ours in the backup directory, finished or not.

    Raises:
        OSError: The directory cannot be read.
    """
    return [entry.name for entry in entries(layout)]


def facts_path(path: Path) -> Path:
    """Name the file that holds the facts of a backup."""
    return path.with_name(path.name + ".json")


def partial_path(path: Path) -> Path:
    """Name a file while it is unfinished."""
    return path.with_name(f".{path.name}.partial")


def is_regular(path: Path, directory: int | None = None) -> bool:
    """Tell whether a file stands at a path, and nothing that leads or waits elsewhere."""
    try:
        found = os.stat(path, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode)
