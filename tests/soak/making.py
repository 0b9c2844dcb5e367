"""Random databases and random migrations, each the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.files import make_database, opened

WATCH = "watch"
"""The file beside the migrations on which each run takes a lock of its own."""

_ALONE = """
import contextlib
import fcntl
import os
import time

@contextlib.contextmanager
def alone():
    descriptor = os.open({watch!r}, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(os.open({watch!r} + ".two", os.O_RDWR | os.O_CREAT, 0o666))
    try:
        yield
    finally:
        os.close(descriptor)
"""
"""
Says so when another process is at a migration at the same time.

The lock ends with the migration, or with its process: one that runs the Python API
goes on when its run is over.
"""


@dataclass(frozen=True, slots=True)
class Release:
    """
    What one release of an application brings.

    Args:
        files: Its migrations.
        fails: Whether one of them fails.
    """

    files: Mapping[str, str]
    fails: bool


def make(path: Path, chance: random.Random) -> str:
    """Make a random database; returns what kind it is."""
    page_size = chance.choice((512, 1024, 4096, 8192, 65536))
    encoding = chance.choice(("UTF-8", "UTF-16le", "UTF-16be"))
    vacuum = chance.choice(("NONE", "FULL", "INCREMENTAL"))
    wal = chance.random() < 0.5
    script = [_BASE, *chance.sample(_MORE, chance.randrange(len(_MORE) + 1))]
    make_database(
        path,
        "\n".join(script),
        wal=wal,
        page_size=page_size,
        auto_vacuum=vacuum,
        encoding=f"'{encoding}'",
    )
    with opened(path) as conn:
        conn.execute("BEGIN")
        for number in range(chance.randrange(1, 120)):
            blob = chance.randbytes(chance.choice((0, 10, 300, 5000)))
            row = (f"item {number}", chance.random(), blob)
            conn.execute("INSERT INTO items (name, price, data) VALUES (?, ?, ?)", row)
        conn.execute("INSERT INTO parts (item_id, name) SELECT id, 'part of ' || name FROM items")
        conn.execute("COMMIT")
        conn.execute(f"PRAGMA user_version = {chance.randrange(100)}")
    return f"page size {page_size}, {encoding}, auto_vacuum {vacuum}, {'WAL' if wal else 'DELETE'}"


_BASE = """
CREATE TABLE items (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL, data BLOB,
    label TEXT GENERATED ALWAYS AS (name || ' at ' || price) VIRTUAL
);
CREATE TABLE parts (
    id INTEGER PRIMARY KEY,
    item_id INTEGER NOT NULL REFERENCES items(id) ON DELETE CASCADE,
    name TEXT
);
CREATE INDEX parts_by_item ON parts (item_id);
"""
_MORE = (
    """
    CREATE TABLE words (word TEXT PRIMARY KEY, times INT) WITHOUT ROWID;
    INSERT INTO words VALUES ('one', 1), ('two', 2);
    """,
    """
    CREATE VIRTUAL TABLE notes USING fts5(text);
    INSERT INTO notes VALUES ('the first note'), ('the second');
    """,
    "CREATE VIEW dear AS SELECT name FROM items WHERE price > 0.5;",
    """
    CREATE TABLE seen (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT);
    CREATE TRIGGER look AFTER INSERT ON items BEGIN
        INSERT INTO seen (name) VALUES (new.name);
    END;
    """,
    """
    CREATE TABLE strict (id INTEGER PRIMARY KEY, at TEXT NOT NULL) STRICT;
    CREATE UNIQUE INDEX strict_at ON strict (at) WHERE at <> '';
    """,
    "CREATE INDEX items_by_upper ON items (upper(name));",
)

# -- migrations ---------------------------------------------------------------------------


def release(number: int, chance: random.Random, watch: str) -> Release:
    """Return a random release: one to three migrations, some of which fail."""
    fails = chance.random() < 0.2
    transactional = chance.random() < 0.7
    count = chance.randrange(1, 4)
    bad = chance.randrange(count) if fails else -1
    files: dict[str, str] = {}
    for n in range(count):
        key = f"{number:03}{n}"
        written = chance.choice((_python, _sql)) if n else _python
        name, text = written(key, chance, transactional or n != count - 1, n == bad)
        files[name] = text.replace("{watch!r}", repr(watch))
    return Release(files, fails)


def _python(key: str, chance: random.Random, transactional: bool, fails: bool) -> tuple[str, str]:
    calls = [_calls(step, chance) for step in _steps(key, chance)]
    if fails:
        bad = chance.choice(
            ("conn.execute('INSERT INTO nowhere VALUES (1)')", "raise ValueError('no')", "1 / 0")
        )
        calls.insert(chance.randrange(len(calls) + 1), [bad])
    up = [line for each in calls for line in each]
    lines = [
        _ALONE,
        "" if transactional else "transactional = False",
        "def up(conn):",
        "    with alone():",
        *(f"        {line}" for line in up),
        "def down(conn):",
        "    with alone():",
        *(f"        conn.execute({statement!r})" for statement in _undo(key)),
    ]
    return f"{key}_change.py", "\n".join(lines) + "\n"


def _calls(statement: str, chance: random.Random) -> list[str]:
    """Write one statement as people do: alone, with a commit, in a script, in a `with`."""
    call = f"conn.execute({statement!r})"
    pause = f"time.sleep({chance.choice((0, 0, 0.01, 0.05))})"
    return chance.choice(
        (
            [call, pause],
            [call, "conn.commit()", pause],
            ["conn.commit()", "conn.execute('BEGIN')", call, "conn.execute('COMMIT')", pause],
            [f"conn.executescript({statement!r})", pause],
            ["with conn:", f"    {call}", pause],
            [
                "cursor = conn.cursor()",
                f"cursor.execute({statement!r})",
                "cursor.close()",
                pause,
            ],
        )
    )


def _sql(key: str, chance: random.Random, transactional: bool, fails: bool) -> tuple[str, str]:
    up = _steps(key, chance)
    if not transactional:
        up.insert(chance.randrange(len(up) + 1), "VACUUM")
    if fails:
        up.insert(chance.randrange(len(up) + 1), "INSERT INTO nowhere VALUES (1)")
    flag = "" if transactional else " transaction:false"
    down = _undo(key)
    lines = [f"-- migrate:up{flag}", *(f"{each};" for each in up)]
    lines += ["-- migrate:down", *(f"{each};" for each in down)]
    return f"{key}_change.sql", "\n".join(lines) + "\n"


def _steps(key: str, chance: random.Random) -> list[str]:
    steps = [
        f"CREATE TABLE t{key} (id INTEGER PRIMARY KEY, name TEXT, data BLOB)",
        f"INSERT INTO t{key} (name, data) SELECT name, zeroblob({chance.choice((0, 900))}) FROM items",
    ]
    more = [
        [f"CREATE INDEX t{key}_name ON t{key} (name)"],
        [f"UPDATE items SET name = name || '.{key}'"],
        [f"INSERT INTO items (name, price) VALUES ('new in {key}', {chance.randrange(9)})"],
        [f"ALTER TABLE t{key} ADD COLUMN extra TEXT DEFAULT 'x'"],
        [f"UPDATE t{key} SET data = zeroblob({chance.choice((1, 5000, 40000))}) WHERE id <= 20"],
        [f"DELETE FROM t{key} WHERE id % 3 = 0"],
        [
            f"CREATE TABLE new_t{key} (id INTEGER PRIMARY KEY, name TEXT NOT NULL, data BLOB)",
            f"INSERT INTO new_t{key} SELECT id, name, data FROM t{key}",
            f"DROP TABLE t{key}",
            f"ALTER TABLE new_t{key} RENAME TO t{key}",
        ],
    ]
    for group in chance.sample(more, chance.randrange(len(more))):
        steps += group
    if chance.random() < 0.3:
        steps.append(f"CREATE VIEW v{key} AS SELECT count(*) AS n FROM t{key}")
    return steps


def _undo(key: str) -> list[str]:
    return [f"DROP VIEW IF EXISTS v{key}", f"DROP TABLE t{key}"]
