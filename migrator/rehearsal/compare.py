"""Compare the two files of a rehearsal: the database before the run, and after it."""

from __future__ import annotations

import contextlib
import difflib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from migrator.database import connecting
from migrator.database.uri import database_uri
from migrator.rehearsal.report import (
    ColumnGone,
    Comparison,
    Orphans,
    QueryChange,
    QueryResult,
    SchemaChange,
    TableRows,
)
from migrator.rehearsal.rows import Rows
from migrator.rehearsal.tables import ColumnRenames, pairs_of
from migrator.session.record import Record
from migrator.sqlite import fold, quoted
from migrator.statement import Statement
from migrator.verify import checks

_SCHEMA = (
    "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
    " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
)
_ORDER = {"table": 0, "index": 1, "view": 2, "trigger": 3}

Renames = Sequence[tuple[str, str]]


def compare(
    before: Path | None,
    after: Path,
    renames: Renames,
    column_renames: ColumnRenames,
    queries: Sequence[Statement],
) -> Comparison:
    """
    Compare the database before a run, None for a first install, with the one after it.

    Args:
        before: The file from before.
        after: And from afterwards.
        renames: Old and new name of the tables that were renamed, in order.
        column_renames: The same of columns, with their table.
        queries: The statements of `--queries`.
    """
    with _opened(before) as old, _opened(after) as new:
        olds, news = _objects(old), _objects(new)
        changes = tuple(_changes(olds, news))
        gone = [each for each in changes if each.change == "removed"]
        moved = {fold(was) for was, _ in renames}
        tables = checks.tables(new, ("table", "virtual"))
        there = {fold(name) for name in tables}
        return Comparison(
            schema=changes,
            schema_diff=tuple(_diff(changes)),
            tables_gone=tuple(
                each.name
                for each in gone
                if each.type == "table"
                and not (fold(each.name) in moved and _current(each.name, renames) in there)
            ),
            indexes_gone=tuple(each.name for each in gone if each.type == "index"),
            columns_gone=tuple(_columns_gone(old, new, renames, column_renames)),
            orphans=tuple(_orphans(old, new)),
            queries=tuple(_queried(old, new, queries)),
        )


def rows_of_files(
    before: Path | None, after: Path, scratch: Path, history: str
) -> tuple[TableRows, ...]:
    """
    Compare all tables of two files, and return what is different.

    Where a command did it, nobody knows whether it has rebuilt a table: without a key, rows go
    by their content.
    """
    scratch.unlink(missing_ok=True)
    rows, record = Rows(scratch, before, history), Record()
    record.schema_written = True
    with contextlib.closing(rows), _opened(after) as conn:
        found = rows.compare(conn, record, vacuumed=True)
    return tuple(
        each
        for each in found
        if each.gone
        or each.was is None
        or each.why is not None
        or (each.inserted or each.changed or each.deleted)
    )


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[sqlite3.Connection]:
    """Open a file of the rehearsal read-only; no other process has it open."""
    name = ":memory:" if path is None else database_uri(path, "ro&immutable=1")
    with contextlib.closing(sqlite3.connect(name, uri=True, isolation_level=None)) as conn:
        connecting.prepare(conn)
        conn.execute("PRAGMA query_only = ON")
        yield conn


Key = tuple[str, str]
Objects = dict[Key, tuple[str, str, str, str]]


def _objects(conn: sqlite3.Connection) -> Objects:
    """Return type, name, table and SQL of what the schema has, by type and folded name."""
    rows = [tuple(map(str, row)) for row in conn.execute(_SCHEMA)]
    # A virtual table's shadow tables are SQLite's, not the application's.
    shadows = {
        fold(str(row[1])) for row in conn.execute("PRAGMA main.table_list") if row[2] == "shadow"
    }
    rows = [row for row in rows if fold(row[2]) not in shadows]
    return {(row[0], fold(row[1])): (row[0], row[1], row[2], row[3]) for row in rows}


