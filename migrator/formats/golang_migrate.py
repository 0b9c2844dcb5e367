"""
golang-migrate's migrations: pairs of `N_name.up.sql` and `N_name.down.sql`.

After https://github.com/golang-migrate/migrate: its table has one row, the version at which the
database is, and whether the way there was cut off (`dirty`).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from migrator.errors import MisfitError
from migrator.formats.tool import Tool, ToolHistory
from migrator.formats.wrapped import wrapped_section
from migrator.model import Applied, Entry, Script, Section
from migrator.parsing import sql_file
from migrator.parsing.directory import misfit
from migrator.parsing.scripts import text_of
from migrator.sqlite import quoted
from migrator.value import replace

_FILE = re.compile(r"([0-9]+)_(.*)\.(up|down)\.(.*)", re.DOTALL)
_LARGEST = 2**63 - 1


class GolangMigrate(Tool):
    """A directory of pairs, and `schema_migrations(version, dirty)`."""

    name, title, table = "golang-migrate", "golang-migrate", "schema_migrations"
    columns = ("version", "dirty")
    form = "`N_name.up.sql`, `N_name.down.sql`"
    undoes = "`N_name.down.sql`"
    proven = "databases written after its documentation and source"

    _downs: dict[int, Path | None] | None = None
    """The files that undo, by version, once the directory was listed."""

    def fits(self) -> bool:
        """Tell whether there is a file of a pair."""
        return bool(self.files(_FILE))

    def entries(self) -> tuple[Entry, ...]:
        """List the versions by their numbers, each with the file that upgrades."""
        ups: dict[int, Entry] = {}
        downs: dict[int, Entry] = {}
        for match, path in self.files(_FILE):
            entry = Entry(int(match[1]), match[1], match[2] or match[1], path)
            if entry.key > _LARGEST:
                raise _bad_name(entry, f"its version is larger than {_LARGEST}.")
            if not match[4].endswith("sql"):  # the tool itself does not look at the ending
                raise _bad_name(entry, "only `.sql` is run on SQLite.")
            half = ups if match[3] == "up" else downs
            if entry.key in half:
                other = half[entry.key].file
                raise _bad_name(entry, f"{other!r} has the same version.", "migrations.duplicate")
            half[entry.key] = entry
        for key, entry in downs.items():
            if key not in ups:
                raise _bad_name(
                    entry, f"it undoes version {entry.version}, which has no `.up.sql`."
                )
        self._downs = {key: entry.path for key, entry in downs.items()}
        return tuple(ups[key] for key in sorted(ups))

    def read(self, entry: Entry) -> Script:
        """Read both files of a pair; the tool wraps each in a transaction unless told otherwise."""
        up, losses = _section(entry)
        down: Section | None = None
        if (path := self._down_of(entry)) is not None:
            down, others = _section(replace(entry, path=path))
            losses |= others
        script = Script(entry, down_file=None if path is None else path.name)
        return script.with_sql(up, down, losses)

    def _down_of(self, entry: Entry) -> Path | None:
        if self._downs is None:
            self.entries()
        return (self._downs or {}).get(entry.key)

    def history(self, table: str) -> GolangMigrateHistory:
        """Return the table with the version."""
        return GolangMigrateHistory(self, table)


def _section(entry: Entry) -> tuple[Section, frozenset[str]]:
    text = text_of(entry)
    return wrapped_section(entry, text), sql_file.row_losses(entry, text)


def _bad_name(entry: Entry, what: str, reason: str = "migrations.bad_name") -> MisfitError:
    hint = (
        "A version is a pair of files, N_NAME.up.sql and N_NAME.down.sql;"
        " the second may be missing."
    )
    return misfit(entry, what, hint=hint, reason=reason)


class GolangMigrateHistory(ToolHistory):
    """One row for the version of the database: it and all files below it are applied."""

    def rows(self, conn: sqlite3.Connection) -> Iterable[Applied]:
        """Return the files up to the version in the table, and that version itself."""
        query = f"SELECT version, dirty FROM {quoted(self.table)} LIMIT 1"  # noqa: S608 - quoted
        row = conn.execute(query).fetchone()
        if row is None:
            return []
        version, dirty = row
        if not isinstance(version, int):
            raise self.broken(
                str(version),
                f"has the version {version!r}, which is not a number",
                "Say where the database is: `migrate force VERSION` of golang-migrate.",
            )
        if dirty:
            raise self.broken(
                str(version),
                f"says that version {version} is dirty: it was started and has not finished",
                "Look which of its statements have run, and undo or complete them by hand; then say"
                f" so with `migrate force {version}` of golang-migrate (or the version before it),"
                " and start again. Or restore a backup from before it.",
            )
        if version < 0:
            return []
        keys = {entry.key for entry in self.tool.entries() if entry.key <= version} | {version}
        return [Applied(key, str(key), "") for key in keys]

    def prepare(self, conn: sqlite3.Connection) -> None:
        """Create the table and its index as golang-migrate does."""
        if not self.exists(conn):
            name = quoted(self.table)
            conn.execute(f"CREATE TABLE IF NOT EXISTS {name} (version uint64,dirty bool)")
            conn.execute(f"CREATE UNIQUE INDEX IF NOT EXISTS version_unique ON {name} (version)")

    def record(
        self, conn: sqlite3.Connection, script: Script, seconds: float | None, run_id: str
    ) -> None:
        """Say that the database is at this version now."""
        del seconds, run_id
        self._set(conn, script.entry.key)

    def erase(self, conn: sqlite3.Connection, applied: Applied) -> None:
        """Set the database to the version before this one, or to none."""
        below = [entry.key for entry in self.tool.entries() if entry.key < applied.key]
        self._set(conn, max(below, default=None))

    def _set(self, conn: sqlite3.Connection, version: int | None) -> None:
        name = quoted(self.table)
        conn.execute(f"DELETE FROM {name}")  # noqa: S608 - quoted
        if version is not None:
            conn.execute(f"INSERT INTO {name} (version, dirty) VALUES (?, 0)", (version,))  # noqa: S608 - quoted
