"""
The two formats of our own, by version and by name: one plain table in the database itself.

Its first columns are those of the two frameworks that this project grows out
of, so that their own runners still read and write it; all further columns are
nullable.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence

from migrator.errors import MisfitError
from migrator.model import Applied, Entry, Script
from migrator.parsing.file_names import version_key
from migrator.sqlite import any_text, fold, insert, kind_of, primary_code, quoted, text_or_none
from migrator.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from migrator.formats.format import Format, History

    class _Format(Format, Protocol):
        """What the engine asks of a format."""

else:
    _Format = object


class OwnFormat(_Format):
    """
    A format whose history is a table of ours.

    `columns` are the table's, `identity` and `label` those of them that identify a migration
    and that hold its name; `written` and `given` say in words what such a history holds, and
    what such migrations are.
    """

    columns: dict[str, str]
    identity: str
    label: str
    written: str
    given: str
    name = "native"
    notes_runs = True
    goes_back = True

    def history(self, table: str) -> History:
        """Return the history in the table of that name."""
        return OwnHistory(table, self)


class ByVersion(OwnFormat):
    """Files: versions identify and order them, and an applied text must not change."""

    has_checksums = True
    checks_down = True
    columns = {  # noqa: RUF012 - a constant
        "version": "TEXT PRIMARY KEY",
        "name": "TEXT NOT NULL",
        "applied_at": "TIMESTAMP DEFAULT CURRENT_TIMESTAMP",
        "checksum": "TEXT",
        "description": "TEXT",
        "seconds": "REAL",
        "run_id": "TEXT",
    }
    identity, label = "version", "name"
    written, given = "versions of files", "a directory of versions"

    def key(self, text: str) -> tuple[int, ...] | None:
        """Return the version's parts as numbers."""
        return version_key(text)

    def key_of(self, version: str | None, name: str) -> tuple[int, ...] | tuple[str, str]:
        """Return the version's parts as numbers; a text that is not a version equals no other."""
        del name
        return version_key(version or "") or ("", str(version))

    def in_order(self, rows: Iterable[Applied]) -> tuple[Applied, ...]:
        """Return the lowest version first, and invalid ones last."""
        return tuple(sorted(rows, key=lambda row: (row.key[0] == "", row.key, row.version)))

    def newer(self, entries: Sequence[Entry], history: Collection[Applied]) -> set[Any]:
        """Return the versions above the highest one given."""
        highest = max((entry.key for entry in entries), default=())
        return {row.key for row in _numbered(history) if row.key > highest}

    def out_of_order(
        self, pending: Sequence[Entry], history: Collection[Applied]
    ) -> dict[Any, Applied]:
        """Return the versions below the highest one that is applied."""
        highest = max(_numbered(history), key=lambda row: row.key, default=None)
        if highest is None:
            return {}
        return {entry.key: highest for entry in pending if entry.key < highest.key}


class InOrderApplied(_Format):
    """Names identify, versions need not be unique, and the order is that of the history's rows."""

    def key(self, text: str) -> str:
        """Return the name."""
        return text

    def key_of(self, version: str | None, name: str) -> str:
        """Return the name."""
        del version
        return name

    def in_order(self, rows: Iterable[Applied]) -> tuple[Applied, ...]:
        """Return the rows as they were applied."""
        return tuple(rows)

    def newer(self, entries: Sequence[Entry], history: Collection[Applied]) -> set[Any]:
        """Return the names that were applied after the last one that we know."""
        known = {entry.key for entry in entries}
        newer: set[Any] = set()
        for row in history:
            newer = set() if row.key in known else newer | {row.key}
        return newer

    def out_of_order(
        self, pending: Sequence[Entry], history: Collection[Applied]
    ) -> dict[Any, Applied]:
        """Return nothing: migrations before an applied one run anyway."""
        del pending, history
        return {}


class ByName(InOrderApplied, OwnFormat):
    """Registries: names identify, the order is that of registration, and there are no texts."""

    has_checksums = False
    checks_down = False
    columns = {  # noqa: RUF012 - a constant
        "id": "INTEGER PRIMARY KEY",
        "migration_name": "TEXT UNIQUE NOT NULL",
        "applied_at": "TIMESTAMP DEFAULT CURRENT_TIMESTAMP",
        "version": "TEXT DEFAULT '1.0.0'",
        "description": "TEXT",
        "seconds": "REAL",
        "run_id": "TEXT",
    }
    identity = label = "migration_name"
    written, given = "names of a registry", "a registry of names"


BY_VERSION, BY_NAME = ByVersion(), ByName()


