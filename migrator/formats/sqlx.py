"""
sqlx's migrations: files `N_description.sql`, or pairs of `.up.sql` and `.down.sql`.

After https://github.com/launchbadge/sqlx, 0.9 (`sqlx-core/src/migrate/source.rs` and
`sqlx-sqlite/src/migrate.rs`): each file is a transaction, unless it begins with
`-- no-transaction`, and the table keeps the SHA-384 of its bytes.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from migrator.errors import MisfitError
from migrator.formats.sqlx_toml import SqlxSettings, has_settings, read_settings
from migrator.formats.tool import OWN_TABLE, Tool, ToolHistory, head
from migrator.model import Applied, Entry, Script, Section
from migrator.parsing.directory import misfit, refuse_duplicates
from migrator.parsing.file_names import split_name
from migrator.sqlite import insert, quoted
from migrator.value import replace

_FILE = re.compile(r"(?!\.)([^_]*)_(.*\.sql)", re.DOTALL)
_KINDS = (".up.sql", ".down.sql", ".sql")
_LARGEST = 2**63 - 1
_DIGITS = 19
_CHECKSUM = 48
"""Bytes of a SHA-384."""

_NO_TRANSACTION = "-- no-transaction"
_MARKS = (_NO_TRANSACTION, "-- Add migration script here\n", "-- Add up migration script here\n")
"""How only a file of sqlx begins: the first for the tool, the others as `sqlx migrate add`."""

_TABLE = """CREATE TABLE IF NOT EXISTS {} (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
)"""


class Sqlx(Tool):
    """A directory of sqlx's files, and its `_sqlx_migrations`."""

    name, title, table = "sqlx", "sqlx", "_sqlx_migrations"
    columns = ("version", "description", "installed_on", "success", "checksum", "execution_time")
    form = "`N_name.sql`, or `N_name.up.sql` and `N_name.down.sql`; `-- no-transaction`"
    undoes = "`N_name.down.sql`"
    proven = "databases made by sqlx-cli 0.9"
    has_checksums = True

    _downs: dict[int, Path] | None = None
    """The files that undo, by version, once the directory was listed."""
    _settings: SqlxSettings | None = None

    def wrote(self, conn: sqlite3.Connection) -> bool:
        """Tell whether a checksum has the length of SHA-384; what others noted there has not."""
        query = f"SELECT max(length(checksum)) FROM {quoted(self.table)}"  # noqa: S608 - quoted
        return conn.execute(query).fetchone()[0] in (None, _CHECKSUM)

    def fits(self) -> bool:
        """Tell whether there are numbered `.sql` files and no Python ones, which sqlx ignores."""
        return bool(self._numbered())

    def marked(self) -> bool:
        """Tell whether a file begins as only sqlx's do, or sqlx's settings lie there."""
        files = self._numbered()
        if files and has_settings(self.path):
            return True
        return any(head(path).startswith(_MARKS) for path in files)

    def _numbered(self) -> list[Path]:
        """Return the files with a number before the first `_`, nothing beside Python."""
        names = os.listdir(self.path)
        if any(name.endswith(".py") and split_name(name) is not None for name in names):
            return []
        return [path for match, path in self.files(_FILE) if _is_number(match[1])]

    def table_name(self, given: str) -> str:
        """Return the history's name, which sqlx's settings may say as well."""
        return self.settings.table or self.table if given == OWN_TABLE else given

    @property
    def settings(self) -> SqlxSettings:
        """What a `sqlx.toml` says."""
        if self._settings is None:
            self._settings = read_settings(self.path)
        return self._settings

    def entries(self) -> tuple[Entry, ...]:
        """List the versions by their numbers, each with the file that upgrades."""
        ups: list[Entry] = []
        downs: list[Entry] = []
        for match, path in self.files(_FILE):
            kind, name = _kind(match[2])
            entry = Entry(None, match[1], name or match[1], path)
            if not _is_number(match[1]):
                raise _bad_name(entry, "sqlx reads a number before the first `_`, and refuses it.")
            if len(match[1].lstrip("0")) > _DIGITS or int(match[1]) > _LARGEST:
                raise _bad_name(entry, f"its version is larger than {_LARGEST}.")
            entry = replace(entry, key=int(match[1]), version=str(int(match[1])))
            (downs if kind == ".down.sql" else ups).append(entry)
        for half in (ups, downs):
            half.sort(key=lambda entry: entry.key)
            refuse_duplicates(self.path, half)
        known = {entry.key for entry in ups}
        for entry in downs:
            if entry.key not in known:
                what = f"it undoes version {entry.version}, which has no file that upgrades."
                raise _bad_name(entry, what)
        self._downs = {entry.key: entry.path for entry in downs if entry.path is not None}
        return tuple(ups)

    def read(self, entry: Entry) -> Script:
        """Read one file, and the one that undoes it."""
        source, up, losses = _parsed(entry)
        down: Section | None = None
        if (path := self._down_of(entry)) is not None:
            _, down, others = _parsed(replace(entry, path=path))
            losses |= others
        script = Script(
            entry,
            checksum=self._checksum(source),
            description=_description(entry),
            down_file=None if path is None else path.name,
        )
        return script.with_sql(up, down, losses)

    def _down_of(self, entry: Entry) -> Path | None:
        if self._downs is None:
            self.entries()
        return (self._downs or {}).get(entry.key)

    def _checksum(self, source: bytes) -> str:
        import hashlib

        if self.settings.ignored:
            ignored = dict.fromkeys(map(ord, self.settings.ignored))
            source = source.decode().translate(ignored).encode()
        return hashlib.sha384(source).hexdigest()

    def history(self, table: str) -> SqlxHistory:
        """Return sqlx's table."""
        return SqlxHistory(self, table)


