"""Directories of migrations and the databases they run on."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

from migrator.backups.backup import Backup

SEEDS = Path(__file__).parent / "seeds"

BY_VERSION = """
CREATE TABLE migrations (
    version TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
)
"""
"""The history table as the framework of numbered files makes it."""


def write_migrations(directory: Path, files: Mapping[str, str]) -> Path:
    """
    Write `{"001_a.sql": "…"}` into a directory, made if need be, and return it.

    Texts are dedented and lose the newline that they begin with, so that line
    numbers count from the first line written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(dedent(text).removeprefix("\n"))
    return directory


def until_there(path: Path) -> str:
    """Return a migration that does nothing until there is such a file."""
    return f"""
        import os, time

        def up(conn):
            while not os.path.exists({str(path)!r}):
                time.sleep(0.01)
        """


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[sqlite3.Connection]:
    """Open a database in autocommit and close it again."""
    with closing(sqlite3.connect(path, isolation_level=None, **options)) as conn:
        yield conn


AFTER_A_RUN = [".gitignore", "identity", "last_run.json", "lock"]
"""What is in `app.db.migrator/` once a run has ended."""


def make_database(path: Path, script: str = "", *, wal: bool = False, **pragmas: object) -> Path:
    """
    Make a database and return its path.

    Args:
        path: Where; its directory is made if need be.
        script: SQL to run in it.
        wal: Whether it is left in WAL mode.
        pragmas: Settings that hold from the first page on (`page_size=512`,
            `auto_vacuum="FULL"`, `encoding="'UTF-16'"`).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened(path) as conn:
        for name, value in pragmas.items():
            conn.execute(f"PRAGMA {name} = {value}")
        if wal:
            assert conn.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
        conn.executescript(dedent(script))
    return path


def rows(path: Path, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Return what a plain connection reads."""
    with opened(path) as conn:
        return conn.execute(query, parameters).fetchall()


def tables(path: Path) -> set[str]:
    """Return the names of the tables, SQLite's own left out."""
    query = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    return {name for (name,) in rows(path, query)}


def history(path: Path, table: str = "migrations") -> list[str]:
    """Return the applied versions of a history by version, in the order of the table."""
    return [version for (version,) in rows(path, f"SELECT version FROM {table} ORDER BY rowid")]


def listing(directory: Path) -> dict[str, tuple[int, int, int]]:
    """
    Return every file below a directory with its inode, size and time of change.

    Two listings that are equal show that nothing was written in between.
    """
    found = {}
    for base, folders, names in os.walk(directory):
        for name in (*folders, *names):
            path = Path(base, name)
            stat = path.lstat()
            found[str(path.relative_to(directory))] = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    return found


def load_module(path: Path) -> ModuleType:
    """Import a Python file by its path, as a fresh module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def seed_by_name(directory: Path, *, applied: int = 1) -> tuple[Path, Path]:
    """
    Make what the framework of named migrations leaves: a database and its file.

    Args:
        directory: Where `bot.db` and `database/migration_framework.py` go.
        applied: How many of its three migrations its own runner has run.

    Returns:
        The paths of the database and of the file with the registry.
    """
    file = directory / "database" / "migration_framework.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(SEEDS / "migration_framework.py", file)
    database = make_database(
        directory / "bot.db",
        """
        CREATE TABLE users (user_id TEXT PRIMARY KEY, name TEXT);
        CREATE TABLE messages (id INTEGER PRIMARY KEY, user_id TEXT, text TEXT);
        INSERT INTO users VALUES ('1', 'Ada'), ('2', 'Grace');
        INSERT INTO messages (user_id, text) VALUES ('1', 'hello'), ('2', 'hi'), ('1', 'bye');
        """,
    )
    runner = load_module(file).create_migration_runner(str(database))
    runner.migrations = runner.migrations[:applied]
    assert runner.run_migrations()
    return database, file


def seed_by_version(database: Path, migrations: Path, *, applied: int) -> Path:
    """
    Bring a database up to date with the framework of numbered files, its own code.

    Args:
        database: Made if need be.
        migrations: The directory; that framework knows its `.py` files alone.
        applied: How many of them it applies.
    """
    runner = load_module(SEEDS / "migration_runner.py").MigrationRunner(
        str(database), str(migrations)
    )
    available = runner.get_available_migrations()[:applied]
    runner.get_available_migrations = lambda: available
    assert runner.run_pending_migrations(verbose=False) == applied
    return database


def describe(backup: Path, database: Path, **facts: Any) -> Backup:
    """Note beside a file that it is a backup; without more, as versions did that knew no ids."""
    made = Backup(
        backup, 1, "2025-01-01T00:00:00Z", 0, "", None, (), "up", None, "01J", str(database), "", ""
    )
    made = replace(made, **facts)
    made.json_path.write_bytes(bytes(made.encoded()))
    return made
