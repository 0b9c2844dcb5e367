"""The tables of a database, and which of their columns are the same before and after."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from migrator.sqlite import fold, quoted

_ROWIDS = ("rowid", "_rowid_", "oid")
_NORMAL = 0
"""`hidden` of an ordinary column in `PRAGMA table_xinfo`."""


ColumnRenames = Sequence[tuple[str, str, str]]
"""Table, old and new name of renamed columns, folded, in order."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column that stores values: neither generated nor hidden."""

    name: str
    type: str
    default: str | None
    key: int
    """Its place in the primary key, from 1; 0: it is not in it."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its columns, and where its rows are."""

    name: str
    columns: tuple[Column, ...]
    rowid: str | None
    sql: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """The names of the primary key's columns, in order."""
        keyed = sorted((each for each in self.columns if each.key), key=lambda each: each.key)
        return tuple(each.name for each in keyed)


def pairs_of(before: Sequence[str], after: Sequence[str], renames: ColumnRenames) -> dict[str, str]:
    """
    Return, per column that a table has before and after, its name before.

    Args:
        before: The names of its columns before.
        after: And afterwards.
        renames: The columns of any table that were renamed, in order.
    """
    olds = {fold(each): each for each in before}
    pairs = {each: olds[fold(each)] for each in after if fold(each) in olds}
    news = {fold(each): each for each in after if each not in pairs}
    taken = {fold(each) for each in pairs.values()}
    for key, name in olds.items():
        now = key
        for _, old, new in renames:
            now = new if now == old else now
        if key not in taken and now in news:
            pairs[news[now]] = name
    return pairs


def tables_of(conn: sqlite3.Connection, history: str, schema: str = "main") -> dict[str, Table]:
    """Return the application's tables by their folded names."""
    found = {}
    listed = conn.execute(f"PRAGMA {schema}.table_list").fetchall()
    for row in listed:
        name, kind, without_rowid = str(row[1]), row[2], bool(row[4])
        key = fold(name)
        if row[0] != schema or kind not in {"table", "virtual"}:
            continue
        if key.startswith("sqlite_") or key == fold(history):
            continue
        try:
            found[key] = _table(conn, schema, name, kind, without_rowid=without_rowid)
        except sqlite3.Error:
            # Only the application has its module: it has no columns here.
            found[key] = Table(name, (), None)
    return found


def _table(
    conn: sqlite3.Connection, schema: str, name: str, kind: str, *, without_rowid: bool
) -> Table:
    rows = conn.execute(f"PRAGMA {schema}.table_xinfo({quoted(name)})").fetchall()
    columns = tuple(
        Column(str(row[1]), str(row[2]), row[4], int(row[5])) for row in rows if row[6] == _NORMAL
    )
    taken = {fold(each.name) for each in columns}
    rowid = None
    if not without_rowid:
        rowid = next((each for each in _ROWIDS if each not in taken), None)
    sql = ""
    if kind == "virtual":
        query = f"SELECT sql FROM {schema}.sqlite_schema WHERE type = 'table' AND name = ?"  # noqa: S608
        sql = str(conn.execute(query, (name,)).fetchone()[0])
    return Table(name, columns, rowid, sql)