def _kind(rest: str) -> tuple[str, str]:
    """Return what a file is by its ending, and its name without it."""
    kind = next(each for each in _KINDS if rest.endswith(each))
    while rest.endswith(kind):  # sqlx takes them all away
        rest = rest.removesuffix(kind)
    return kind, rest


def _description(entry: Entry) -> str:
    """Return what sqlx notes of a file beside its version: nothing, where its name has no more."""
    match = _FILE.fullmatch(entry.path.name) if entry.path is not None else None
    return "" if match is None else _kind(match[2])[1].replace("_", " ")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _parsed(entry: Entry) -> tuple[bytes, Section, frozenset[str]]:
    """Return the bytes of a file, its statements, and the losses of rows that it announces."""
    from migrator.formats.wrapped import wrapped_section
    from migrator.parsing import python_file, scripts, sql_file

    source = b"" if entry.path is None else python_file.read_bytes(entry.path)
    text = scripts.decoded(entry, source)
    if source.startswith(_NO_TRANSACTION.encode()):
        section = sql_file.section(entry, text, transactional=False)
    else:
        section = wrapped_section(entry, text, f"Write `{_NO_TRANSACTION}` as the first line")
    return source, section, sql_file.row_losses(entry, text)


def _bad_name(entry: Entry, what: str) -> MisfitError:
    hint = (
        "A migration of sqlx is a file N_NAME.sql, or a pair N_NAME.up.sql and N_NAME.down.sql;"
        " files without a `_` are ignored."
    )
    return misfit(entry, what, hint=hint, reason="migrations.bad_name")


class SqlxHistory(ToolHistory):
    """A row a version, with the checksum of the file that upgraded."""

    def rows(self, conn: sqlite3.Connection) -> Iterable[Applied]:
        """Return the versions, which have all succeeded."""
        columns = "version, description, installed_on, checksum, success"
        query = f"SELECT {columns} FROM {quoted(self.table)} ORDER BY version"  # noqa: S608 - quoted
        return [self._applied(*row) for row in conn.execute(query)]

    def _applied(
        self, version: object, description: object, at: object, checksum: object, success: object
    ) -> Applied:
        text = str(version)[:100]
        if not isinstance(version, int) or not isinstance(checksum, bytes):
            raise self.broken(
                text,
                f"has a row for version {text!r} whose version is not a number, or whose checksum"
                " is not a BLOB",
                f"Correct that row, then start again: sqlx did not write it into {self.table}.",
            )
        if not success:
            raise self.broken(
                text,
                f"says that version {text} was started and has not succeeded (success is false)",
                "Look which of its statements have run, and undo them by hand; then take its row"
                f" out of {self.table} and start again. Or restore a backup from before it.",
            )
        return Applied(version, text, str(description), str(at), checksum.hex())

    def prepare(self, conn: sqlite3.Connection) -> None:
        """Create the table as sqlx does."""
        conn.execute(_TABLE.format(self.spelled))

    def record(
        self, conn: sqlite3.Connection, script: Script, seconds: float | None, run_id: str
    ) -> None:
        """Note a version as applied, with its time in nanoseconds; -1 where nothing has run."""
        del run_id
        row = {
            "version": script.entry.key,
            "description": script.description,
            "success": 1,
            "checksum": bytes.fromhex(script.checksum or ""),
            "execution_time": -1 if seconds is None else int(seconds * 1_000_000_000),
        }
        insert(conn, self.table, row)
