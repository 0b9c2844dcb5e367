"""Drizzle's `__drizzle_migrations`, and which row is whose."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from math import isfinite

from migrator.formats.named import applied, spelled_checksums
from migrator.formats.tool import ToolHistory, columns_of
from migrator.model import Applied, Script
from migrator.sqlite import insert, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.formats.drizzle import Drizzle


class _Known:
    """The migrations by time and by hash, and those that a row was found for."""

    def __init__(self, tool: Drizzle) -> None:
        self.tool = tool
        self.taken: set[str] = set()
        self._by_when: defaultdict[int, list[str]] = defaultdict(list)
        for key, when in tool.whens.items():
            self._by_when[when].append(key)
        self._by_hash: defaultdict[str, list[str]] | None = None

    def match(self, checksum: str, created: int) -> str:
        """Return the migration that a row without a name is of; else its time, as a text."""
        # The directories' names have seconds.
        when = created - created % 1000 if self.tool.by_name else created
        same = self._by_when.get(when, [])
        free = [key for key in same if key not in self.taken]
        if len(free) > 1:
            free = [key for key in self._having(checksum) if key in free] or free
        if not same:
            free = [key for key in self._having(checksum) if key not in self.taken]
        return next(iter(free or same), str(created))

    def _having(self, checksum: str) -> list[str]:
        """Return the migrations of that hash; the files are read when it is first asked for."""
        if self._by_hash is None:
            self._by_hash = defaultdict(list)
            for key, path in self.tool.paths.items():
                with contextlib.suppress(OSError):
                    for each in {*spelled_checksums(path.read_bytes())}:
                        self._by_hash[each].append(key)
        return self._by_hash.get(checksum, [])


class DrizzleHistory(ToolHistory):
    """
    A row a migration: the hash of its file, its time, and since 1.0 its name.

    A row is matched by its name, else by its time, else by its hash, as `drizzle-kit` 1.0 does
    when it adds the names; where a time is not unique the hash decides.
    """

    tool: Drizzle

    def rows(self, conn: sqlite3.Connection) -> Iterable[Applied]:
        """Return the migrations that have a row, and the rows that have no migration."""
        found: dict[str, Applied] = {}
        for _, key, at, checksum in self._matched(conn):
            found.setdefault(key, applied(key, at, checksum))
        return found.values()

    def _matched(
        self, conn: sqlite3.Connection
    ) -> Iterator[tuple[int, str, str | None, str | None]]:
        """Yield rowid, key, time of the run and hash of each row."""
        has = {*columns_of(conn, self.table)}
        names = ", ".join(name if name in has else "NULL" for name in ("name", "applied_at"))
        query = f"SELECT rowid, hash, created_at, {names} FROM {quoted(self.table)} ORDER BY rowid"  # noqa: S608 - quoted
        known = _Known(self.tool)
        for rowid, checksum, created, name, at in conn.execute(query).fetchall():
            text = str(checksum or "")
            if name is not None and (self.tool.by_name or str(name) in self.tool.whens):
                key = str(name)
            else:
                key = known.match(text, self._when(created))
            known.taken.add(key)
            yield rowid, key, None if at is None else str(at), text or None

    def _when(self, created: object) -> int:
        if isinstance(created, int | float) and isfinite(created):
            return int(created)
        raise self.broken(
            str(created),
            f"has the time {created!r}, which is not a number",
            f"Correct that row of {self.table}, then start again: Drizzle notes there the"
            " `when` of its journal.",
        )

    def prepare(self, conn: sqlite3.Connection) -> None:
        """Create the table as Drizzle does; from 1.0 on it has names, which older rows get."""
        table = quoted(self.table)
        if not self.exists(conn):
            kind, more = "SERIAL", ""
            if self.tool.by_name:
                kind, more = "INTEGER", ", name text, applied_at TEXT"
            conn.execute(
                f"CREATE TABLE IF NOT EXISTS {table} (id {kind} PRIMARY KEY,"
                f" hash text NOT NULL, created_at numeric{more})"
            )
        elif self.tool.by_name and "name" not in columns_of(conn, self.table):
            matched = [(key, rowid) for rowid, key, _, _ in self._matched(conn)]
            conn.execute(f"ALTER TABLE {table} ADD COLUMN name text")
            conn.execute(f"ALTER TABLE {table} ADD COLUMN applied_at TEXT")
            query = f"UPDATE {table} SET name = ? WHERE rowid = ?"  # noqa: S608 - quoted
            conn.executemany(query, [each for each in matched if each[0] in self.tool.whens])

    def record(
        self, conn: sqlite3.Connection, script: Script, seconds: float | None, run_id: str
    ) -> None:
        """Note a migration as applied."""
        del seconds, run_id
        key = script.entry.key
        row: dict[str, object] = {"hash": script.checksum, "created_at": self.tool.whens[key]}
        if self.tool.by_name:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            row |= {"name": key, "applied_at": now.replace("+00:00", "Z")}
        insert(conn, self.table, row)

    def erase(self, conn: sqlite3.Connection, applied: Applied) -> None:
        """Take the rows of a migration away."""
        gone = [(rowid,) for rowid, key, _, _ in self._matched(conn) if key == applied.key]
        conn.executemany(f"DELETE FROM {quoted(self.table)} WHERE rowid = ?", gone)  # noqa: S608 - quoted