def _changes(olds: Objects, news: Objects) -> Iterator[SchemaChange]:
    """Yield what differs, by table: the table first, then what belongs to it."""
    rows = {**olds, **news}

    def place(key: Key) -> tuple[str, int, str]:
        kind, name, table, _ = rows[key]
        return fold(table), _ORDER.get(kind, len(_ORDER)), fold(name)

    for key in sorted(rows, key=place):
        old, new = olds.get(key), news.get(key)
        if old is None and new is not None:
            yield SchemaChange("added", new[0], new[1], new[2], None, new[3])
        elif new is None and old is not None:
            yield SchemaChange("removed", old[0], old[1], old[2], old[3], None)
        elif old is not None and new is not None and old[3] != new[3]:
            yield SchemaChange("changed", new[0], new[1], new[2], old[3], new[3])


def _diff(changes: Sequence[SchemaChange]) -> Iterator[str]:
    """Yield each object that differs as lines that begin with `+`, `-` or a space."""
    for number, each in enumerate(changes):
        if number:
            yield ""
        sides = [[] if sql is None else f"{sql};".splitlines() for sql in (each.before, each.after)]
        whole = len(sides[0]) + len(sides[1])
        yield from list(difflib.unified_diff(sides[0], sides[1], n=whole, lineterm=""))[3:]


def _current(name: str, renames: Renames) -> str:
    """Return the folded name that a table has after all renames."""
    now = fold(name)
    for old, new in renames:
        if now == fold(old):
            now = fold(new)
    return now


def _columns(conn: sqlite3.Connection, table: str) -> list[str]:
    """Return the names of a table's columns that hold values, in order."""
    try:
        rows = conn.execute(f"PRAGMA main.table_xinfo({quoted(table)})").fetchall()
    except sqlite3.Error:
        return []
    return [str(row[1]) for row in rows if row[6] == 0]


def _columns_gone(
    old: sqlite3.Connection,
    new: sqlite3.Connection,
    renames: Renames,
    column_renames: ColumnRenames,
) -> Iterator[ColumnGone]:
    """Yield the columns that a table which is still there has lost, with their values."""
    there = {fold(name): name for name in checks.tables(new, ("table",))}
    for table in checks.tables(old, ("table",)):
        now = there.get(_current(table, renames)) or there.get(fold(table))
        if now is None:
            continue
        before, after = _columns(old, table), _columns(new, now)
        kept = pairs_of(before, after, column_renames).values()
        yield from (
            ColumnGone(table, name, _values(old, table, name))
            for name in before
            if name not in kept
        )


def _values(conn: sqlite3.Connection, table: str, column: str) -> int | None:
    try:
        sql = f"SELECT count({quoted(column)}) FROM main.{quoted(table)}"  # noqa: S608 - quoted
        return int(conn.execute(sql).fetchone()[0])
    except sqlite3.Error:
        return None


def _orphans(old: sqlite3.Connection, new: sqlite3.Connection) -> Iterator[Orphans]:
    before, after = checks.foreign_keys(old).orphans, checks.foreign_keys(new).orphans
    for table, parent in sorted({*before, *after}):
        yield Orphans(table, parent, before[table, parent], after[table, parent])


# --- queries --------------------------------------------------------------------


def _queried(
    old: sqlite3.Connection, new: sqlite3.Connection, queries: Iterable[Statement]
) -> Iterator[QueryChange]:
    for each in queries:
        before, after = _asked(old, each.text), _asked(new, each.text)
        plan = before.plan != after.plan
        rows = (before.rows, before.error) != (after.rows, after.error)
        yield QueryChange(each.text, each.line, before, after, plan, rows, plan or rows)


def _asked(conn: sqlite3.Connection, text: str) -> QueryResult:
    """Ask for a query's plan, and run it to its end."""
    try:
        plan = tuple(str(row[3]) for row in conn.execute(f"EXPLAIN QUERY PLAN {text}"))
    except (sqlite3.Error, UnicodeError) as error:
        return QueryResult(error=str(error))
    began, rows = time.monotonic(), 0
    try:
        for _ in conn.execute(text):
            rows += 1
    except (sqlite3.Error, UnicodeError) as error:
        return QueryResult(plan, error=str(error))
    return QueryResult(plan, rows, round(time.monotonic() - began, 6))
