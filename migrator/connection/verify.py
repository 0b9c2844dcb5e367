"""What is looked for in a database before its new state counts: structure and foreign keys."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from migrator.connection.recording import fold, quoted
from migrator.storage.structure import findings

PROBLEMS = 10
"""How many problems of the structure are listed at most."""

UNKNOWN_PARENT = "?"

_SQLITE_ERROR, _SQLITE_CORRUPT, _SQLITE_NOTADB = 1, 11, 26
_CHECKS = {"quick": "quick_check", "full": "integrity_check"}
_PARENT = re.compile(r'referencing "(.*)"$', re.DOTALL)

Orphans = Counter[tuple[str, str]]
"""How many rows of a table refer to a row that its parent does not have, per table and parent."""


@dataclass(frozen=True, slots=True)
class Structural:
    """
    The result of a structural check.

    Args:
        problems: SQLite's lines, none where everything is well.
        incomplete: SQLite's message where it could not check, for want of a
            function, collation or module that only the application defines.
    """

    problems: tuple[str, ...] = ()
    incomplete: str | None = None


def read_schema(conn: sqlite3.Connection) -> None:
    """
    Have a connection read the schema anew, as whoever opens the database next has to.

    What was written into `sqlite_schema` itself is not in the schema that the
    connection knows (https://sqlite.org/pragma.html#pragma_writable_schema).

    Raises:
        sqlite3.DatabaseError: The schema cannot be read.
        UnicodeDecodeError: Nor can what SQLite says of it.
    """
    conn.execute("PRAGMA writable_schema = RESET").fetchall()
    conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()


def structural(conn: sqlite3.Connection, mode: str = "quick") -> Structural:
    """
    Check the structure of a database.

    Args:
        conn: Any connection to it; inside a transaction its state is checked.
        mode: `quick`, or `full`, which compares indexes with their tables too.

    Raises:
        sqlite3.Error: The check failed for a reason that is no finding, as a
            disk error or a lock.
    """
    try:
        rows = conn.execute(f"PRAGMA {_CHECKS[mode]}({PROBLEMS})").fetchall()
    except UnicodeDecodeError:
        return Structural(problems=("the schema holds what is no text",))
    except sqlite3.DatabaseError as error:
        return _unchecked(error)
    return Structural(tuple(findings(rows)))


def _unchecked(error: sqlite3.DatabaseError) -> Structural:
    code = _primary_code(error)
    if code in (_SQLITE_CORRUPT, _SQLITE_NOTADB):
        return Structural(problems=(str(error),))
    if code == _SQLITE_ERROR:
        return Structural(incomplete=str(error))
    raise error


def foreign_keys(conn: sqlite3.Connection) -> Orphans:
    """
    Count the violations of foreign keys, per table and parent.

    A foreign key that SQLite cannot check ("foreign key mismatch", its parent
    has no unique key) counts as one violation of its table.

    Raises:
        sqlite3.Error: The disk failed, or the database is damaged.
    """
    found: Orphans = Counter()
    for table in tables(conn, ("table",)):
        try:
            rows = conn.execute(f"PRAGMA foreign_key_check({quoted(table)})")
            found.update((table, str(row[2])) for row in rows)
        except sqlite3.DatabaseError as error:
            if _primary_code(error) != _SQLITE_ERROR:
                raise
            found[table, _parent_in(str(error))] += 1
    return found


def without_parent(conn: sqlite3.Connection) -> set[tuple[str, str]]:
    """Return table and parent of each foreign key whose parent does not exist."""
    there = tables(conn, ("table",))
    known = {fold(name) for name in there}
    parents = (
        (table, str(row[2]))
        for table in there
        for row in conn.execute(f"PRAGMA foreign_key_list({quoted(table)})").fetchall()
    )
    return {(table, parent) for table, parent in parents if fold(parent) not in known}


def new_orphans(
    before: Mapping[tuple[str, str], int],
    after: Mapping[tuple[str, str], int],
    renames: Iterable[tuple[str, str]] = (),
) -> dict[tuple[str, str], int]:
    """
    Return how many violations more there are, per table and parent.

    Args:
        before: What `foreign_keys` counted before the run.
        after: What it counted afterwards.
        renames: Old and new names of tables that the run has renamed, in order.
    """
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
    rows = conn.execute("PRAGMA table_list").fetchall()
    wanted = set(kinds)
    names = [str(row[1]) for row in rows if row[0] == "main" and row[2] in wanted]
    return sorted(name for name in names if not fold(name).startswith("sqlite_"))


def _current(name: str, renames: list[tuple[str, str]]) -> str:
    """Return the folded name that a table has after all renames."""
    now = fold(name)
    for old, new in renames:
        if now == fold(old):
            now = fold(new)
    return now


def _parent_in(message: str) -> str:
    """Return the parent that SQLite's message about a foreign key names."""
    match = _PARENT.search(message)
    return match[1] if match is not None else UNKNOWN_PARENT


def _primary_code(error: sqlite3.Error) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None
