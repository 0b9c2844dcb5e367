"""One number for everything that a database holds, to compare states by."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from migrator.sqlite import quoted

_HEADER = ("journal_mode", "encoding", "user_version", "application_id", "page_size", "auto_vacuum")


def logical_digest(path: str | os.PathLike[str]) -> str:
    """
    Return a digest of schema, rows, journal mode and header values.

    The database is opened like any program opens it, so that journals left by
    a crash are rolled back or replayed first. Where rows lie on the pages
    makes no difference. Virtual tables count by the tables that they consist of.
    """
    digest = hashlib.sha256()
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.text_factory = bytes
        for part in _parts(conn):
            digest.update(repr(part).encode())
            digest.update(b"\n")
    return digest.hexdigest()


def _parts(conn: sqlite3.Connection) -> Iterator[Any]:
    # The schema first: it is the read that recovers the database.
    schema = conn.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    ).fetchall()
    yield from schema
    for name in _HEADER:
        yield name, conn.execute(f"PRAGMA {name}").fetchone()
    for kind, name, _, sql in schema:
        if kind == b"table" and not (sql or b"").upper().startswith(b"CREATE VIRTUAL"):
            rows = conn.execute(f"SELECT * FROM {quoted(name.decode())}")
            yield name, sorted(map(repr, rows))
