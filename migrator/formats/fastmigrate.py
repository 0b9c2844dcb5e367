"""
fastmigrate's migrations: `0001-name.sql`, `0001-name.py`, and one number for all that is applied.

After https://github.com/AnswerDotAI/fastmigrate: whatever has a number up to the database's version
counts as applied, so that the history cannot tell what is missing or was changed.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence

from migrator.errors import MisfitError
from migrator.formats.tool import Tool, ToolHistory, columns_of
from migrator.model import Applied, Entry, Script
from migrator.parsing import sql_file
from migrator.parsing.directory import misfit, refuse_duplicates
from migrator.parsing.scripts import text_of
from migrator.sqlite import quoted

_FILE = re.compile(r"(\d{4})-(.*)\.(py|sql|sh)", re.DOTALL)
_ONE_ROW = re.compile(r"check\s*\(\s*id\s*=\s*1\s*\)", re.IGNORECASE)
_ITSELF = "run fastmigrate itself with `--migrate-command` (MIGRATOR_MIGRATE_COMMAND)"


class Fastmigrate(Tool):
    """A directory of fastmigrate's, and its `_meta`."""

    name, title, table = "fastmigrate", "fastmigrate", "_meta"
    columns = ("id", "version")
    form = "`0001-name.sql`, `0001-name.py`"
    has_python = True
    proven = "fastmigrate itself"

    def owns(self, conn: sqlite3.Connection, table: str) -> bool:
        """Tell whether a table can have one row only, or is of the first fastmigrate's form."""
        columns = set(columns_of(conn, table))
        if columns == {"version"}:
            return True
        query = "SELECT sql FROM sqlite_master WHERE type = 'table' AND lower(name) = lower(?)"
        row = conn.execute(query, (table,)).fetchone()
        return super().owns(conn, table) and _ONE_ROW.search(str(row[0])) is not None

    def fits(self) -> bool:
        """Tell whether a file is named like fastmigrate's."""
        return bool(self.files(_FILE))

    def entries(self) -> tuple[Entry, ...]:
        """List the files by their numbers; fastmigrate ignores all other names."""
        found = [
            Entry(int(match[1]), match[1], match[2] or match[1], path)
            for match, path in self.files(_FILE)
        ]
        found.sort(key=lambda entry: entry.key)
        refuse_duplicates(self.path, found)
        return tuple(found)

    def read(self, entry: Entry) -> Script:
        """Read one file; a `.py` file is run on a copy, as a script that opens the database."""
        kind = "" if entry.path is None else entry.path.suffix
        if kind == ".sh":
            return Script(entry, transactional=False, wants_path=True, unfit=_is_shell(entry))
        unfit = self._other_backend(entry)
        text = text_of(entry)
        if kind == ".py":
            from migrator.formats.literals import Literals

            announced = Literals(entry, text, ("allow_row_loss",)).texts("allow_row_loss")
            return Script(
                entry,
                transactional=False,
                allow_row_loss=frozenset(announced),
                wants_path=True,
                unfit=unfit,
            )
        up, losses = sql_file.section(entry, text), sql_file.row_losses(entry, text)
        return Script(entry, unfit=unfit).with_sql(up, None, losses)

    def load(self, scripts: Sequence[Script]) -> tuple[Script, ...]:
        """Compile the `.py` files among them, which runs nothing of them."""
        from migrator.formats.fastmigrate_script import load

        return tuple(load(script) if script.is_code else script for script in scripts)

    def _other_backend(self, entry: Entry) -> MisfitError | None:
        """Return why a file cannot be run where a `config.py` says what it is run on."""
        if not (self.path / "config.py").exists():
            return None
        return misfit(
            entry,
            "beside it is a config.py, with which fastmigrate runs it on a database of its own.",
            hint=f"Remove config.py, or {_ITSELF}.",
            reason="migrations.other_tool",
        )

    def history(self, table: str) -> FastmigrateHistory:
        """Return fastmigrate's table."""
        return FastmigrateHistory(self, table)


def _is_shell(entry: Entry) -> MisfitError:
    return misfit(
        entry,
        "it is a script of a shell, which is not run here.",
        hint=f"Write it as SQL or in Python, or {_ITSELF}.",
        reason="migrations.other_tool",
    )


class FastmigrateHistory(ToolHistory):
    """The number of the last migration, in one row."""

    def rows(self, conn: sqlite3.Connection) -> Iterable[Applied]:
        """
        Return the files up to the database's version, and a version that is above all of them.

        Raises:
            MisfitError: There is not one row, or it has no version.
        """
        query = f"SELECT version FROM {quoted(self.table)} LIMIT 2"  # noqa: S608 - quoted
        found = [row[0] for row in conn.execute(query)]
        if len(found) != 1 or not isinstance(found[0], int) or found[0] < 0:
            told = " and ".join(map(repr, found)) or "none"
            what = f"has to have one row with the version, a number, and has {told}"
            hint = f"Write the version that the database has into {self.table}, then start again."
            raise self.broken(version=told, what=what, hint=hint)
        version, files = found[0], self._files()
        applied = [
            Applied(entry.key, entry.version, entry.name)
            for entry in files.values()
            if entry.key <= version
        ]
        if version > max(files, default=0):
            applied.append(Applied(version, f"{version:04}", ""))
        return applied

    def prepare(self, conn: sqlite3.Connection) -> None:
        """Create the table as fastmigrate does, at version 0."""
        if self.exists(conn):
            return
        conn.execute(
            f"""\
CREATE TABLE {self.spelled} (
                            id INTEGER PRIMARY KEY CHECK (id = 1),
                            version INTEGER NOT NULL DEFAULT 0
                        )"""
        )
        self._write(conn, 0)

    def record(
        self, conn: sqlite3.Connection, script: Script, seconds: float | None, run_id: str
    ) -> None:
        """Replace the number by that of the migration."""
        del seconds, run_id
        self._write(conn, script.entry.key)

    def erase(self, conn: sqlite3.Connection, applied: Applied) -> None:
        """Go back to the previous number, which fastmigrate itself never does."""
        lower = [key for key in self._files() if key < applied.key]
        self._write(conn, max(lower, default=0))

    def _write(self, conn: sqlite3.Connection, version: int) -> None:
        table = quoted(self.table)
        if columns_of(conn, self.table) == ["version"]:
            conn.execute(f"UPDATE {table} SET version = ?", (version,))  # noqa: S608 - quoted
            return
        query = f"INSERT OR REPLACE INTO {table} (id, version) VALUES (1, ?)"  # noqa: S608 - quoted
        conn.execute(query, (version,))
