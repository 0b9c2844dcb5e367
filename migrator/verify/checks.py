"""Read a new state before it counts: its schema and its foreign keys."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from migrator.sqlite import fold, primary_code, quoted

# SQLite gives this error, which a migration causes, the same code as an uncheckable table.
_MISMATCH = re.compile(r'foreign key mismatch - ".*" referencing "(.*)"', re.DOTALL)

_REFERENCES = """
    SELECT there.name, refers."table"
    FROM pragma_table_list AS there CROSS JOIN pragma_foreign_key_list(there.name, 'main') AS refers
    WHERE there.schema = 'main' AND there.type = 'table'
"""

Orphans = Counter[tuple[str, str]]
"""How many rows of a table refer to a missing row of its parent, per table and parent."""


@dataclass(frozen=True, slots=True)
class References:
    """
    The result of a check of the foreign keys.

    Args:
        orphans: The violations, per table and parent.
        unchecked: SQLite's message for each table whose foreign keys it cannot check,
            because only the application has the collation or function.
    """

    orphans: Orphans = field(default_factory=Counter)
    unchecked: Mapping[str, str] = field(default_factory=dict)


def read_schema(conn: sqlite3.Connection) -> None:
    """
    Make a connection read the schema again, as the next one to open the database will.

    The connection does not notice what was written into `sqlite_schema` itself
    (https://sqlite.org/pragma.html#pragma_writable_schema).

    Raises:
        sqlite3.DatabaseError: The schema cannot be read.
        UnicodeDecodeError: SQLite's message about it is not UTF-8.
    """
    conn.execute("PRAGMA writable_schema = RESET").fetchall()
    conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()


def foreign_keys(conn: sqlite3.Connection) -> References:
    """
    Count the violations of foreign keys, per table and parent.

    A foreign key whose parent has no unique key for it ("foreign key mismatch") counts
    as one violation of its table; one that needs a collation or a function that only
    the application has is not checked.

    Raises:
        sqlite3.Error: The disk failed, or the database is damaged.
    """
    found: Orphans = Counter()
    unchecked: dict[str, str] = {}
    # Table by table: one that cannot be checked would end the check of them all.
    for table in sorted({table for table, _ in _references(conn)}):
        try:
            rows = conn.execute(f"PRAGMA foreign_key_check({quoted(table)})")
            found.update((table, str(row[2])) for row in rows)
        except sqlite3.DatabaseError as error:
            if primary_code(error) != sqlite3.SQLITE_ERROR:
                raise
            mismatch = _MISMATCH.fullmatch(str(error))
            if mismatch is not None:
                found[table, mismatch[1]] += 1
            else:
                unchecked[table] = str(error)
    return References(found, unchecked)


def without_parent(conn: sqlite3.Connection) -> set[tuple[str, str]]:
    """Return table and parent of each foreign key whose parent does not exist."""
    known = {fold(name) for name in tables(conn, ("table",))}
    # SQLite lists references to a table that does not exist too: `foreign_key_check` calls
    # them violations only once a row refers to it.
    return {(table, parent) for table, parent in _references(conn) if fold(parent) not in known}


def new_orphans(
    before: Mapping[tuple[str, str], int],
    after: Mapping[tuple[str, str], int],
    renames: Iterable[tuple[str, str]] = (),
) -> dict[tuple[str, str], int]:
    """
    Return how many violations the run has added, per table and parent.

    Args:
        before: The orphans that `foreign_keys` counted before the run.
        after: What it counted afterwards.
        renames: Old and new names of tables that the run has renamed, in order.
    """
    # Under their new names: a renamed table must not turn its old orphans into new ones.
    known: Counter[tuple[str, str]] = Counter()
    moves = list(renames)
    for (table, parent), count in before.items():
        known[_current(table, moves), _current(parent, moves)] += count
    more = {
        (table, parent): count - known[fold(table), fold(parent)]
        for (table, parent), count in after.items()
    }
    return {pair: count for pair, count in more.items() if count > 0}


def tables(conn: sqlite3.Connection, kinds: Iterable[str]) -> list[str]:
    """
    Return the names of the application's tables, in the order of their names.

    Args:
        conn: A connection whose rows are tuples or `sqlite3.Row`.
        kinds: Which of `table` and `virtual`; shadow tables are neither.
    """
    rows = conn.execute("PRAGMA table_list")
    wanted = set(kinds)
    names = [str(row[1]) for row in rows if row[0] == "main" and row[2] in wanted]
    return sorted(name for name in names if not fold(name).startswith("sqlite_"))


def _references(conn: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return table and parent of each foreign key, of however many tables by one statement."""
    return [(str(table), str(parent)) for table, parent in conn.execute(_REFERENCES)]


def _current(name: str, renames: list[tuple[str, str]]) -> str:
    """Return the folded name that a table has after all renames."""
    now = fold(name)
    for old, new in renames:
        if now == fold(old):
            now = fold(new)
    return now
