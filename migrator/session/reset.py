"""Reset a connection between two migrations: settings, temporary objects, open cursors."""

from __future__ import annotations

import gc
import sqlite3
import weakref
from contextlib import suppress
from typing import Any, TypeGuard

from migrator.sqlite import quoted

# Settings of a connection that work inside a transaction.
_PRAGMAS = (
    "analysis_limit",
    "automatic_index",
    "busy_timeout",
    "cache_size",
    "cache_spill",
    "cell_size_check",
    "checkpoint_fullfsync",
    "count_changes",
    "defer_foreign_keys",
    "empty_result_callbacks",
    "full_column_names",
    "fullfsync",
    "ignore_check_constraints",
    "journal_size_limit",
    "legacy_alter_table",
    "max_page_count",
    "mmap_size",
    "query_only",
    "read_uncommitted",
    "recursive_triggers",
    "reverse_unordered_selects",
    "secure_delete",
    "short_column_names",
    "soft_heap_limit",
    "threads",
    "trusted_schema",
    "wal_autocheckpoint",
    "writable_schema",
)
# `PRAGMA secure_delete` answers 2 for FAST, and takes 2 for ON.
_SPELLED = {("secure_delete", 2): "FAST"}

_LIMITS = tuple(getattr(sqlite3, name) for name in dir(sqlite3) if name.startswith("SQLITE_LIMIT_"))
_CONFIGS = tuple(
    getattr(sqlite3, name) for name in dir(sqlite3) if name.startswith("SQLITE_DBCONFIG_")
)


class ConnectionSettings:
    """
    The settings of a connection as they are now, to be put back later.

    Args:
        cursor: A plain cursor, on which nothing is refused.
    """

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self._conn = cursor.connection
        self._pragmas = self._read_pragmas()
        self._limits = {limit: self._conn.getlimit(limit) for limit in _LIMITS}
        self._configs = self._read_configs()
        self._like = cursor.execute("SELECT 'a' LIKE 'A'").fetchone()[0]

    def put_back(self, *, like: bool) -> None:
        """
        Put back every setting that was changed.

        Args:
            like: Whether `PRAGMA case_sensitive_like` was set. It cannot be read,
                and setting it replaces a registered `like` function.
        """
        for limit, value in self._limits.items():
            self._conn.setlimit(limit, value)
        for option, switch in self._read_configs().items():
            if switch != self._configs[option]:
                self._conn.setconfig(option, self._configs[option])  # type: ignore[attr-defined,unused-ignore]
        for name, value in self._read_pragmas().items():
            if value != self._pragmas[name]:
                self._set(name, self._pragmas[name])
        if like:
            self._cursor.execute(f"PRAGMA case_sensitive_like={int(not self._like)}")

    def _set(self, name: str, value: Any) -> None:
        self._cursor.execute(f"PRAGMA {name}={_SPELLED.get((name, value), value)}").fetchall()

    def _read_pragmas(self) -> dict[str, Any]:
        """Return the value of each setting that this SQLite supports."""
        rows = {name: self._cursor.execute(f"PRAGMA {name}").fetchone() for name in _PRAGMAS}
        return {name: row[0] for name, row in rows.items() if row is not None}

    def _read_configs(self) -> dict[int, bool]:
        """Return `getconfig`'s switches; empty before Python 3.12."""
        found = {}
        for option in _CONFIGS:
            with suppress(sqlite3.Error):
                found[option] = self._conn.getconfig(option)  # type: ignore[attr-defined,unused-ignore]
        return found


def drop_temporary(cursor: sqlite3.Cursor) -> None:
    """Drop every temporary trigger, view and table."""
    rows = cursor.execute(
        "SELECT type, name FROM sqlite_temp_master"
        " WHERE type IN ('trigger', 'view', 'table') AND name NOT LIKE 'sqlite^_%' ESCAPE '^'"
        " ORDER BY type = 'trigger' DESC, type = 'view' DESC, rootpage"
    ).fetchall()
    # Virtual tables (rootpage 0) first: dropping one drops its shadow tables.
    for kind, name in rows:
        cursor.execute(f"DROP {kind} IF EXISTS temp.{quoted(name)}")


def close_cursors(conn: sqlite3.Connection, but: sqlite3.Cursor | None = None) -> None:
    """
    Close the cursors that a migration left open.

    An unfinished query makes `DROP TABLE` fail with "database table is locked".
    """
    for cursor in _cursors(conn):
        if cursor is not but:
            with suppress(sqlite3.Error):
                sqlite3.Cursor.close(cursor)


def _cursors(conn: sqlite3.Connection) -> list[sqlite3.Cursor]:
    """Return a connection's cursors, those made by `sqlite3.Cursor(conn)` among them."""
    # A connection has weak references to them, in a list that the garbage collector knows.
    probe = sqlite3.Cursor(conn)
    lists = [found for found in gc.get_referents(conn) if type(found) is list]
    references = [each for found in lists for each in found if type(each) is weakref.ref]
    known = [found for each in references if (found := each()) is not None]
    if not any(each is probe for each in known):
        # The last resort: it takes longer the more objects there are, after each migration.
        everything = gc.get_objects()
        known = [each for each in everything if _is_cursor(each) and _is_of(each, conn)]
    return [each for each in known if _is_cursor(each) and each is not probe]


def _is_cursor(found: object) -> TypeGuard[sqlite3.Cursor]:
    # `isinstance` would run the code of proxies, by asking for their class.
    return issubclass(type(found), sqlite3.Cursor)


def _is_of(cursor: sqlite3.Cursor, conn: sqlite3.Connection) -> bool:
    return getattr(cursor, "connection", None) is conn
