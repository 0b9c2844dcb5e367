"""
The row-loss guard: a migration loses no rows that it did not say it would lose.

Said is a `DELETE` of the migration's own on that table, a table dropped for
good, or `allow_row_loss`. A rebuild that comes back smaller, `INSERT OR
REPLACE` and what triggers delete are not said.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection
from dataclasses import dataclass

from migrator.connection.recording import Record, fold, quoted
from migrator.connection.verify import tables
from migrator.errors import VerificationError
from migrator.model import Entry

_SQLITE_ERROR = 1


@dataclass(frozen=True, slots=True)
class _Loss:
    """A table with fewer rows than before; `now` is its name afterwards, None for a dropped one."""

    table: str
    before: int
    after: int
    now: str | None
    said: bool

    def describe(self) -> str:
        """Say what happened, as the end of a sentence that begins with the migration."""
        if self.now is None:
            return f"dropped table {self.table!r} with its {_rows(self.before)}"
        name = repr(self.table) if fold(self.now) == fold(self.table) else f"{self.now!r}"
        was = "" if fold(self.now) == fold(self.table) else f" ({self.table!r} before)"
        return f"left {self.after} of the {_rows(self.before)} of table {name}{was}"


class RowGuard:
    """
    Counts the rows of all tables once, then again what a migration touched.

    Args:
        conn: The run's connection, on which nothing is refused or recorded
            while this class uses it.
        mode: `on`, `strict` (any loss needs `allow_row_loss`) or `off`.
        history_table: Its rows are this program's own business.

    Attributes:
        uncounted: SQLite's message for each table that cannot be counted, for
            want of a module, function or collation that only the application
            defines.
    """

    def __init__(self, conn: sqlite3.Connection, mode: str, history_table: str) -> None:
        self.conn = conn
        self._mode = mode
        self._history = fold(history_table)
        self._names: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self.uncounted: dict[str, str] = {}

    def count_all(self) -> float:
        """Count every table before the first migration; returns the seconds that it took."""
        started = time.monotonic()
        if self._mode != "off":
            self._recount(frozenset())
        return time.monotonic() - started

    def check(self, record: Record, entry: Entry, allowed: Collection[str]) -> dict[str, int]:
        """
        Compare with the counts from before a migration, and go on from the new ones.

        Args:
            record: What the migration did.
            entry: Which one it was.
            allowed: The tables of its `allow_row_loss`.

        Returns:
            How many rows went that were said to go, per table.

        Raises:
            VerificationError: Others went.
        """
        if self._mode == "off":
            return {}
        before, names = self._counts, self._names
        self._recount(_touched(record))
        free = {fold(name) for name in allowed}
        losses = [
            loss
            for key, count in before.items()
            if (loss := self._compare(key, names[key], count, record, free)) is not None
        ]
        unsaid = [loss for loss in losses if not loss.said]
        if unsaid:
            raise _rows_lost(entry, unsaid)
        return {loss.table: loss.before - loss.after for loss in losses}

    def _compare(
        self, key: str, name: str, before: int, record: Record, free: set[str]
    ) -> _Loss | None:
        """Return what a table has lost, None for nothing, or nothing that can be counted."""
        moved = _moved(key, record)
        now = key if key in self._names else moved
        if now in self._names and now not in self._counts:
            return None
        after = self._counts.get(now, 0)
        if after >= before:
            return None
        gone = now not in self._names
        by = {fold(table) for table in record.dropped} if gone else record.deleted
        said = bool({key, now} & free) or (self._mode != "strict" and bool({key, now} & by))
        return _Loss(name, before, after, None if gone else self._names[now], said)

    def _recount(self, touched: Collection[str]) -> None:
        """Count the tables that are new, or touched, and take over the counts of the others."""
        known = self._counts
        self._names = self._list()
        self._counts = {}
        for key, name in self._names.items():
            count = self._count(name) if key in touched or key not in known else known[key]
            if count is not None:
                self._counts[key] = count

    def _list(self) -> dict[str, str]:
        found = {fold(name): name for name in tables(self.conn, ("table", "virtual"))}
        found.pop(self._history, None)
        return found

    def _count(self, name: str) -> int | None:
        try:
            row = self.conn.execute(f"SELECT count(*) FROM main.{quoted(name)}").fetchone()  # noqa: S608
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) != _SQLITE_ERROR:
                raise
            self.uncounted[name] = str(error)
            return None
        self.uncounted.pop(name, None)
        return int(row[0])


def _touched(record: Record) -> frozenset[str]:
    """Return the folded names of the tables whose rows may not be what they were."""
    names = {*record.written, *record.dropped, *record.altered}
    return frozenset(fold(name) for name in (*names, *(new for _, new in record.renames)))


def _moved(key: str, record: Record) -> str:
    """Return the folded name that the renames of a migration lead to."""
    for old, new in record.renames:
        if fold(old) == key:
            key = fold(new)
    return key


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
