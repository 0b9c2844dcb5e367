"""
Diesel's migrations: directories `VERSION_name`, each with `up.sql`, `down.sql` and `metadata.toml`.

After https://github.com/diesel-rs/diesel, 2.3 (`diesel_migrations`): a version is what stands
before the first `_`, without its dashes, and versions are texts, ordered as such; each migration
is a transaction, unless its metadata says otherwise.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from migrator.errors import MisfitError
from migrator.formats.tool import Tool, ToolHistory
from migrator.model import Applied, Entry, Script
from migrator.parsing.directory import misfit, printable, refuse_duplicates, scan
from migrator.parsing.file_names import LOST_AND_FOUND, split_name
from migrator.sqlite import insert, quoted
from migrator.value import replace

_UP, _DOWN, _METADATA = "up.sql", "down.sql", "metadata.toml"
_IN_TRANSACTION = "run_in_transaction"

_TABLE = """CREATE TABLE IF NOT EXISTS {} (
       version VARCHAR(50) PRIMARY KEY NOT NULL,
       run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
)"""


class Diesel(Tool):
    """A directory of Diesel's directories, and its `__diesel_schema_migrations`."""

    name, title, table = "diesel", "Diesel", "__diesel_schema_migrations"
    columns = ("version", "run_on")
    form = "`VERSION_name/up.sql`, `down.sql`, `metadata.toml`"
    undoes = "`down.sql`"
    proven = "databases made by diesel_cli 2.3"

    def fits(self) -> bool:
        """Tell whether there is a directory with an `up.sql`."""
        return any(os.path.isfile(os.path.join(path, _UP)) for path in self._directories())

    def marked(self) -> bool:
        """Tell the same of named versions, where no numbered files lie, which Diesel ignores."""
        numbered = any(split_name(name) is not None for name in os.listdir(self.path))
        named = any("_" in path.name for path in self._directories())
        return named and not numbered and self.fits()

    def key(self, text: str) -> str | None:
        """Return the version without dashes, as Diesel does."""
        return text.replace("-", "") or None

    def entries(self) -> tuple[Entry, ...]:
        """List the directories by their versions; files, and what is hidden, are ignored."""
        found = [_entry(path) for path in self._directories()]
        found.sort(key=lambda entry: str(entry.key))
        refuse_duplicates(self.path, found)
        return tuple(found)

    def read(self, entry: Entry) -> Script:
        """Read the files of one directory."""
        from migrator.formats.wrapped import wrapped_section
        from migrator.parsing import sql_file
        from migrator.parsing.scripts import text_of

        if entry.path is None:
            return Script(entry)
        text = text_of(entry)
        undo = _beside(entry, _DOWN)
        # Diesel treats an empty file as missing; many keep one where there is no way back.
        down = text_of(undo) if undo.path is not None and _is_file(undo, undo.path) else ""
        if _is_transactional(entry):
            hint = f"Write `{_IN_TRANSACTION} = false` into its {_METADATA}"
            section = partial(wrapped_section, no_transaction=hint)
        else:
            section = partial(sql_file.section, transactional=False)
        forth = section(entry, text)
        back = section(undo, down) if down else None
        losses = sql_file.row_losses(entry, text) | sql_file.row_losses(undo, down)
        return Script(entry, down_file=undo.file).with_sql(forth, back, losses)

    def history(self, table: str) -> DieselHistory:
        """Return Diesel's table."""
        return DieselHistory(self, table)

    def _directories(self) -> list[Path]:
        """Return what Diesel takes for migrations: everything that is neither a file nor hidden."""
        found = []
        home = self.path.absolute()  # a migration may change the working directory
        for item in sorted(scan(self.path), key=lambda each: each.name):
            if item.name.startswith(".") or item.name == LOST_AND_FOUND or item.is_file():
                continue
            if not item.is_dir():
                entry = Entry(item.name, item.name, item.name, home / item.name)
                raise _bad_name(entry, "it is neither a file nor a directory.")
            found.append(home / item.name)
        return found


def _entry(directory: Path) -> Entry:
    """Return the migration in a directory."""
    shown = f"{printable(directory.name)}/{_UP}"
    version, _, name = directory.name.partition("_")
    version = version.replace("-", "")
    entry = Entry(version, version, name or version, directory / _UP, shown)
    if not version or not directory.name.isprintable():
        raise _bad_name(entry, "the directory's name does not begin with a version.")
    if not _is_file(entry, directory / _UP):
        raise _bad_name(entry, "the directory has no such file.")
    return entry


def _beside(entry: Entry, file: str) -> Entry:
    """Return a migration as another of its files, for messages."""
    if entry.path is None:
        return entry
    path = entry.path.with_name(file)
    return replace(entry, path=path, shown=f"{printable(path.parent.name)}/{file}")


def _is_file(entry: Entry, path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise misfit(
            entry,
            f"{str(path)!r} cannot be accessed: {error.strerror or error}.",
            hint="Make the directory readable for the user that runs the migrations (chmod a+rx).",
            reason="migrations.unreadable",
        ) from error


def _is_transactional(entry: Entry) -> bool:
    """
    Return what the metadata says.

    A file without the key says no, as it does to Diesel, and one that is not TOML is refused,
    where Diesel runs the migration as if there were none.
    """
    from migrator.formats.toml_file import read_toml, toml_misfit

    metadata = _beside(entry, _METADATA)
    found = None if metadata.path is None else read_toml(metadata.path, str(metadata.file))
    if found is None:
        return True
    value = found.get(_IN_TRANSACTION, False)
    if not isinstance(value, bool):
        what = f"has a `{_IN_TRANSACTION}` that is neither true nor false"
        raise toml_misfit(str(metadata.file), what)
    return value


def _bad_name(entry: Entry, what: str) -> MisfitError:
    hint = (
        "A migration of Diesel is a directory VERSION_NAME with an `up.sql`; name it so, or move"
        " what is not a migration to another place."
    )
    return misfit(entry, what, hint=hint, reason="migrations.bad_name")


class DieselHistory(ToolHistory):
    """A row a version, which Diesel never changes."""

    def rows(self, conn: sqlite3.Connection) -> Iterable[Applied]:
        """Return the versions."""
        query = f"SELECT version, run_on FROM {quoted(self.table)}"  # noqa: S608 - quoted
        return [self._applied(*row) for row in conn.execute(query)]

    def _applied(self, version: object, at: object) -> Applied:
        if not isinstance(version, str) or not version:
            text = str(version)[:100]
            raise self.broken(
                text,
                f"has the version {text!r}, which is not text",
                f"Correct that row, then start again: Diesel did not write it into {self.table}.",
            )
        return Applied(version, version, "", str(at))

    def prepare(self, conn: sqlite3.Connection) -> None:
        """Create the table as Diesel does."""
        conn.execute(_TABLE.format(self.spelled))

    def record(
        self, conn: sqlite3.Connection, script: Script, seconds: float | None, run_id: str
    ) -> None:
        """Note a version as applied."""
        del seconds, run_id
        insert(conn, self.table, {"version": script.entry.version})
