"""
The history: one plain table in the database itself.

Its first columns are those of the two frameworks that this project grows out
of, so that their own runners still read and write it; all further columns are
nullable.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from migrator.errors import MisfitError
from migrator.model import Applied, Script
from migrator.parsing.directory import version_key

_BY_VERSION = {
    "version": "TEXT PRIMARY KEY",
    "name": "TEXT NOT NULL",
    "applied_at": "TIMESTAMP DEFAULT CURRENT_TIMESTAMP",
    "checksum": "TEXT",
    "description": "TEXT",
    "seconds": "REAL",
    "run_id": "TEXT",
}
_BY_NAME = {
    "id": "INTEGER PRIMARY KEY",
    "migration_name": "TEXT UNIQUE NOT NULL",
    "applied_at": "TIMESTAMP DEFAULT CURRENT_TIMESTAMP",
    "version": "TEXT DEFAULT '1.0.0'",
    "description": "TEXT",
    "seconds": "REAL",
    "run_id": "TEXT",
}


def quoted(name: str) -> str:
    """Return `name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class History:
    """
    The history table of one database.

    Args:
        table: Its name.
        by_name: Whether rows are identified by name (registries) instead of
            by version (directories).
    """

    table: str
    by_name: bool = False

    def exists(self, conn: sqlite3.Connection) -> bool:
        """
        Tell whether the table is there, and is ours.

        Raises:
            MisfitError: A table or view of that name belongs to somebody else,
                or was written for the other kind of source.
        """
        kind = self._kind(conn)
        if kind is None:
            return False
        style = style_of(conn, self.table) if kind == "table" else None
        if style is None:
            raise self._not_ours(kind)
        if style != self.by_name:
            raise self._other_source()
        return True

    def read(self, conn: sqlite3.Connection) -> tuple[Applied, ...]:
        """Return the rows, oldest version (or first applied name) first; none without a table."""
        if not self.exists(conn):
            return ()
        return self._read_by_name(conn) if self.by_name else self._read_by_version(conn)

    def prepare(self, conn: sqlite3.Connection) -> None:
        """Create the table, or add the nullable columns that it lacks."""
        columns = _BY_NAME if self.by_name else _BY_VERSION
        if not self.exists(conn):
            body = ", ".join(f"{name} {kind}" for name, kind in columns.items())
            conn.execute(f"CREATE TABLE {quoted(self.table)} ({body})")
            return
        present = self._columns(conn)
        for name, kind in columns.items():
            if name not in present:
                conn.execute(f"ALTER TABLE {quoted(self.table)} ADD COLUMN {name} {kind}")

    def record(
        self, conn: sqlite3.Connection, script: Script, seconds: float | None, run_id: str
    ) -> None:
        """Write the row of a migration that has just been applied."""
        entry = script.entry
        row: dict[str, object] = {
            "version": entry.version,
            ("migration_name" if self.by_name else "name"): entry.name,
            "description": script.description,
            "seconds": seconds if seconds is None else round(seconds, 3),
            "run_id": run_id,
        }
        if not self.by_name:
            row["checksum"] = script.checksum
        names = ", ".join(row)
        marks = ", ".join("?" * len(row))
        conn.execute(
            f"INSERT INTO {quoted(self.table)} ({names}) VALUES ({marks})",  # noqa: S608 - quoted
            tuple(row.values()),
        )

    def erase(self, conn: sqlite3.Connection, applied: Applied) -> None:
        """Remove the row of a migration that has just been undone."""
        column = "migration_name" if self.by_name else "version"
        value = applied.name if self.by_name else applied.version
        conn.execute(
            f"DELETE FROM {quoted(self.table)} WHERE {column} = ?",  # noqa: S608 - quoted
            (value,),
        )

    def _kind(self, conn: sqlite3.Connection) -> str | None:
        row = conn.execute(
            "SELECT type FROM sqlite_master WHERE lower(name) = lower(?)"
            " AND type IN ('table', 'view', 'index')",
            (self.table,),
        ).fetchone()
        return None if row is None else str(row[0])

    def _columns(self, conn: sqlite3.Connection) -> list[str]:
        rows = conn.execute(f"PRAGMA table_info({quoted(self.table)})").fetchall()
        return [str(row[1]).lower() for row in rows]

    def _read_by_version(self, conn: sqlite3.Connection) -> tuple[Applied, ...]:
        rows = self._rows(conn, ("version", "name", "applied_at", "checksum", "run_id"))
        found = [
            Applied(
                key=version_key(str(row[0])) or ("", str(row[0])),
                version=str(row[0]),
                name=str(row[1]),
                applied_at=_text(row[2]),
                checksum=_text(row[3]),
                run_id=_text(row[4]),
            )
            for row in rows
        ]
        return tuple(sorted(found, key=_in_order))

    def _read_by_name(self, conn: sqlite3.Connection) -> tuple[Applied, ...]:
        rows = self._rows(conn, ("migration_name", "version", "applied_at", "run_id"), "id")
        return tuple(
            Applied(
                key=str(row[0]),
                version=_text(row[1]),
                name=str(row[0]),
                applied_at=_text(row[2]),
                run_id=_text(row[3]),
            )
            for row in rows
        )

    def _rows(
        self, conn: sqlite3.Connection, wanted: tuple[str, ...], order: str = "1"
    ) -> list[tuple[object, ...]]:
        present = self._columns(conn)
        names = ", ".join(name if name in present else "NULL" for name in wanted)
        query = f"SELECT {names} FROM {quoted(self.table)} ORDER BY {order}"  # noqa: S608 - quoted
        with _any_text(conn):
            return conn.execute(query).fetchall()

    def _not_ours(self, kind: str) -> MisfitError:
        message = (
            f"The database has a {kind} called {self.table!r} that is not a migration history:"
            " it belongs to the application."
        )
        hint = (
            "Keep the history under another name:"
            " set `--history-table schema_history` (MIGRATOR_HISTORY_TABLE)."
        )
        return MisfitError(message, hint=hint, reason="history.not_ours")

    def _other_source(self) -> MisfitError:
        written, given = (
            ("versions of files", "a registry of names")
            if self.by_name
            else ("names of a registry", "a directory of versions")
        )
        message = (
            f"The history in table {self.table!r} holds {written},"
            f" while the migrations given are {given}."
        )
        hint = (
            "Point `--migrations` (MIGRATOR_MIGRATIONS) at the source that wrote it,"
            " or keep a second history with `--history-table` and `--accept foreign`."
        )
        return MisfitError(message, hint=hint, reason="history.other_source")


def style_of(conn: sqlite3.Connection, table: str) -> bool | None:
    """Return whether a table is a history by name, None where it is no history of ours."""
    rows = conn.execute(f"PRAGMA table_xinfo({quoted(table)})").fetchall()
    if any(row[6] and str(row[1]).lower() in (*_BY_VERSION, *_BY_NAME) for row in rows):
        # A generated column cannot be written to.
        return None
    rows = [row for row in rows if not row[6]]
    columns = [(str(r[1]).lower(), str(r[2]).upper(), r[3], r[4], r[5]) for r in rows]
    for by_name, shape in ((False, _BY_VERSION), (True, _BY_NAME)):
        if _fits(columns, shape):
            return by_name
    return None


@contextlib.contextmanager
def _any_text(conn: sqlite3.Connection) -> Iterator[None]:
    """Within, a text that is no UTF-8 is read all the same: it is no version that anybody knows."""
    factory = conn.text_factory
    conn.text_factory = lambda data: data.decode(errors="backslashreplace")
    try:
        yield
    finally:
        conn.text_factory = factory


def _fits(columns: list[tuple[str, str, int, object, int]], shape: dict[str, str]) -> bool:
    """
    Tell whether a table has the shape of a history.

    Its first three columns are the framework's, with their primary key; what
    follows must do without a value, since neither framework writes it.
    """
    first = list(shape)[:3]
    if [column[0] for column in columns[:3]] != first:
        return False
    if [column[0] for column in columns if column[4]] != first[:1]:
        return False
    texts = [column for column in columns[:2] if column[0] != "id"]
    if not all("TEXT" in kind or "CHAR" in kind for _, kind, _, _, _ in texts):
        return False
    return all(not notnull or default is not None for _, _, notnull, default, _ in columns[3:])


def _in_order(row: Applied) -> tuple[bool, tuple[int, ...], str]:
    numbers = version_key(row.version or "")
    return (numbers is None, numbers or (), row.version or "")


def _text(value: object) -> str | None:
    return None if value is None else str(value)
