"""
The row-loss guard: a migration may lose only the rows that it announced.

Announced: the migration's own `DELETE` on that table, or on a view whose INSTEAD OF
trigger deletes there, a table dropped for good, and `allow_row_loss`. Not announced: a
rebuild that comes back smaller, `INSERT OR REPLACE`, what triggers delete, and a
`DELETE` that was rolled back. An index kept as a virtual table follows its table: what
triggers remove from it on an announced `DELETE` is announced.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from migrator.errors import VerificationError
from migrator.model import Entry
from migrator.session.record import Record
from migrator.sqlite import fold, primary_code, quoted
from migrator.verify.renamed_tables import Whereabouts, shows_another

_SQL_OF = "SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND name = ? AND sql NOT NULL"


@dataclass(frozen=True, slots=True)
class _Loss:
    """A table with fewer rows than before; `now` is its name afterwards, None for a dropped one."""

    table: str
    before: int
    after: int
    now: str | None
    said: bool

    def describe(self) -> str:
        """Describe the loss, as the end of a sentence that begins with the migration."""
        if self.now is None:
            return f"dropped table {self.table!r} with its {_rows(self.before)}"
        name = repr(self.table) if fold(self.now) == fold(self.table) else f"{self.now!r}"
        was = "" if fold(self.now) == fold(self.table) else f" ({self.table!r} before)"
        return f"left {self.after} of the {_rows(self.before)} of table {name}{was}"


class RowGuard:
    """
    Count the rows of all tables once, then only the tables that a migration touched.

    Args:
        conn: The run's connection, on which nothing is refused or recorded
            while this class uses it.
        mode: `on`, `strict` (any loss needs `allow_row_loss`) or `off`.
        history_table: This program's own table, which is not counted.

    Attributes:
        uncounted: SQLite's message for each table that cannot be counted without a
            module, function or collation that only the application has.
    """

    def __init__(self, conn: sqlite3.Connection, mode: str, history_table: str) -> None:
        self._conn = conn
        self._mode = mode
        self._history = fold(history_table)
        self._names: dict[str, str] = {}
        self._virtual: set[str] = set()
        self._counts: dict[str, int] = {}
        self._all = True
        self.uncounted: dict[str, str] = {}

    @property
    def conn(self) -> sqlite3.Connection:
        """The connection that counts."""
        return self._conn

    @conn.setter
    def conn(self, conn: sqlite3.Connection) -> None:
        """Switch to another connection: meanwhile anybody may have changed the schema."""
        self._all |= conn is not self._conn
        self._conn = conn

    def count_all(self) -> float:
        """Count every table before the first migration; returns the seconds that it took."""
        started = time.monotonic()
        if self._mode != "off":
            self._recount((), ())
        return time.monotonic() - started

    def check(self, record: Record, entry: Entry, allowed: Collection[str]) -> dict[str, int]:
        """
        Compare with the counts from before a migration, and keep the new ones.

        Tables that the migration did not touch are not counted again.

        Args:
            record: What the migration did.
            entry: Which one it was.
            allowed: The tables of its `allow_row_loss`.

        Returns:
            How many announced rows were lost, per table.

        Raises:
            VerificationError: Other rows were lost.
        """
        if self._mode == "off":
            return {}
        # Written by hand, `sqlite_schema` may hold other tables than SQLite told of.
        self._all |= record.schema_written
        written, defined = _written(record), _defined(record)
        keys = self._names.keys() if self._all else written | defined
        names = {key: self._names[key] for key in keys if key in self._counts}
        before = {key: self._counts[key] for key in names}
        self._recount(written, defined)
        free = {fold(name) for name in allowed}
        found = Whereabouts(record.ledger)
        losses = [
            loss
            for key, count in sorted(before.items())
            if (loss := self._compare(key, names[key], count, found, free)) is not None
        ]
        unsaid = [loss for loss in losses if not loss.said]
        if unsaid:
            raise _rows_lost(entry, unsaid)
        return {loss.table: loss.before - loss.after for loss in losses}

    def _compare(
        self, key: str, name: str, before: int, found: Whereabouts, free: set[str]
    ) -> _Loss | None:
        """Return what a table has lost, None for nothing or for what cannot be counted."""
        last = found.last_name(key)
        there = not found.is_dropped(key) and last in self._names
        now = next((each for each in (last if there else key, last) if each in self._names), None)
        # It has no count: SQLite cannot count it, or it shows another table's rows.
        if now is not None and now not in self._counts:
            return None
        after = 0 if now is None else self._counts[now]
        if after >= before:
            return None
        said = bool({key, now or last} & free)
        if now is None:
            said |= self._mode == "on" and found.is_dropped(key)
        else:
            said |= self._mode == "on" and found.deleted(key, now, rebuilt=not there)
            if now in self._virtual:
                upon = found.followed(key, now)
                said |= bool(upon if self._mode == "on" else upon & free)
        return _Loss(name, before, after, None if now is None else self._names[now], said)

    def _recount(self, written: Collection[str], defined: Collection[str]) -> None:
        """List the tables that were defined, and count those and the ones written to."""
        listed = self._list(None if self._all else defined)
        stale = {*written, *defined, *(listed.keys() - self._counts.keys())}
        for key in set(self._names) if self._all else defined:
            name = self._names.pop(key, "")
            if key not in listed:
                self._counts.pop(key, None)
                self.uncounted.pop(name, None)
        self._virtual &= self._names.keys()
        for key, (name, virtual) in listed.items():
            self._names[key] = name
            if virtual:
                self._virtual.add(key)
        for key in stale & self._names.keys():
            count = self._count(self._names[key], virtual=key in self._virtual)
            self._counts.pop(key, None)
            if count is not None:
                self._counts[key] = count
        self._all = False

    def _list(self, keys: Iterable[str] | None) -> dict[str, tuple[str, bool]]:
        """Return the name of each table, or of these, and whether it is virtual."""
        arguments = [""] if keys is None else [f"({quoted(key)})" for key in keys]
        found = {}
        for argument in arguments:
            for row in self._conn.execute(f"PRAGMA main.table_list{argument}").fetchall():
                name, kind = str(row[1]), row[2]
                if kind in {"table", "virtual"} and not fold(name).startswith("sqlite_"):
                    found[fold(name)] = name, kind == "virtual"
        # The run writes its own rows there, and the verification compares them.
        found.pop(self._history, None)
        return found

    def _count(self, name: str, *, virtual: bool) -> int | None:
        if virtual and self._shows_another(name):
            return None
        try:
            row = self._conn.execute(f"SELECT count(*) FROM main.{quoted(name)}").fetchone()  # noqa: S608 - quoted
        except sqlite3.DatabaseError as error:
            if primary_code(error) != sqlite3.SQLITE_ERROR:
                raise
            self.uncounted[name] = str(error)
            return None
        self.uncounted.pop(name, None)
        return int(row[0])

    def _shows_another(self, name: str) -> bool:
        """Tell whether a virtual table shows another table's rows, and has no rows to lose."""
        rows = self._conn.execute(_SQL_OF, (name,)).fetchall()
        return any(shows_another(str(row[0])) for row in rows)


