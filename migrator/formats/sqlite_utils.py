"""
Migrations of sqlite-utils: a Python file with `Migrations("name")` and the functions it registers.

After https://sqlite-utils.datasette.io/en/stable/migrations.html: a migration is known by its set
and its name, and runs in the order of the file. The file is code that needs sqlite-utils itself
(before version 4 with sqlite-migrate), so only a worker reads it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from migrator.errors import MisfitError
from migrator.formats.history import InOrderApplied
from migrator.formats.sqlite_utils_sets import entry_of
from migrator.formats.tool import Tool, ToolHistory, columns_of
from migrator.model import Applied, Entry, Script
from migrator.sqlite import insert, quoted, text_or_none

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from migrator.formats.source import Ask

PACKAGES = ("sqlite_utils", "sqlite_migrate")
"""Where `Migrations` comes from."""

_OURS = "create_migration_runner"
_OLD = {"migration_set", "name", "applied_at"}


class SqliteUtils(InOrderApplied, Tool):
    """The sets of one file, and the table `_sqlite_migrations`."""

    name, title, table = "sqlite-utils", "sqlite-utils", "_sqlite_migrations"
    columns = ("id", "migration_set", "name", "applied_at")
    form = "`FILE.py` with `Migrations(...)`"
    proven = "sqlite-utils itself"
    is_code = True

    def __init__(self, path: Path, database: Path, ask: Ask | None = None) -> None:
        super().__init__(path, database)
        self._ask = ask
        self._entries: tuple[Entry, ...] | None = None
        self._scripts: tuple[Script, ...] | None = None

    # --- recognition ------------------------------------------------------

    def owns(self, conn: sqlite3.Connection, table: str) -> bool:
        """Tell whether a table has its columns, or those of the first sqlite-migrate."""
        return super().owns(conn, table) or set(columns_of(conn, table)) == _OLD

    def fits(self) -> bool:
        """Tell the same as `marked`: whatever the history says, the file is code."""
        return self.marked()

    def marked(self) -> bool:
        """Tell by its syntax tree whether it makes a set, and no runner of ours."""
        return self.path.is_file() and _makes_a_set(self.path)

    # --- the source -------------------------------------------------------

    def entries(self) -> tuple[Entry, ...]:
        """Return the registered migrations in their order."""
        if self._entries is None:
            if self._ask is not None:
                rows = self._ask(self.path)
                self._entries = tuple(entry_of(self.path, *row) for row in rows)
            else:
                self._entries = tuple(script.entry for script in self.scripts())
        return self._entries

    def scripts(self, entries: Sequence[Entry] | None = None) -> tuple[Script, ...]:
        """
        Run the file, which registers them.

        Raises:
            MisfitError: It fails, or makes no set.
        """
        del entries
        if self._scripts is None:
            from migrator.formats.sqlite_utils_sets import load

            self._scripts = load(self.path, self.database)
        return self._scripts

    def read(self, entry: Entry) -> Script:
        """Return one of them."""
        return next(script for script in self.scripts() if script.entry.key == entry.key)

    # --- the format -------------------------------------------------------

    def key(self, text: str) -> Any:
        """Return the set and the name of `SET:NAME`, or of a name that only one set has."""
        found = [each.key for each in self.entries() if text in (each.version, each.name)]
        return found[0] if len(found) == 1 else None

    def key_of(self, version: str | None, name: str) -> Any:
        """Return the set and the name."""
        return (version or "").removesuffix(f":{name}"), name

    def newer(self, entries: Sequence[Entry], history: Collection[Applied]) -> set[Any]:
        """Return what was applied after the last one of its set that is known here."""
        known = {entry.key for entry in entries}
        found: dict[str, set[Any]] = {}
        for row in history:
            ones = found.setdefault(row.key[0], set())
            if row.key in known:
                ones.clear()
            else:
                ones.add(row.key)
        return {key for ones in found.values() for key in ones}

    def history(self, table: str) -> SqliteUtilsHistory:
        """Return its table."""
        return SqliteUtilsHistory(self, table)


def _makes_a_set(path: Path) -> bool:
    """Tell whether a file calls `Migrations`, as it is imported from its package."""
    import ast

    try:
        module = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    nodes = list(ast.walk(module))
    imports = [each for each in nodes if isinstance(each, ast.ImportFrom | ast.Import)]
    known: set[str] = set()
    for each in imports:
        source = each.module or "" if isinstance(each, ast.ImportFrom) else None
        for alias in each.names:
            whole = alias.name if source is None else f"{source}.{alias.name}"
            if whole.partition(".")[0] in PACKAGES:
                known.add(alias.asname or alias.name.partition(".")[0])
    calls = [each.func for each in nodes if isinstance(each, ast.Call)]
    names = {ast.unparse(each) for each in calls if isinstance(each, ast.Name | ast.Attribute)}
    made = any(_is_class(name, known) for name in names)
    functions = {each.name for each in module.body if isinstance(each, ast.FunctionDef)}
    return made and _OURS not in functions


def _is_class(name: str, known: set[str]) -> bool:
    """Tell whether the called name is `Migrations`, or an alias of it."""
    first, _, rest = name.partition(".")
    return first in known and (rest or "Migrations").rpartition(".")[2] == "Migrations"


class SqliteUtilsHistory(ToolHistory):
    """A row a migration, by its set and its name; other sets' rows are other files'."""

    def rows(self, conn: sqlite3.Connection) -> Iterable[Applied]:
        """
        Return what is applied of the file's sets, in the order in which it was.

        Raises:
            MisfitError: A row has no name.
        """
        sets = {key[0] for key in self._files()}
        columns, table = "migration_set, name, applied_at", quoted(self.table)
        found = []
        for which, name, at in conn.execute(f"SELECT {columns} FROM {table} ORDER BY rowid"):  # noqa: S608 - quoted
            if not isinstance(which, str) or not isinstance(name, str):
                what = f"has the migration {name!r} of the set {which!r}, which is not a name"
                raise self._broken(what)
            if which in sets:
                found.append(Applied((which, name), f"{which}:{name}", name, text_or_none(at)))
        return found

    def prepare(self, conn: sqlite3.Connection) -> None:
        """Create the table as the sqlite-utils that is installed does, or bring it to its form."""
        from migrator.formats.sqlite_utils_sets import prepare

        prepare(conn, self.table, there=self.exists(conn))

    def record(
        self, conn: sqlite3.Connection, script: Script, seconds: float | None, run_id: str
    ) -> None:
        """Note a migration as applied."""
        del seconds, run_id
        which, name = script.entry.key
        row = {"migration_set": which, "name": name, "applied_at": str(datetime.now(UTC))}
        insert(conn, self.table, row)

    def erase(self, conn: sqlite3.Connection, applied: Applied) -> None:
        """Delete a migration's row, which sqlite-utils itself never does."""
        table = quoted(self.table)
        query = f"DELETE FROM {table} WHERE migration_set = ? AND name = ?"  # noqa: S608 - quoted
        conn.execute(query, applied.key)

    def _broken(self, what: str) -> MisfitError:
        hint = f"Correct that row of {self.table}, then start again."
        return self.broken(version="", what=what, hint=hint)
