"""
What the formats of other tools share: files in a directory, and a table that the tool made.

A tool's own table stays the truth. It is read and written as the tool does it, so that the
tool itself finds nothing pending afterwards.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from migrator.errors import MisfitError
from migrator.formats.format import Format, History
from migrator.formats.source import Source
from migrator.model import Applied, Entry, Script
from migrator.parsing.directory import bad_names, no_file, scan
from migrator.sqlite import any_text, kind_of, quoted
from migrator.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Keys: TypeAlias = "Iterable[Any]"

OWN_TABLE = "migrations"
"""The default of `--history-table`: with it, a tool's table has the tool's own name."""


NO_WAY_BACK = "nothing: the tool has no way back"


class Tool(Source, Format):
    """
    Another tool's migrations: the source of their files, and how they are told apart.

    Order and identity are those of `Entry.key`, whole numbers unless a tool says otherwise.
    """

    name: str
    """The value of `--format`."""
    title: str
    """What people call the tool."""
    table: str
    """The table that the tool makes where it is not told another name."""
    columns: tuple[str, ...]
    """The columns, folded, by which the table is known as the tool's."""
    form: str
    """The files, as the documentation shows them (Markdown)."""
    undoes = NO_WAY_BACK
    """What `down` runs."""
    proven: str
    """What this format was tested against."""

    has_checksums = False
    checks_down = False
    notes_runs = False
    has_python = False
    """Whether its directories hold migrations in Python as well."""

    is_code = False
    needs_database = False

    def __init__(self, path: Path, database: Path) -> None:
        self.path = path
        self.database = database

    @property
    def format(self) -> Format:
        """The tool itself: its files and its table belong together."""
        return self

    @property
    def goes_back(self) -> bool:
        """Whether its files can say how a migration is undone."""
        return self.undoes != NO_WAY_BACK

    # --- recognition ------------------------------------------------------

    def table_name(self, given: str) -> str:
        """Return the history's name: the one given, unless that is our own default."""
        return self.table if given == OWN_TABLE else given

    def owns(self, conn: sqlite3.Connection, table: str) -> bool:
        """Tell whether a table has the shape that this tool gives its history."""
        return set(columns_of(conn, table)) == {*self.columns}

    def wrote(self, conn: sqlite3.Connection) -> bool:
        """Tell whether the rows of its table can be this tool's, where rows show that."""
        del conn
        return True

    def fits(self) -> bool:
        """Tell by a quick look whether the files may be this tool's, where its table is there."""
        raise NotImplementedError

    def marked(self) -> bool:
        """Tell whether the files have marks that no other tool's have."""
        return False

    # --- the source -------------------------------------------------------

    def files(self, pattern: re.Pattern[str]) -> list[tuple[re.Match[str], Path]]:
        """
        Return the files of the directory whose whole name fits, in the order of their names.

        Raises:
            MisfitError: The directory cannot be listed, or such a name is not a readable file.
        """
        found = []
        home = self.path.absolute()  # a migration may change the working directory
        for item in sorted(scan(self.path), key=lambda each: each.name):
            match = pattern.fullmatch(item.name)
            if match is None:
                continue
            if (trouble := no_file(item)) is not None:
                raise bad_names(self.path, [(item.name, trouble)])
            found.append((match, home / item.name))
        return found

    def entries(self) -> tuple[Entry, ...]:
        """List all migrations by name, in order."""
        raise NotImplementedError

    def read(self, entry: Entry) -> Script:
        """Read and parse one migration, running nothing of it."""
        raise NotImplementedError

    def scripts(self, entries: Sequence[Entry] | None = None) -> tuple[Script, ...]:
        """
        Read and parse all of them, as they were listed if that has just been done.

        Raises:
            MisfitError: One error that lists every faulty file.
        """
        from migrator.parsing.scripts import read_each

        return read_each(self.read, self.entries() if entries is None else entries)

    def load(self, scripts: Sequence[Script]) -> tuple[Script, ...]:
        """Return the scripts as they are: SQL has nothing to import."""
        return tuple(scripts)

    # --- the format -------------------------------------------------------

    def key(self, text: str) -> Any:
        """Return the number that VERSION means; None if it is not a number."""
        return int(text) if text.isascii() and text.isdigit() and len(text) < _DIGITS else None

    def key_of(self, version: str | None, name: str) -> Any:
        """Return the key of an applied migration."""
        del name
        return self.key(version or "")

    def rank(self, key: Any) -> Any:
        """Return what puts a migration in its place; mostly the key itself."""
        return key

    def in_order(self, rows: Iterable[Applied]) -> tuple[Applied, ...]:
        """Return the lowest version first."""
        return tuple(sorted(rows, key=lambda row: self.rank(row.key)))

    def newer(self, entries: Sequence[Entry], history: Collection[Applied]) -> set[Any]:
        """Return the versions above the highest one given."""
        highest = max((self.rank(entry.key) for entry in entries), default=None)
        return {row.key for row in history if highest is None or self.rank(row.key) > highest}

    def out_of_order(
        self, pending: Sequence[Entry], history: Collection[Applied]
    ) -> dict[Any, Applied]:
        """Return the versions below the highest one that is applied."""
        highest = max(history, key=lambda row: self.rank(row.key), default=None)
        if highest is None:
            return {}
        at = self.rank(highest.key)
        return {entry.key: highest for entry in pending if self.rank(entry.key) < at}

    def history(self, table: str) -> History:
        """Return the tool's own table."""
        raise NotImplementedError


