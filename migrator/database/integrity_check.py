"""
Run `PRAGMA quick_check` and `PRAGMA integrity_check`, and tell what their answers mean.

They contain three things: damage; rows that a constraint of their own table forbids,
which are not damage; and what SQLite cannot check, because only the application has the
function, collation, module or tokenizer that it takes.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from migrator.sqlite import primary_code, quoted

PROBLEMS = 10
"""At most so many structural problems are listed."""

_MANY = 1_000_000
_NO_TEXT = "the schema holds something that is not text"
_CHECKS = {"quick": "quick_check", "full": "integrity_check"}
_CODE = re.compile(r"\berror code=(\d+)$")
_OF_THE_DISK = {
    sqlite3.SQLITE_IOERR: "disk I/O error",
    sqlite3.SQLITE_FULL: "database or disk is full",
}
_ABOUT_ROWS = re.compile(r"CHECK constraint failed in |(?:NULL|NUMERIC|TEXT|non-\w+) value in ")
# For a full-text index (since 3.44) a line has the words for the code, not the code.
_NOT_VALIDATED = "unable to validate "
_SQL_LOGIC_ERROR = "SQL logic error"


@dataclass(frozen=True, slots=True)
class Structural:
    """
    The result of a structural check.

    Args:
        problems: Damage, in SQLite's words; empty if there is no damage.
        rows: SQLite's message about rows that a constraint forbids, and how many.
        incomplete: SQLite's message if it could not check everything, because only the
            application has a function, collation or module.
    """

    problems: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    incomplete: str | None = None


def examine(conn: sqlite3.Connection, level: str = "quick") -> Structural:
    """
    Check the structure of a database.

    If SQLite cannot check one table, the others are checked one by one, so that damage
    there is found.

    Args:
        conn: Any connection to it; inside a transaction its state is checked. Only a
            writable one evaluates CHECK constraints.
        level: `quick`, or `full`, which compares indexes with their tables too.

    Raises:
        sqlite3.Error: The check itself failed, by a disk error or a lock.
    """
    found = _Found()
    pragma = _CHECKS[level]
    if not found.take(conn, f"PRAGMA {pragma}({PROBLEMS})"):
        for name in found.tables(conn):
            found.take(conn, f"PRAGMA {pragma}({name})")
    elif found.rows and found.lines >= PROBLEMS:
        # Such rows may be many, and the pragma stops before what comes after them.
        found = _Found()
        found.take(conn, f"PRAGMA {pragma}({_MANY})")
    problems = tuple(dict.fromkeys(found.problems))[:PROBLEMS]
    return Structural(problems, dict(found.rows), found.incomplete)


class _Found:
    """The findings of several checks."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.rows: Counter[str] = Counter()
        self.incomplete: str | None = None
        self.lines = 0

    def take(self, conn: sqlite3.Connection, pragma: str) -> bool:
        """Run one check; returns whether SQLite could do it."""
        try:
            lines = findings(conn.execute(pragma).fetchall())
        except UnicodeDecodeError:
            lines = [_NO_TEXT]
        except sqlite3.DatabaseError as error:
            code = primary_code(error)
            if code == sqlite3.SQLITE_ERROR:
                self.incomplete = self.incomplete or str(error)
                return False
            if code not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise
            lines = [str(error)]
        self._sort(lines)
        return True

    def _sort(self, lines: list[str]) -> None:
        self.lines = len(lines)
        for line in lines:
            if _ABOUT_ROWS.match(line):
                self.rows[line] += 1
            elif line.startswith(_NOT_VALIDATED) and line.endswith(_SQL_LOGIC_ERROR):
                self.incomplete = self.incomplete or line
            else:
                self.problems.append(line)

    def tables(self, conn: sqlite3.Connection) -> list[str]:
        """Return the quoted names of all tables, including the schema's own."""
        query = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name IS NOT NULL"
        try:
            names = [str(row[0]) for row in conn.execute(query).fetchall()]
        except UnicodeDecodeError:
            self.problems.append(_NO_TEXT)
            return []
        return [quoted(name) for name in ("sqlite_schema", *names)]


def findings(rows: Iterable[Any]) -> list[str]:
    """
    Return what a check has found wrong, in SQLite's words; empty if nothing is.

    SQLite lists a page that it could not read or cache among its findings, with an error
    code ("unable to get the page. error code=13"): that is not damage.

    Args:
        rows: The pragma's.

    Raises:
        sqlite3.OperationalError: A page could not be read; with SQLite's code.
    """
    # Structural problems are one text of several lines under a heading.
    lines = [line for row in rows for line in str(row[0]).splitlines()]
    for line in lines:
        if (code := _code(line)) is not None and code & 0xFF in _OF_THE_DISK:
            error = sqlite3.OperationalError(_OF_THE_DISK[code & 0xFF])
            error.sqlite_errorcode = code
            raise error
    return [line for line in lines if line != "ok" and not line.startswith("*** in database")]


def _code(line: str) -> int | None:
    """Return the SQLite error code in a line of a check, or None."""
    match = _CODE.search(line)
    if match is not None:
        return int(match[1])
    if line.startswith(_NOT_VALIDATED):
        return next((code for code, text in _OF_THE_DISK.items() if line.endswith(text)), None)
    return None
