"""SQLite's own conventions: how names are quoted and compared, and what its errors are called."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping

_FOLD = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def quoted(name: str) -> str:
    """Return a name as it can stand in a statement."""
    return '"' + name.replace('"', '""') + '"'


def kind_of(conn: sqlite3.Connection, name: str) -> str | None:
    """Return what has a name that a table could have, `table`, `view` or `index`, or None."""
    query = (
        "SELECT type FROM sqlite_master WHERE lower(name) = lower(?)"
        " AND type IN ('table', 'view', 'index')"
    )
    row = conn.execute(query, (name,)).fetchone()
    return None if row is None else str(row[0])


def text_or_none(value: object) -> str | None:
    """Return a value of a row as text; NULL stays None."""
    return None if value is None else str(value)


def insert(conn: sqlite3.Connection, table: str, row: Mapping[str, object]) -> None:
    """Insert one row, given by its columns."""
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    query = f"INSERT INTO {quoted(table)} ({names}) VALUES ({marks})"  # noqa: S608 - quoted
    conn.execute(query, tuple(row.values()))


def fold(name: str) -> str:
    """Return a table's name as SQLite compares it: without the case of ASCII letters."""
    return name.translate(_FOLD)


def primary_code(error: BaseException) -> int | None:
    """Return SQLite's primary result code of an exception, or None."""
    code = getattr(error, "sqlite_errorcode", None) if isinstance(error, sqlite3.Error) else None
    return code & 0xFF if isinstance(code, int) else None


@contextlib.contextmanager
def any_text(conn: sqlite3.Connection) -> Iterator[None]:
    """Within, text that is not UTF-8 can be read too: it matches no known version."""
    factory = conn.text_factory
    conn.text_factory = lambda data: data.decode(errors="backslashreplace")
    try:
        yield
    finally:
        conn.text_factory = factory
