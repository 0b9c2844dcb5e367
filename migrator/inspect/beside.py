"""The databases beside one that is missing: the path may be wrong."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from itertools import islice

from migrator.database.workspace import Layout

_MAGIC = b"SQLite format 3\0"
"""The first bytes of every database that is not empty (https://sqlite.org/fileformat2.html)."""

_ENDINGS = (".db", ".db3", ".sqlite", ".sqlite3")
_MOST = 1000
_NAMED = 5


def databases_beside(layout: Layout, *, open_them: bool = True) -> tuple[str, ...]:
    """
    Return the names of other databases in the directory of a missing one.

    Args:
        layout: Where it would lie.
        open_them: Whether the first bytes decide. In an application's own process
            they must not: opening and closing a file drops the locks that the
            process has on it (fcntl(2)), so that the ending has to do there.
    """
    own = layout.database.name
    found: list[str] = []
    with contextlib.suppress(OSError), os.scandir(layout.database.parent) as items:
        for item in sorted(islice(items, _MOST), key=lambda each: each.name):
            if item.name.startswith((".", f"{own}-", f"{own}.")) or item.name == own:
                continue
            with contextlib.suppress(OSError):
                if not item.is_file(follow_symlinks=False):
                    continue
                if _begins_as_one(item.path) if open_them else item.name.endswith(_ENDINGS):
                    found.append(item.name)
    return tuple(found[:_NAMED])


def told_beside(names: Sequence[str]) -> str:
    """List the databases beside a missing one, and how to name one of them instead."""
    listed = ", ".join(repr(name) for name in names)
    lies = "lies" if len(names) == 1 else "lie"
    return (
        f"beside it {lies} {listed}: if that is the database, name it in `--database`"
        " (MIGRATOR_DATABASE)"
    )


def _begins_as_one(path: str) -> bool:
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(number, len(_MAGIC)) == _MAGIC
    finally:
        os.close(number)