class OwnHistory(Value):
    """The history table of one database, in the shape that its format gives it."""

    table: str
    format: OwnFormat

    @property
    def siblings(self) -> tuple[str, ...]:
        """No other tables: it is one."""
        return ()

    def exists(self, conn: sqlite3.Connection) -> bool:
        """Tell whether the table is there, in the shape of this format, or raise."""
        found = own_format(conn, self.table)
        if found is self.format:
            return True
        if found is not None:
            raise self._other_source(found)
        kind = kind_of(conn, self.table)
        if kind is not None:
            raise self._not_ours(kind)
        return False

    def read(self, conn: sqlite3.Connection) -> tuple[Applied, ...]:
        """Return what is applied, in the format's order; nothing without a table."""
        if not self.exists(conn):
            return ()
        asked = ("version", self.format.label, "applied_at", "checksum", "run_id")
        return self.format.in_order(self._applied(*row) for row in self._rows(conn, asked))

    def keys(self, conn: sqlite3.Connection) -> Iterator[Any]:
        """Yield what identifies each applied migration; nothing without a table."""
        if self.exists(conn):
            for row in self._rows(conn, ("version", self.format.label)):
                yield self._applied(*row).key

    def prepare(self, conn: sqlite3.Connection) -> None:
        """Create the table, or add the nullable columns that it lacks."""
        columns = self.format.columns
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
            self.format.label: entry.name,
            "description": script.description,
            "seconds": seconds if seconds is None else round(seconds, 3),
            "run_id": run_id,
        }
        if self.format.has_checksums:
            row["checksum"] = script.checksum
        insert(conn, self.table, row)

    def erase(self, conn: sqlite3.Connection, applied: Applied) -> None:
        """Remove the row of a migration that has just been undone."""
        conn.execute(
            f"DELETE FROM {quoted(self.table)} WHERE {self.format.identity} = ?",  # noqa: S608 - quoted
            (applied.identity,),
        )

    def _columns(self, conn: sqlite3.Connection) -> list[str]:
        rows = conn.execute(f"PRAGMA table_info({quoted(self.table)})").fetchall()
        return [str(row[1]).lower() for row in rows]

    def _applied(self, version: object, name: object, *others: object) -> Applied:
        # SQLite allows NULL in a primary key that is a text.
        known = str(version) if self.format.identity == "version" else text_or_none(version)
        key = self.format.key_of(known, str(name))
        return Applied(key, known, str(name), *map(text_or_none, others))

    def _rows(
        self, conn: sqlite3.Connection, asked: tuple[str, ...]
    ) -> Iterator[tuple[object, ...]]:
        present = {*self._columns(conn)} & self.format.columns.keys()
        names = ", ".join(name if name in present else "NULL" for name in asked)
        order = next(iter(self.format.columns))
        query = f"SELECT {names} FROM {quoted(self.table)} ORDER BY {order}"  # noqa: S608 - quoted
        with any_text(conn):
            yield from conn.execute(query)

    def _not_ours(self, kind: str) -> MisfitError:
        article = "an" if kind == "index" else "a"
        message = (
            f"The database has {article} {kind} called {self.table!r} that is not a migration"
            " history: it belongs to the application."
        )
        other = "schema_history" if fold(self.table) != "schema_history" else "migrator_history"
        hint = (
            f"Keep the history under another name: set `--history-table {other}`"
            " (MIGRATOR_HISTORY_TABLE)."
        )
        return MisfitError(message, hint=hint, reason="history.not_ours")

    def _other_source(self, other: OwnFormat) -> MisfitError:
        message = (
            f"The history in table {self.table!r} holds {other.written},"
            f" while the migrations given are {self.format.given}."
        )
        hint = (
            "Point `--migrations` (MIGRATOR_MIGRATIONS) at the source that wrote it,"
            " or keep a second history with `--history-table` and `--accept foreign`."
        )
        return MisfitError(message, hint=hint, reason="history.other_source")


def own_format(conn: sqlite3.Connection, table: str) -> OwnFormat | None:
    """
    Return the format whose history a table is; None if it is not one of ours.

    A view is never one: it has no primary key.
    """
    try:
        rows = conn.execute(f"PRAGMA table_xinfo({quoted(table)})").fetchall()
    except sqlite3.DatabaseError as error:
        # A view whose columns only the application can name.
        if primary_code(error) != sqlite3.SQLITE_ERROR:
            raise
        return None
    if any(row[6] and str(row[1]).lower() in {*ByVersion.columns, *ByName.columns} for row in rows):
        # A generated column cannot be written to.
        return None
    rows = [row for row in rows if not row[6]]
    columns = [(str(r[1]).lower(), str(r[2]).upper(), r[3], r[4], r[5]) for r in rows]
    return next((each for each in (BY_VERSION, BY_NAME) if _fits(columns, each.columns)), None)


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


def _numbered(history: Collection[Applied]) -> list[Applied]:
    """Return the rows whose version is one."""
    return [row for row in history if row.key[0] != ""]
