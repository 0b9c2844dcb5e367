"""Flyway's `flyway_schema_history`: a row for each thing that was done, in their order."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from typing import Any

from migrator.formats.tool import Tool, ToolHistory
from migrator.model import Applied, Entry, Script
from migrator.parsing.file_names import version_key
from migrator.sqlite import quoted, text_or_none
from migrator.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.formats.flyway import Flyway

_BASELINE = "<< Flyway Baseline >>"
_LONGEST = 200
_LONGEST_PATH = 1000


def parts_of(version: str) -> tuple[int, ...] | None:
    """Return a version's parts as numbers, without zeros at the end: 1.0 is 1."""
    parts = version_key(version.replace("_", "."))
    if parts is None:
        return None
    while len(parts) > 1 and not parts[-1]:
        parts = parts[:-1]
    return parts


def description_of(file: str) -> str:
    """Return what Flyway calls a migration: the words of its name, cut to the column's length."""
    text = file.removesuffix(".sql").partition("__")[2].replace("_", " ")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


class FlywayHistory(ToolHistory):
    """Later rows amend earlier ones: undone, or deleted by `repair`."""

    tool: Flyway

    def __init__(self, tool: Tool, table: str) -> None:
        super().__init__(tool, table)
        self._applied: dict[Any, Applied] = {}
        self._repeated: dict[str, Applied] = {}
        self._failed: dict[Any, str] = {}
        self._baseline: Applied | None = None

    def rows(self, conn: sqlite3.Connection) -> Iterable[Applied]:
        """Return what is applied now; a repeatable only with the text that it has."""
        self._applied, self._repeated, self._failed, self._baseline = {}, {}, {}, None
        columns = "version, description, type, script, checksum, installed_on, success"
        query = f"SELECT {columns} FROM {quoted(self.table)} ORDER BY installed_rank"  # noqa: S608 - quoted
        for row in conn.execute(query).fetchall():
            self._follow(*row)
        for what in self._failed.values():
            raise self.broken(
                what,
                f"says that {what} has failed",
                "Look which of its statements have run, and undo them by hand; then remove the row"
                " with `flyway repair`, and start again. Or restore a backup from before it.",
            )
        entries = self.tool.entries()
        return [*self._applied.values(), *self._below(entries), *self._current(entries)]

    def _follow(
        self,
        version: object,
        description: object,
        kind: object,
        script: object,
        checksum: object,
        at: object,
        success: object,
    ) -> None:
        """Follow one row."""
        word, what = str(kind).upper(), str(description)
        if version is None:
            done: dict[Any, Applied] = self._repeated
            place: Any = what
            name = f"R__{what}".replace(" ", "_")
            row = Applied((1, what, checksum), name, name, str(at), text_or_none(checksum))
        else:
            parts = parts_of(str(version))
            if parts is None:
                raise self.broken(
                    str(version),
                    f"has the version {version!r}, which is not one of Flyway's",
                    f"Correct that row of {self.table}, then start again.",
                )
            done, place = self._applied, (0, parts)
            name = what.replace(" ", "_") or str(version)
            row = Applied(place, str(version), name, str(at), text_or_none(checksum))
        if word == "SCHEMA":
            return
        if word == "DELETE" or word.startswith("UNDO"):
            done.pop(place, None)
            self._failed.pop(place, None)
        elif success not in (1, "1", "true", "TRUE"):
            self._failed[place] = str(script)
        elif word in ("BASELINE", "INIT") or word.endswith("_BASELINE"):
            if self._baseline is None or row.key > self._baseline.key:
                self._baseline = replace(row, name=str(row.version))
        else:
            done.pop(place, None)
            done[place] = row

    def _below(self, entries: Iterable[Entry]) -> list[Applied]:
        """Return the versions up to the baseline, and it itself where no file reaches it."""
        base = self._baseline
        if base is None:
            return []
        versions = [entry for entry in entries if entry.key[0] == 0]
        self.tool.below = frozenset(each.key for each in versions if each.key <= base.key)
        found = [
            Applied(each.key, each.version, each.name, base.applied_at)
            for each in versions
            if each.key <= base.key and each.key not in self._applied
        ]
        if versions and versions[-1].key < base.key and base.key not in self._applied:
            found.append(base)
        return found

    def _current(self, entries: Iterable[Entry]) -> list[Applied]:
        """Return the last run of each repeatable, unless its file is another by now."""
        given = {entry.key[1]: entry.key for entry in entries if entry.key[0] == 1}
        return [row for name, row in self._repeated.items() if given.get(name, row.key) == row.key]

    def prepare(self, conn: sqlite3.Connection) -> None:
        """Create the table and its index as Flyway does."""
        if not self.exists(conn):
            conn.execute(_TABLE.format(quoted(self.table)))
            index = quoted(f"{self.table}_s_idx")
            conn.execute(f'CREATE INDEX {index} ON {quoted(self.table)} ("success")')

    def record(
        self, conn: sqlite3.Connection, script: Script, seconds: float | None, run_id: str
    ) -> None:
        """Note a migration as applied, or as a part of the baseline where nothing else is noted."""
        del run_id
        entry, kind = script.entry, "SQL"
        if seconds is None and entry.key[0] == 0 and self._is_fresh(conn):
            conn.execute(f"DELETE FROM {quoted(self.table)} WHERE type = 'BASELINE'")  # noqa: S608 - quoted
            self._insert(conn, entry.version, _BASELINE, "BASELINE", _BASELINE, None, 0)
            return
        checksum = None if script.checksum is None else int(script.checksum)
        self._add(conn, entry, kind, checksum, seconds)

    def erase(self, conn: sqlite3.Connection, applied: Applied) -> None:
        """Note a version as undone, as `flyway undo` does: a later row of that version."""
        undo = self.tool.undo(applied.key)
        if undo is not None:
            self._add(conn, undo, "UNDO_SQL", self.tool.checksum(undo), None)

    def _add(
        self,
        conn: sqlite3.Connection,
        entry: Entry,
        kind: str,
        checksum: int | None,
        seconds: float | None,
    ) -> None:
        version = None if entry.key[0] == 1 else entry.version
        path = str(entry.shown)
        words = description_of(os.path.basename(path))
        if len(path) > _LONGEST_PATH:
            path = f"...{path[3:_LONGEST_PATH]}"
        self._insert(conn, version, words, kind, path, checksum, round((seconds or 0) * 1000))

    def _insert(self, conn: sqlite3.Connection, *values: object) -> None:
        """Append a row, with the database's own time and without a user."""
        table = quoted(self.table)
        query = f"SELECT coalesce(max(installed_rank), 0) + 1 FROM {table}"  # noqa: S608 - quoted
        rank = max(int(conn.execute(query).fetchone()[0]), 1)
        columns = (
            "installed_rank, version, description, type, script, checksum, execution_time,"
            " installed_by, success"
        )
        conn.execute(
            f"INSERT INTO {table} ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, '', 1)",  # noqa: S608 - quoted
            (rank, *values),
        )

    def _is_fresh(self, conn: sqlite3.Connection) -> bool:
        """Tell whether nothing is noted yet but a baseline: Flyway accepts one only then."""
        query = f"SELECT 1 FROM {quoted(self.table)} WHERE type NOT IN ('SCHEMA', 'BASELINE')"  # noqa: S608 - quoted
        return conn.execute(query).fetchone() is None


_TABLE = """CREATE TABLE {} (
    "installed_rank" INT NOT NULL PRIMARY KEY,
    "version" VARCHAR(50),
    "description" VARCHAR(200) NOT NULL,
    "type" VARCHAR(20) NOT NULL,
    "script" VARCHAR(1000) NOT NULL,
    "checksum" INT,
    "installed_by" VARCHAR(100) NOT NULL,
    "installed_on" TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f','now')),
    "execution_time" INT NOT NULL,
    "success" BOOLEAN NOT NULL
)"""