def _written(record: Record) -> set[str]:
    """Return the folded names of the tables whose rows may have changed."""
    return {fold(name) for name in record.written}


def _defined(record: Record) -> set[str]:
    """Return the folded names that may belong to another table now, or to none."""
    renamed = (name for pair in record.renames for name in pair)
    return {fold(name) for name in (*record.defined, *renamed)}


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"


def _rows_lost(entry: Entry, losses: list[_Loss]) -> VerificationError:
    label = entry.label
    first = losses[0]
    others = f" ({len(losses) - 1} more tables lost rows as well)" if losses[1:] else ""
    message = f"Migration {label} {first.describe()}{others}, which it had not said it would do."
    lost = ", ".join(loss.table for loss in losses)
    names = "".join(f"{loss.table!r}, " for loss in losses).rstrip()
    hint = (
        "Look for a copy that leaves rows out, an INSERT OR REPLACE or a trigger that deletes."
        f" If the rows are meant to go, say so: `allow_row_loss = ({names})` in a .py file,"
        f" `-- migrate:allow-row-loss {lost}` in an .sql file."
    )
    data = {
        "version": entry.version,
        "name": entry.name,
        "file": entry.file,
        "check": "rows",
        "table": first.table,
        "before": first.before,
        "after": first.after,
        "tables": [
            {"table": loss.table, "before": loss.before, "after": loss.after} for loss in losses
        ],
    }
    return VerificationError(message, hint=hint, reason="rows.lost", data=data)
