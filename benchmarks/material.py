"""Databases and migrations to measure with: the same for every contender."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

Migration = Sequence[str]
"""The statements of one migration, without semicolons."""

ADD_COLUMN: Migration = ("ALTER TABLE entry ADD COLUMN seen INTEGER NOT NULL DEFAULT 0",)

UPDATE: Migration = (
    *ADD_COLUMN,
    "UPDATE entry SET seen = 1 WHERE id % 10 = 0",
    "CREATE INDEX entry_word ON entry (word)",
)


def script(migration: Migration) -> str:
    """Return a migration as SQL text."""
    return "".join(f"{statement};\n" for statement in migration)


def small_migrations(number: int) -> list[Migration]:
    """Return that many migrations, each with a table of its own and a row in it."""
    return [
        (
            f"CREATE TABLE item_{index:05} (id INTEGER PRIMARY KEY, name TEXT NOT NULL)",
            f"INSERT INTO item_{index:05} (name) VALUES ('first')",  # noqa: S608 - a number
        )
        for index in range(1, number + 1)
    ]


def dump(statements: int) -> Migration:
    """Return a table and that many statements that fill it, as a dump has them."""
    values = (f"({index}, 'the text of row {index}')" for index in range(statements - 1))
    return (
        "CREATE TABLE line (id INTEGER PRIMARY KEY, text TEXT NOT NULL)",
        *(f"INSERT INTO line VALUES {each}" for each in values),  # noqa: S608 - a number
    )


def filled_database(path: Path, megabytes: float) -> Path:
    """Make a database of about that size; rows of a kilobyte."""
    if path.exists():
        return path
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with closing(sqlite3.connect(part)) as conn:
        conn.execute("PRAGMA synchronous = OFF")
        with conn:
            conn.execute("CREATE TABLE entry (id INTEGER PRIMARY KEY, word TEXT, body BLOB)")
            conn.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
                "INSERT INTO entry (word, body) SELECT hex(randomblob(8)), randomblob(960) FROM n",
                (int(megabytes * 976),),
            )
    return part.rename(path)


def database_of_tables(path: Path, tables: int) -> Path:
    """Make a database of that many tables, with ten rows in each, and the table `entry`."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("CREATE TABLE entry (id INTEGER PRIMARY KEY, word TEXT)")
        for index in range(tables - 1):
            conn.execute(f"CREATE TABLE other_{index} (id INTEGER PRIMARY KEY, word TEXT)")
            rows = ((f"word {number}",) for number in range(10))
            conn.executemany(
                f"INSERT INTO other_{index} (word) VALUES (?)",  # noqa: S608 - a number
                rows,
            )
    return path


def fresh(volume: Path, template: Path | None = None) -> Path:
    """Empty a directory, and put a copy of a database there; all of it has reached the disk."""
    shutil.rmtree(volume, ignore_errors=True)
    volume.mkdir()
    database = volume / "app.db"
    if template is not None:
        shutil.copyfile(template, database)
    sync(volume)
    return database


def sync(directory: Path) -> None:
    """Wait until everything is on the disk."""
    subprocess.run(["sync", "--file-system", directory], check=True)