_DIGITS = 4000
"""Python refuses to read a longer number."""


class ToolHistory(History):
    """A tool's own table. A subclass says how its rows are read and written."""

    identity = "version"
    """The column with the key of a migration."""

    def __init__(self, tool: Tool, table: str) -> None:
        self.tool = tool
        self._table = tool.table_name(table)

    @property
    def table(self) -> str:
        """The table's name."""
        return self._table

    def exists(self, conn: sqlite3.Connection) -> bool:
        """
        Tell whether the table is there, in the tool's shape.

        Raises:
            MisfitError: A table or view of that name has another shape.
        """
        kind = kind_of(conn, self.table)
        if kind is None:
            return False
        if kind != "table" or not self.tool.owns(conn, self.table):
            raise self._other_shape(conn, kind)
        return True

    def read(self, conn: sqlite3.Connection) -> tuple[Applied, ...]:
        """
        Return what is applied, in order; nothing without a table.

        Raises:
            MisfitError: A row says that a migration is half applied, or cannot be one.
        """
        if not self.exists(conn):
            return ()
        with any_text(conn):
            rows = tuple(self.rows(conn))
        known = self._files()
        return self.tool.in_order(_as_named(row, known.get(row.key)) for row in rows)

    def _files(self) -> dict[Any, Entry]:
        with contextlib.suppress(MisfitError):
            return {entry.key: entry for entry in self.tool.entries()}
        return {}

    def keys(self, conn: sqlite3.Connection) -> Iterable[Any]:
        """Return what identifies each applied migration; nothing without a table."""
        return [row.key for row in self.read(conn)]

    def rows(self, conn: sqlite3.Connection) -> Iterable[Applied]:
        """Return the rows of a table that is there."""
        raise NotImplementedError

    @property
    def spelled(self) -> str:
        """The table's name as the tool writes it in `CREATE TABLE`."""
        plain = self.table.isidentifier() and self.table == self.tool.table_name(OWN_TABLE)
        return self.table if plain else quoted(self.table)

    def erase(self, conn: sqlite3.Connection, applied: Applied) -> None:
        """Delete the rows of a migration that has just been undone."""
        query = f"DELETE FROM {quoted(self.table)} WHERE {self.identity} = ?"  # noqa: S608 - quoted
        conn.execute(query, (applied.key,))

    def broken(self, version: str, what: str, hint: str) -> MisfitError:
        """Return the error for a version whose row prevents a run."""
        message = f"The history of {self.tool.title} (table {self.table!r}) {what}."
        return MisfitError(message, hint=hint, reason="history.broken", data={"version": version})

    def _other_shape(self, conn: sqlite3.Connection, kind: str) -> MisfitError:
        found = ", ".join(columns_of(conn, self.table)[:10]) or "none"
        message = (
            f"The {kind} {self.table!r} is not a history of {self.tool.title}, which has the"
            f" columns {', '.join(self.tool.columns)}; it has {found}."
        )
        hint = (
            "Name whose migrations these are with `--format` (MIGRATOR_FORMAT), or the table that"
            f" {self.tool.title} writes with `--history-table` (MIGRATOR_HISTORY_TABLE)."
        )
        return MisfitError(message, hint=hint, reason="history.not_ours")


def _as_named(row: Applied, entry: Entry | None) -> Applied:
    """Return a row with version and name as its file spells them; not every table has both."""
    return row if entry is None else replace(row, version=entry.version, name=entry.name)


def head(path: Path) -> str:
    """Return the beginning of a file as text, where a tool's marks are looked for."""
    with open(path, "rb", buffering=0) as file:
        return file.read(_HEAD).decode(errors="replace").replace("\r\n", "\n")


_HEAD = 1 << 16


def columns_of(conn: sqlite3.Connection, table: str) -> list[str]:
    """Return the names of a table's columns, folded, generated ones as well."""
    rows = conn.execute(f"PRAGMA table_xinfo({quoted(table)})").fetchall()
    return [str(row[1]).lower() for row in rows]
