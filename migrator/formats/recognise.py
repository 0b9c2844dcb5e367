"""Whose migrations a directory holds: the database's history decides, then the files' marks."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from migrator.errors import MigratorError, UsageError
from migrator.formats.tool import Tool
from migrator.formats.tools import TOOLS, tool
from migrator.parsing.file_names import split_name


def recognised(conn: sqlite3.Connection | None, directory: Path, database: Path) -> Tool | None:
    """
    Return the tool that a database's history or the files name, None where neither does.

    Args:
        conn: The database, without a history of ours; None if there is nothing to read.
        directory: The migrations.
        database: The database's path, which the tool is told.

    Raises:
        UsageError: There are the histories, or the marks, of two tools, and the files fit both.
    """
    if conn is not None:
        known = [name for name, (_, _, table) in TOOLS.items() if _has_table(conn, table)]
        tools = [tool(name, directory, database) for name in known]
        # Numbered Python is ours, where the tool has none: it would be passed over in silence.
        ours = _has_python(directory)
        tools = [each for each in tools if each.has_python or not ours]
        theirs = [each for each in tools if each.owns(conn, each.table) and each.wrote(conn)]
        found = [each for each in theirs if _safely(each.fits)]
        if len(found) > 1:
            raise _several(found, "The database has the histories of", "and the files fit both")
        if found:
            return found[0]
    tools = [tool(name, directory, database) for name in TOOLS]
    found = [each for each in tools if _safely(each.marked)]
    if len(found) > 1:
        raise _several(found, "The files have marks of", "and the database has no history yet")
    return found[0] if found else None


def _has_python(directory: Path) -> bool:
    with contextlib.suppress(OSError):
        names = os.listdir(directory)
        return any(name.endswith(".py") and split_name(name) is not None for name in names)
    return False


def _has_table(conn: sqlite3.Connection, name: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND lower(name) = ?"
    return conn.execute(query, (name.lower(),)).fetchone() is not None


def _safely(question: Callable[[], bool]) -> bool:
    """Ask about the files; unreadable ones are reported when they are read."""
    with contextlib.suppress(MigratorError, OSError):
        return question()
    return False


def _several(found: Sequence[Tool], what: str, why: str) -> UsageError:
    titles = [f"{each.title} ({each.table})" for each in found]
    names = " or ".join(f"`--format {each.name}`" for each in found)
    message = f"{what} {', '.join(titles[:-1])} and {titles[-1]}, {why}."
    hint = f"Say whose migrations these are: {names} (MIGRATOR_FORMAT)."
    return UsageError(message, hint=hint, data={"option": "--format"})
