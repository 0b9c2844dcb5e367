"""
What a case is made of: the files of a sound volume, one of which is then damaged.

A place is a mapping of names to bytes, laid into an empty directory as often
as it is needed: `data/` plays the volume, `migrations/` lies outside of it.
"""

from __future__ import annotations

import functools
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from tests.support.files import make_database, write_migrations
from tests.support.processes import run_entrypoint, run_migrator

Files = Mapping[str, bytes]

DATABASE = "data/app.db"
BACKUPS = "data/backups"
WAL, JOURNAL = f"{DATABASE}-wal", f"{DATABASE}-journal"
STATE = "data/app.db.migrator/state.json"
IDENTITY = "data/app.db.migrator/identity/id"

FIRST = """
-- migrate:up
ALTER TABLE items ADD COLUMN size INTEGER;
CREATE INDEX items_by_size ON items (size);

-- migrate:down
DROP INDEX items_by_size;
ALTER TABLE items DROP COLUMN size;
"""
SECOND = """
-- migrate:up
CREATE TABLE tags (id INTEGER PRIMARY KEY, item INTEGER REFERENCES items(id), name TEXT);
INSERT INTO tags (item, name) SELECT id, name FROM items;
UPDATE items SET size = length(name);

-- migrate:down
DROP TABLE tags;
"""
_SCHEMA = """
CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL, body BLOB);
CREATE INDEX items_by_name ON items (name);
CREATE TABLE words (word TEXT PRIMARY KEY, n INTEGER CHECK (n >= 0)) WITHOUT ROWID;
CREATE VIEW long_items AS SELECT * FROM items WHERE length(name) > 4;
CREATE TRIGGER items_counted AFTER INSERT ON items BEGIN
    INSERT INTO words VALUES (new.name, 1) ON CONFLICT (word) DO UPDATE SET n = n + 1;
END;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 90)
INSERT INTO items (name, body) SELECT 'item ' || i, zeroblob(20 + i % 7) FROM n;
INSERT INTO items (name, body) VALUES ('long', zeroblob(3000)), ('longer', zeroblob(5000));
CREATE TABLE gone (filler);
INSERT INTO gone SELECT zeroblob(400) FROM items LIMIT 20;
DROP TABLE gone;
"""
SEEDS: dict[str, dict[str, object]] = {
    "plain": {},
    "incremental": {"auto_vacuum": "INCREMENTAL"},
    "wal": {"wal": True},
    "utf16": {"encoding": "'UTF-16'"},
}
"""The kinds of databases that are damaged."""


@functools.cache
def sound(seed: str) -> Files:
    """Return a volume on which one migration was applied and another is pending."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        database = base / DATABASE
        options: dict[str, object] = {"page_size": 512, **SEEDS[seed]}
        wal = bool(options.pop("wal", False))
        make_database(database, _SCHEMA, wal=wal, **options)
        migrations = write_migrations(base / "migrations", {"000_items.sql": "SELECT 1;\n"})
        where = ("--database", database, "--migrations", migrations)
        noted = run_migrator("baseline", "000", *where)
        assert noted.code == 0, noted.stderr
        write_migrations(migrations, {"001_sizes.sql": FIRST})
        done = run_entrypoint(*where, "--mount", "ignore")
        assert done.code == 0, done.stderr
        write_migrations(migrations, {"002_tags.sql": SECOND})
        return read(base)


@functools.cache
def with_journal() -> Files:
    """Return a volume whose database has a hot journal, as a kill in a transaction leaves it."""
    script = (
        "PRAGMA cache_size = 2; BEGIN; UPDATE items SET body = zeroblob(600), name = name || id"
    )
    return _left_open(sound("plain"), script)


@functools.cache
def with_wal() -> Files:
    """Return a volume whose `-wal` holds rows that the database does not."""
    script = "PRAGMA wal_autocheckpoint = 0; UPDATE items SET name = upper(name)"
    return _left_open(sound("wal"), script)


def _left_open(files: Files, script: str) -> Files:
    with tempfile.TemporaryDirectory() as name:
        base = lay(files, Path(name, "base"))
        with closing(sqlite3.connect(base / DATABASE, isolation_level=None)) as conn:
            conn.executescript(script)
            left = read(base)
    assert {WAL, JOURNAL} & left.keys(), left.keys()
    return {name: data for name, data in left.items() if not name.endswith("-shm")}


def read(base: Path) -> Files:
    """Return every file below a directory."""
    paths = sorted(path for path in base.rglob("*") if path.is_file())
    return {str(path.relative_to(base)): path.read_bytes() for path in paths}


def lay(files: Files, directory: Path, after: Callable[[Path], object] | None = None) -> Path:
    """Write files into a directory that is emptied first, and return it."""
    shutil.rmtree(directory, ignore_errors=True)
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if after is not None:
        after(directory)
    return directory


def backup_of(files: Files) -> str:
    """Return the name of the one backup."""
    (name,) = (name for name in files if name.startswith("data/backups/") and name.endswith(".db"))
    return name
