"""SQLite's own conventions: how names are quoted and compared, and what its errors are called."""

from __future__ import annotations

import sqlite3

_FOLD = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def quoted(name: str) -> str:
    """Return a name as it can stand in a statement."""
    return '"' + name.replace('"', '""') + '"'


def fold(name: str) -> str:
    """Return a table's name as SQLite compares it: without the case of ASCII letters."""
    return name.translate(_FOLD)


def primary_code(error: BaseException) -> int | None:
    """Return SQLite's primary result code of an exception, None for one that has none."""
    code = getattr(error, "sqlite_errorcode", None) if isinstance(error, sqlite3.Error) else None
    return code & 0xFF if isinstance(code, int) else None
