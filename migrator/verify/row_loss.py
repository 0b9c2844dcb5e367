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
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from migrator.database import connecting
from migrator.database.uri import database_uri
from migrator.errors import VerificationError
from migrator.model import Entry
from migrator.session.record import Record
from migrator.sqlite import fold, primary_code, quoted
from migrator.verify.renamed_tables import Whereabouts, shows_another

_READ = "ro&immutable=1"
_LAST = "SELECT max(rowid) FROM main.sqlite_schema"
_APPENDED = "SELECT rowid, type, name, rootpage FROM main.sqlite_schema WHERE rowid > ?"
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
    Count the rows of the tables that a migration touched, before and after.

    What nothing has touched yet has the rows of the old state, which are counted there.

    Args:
        conn: The run's connection, on which nothing is refused or recorded
            while this class uses it.
        mode: `on`, `strict` (any loss needs `allow_row_loss`) or `off`.
        history_table: This program's own table, which is not counted.
        old: The run's backup; None for a first install.

    Attributes:
        uncounted: SQLite's message for each table that cannot be counted without a
            module, function or collation that only the application has.
        seconds: How long the counting has taken.
    """

    def __init__(
        self, conn: sqlite3.Connection, mode: str, history_table: str, old: Path | None
    ) -> None:
        self._conn = conn
        self._old = _OldState(old)
        self._mode = mode
        self._history = fold(history_table)
        self._names: dict[str, str] = {}
        self._virtual: set[str] = set()
        self._counts: dict[str, int] = {}
        self._untouched: set[str] = set()
        self._all = True
        self._last = 0
        self.uncounted: dict[str, str] = {}
        self.seconds = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._old.close()

    @property
    def conn(self) -> sqlite3.Connection:
        """The connection that counts."""
        return self._conn

    @conn.setter
    def conn(self, conn: sqlite3.Connection) -> None:
        """Switch to another connection: meanwhile anybody may have changed the schema."""
        self._all |= conn is not self._conn
        self._conn = conn

    def begin(self) -> None:
        """List the tables before the first migration."""
        if self._mode != "off":
            self._note(self._list(None))
            self._untouched = set(self._names)
            self._all = False

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
        listed = self._list(None if self._all else defined)
        gone = self._untouched - listed.keys() if self._all else set()
        self._count_old(written | defined | gone)
        keys = self._names.keys() if self._all else written | defined
        names = {key: self._names[key] for key in keys if key in self._counts}
        before = {key: self._counts[key] for key in names}
        self._recount(listed, written, defined)
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

    def _count_old(self, touched: set[str]) -> None:
        """Count in the old state what nothing had touched before this migration."""
        for key in sorted(touched & self._untouched):
            self._keep(key, self._old.conn)
        self._untouched -= touched

    def _recount(
        self,
        listed: Mapping[str, tuple[str, bool]],
        written: Collection[str],
        defined: Collection[str],
    ) -> None:
        """Take the list of the tables over, and count what was written to, or is new."""
        new = (key for key in listed if key not in self._counts and key not in self._untouched)
        stale = {*written, *defined, *new}
        for key in set(self._names) if self._all else defined:
            name = self._names.pop(key, "")
            self._virtual.discard(key)
            if key not in listed:
                self._counts.pop(key, None)
                self.uncounted.pop(name, None)
        self._note(listed)
        for key in stale & self._names.keys():
            self._keep(key, self._conn)
        self._all = False

    def _note(self, listed: Mapping[str, tuple[str, bool]]) -> None:
        """Note the names of tables."""
        for key, (name, virtual) in listed.items():
            self._names[key] = name
            if virtual:
                self._virtual.add(key)

    def _keep(self, key: str, conn: sqlite3.Connection) -> None:
        """Count a table, and keep the number, if there is one."""
        started = time.monotonic()
        self._counts.pop(key, None)
        count = self._count(conn, self._names[key], virtual=key in self._virtual)
        if count is not None:
            self._counts[key] = count
        self.seconds += time.monotonic() - started

    def _list(self, keys: Collection[str] | None) -> dict[str, tuple[str, bool]]:
        """Return the name of each table, or of these, and whether it is virtual."""
        if keys is None:
            self._last = self._conn.execute(_LAST).fetchone()[0] or 0
            found, arguments = {}, [""]
        else:
            found = self._appended(keys) if keys else {}
            arguments = [f"({quoted(key)})" for key in keys if key not in found]
        for argument in arguments:
            for row in self._conn.execute(f"PRAGMA main.table_list{argument}").fetchall():
                name, kind = str(row[1]), row[2]
                if kind in {"table", "virtual"}:
                    found[fold(name)] = name, kind == "virtual"
        # The run writes its own rows into the history, and the verification compares them.
        return {
            key: each
            for key, each in found.items()
            if key != self._history and not key.startswith("sqlite_")
        }

    def _appended(self, keys: Collection[str]) -> dict[str, tuple[str, bool]]:
        """
        Return those of these tables whose rows stand at the end of the schema.

        SQLite goes over the whole schema to answer a question about one table, and appends a
        new one (https://sqlite.org/fileformat2.html#storage_of_the_sql_database_schema). Beside
        virtual tables the schema alone does not tell whether a table is the shadow of one.
        """
        rows = self._conn.execute(_APPENDED, (self._last,)).fetchall()
        self._last = max((row[0] for row in rows), default=self._last)
        tables = [(str(name), root) for _, kind, name, root in rows if kind == "table"]
        if self._virtual or not all(root for _, root in tables):
            return {}
        return {fold(name): (name, False) for name, _ in tables if fold(name) in keys}

    def _count(self, conn: sqlite3.Connection, name: str, *, virtual: bool) -> int | None:
        if virtual and _shows_another(conn, name):
            return None
        try:
            row = conn.execute(f"SELECT count(*) FROM main.{quoted(name)}").fetchone()  # noqa: S608 - quoted
        except sqlite3.DatabaseError as error:
            if primary_code(error) != sqlite3.SQLITE_ERROR:
                raise
            self.uncounted[name] = str(error)
            return None
        self.uncounted.pop(name, None)
        return int(row[0])


class _OldState:
    """The database as it was before the run, opened when it is first asked."""

    def __init__(self, backup: Path | None) -> None:
        self._backup = backup
        self._conn: sqlite3.Connection | None = None

    @property
    def conn(self) -> sqlite3.Connection:
        """A connection to it; a database that did not exist has no table."""
        if self._conn is None:
            name = ":memory:" if self._backup is None else database_uri(self._backup, _READ)
            self._conn = sqlite3.connect(name, uri=True)
            connecting.prepare(self._conn)
        return self._conn

    def close(self) -> None:
        """Close the connection."""
        if self._conn is not None:
            self._conn.close()


def _shows_another(conn: sqlite3.Connection, name: str) -> bool:
    """Tell whether a virtual table shows another table's rows, and has no rows to lose."""
    rows = conn.execute(_SQL_OF, (name,)).fetchall()
    return any(shows_another(str(row[0])) for row in rows)


def _written(record: Record) -> set[str]:
    """Return the folded names of the tables whose rows may have changed."""
    return {fold(name) for name in record.written}


def _defined(record: Record) -> set[str]:
    """Return the folded names that may belong to another table now, or to no table."""
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
        f" `-- migrate:allow-row-loss {lost}` in an .sql file. A file that has to stay as it is,"
        " since its tool compares checksums, runs with `--row-guard off` (MIGRATOR_ROW_GUARD),"
        " given for this one start."
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
