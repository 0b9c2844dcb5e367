"""What a database holds, and what lies on a volume, each as a digest."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_OF_A_RUN = frozenset({"applied_at", "run_id", "seconds"})
"""Columns of the history that no two runs fill alike."""
_HEADER = ("encoding", "user_version", "application_id", "page_size", "auto_vacuum")
NOTHING = "no database"


@dataclass(frozen=True, slots=True)
class State:
    """A database's contents as a digest, and its journal mode."""

    digest: str
    mode: str


def state_of(database: Path) -> State:
    """Return what a plain `sqlite3` finds, the history's times and run ids aside."""
    if not database.exists():
        return State(NOTHING, "")
    digest = hashlib.sha256()
    with closing(sqlite3.connect(database, isolation_level=None)) as conn:
        conn.text_factory = bytes
        schema = conn.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
        ).fetchall()
        parts: list[Any] = [schema]
        parts += [conn.execute(f"PRAGMA {name}").fetchone() for name in _HEADER]
        for kind, name, *_ in schema:
            if kind == b"table":
                parts.append((name, sorted(map(repr, conn.execute(_rows(conn, name.decode()))))))
        check = conn.execute("PRAGMA integrity_check").fetchall()
        parts.append(check if check != [(b"ok",)] else "ok")
        mode = conn.execute("PRAGMA journal_mode").fetchone()[0].decode()
    digest.update(repr(parts).encode())
    return State(digest.hexdigest()[:16], mode)


def _rows(conn: sqlite3.Connection, table: str) -> str:
    """Return the query of a table's rows."""
    if table != "migrations":
        return f'SELECT * FROM "{table}"'
    columns = {name.decode() for _, name, *_ in conn.execute("PRAGMA table_info(migrations)")}
    return f"SELECT {', '.join(sorted(columns - _OF_A_RUN))} FROM migrations"


def digest_of(directory: Path, wanted: Callable[[str], bool] = bool) -> bytes:
    """
    Return a digest of files and directories: names, modes, owners, numbers of links, bytes.

    Args:
        directory: Where they lie.
        wanted: Which files count, by their path from there.
    """
    digest = hashlib.sha256()
    for base, names, files in os.walk(directory):
        names.sort()
        for name in (*names, *sorted(files)):
            path = os.path.join(base, name)
            inside = os.path.relpath(path, directory)
            if wanted(inside):
                facts = os.lstat(path)
                links = 0 if name in names else facts.st_nlink
                digest.update(
                    repr((inside, facts.st_mode, facts.st_uid, facts.st_gid, links)).encode()
                )
                if name in files:
                    with open(path, "rb") as file:
                        digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.digest()
