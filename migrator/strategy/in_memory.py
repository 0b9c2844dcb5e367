"""
Build the schema of each version in memory, to compare it with a database to take over.

A worker does it: what runs here are the migrations, on an empty database that nobody keeps.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from migrator.change.migrations import Migrations
from migrator.context import Context
from migrator.database import connecting
from migrator.errors import MigratorError
from migrator.inspect.schema import Schema, differences, lacking_tables, schema_of
from migrator.model import Applied, Script
from migrator.prepare import load
from migrator.session.recording import RecordingConnection
from migrator.strategy.on_copy import CopySession

C = TypeVar("C", bound=sqlite3.Connection)

_URI = "file:/migrator-in-memory?mode=memory&cache=shared"
_NEAREST = 3
_TOLD = 5
"""Differences of a version that are told."""
CODE = "it is Python code, which only `migrator baseline` without a VERSION runs"

SCRIPT = "it is a script that opens a file, and this is done in memory"


class MemorySession(CopySession):
    """
    A database in memory as the place where migrations run, each on a fresh connection.

    It is there for as long as one connection is.
    """

    def __init__(self) -> None:
        super().__init__(Path(), None)
        self._anchor = sqlite3.connect(_URI, uri=True)

    def _connect(self, factory: type[C]) -> C:
        conn: C = sqlite3.connect(_URI, uri=True, factory=factory, cached_statements=0)
        connecting.prepare(conn)
        if isinstance(conn, RecordingConnection):
            conn.set_authorizer(_refuse_files)
        return conn

    def _require_there(self) -> None:
        """Do nothing: there is no file."""

    def close_all(self) -> None:
        """Close the engine's connection and the last one, which ends the database."""
        self.close()
        self._anchor.close()


def _refuse_files(action: int, first: str | None, *_: object) -> int:
    """Refuse `ATTACH` and `VACUUM INTO`, which make files; a plain `VACUUM` attaches no name."""
    if action == sqlite3.SQLITE_ATTACH and first:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def compare_versions(
    ctx: Context, database: Schema, asked: object, *, code: bool
) -> dict[str, Any]:
    """
    Compare a database with what the migrations up to each version make: the worker's half.

    Args:
        ctx: The run; its events go nowhere.
        database: The schema of the database.
        asked: The key of the version that a person has named, None for none.
        code: Whether Python code is run; else the versions from the first one on are not built.

    Returns:
        `fits`: the versions without a difference, in order; `nearest`: a few others, each
        `version`, `label`, `differences` and how many `more`; `asked`: the same of the one that
        was asked for, with the `tables` that the database lacks; `unrun`: `version`, `label` and
        the `message` of the first migration that could not be run so, or None.
    """
    found: list[dict[str, Any]] = []
    chosen: dict[str, Any] | None = None
    unrun: dict[str, str] | None = None
    try:
        for script, schema in _built(ctx, code=code):
            clauses = differences(database, schema)
            version = {
                "version": script.entry.identity,
                "label": script.entry.label,
                "differences": clauses[:_TOLD],
                "more": max(0, len(clauses) - _TOLD),
            }
            found.append(version)
            if script.entry.key == asked:
                chosen = {**version, "tables": lacking_tables(database, schema)}
    except _UnrunError as error:
        entry = error.script.entry
        unrun = {"version": entry.identity, "label": entry.label, "message": str(error)}
    # Of several that are as near, the later one is more probable.
    others = [each for each in reversed(found) if each["differences"]]
    others.sort(key=lambda each: len(each["differences"]) + each["more"])
    return {
        "fits": [each["version"] for each in found if not each["differences"]],
        "nearest": others[:_NEAREST],
        "asked": chosen,
        "unrun": unrun,
    }


class _UnrunError(Exception):
    """A migration that cannot be run on an empty database in memory."""

    def __init__(self, script: Script, message: str) -> None:
        super().__init__(message)
        self.script = script


def _built(ctx: Context, *, code: bool) -> Iterator[tuple[Script, Schema]]:
    """Yield each migration with the schema that there is after it."""
    session = MemorySession()
    applied: tuple[Applied, ...] = ()
    try:
        for script in ctx.source.scripts():
            if script.is_code and not code:
                raise _UnrunError(script, CODE)
            if script.wants_path:
                raise _UnrunError(script, SCRIPT)
            try:
                load(ctx, Migrations(scripts=(script,), applied=applied)).apply(ctx, session)
                own = (ctx.history.table, *ctx.history.siblings)
                schema = schema_of(session.conn, own)
            except MigratorError as error:
                raise _UnrunError(script, error.message.rstrip(".")) from error
            entry = script.entry
            applied = (*applied, Applied(entry.key, entry.version, entry.name))
            yield script, schema
    finally:
        session.close_all()
