"""
Compare two schemas by what they mean, not by their text.

How a text is written does not count: its blanks, comments and quotes, the case of its names, and
the order of a table's columns, which an `ALTER TABLE` puts at the end.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from migrator.errors import NotReadyError
from migrator.inspect.database import NeedsRecoveryError, reading
from migrator.log.translate import of_sqlite
from migrator.parsing import sql
from migrator.sqlite import fold

Parts = Mapping[str, str]
"""What an object is made of: a table's columns by name, and the rest of its text."""
Schema = Mapping[tuple[str, str], Parts]
"""Kind (`table`, `index`, `trigger`, `view`) and name of each object, and what it is made of."""

_CONSTRAINTS = frozenset({"constraint", "primary", "unique", "check", "foreign"})
_OWN = ("sqlite_", "_litestream_")
"""How tables are called that no migration makes: SQLite's own, and Litestream's."""
_REST = ""
_SHOWN = 80


def schema_of(conn: sqlite3.Connection, left_out: Collection[str] = ()) -> Schema:
    """
    Read the schema of a database.

    Args:
        conn: A connection to it.
        left_out: Names of tables that do not count, with their indexes and triggers.
    """
    rows = conn.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    ).fetchall()
    hidden = {fold(name) for name in left_out} | _shadow_tables(conn)
    return {
        (kind, name): _parts(kind, text)
        for kind, name, table, text in rows
        if fold(table) not in hidden and not fold(name).startswith(_OWN)
    }


def read_schema_of(database: Path, left_out: Collection[str]) -> Schema:
    """
    Read the schema of a database that nothing is written to.

    Raises:
        NotReadyError: It cannot be read without recovering it.
        MigratorError: SQLite cannot read it.
    """
    try:
        with reading(database) as conn:
            return schema_of(conn, left_out)
    except NeedsRecoveryError as error:
        message = f"The database cannot be read: {error}."
        raise NotReadyError(message, hint="Start the entrypoint once; it recovers it.") from error
    except (sqlite3.Error, UnicodeDecodeError) as error:
        doing = "while its schema was read"
        raise of_sqlite(error, database, doing, writing=False) from error


def lacking_tables(database: Schema, version: Schema) -> list[str]:
    """Return the tables of a version that a database does not have under any case of the name."""
    there = {fold(name) for kind, name in database if kind in ("table", "view")}
    return [name for kind, name in version if kind == "table" and fold(name) not in there]


def differences(database: Schema, version: Schema) -> list[str]:
    """Say how a database differs from what the migrations up to a version make, in clauses."""
    ours = {(kind, fold(name)): (name, parts) for (kind, name), parts in database.items()}
    made = {(kind, fold(name)): (name, parts) for (kind, name), parts in version.items()}
    lacks = [f"it lacks the {kind} {made[kind, key][0]}" for kind, key in made.keys() - ours.keys()]
    more = [f"it has the {kind} {ours[kind, key][0]}" for kind, key in ours.keys() - made.keys()]
    other = [
        clause
        for kind, key in ours.keys() & made.keys()
        for clause in _within(kind, made[kind, key][0], ours[kind, key][1], made[kind, key][1])
    ]
    return [*sorted(lacks), *sorted(more), *sorted(other)]


def _within(kind: str, name: str, ours: Parts, made: Parts) -> Iterator[str]:
    """Say how an object differs that both have."""
    for part in sorted(made.keys() | ours.keys()):
        here, there = ours.get(part), made.get(part)
        if here == there:
            continue
        if kind != "table" or part == _REST:
            yield f"its {kind} {name} is defined in another way"
        elif here is None:
            yield f"its table {name} lacks `{_cut(there or part)}`"
        elif there is None:
            yield f"its table {name} has `{_cut(here)}`"
        else:
            yield f"its table {name} has `{_cut(here)}` in place of `{_cut(there)}`"


def _parts(kind: str, text: str) -> Parts:
    """Take an object's text apart: a table's at the commas between its columns."""
    words = sql.normal(text)
    if kind != "table" or words[1:2] == ("virtual",) or "(" not in words:
        # Behind the name, which the object is found by.
        return {_REST: " ".join(words[2:])}
    parts: dict[str, str] = {}
    at = words.index("(") + 1
    for definition, end in _definitions(words, at):
        written = " ".join(definition)
        parts[written if definition[0] in _CONSTRAINTS else definition[0]] = written
        at = end
    parts[_REST] = " ".join(words[at:])
    return parts


def _definitions(words: Sequence[str], begin: int) -> Iterator[tuple[Sequence[str], int]]:
    """Yield each definition between the commas of a table's parentheses, and the end of it."""
    depth, start = 0, begin
    for at in range(begin, len(words)):
        word = words[at]
        if depth == 0 and word in (",", ")"):
            if at > start:
                yield words[start:at], at + 1
            start = at + 1
            if word == ")":
                return
        depth += (word == "(") - (word == ")")


def _shadow_tables(conn: sqlite3.Connection) -> set[str]:
    """Return the tables in which virtual ones keep their own: each SQLite makes them its way."""
    with contextlib.suppress(sqlite3.Error):
        query = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'shadow'"
        return {fold(name) for (name,) in conn.execute(query)}
    return set()


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
