"""
yoyo's tables: `_yoyo_migration`, with a log, a version and a lock beside it.

As yoyo 6 and later make them. What an older yoyo made (one table with `id` and `ctime`) is read,
and brought to the newer form by the first run that writes to it, as yoyo does.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime

from migrator.formats.tool import ToolHistory, columns_of
from migrator.model import Applied, Script
from migrator.sqlite import insert, quoted, text_or_none

_LOG, _VERSION, _LOCK = "_yoyo_log", "_yoyo_version", "yoyo_lock"
LEGACY = {"id", "ctime"}
"""The columns of the table before version 6."""

_FORM = 2
"""The version of these tables that is known here, the one since yoyo 6."""

_MIGRATIONS_SQL = """\
CREATE TABLE {} (
            "migration_hash" VARCHAR(64),
            "migration_id" VARCHAR(255),
            "applied_at_utc" TIMESTAMP,
            PRIMARY KEY ("migration_hash")
        )"""
_LOG_SQL = """\
CREATE TABLE {} (
            "id" VARCHAR(36),
            "migration_hash" VARCHAR(64),
            "migration_id" VARCHAR(255),
            "operation" VARCHAR(10),
            "username" VARCHAR(255),
            "hostname" VARCHAR(255),
            "comment" VARCHAR(255),
            "created_at_utc" TIMESTAMP,
            PRIMARY KEY ("id")
        )"""
_VERSION_SQL = """\
CREATE TABLE {} (
            "version" INT NOT NULL PRIMARY KEY,
            "installed_at_utc" TIMESTAMP
        )"""
_LOCK_SQL = (
    'CREATE TABLE {} ("locked" INT DEFAULT 1, "ctime" TIMESTAMP,"pid" INT NOT NULL,'
    'PRIMARY KEY ("locked"))'
)
_UPGRADED = "this log entry created automatically by an internal schema upgrade"


class YoyoHistory(ToolHistory):
    """A row a migration, known by the hash of its name."""

    @property
    def siblings(self) -> tuple[str, ...]:
        """The log, the version of the tables, and the lock."""
        return _LOG, _VERSION, _LOCK

    def rows(self, conn: sqlite3.Connection) -> Iterable[Applied]:
        """
        Return what is applied, in the order in which it was.

        Raises:
            MisfitError: yoyo's lock is held, or its tables are not those that are known here.
        """
        self._refuse_locked(conn)
        columns = "id, ctime" if self._is_legacy(conn) else "migration_id, applied_at_utc"
        query = f"SELECT {columns} FROM {quoted(self.table)} ORDER BY rowid"  # noqa: S608 - quoted
        found = []
        for name, at in conn.execute(query):
            if not isinstance(name, str):
                raise self.broken(
                    str(name),
                    f"has the migration {name!r}, which is not a name",
                    f"Correct that row of {self.table}, then start again.",
                )
            found.append(Applied(name, name, name, text_or_none(at)))
        if columns.startswith("migration_id"):
            self._refuse_other_form(conn)
        return found

    def prepare(self, conn: sqlite3.Connection) -> None:
        """Create what is missing of yoyo's tables, and bring the old form to the new one."""
        there = self.exists(conn)
        rows = []
        if there and self._is_legacy(conn):
            rows = conn.execute(
                f"SELECT id, ctime FROM {quoted(self.table)} ORDER BY rowid"  # noqa: S608 - quoted
            ).fetchall()
            conn.execute(f"DROP TABLE {quoted(self.table)}")
            there = False
        _create(conn, _LOCK, _LOCK_SQL)
        _create(conn, _LOG, _LOG_SQL)
        if _create(conn, _VERSION, _VERSION_SQL):
            at = _now().isoformat(" ")
            conn.execute(f"INSERT INTO {_VERSION} VALUES (?, ?)", (_FORM, at))  # noqa: S608 - ours
        if not there:
            conn.execute(_MIGRATIONS_SQL.format(quoted(self.table)))
        for name, at in rows:
            self._log(conn, name, "apply", at, _UPGRADED)
            self._insert(conn, name, at)

    def record(
        self, conn: sqlite3.Connection, script: Script, seconds: float | None, run_id: str
    ) -> None:
        """Note a migration as applied; one that has not been run is marked, as `yoyo mark` does."""
        del run_id
        name = script.entry.name
        self._log(conn, name, "mark" if seconds is None else "apply", _now().isoformat())
        self._insert(conn, name, _now().isoformat())

    def erase(self, conn: sqlite3.Connection, applied: Applied) -> None:
        """Take a migration away."""
        query = f"DELETE FROM {quoted(self.table)} WHERE migration_hash = ?"  # noqa: S608 - quoted
        self._log(conn, applied.name, "rollback", _now().isoformat())
        conn.execute(query, (hash_of(applied.name),))

    def _insert(self, conn: sqlite3.Connection, name: str, at: str) -> None:
        row = {"migration_hash": hash_of(name), "migration_id": name, "applied_at_utc": at}
        insert(conn, self.table, row)

    def _log(
        self,
        conn: sqlite3.Connection,
        name: str,
        operation: str,
        at: str,
        comment: str | None = None,
    ) -> None:
        import uuid

        row = {
            "id": str(uuid.uuid1()),
            "migration_hash": hash_of(name),
            "migration_id": name,
            "operation": operation,
            "username": _user(),
            "hostname": os.uname().nodename,
            "comment": comment,
            "created_at_utc": at,
        }
        insert(conn, _LOG, row)

    def _is_legacy(self, conn: sqlite3.Connection) -> bool:
        return set(columns_of(conn, self.table)) == LEGACY

    def _refuse_locked(self, conn: sqlite3.Connection) -> None:
        if set(columns_of(conn, _LOCK)) != {"locked", "ctime", "pid"}:
            return
        row = conn.execute(f"SELECT pid FROM {_LOCK}").fetchone()  # noqa: S608 - ours
        if row is None:
            return
        what = (
            f"is locked by yoyo's process {row[0]} (table {_LOCK!r}): it migrates, or was killed"
            " while it did, so that a migration may be half applied"
        )
        hint = (
            "Let it finish. Where it no longer runs, look at what its last migration has done, then"
            " `yoyo break-lock`, and start again."
        )
        raise self.broken(version="", what=what, hint=hint)

    def _refuse_other_form(self, conn: sqlite3.Connection) -> None:
        """Refuse the tables of a yoyo that is newer than those known here, or half of them."""
        for name in (_LOG, _VERSION):
            if not columns_of(conn, name):
                what = f"lacks the table {name!r} beside it, which yoyo makes with it"
                hint = "Bring it back from a backup, then start again."
                raise self.broken(version="", what=what, hint=hint)
        form = conn.execute(f"SELECT max(version) FROM {_VERSION}").fetchone()[0]  # noqa: S608 - ours
        if form == _FORM:
            return
        what = f"is of version {form} ({_VERSION}), while yoyo 6 to 9 make version {_FORM}"
        hint = (
            "Run the yoyo that made it with `--migrate-command` (MIGRATOR_MIGRATE_COMMAND), or"
            f" correct {_VERSION}."
        )
        raise self.broken(version="", what=what, hint=hint)


def hash_of(name: str) -> str:
    """Return the hash by which yoyo knows a migration."""
    import hashlib

    return hashlib.sha256(name.encode()).hexdigest()


def _create(conn: sqlite3.Connection, name: str, sql: str) -> bool:
    """Create a table if it is not there; returns whether it was not."""
    if columns_of(conn, name):
        return False
    conn.execute(sql.format(quoted(name)))
    return True


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _user() -> str:
    """Return the user's name as yoyo records it; a container's user may have no name."""
    import getpass

    with contextlib.suppress(KeyError, OSError):
        return getpass.getuser()
    return str(os.getuid())
