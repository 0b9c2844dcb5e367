"""
dbmate's migrations: `N_name.sql` with `-- migrate:up` and `-- migrate:down`.

After https://github.com/amacneil/dbmate: a version is a text, the digits with which a file's
name begins, and files run in the order of their names.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from typing import Any

from migrator.formats.tool import Tool, ToolHistory, head
from migrator.model import Applied, Entry, Script
from migrator.parsing import sql_file
from migrator.parsing.directory import misfit, refuse_duplicates
from migrator.parsing.scripts import text_of
from migrator.sqlite import insert, quoted

_FILE = re.compile(r"([0-9]+)(.*)\.sql", re.DOTALL)
_UP = re.compile(r"^--\s*migrate:up\b", re.MULTILINE)


class Dbmate(Tool):
    """A directory of dbmate's, and its `schema_migrations(version)`."""

    name, title, table = "dbmate", "dbmate", "schema_migrations"
    columns = ("version",)
    form = "`N_name.sql` with `-- migrate:up` and `-- migrate:down`"
    undoes = "`-- migrate:down`"
    proven = "dbmate itself"

    def fits(self) -> bool:
        """Tell whether the first file has dbmate's mark; Rails has a table of the same shape."""
        files = self.files(_FILE)
        return bool(files) and _UP.search(head(files[0][1])) is not None

    def entries(self) -> tuple[Entry, ...]:
        """List the files in the order of their names."""
        found = [
            Entry(match[1], match[1], match[2].removeprefix("_") or match[1], path)
            for match, path in self.files(_FILE)
        ]
        refuse_duplicates(self.path, found)
        return tuple(found)

    def read(self, entry: Entry) -> Script:
        """Read one file, which has to have an up section."""
        text = text_of(entry)
        if _UP.search(text) is None:
            raise misfit(
                entry,
                "it has no `-- migrate:up`, which dbmate asks of every migration.",
                hint="Put `-- migrate:up` above its statements.",
                reason="migrations.directive",
                line=1,
            )
        found = sql_file.parse(entry, text)
        return Script(entry).with_sql(found.up, found.down, found.allow_row_loss)

    def key(self, text: str) -> str | None:
        """Return the version: dbmate compares it as a text."""
        return text if text.isascii() and text.isdigit() else None

    def key_of(self, version: str | None, name: str) -> Any:
        """Return the version as the table has it."""
        del name
        return str(version)

    def history(self, table: str) -> DbmateHistory:
        """Return dbmate's table."""
        return DbmateHistory(self, table)


class DbmateHistory(ToolHistory):
    """A row a version, and nothing else."""

    def rows(self, conn: sqlite3.Connection) -> Iterable[Applied]:
        """Return a row for each version."""
        query = f"SELECT version FROM {quoted(self.table)}"  # noqa: S608 - quoted
        return [Applied(str(row[0]), str(row[0]), "") for row in conn.execute(query)]

    def prepare(self, conn: sqlite3.Connection) -> None:
        """Create the table as dbmate does."""
        if not self.exists(conn):
            name = quoted(self.table)
            conn.execute(f"CREATE TABLE IF NOT EXISTS {name} (version varchar(128) primary key)")

    def record(
        self, conn: sqlite3.Connection, script: Script, seconds: float | None, run_id: str
    ) -> None:
        """Note a version as applied."""
        del seconds, run_id
        insert(conn, self.table, {"version": script.entry.version})
