"""
Migrations of Cloudflare's D1: `0001_name.sql`, by `wrangler d1 migrations`, and no way back.

After https://github.com/cloudflare/workers-sdk: a migration is known by its file's whole name, and
files run in the order of the numbers with which they begin.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable

from migrator.formats.named import Named, applied, split
from migrator.formats.tool import ToolHistory
from migrator.model import Applied, Entry, Script
from migrator.parsing import sql_file
from migrator.parsing.scripts import text_of
from migrator.sqlite import insert, quoted

_FILE = re.compile(r"([^.].*)\.sql", re.DOTALL)
_NUMBER = re.compile(r"[0-9]+")


class D1(Named):
    """A directory of Wrangler's, and its `d1_migrations`."""

    name, title, table = "d1", "D1 (Wrangler)", "d1_migrations"
    columns = ("id", "name", "applied_at")
    form = "`0001_name.sql`"
    proven = "databases written after its documentation and source"

    def fits(self) -> bool:
        """Tell whether there is an SQL file: a name is all that D1 asks of one."""
        return bool(self.files(_FILE))

    def entries(self) -> tuple[Entry, ...]:
        """List the files in the order of their numbers, then of their names."""
        paths = {match[1]: path for match, path in self.files(_FILE)}
        names = split(paths)
        return tuple(
            Entry(name, *names[name], paths[name]) for name in sorted(paths, key=self.rank)
        )

    def read(self, entry: Entry) -> Script:
        """Read one file; its statements are one transaction to D1."""
        text = text_of(entry)
        up = sql_file.section(entry, text)
        return Script(entry).with_sql(up, None, sql_file.row_losses(entry, text))

    def key(self, text: str) -> str:
        """Return the name that VERSION means; a file's name has its ending."""
        return super().key(text.removesuffix(".sql"))

    def rank(self, key: str) -> tuple[int, int, str]:
        """Return the number first; names without one come last."""
        match = _NUMBER.match(key.split("_", maxsplit=1)[0])
        if match is None or len(match[0]) > _DIGITS:
            return 1, 0, key
        return 0, int(match[0]), key

    def history(self, table: str) -> D1History:
        """Return Wrangler's table."""
        return D1History(self, table)


_DIGITS = 255


class D1History(ToolHistory):
    """A row a file."""

    def rows(self, conn: sqlite3.Connection) -> Iterable[Applied]:
        """Return a row for each file's name."""
        query = f"SELECT name, applied_at FROM {quoted(self.table)} ORDER BY id"  # noqa: S608 - quoted
        for name, at in conn.execute(query).fetchall():
            if not isinstance(name, str):
                raise self.broken(
                    str(name),
                    f"has the name {name!r}, which is not a file name",
                    f"Correct that row of {self.table}, then start again.",
                )
            yield applied(name.removesuffix(".sql"), str(at))

    def prepare(self, conn: sqlite3.Connection) -> None:
        """Create the table as Wrangler does."""
        if not self.exists(conn):
            conn.execute(
                f"CREATE TABLE IF NOT EXISTS {quoted(self.table)}("
                "id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE,"
                " applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL)"
            )

    def record(
        self, conn: sqlite3.Connection, script: Script, seconds: float | None, run_id: str
    ) -> None:
        """Note a file as applied."""
        del seconds, run_id
        insert(conn, self.table, {"name": f"{script.entry.key}.sql"})

    def erase(self, conn: sqlite3.Connection, applied: Applied) -> None:
        """Take a file's row away."""
        query = f"DELETE FROM {quoted(self.table)} WHERE name = ?"  # noqa: S608 - quoted
        conn.execute(query, (f"{applied.key}.sql",))
