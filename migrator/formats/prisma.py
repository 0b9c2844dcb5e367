"""
Prisma Migrate's migrations: a directory each with a `migration.sql`, and no way back.

After https://github.com/prisma/prisma-engines (schema-engine): directories run in the order of
their names; a row is written before a migration runs, and again when it has ended.
"""

from __future__ import annotations

import re
import sqlite3
import time
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from migrator.errors import MisfitError
from migrator.formats.named import Named, applied, folders, spelled_checksums, split
from migrator.formats.tool import ToolHistory
from migrator.model import Applied, Entry, Script
from migrator.parsing import sql_file
from migrator.parsing.directory import misfit
from migrator.parsing.python_file import read_bytes
from migrator.parsing.scripts import text_of
from migrator.sqlite import insert, quoted

_LOCK = "migration_lock.toml"
_PROVIDER = re.compile(r"provider\s*=\s*[\"']?([^\"'#\n]*?)[\"']?\s*(?:#.*)?")


class Prisma(Named):
    """A directory of Prisma Migrate's, and its `_prisma_migrations`."""

    name, title, table = "prisma", "Prisma", "_prisma_migrations"
    columns = (
        *("id", "checksum", "finished_at", "migration_name", "logs", "rolled_back_at"),
        *("started_at", "applied_steps_count"),
    )
    form = "`NUMBER_name/migration.sql`, `migration_lock.toml`"
    proven = "databases written after its documentation and source"
    has_checksums = True

    @property
    def lock(self) -> Path:
        """The file that says for which database the migrations are."""
        return self.path / _LOCK

    def fits(self) -> bool:
        """Tell whether there is a directory with a migration."""
        return any(trouble is None for _, _, trouble in folders(self.path, "migration.sql"))

    def marked(self) -> bool:
        """Tell whether Prisma's lock file is beside such a directory."""
        return self.lock.is_file() and self.fits()

    def entries(self) -> tuple[Entry, ...]:
        """List the directories in the order of their names."""
        self._refuse_other_database()
        found = []
        listed = folders(self.path, "migration.sql")
        names = split([name for name, _, _ in listed])
        for name, path, trouble in listed:
            entry = Entry(name, *names[name], path, f"{name}/migration.sql")
            if trouble is not None:
                raise misfit(
                    entry,
                    f"it {trouble}; to Prisma each directory here is a migration.",
                    hint="Bring the file back, or move the directory elsewhere.",
                    reason="migrations.unreadable",
                )
            found.append(entry)
        return tuple(found)

    def _refuse_other_database(self) -> None:
        """Refuse migrations whose lock file names another database, or no database."""
        if not self.lock.exists():
            return  # as Prisma does
        lines = read_bytes(self.lock).decode(errors="replace").splitlines()
        for number, line in enumerate(lines, 1):
            match = _PROVIDER.fullmatch(line)
            if match is not None and match[1] == "sqlite":
                return
            if line.startswith("provider"):
                named = repr(match[1] if match is not None else line[:100])
                raise _bad_lock(number, f"the migrations are for {named}, not for 'sqlite'.")
        raise _bad_lock(None, "it names no `provider`.")

    def read(self, entry: Entry) -> Script:
        """Read one file; Prisma itself runs it in no transaction."""
        assert entry.path is not None  # noqa: S101 - told to the type checker
        source = read_bytes(entry.path)
        spelled, text = spelled_checksums(source), text_of(entry)
        checksums = frozenset({*spelled, *map(_unpadded, spelled)})
        script = Script(entry, checksum=spelled[0], checksums=checksums)
        up = sql_file.section(entry, text)
        return script.with_sql(up, None, sql_file.row_losses(entry, text))

    def history(self, table: str) -> PrismaHistory:
        """Return Prisma's table."""
        return PrismaHistory(self, table)


def _unpadded(checksum: str) -> str:
    """Return a checksum as Prisma wrote it before 2.24: without the leading zero of a byte."""
    return "".join(f"{byte:x}" for byte in bytes.fromhex(checksum))


def _bad_lock(line: int | None, what: str) -> MisfitError:
    place = _LOCK if line is None else f"{_LOCK}, line {line}"
    hint = (
        "Name the directory of the migrations for SQLite with `--migrations` (MIGRATOR_MIGRATIONS)."
    )
    data = {"file": _LOCK, "line": line}
    return MisfitError(f"{place}: {what}", hint=hint, reason="migrations.other_tool", data=data)


class PrismaHistory(ToolHistory):
    """A row for each time that a migration was begun; those rolled back do not count."""

    def rows(self, conn: sqlite3.Connection) -> Iterable[Applied]:
        """Return the migrations that have ended, or raise for one that has not."""
        columns = "migration_name, checksum, started_at, finished_at"
        query = (
            f"SELECT {columns} FROM {quoted(self.table)}"  # noqa: S608 - quoted
            " WHERE rolled_back_at IS NULL ORDER BY started_at, rowid"
        )
        found: dict[str, Applied] = {}
        for name, checksum, started, finished in conn.execute(query):
            if finished is None:
                resolve = f"`prisma migrate resolve --applied {name}`"
                raise self.broken(
                    str(name),
                    f"says that {name} was begun at {_time(started)} and has not ended",
                    "Look which of its statements have run. Complete them by hand and say so with"
                    f" {resolve}, or undo them and say `--rolled-back` instead; then start again."
                    " Or restore a backup from before it.",
                )
            found[str(name)] = applied(str(name), _time(finished), str(checksum) or None)
        return found.values()

    def prepare(self, conn: sqlite3.Connection) -> None:
        """Create the table as Prisma does."""
        if not self.exists(conn):
            conn.execute(_TABLE.format(quoted(self.table)))

    def record(
        self, conn: sqlite3.Connection, script: Script, seconds: float | None, run_id: str
    ) -> None:
        """Note a migration as applied, or of a baseline as `migrate resolve --applied` does."""
        del run_id
        now = time.time_ns() // 1_000_000
        row: dict[str, object] = {
            "id": str(uuid.uuid4()),
            "checksum": script.checksum,
            "finished_at": now,
            "migration_name": script.entry.key,
            "started_at": now - round((seconds or 0) * 1000),
        }
        row |= {"logs": ""} if seconds is None else {"applied_steps_count": 1}
        insert(conn, self.table, row)

    def erase(self, conn: sqlite3.Connection, applied: Applied) -> None:
        """Note a migration as rolled back."""
        query = (
            f"UPDATE {quoted(self.table)} SET rolled_back_at = ?"  # noqa: S608 - quoted
            " WHERE migration_name = ? AND rolled_back_at IS NULL"
        )
        conn.execute(query, (time.time_ns() // 1_000_000, applied.key))


_TABLE = """CREATE TABLE {} (
    "id"                    TEXT PRIMARY KEY NOT NULL,
    "checksum"              TEXT NOT NULL,
    "finished_at"           DATETIME,
    "migration_name"        TEXT NOT NULL,
    "logs"                  TEXT,
    "rolled_back_at"        DATETIME,
    "started_at"            DATETIME NOT NULL DEFAULT current_timestamp,
    "applied_steps_count"   INTEGER UNSIGNED NOT NULL DEFAULT 0
)"""


def _time(noted: object) -> str:
    """Return a time for people: Prisma writes milliseconds, a person or an adapter a text."""
    if isinstance(noted, int) and 0 <= noted < _YEAR_10000:
        return datetime.fromtimestamp(noted / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return str(noted)


_YEAR_10000 = 253_402_300_800_000
