"""Histories that nobody has written so: other columns, odd values, views, and triggers on them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.corpus.case import Case
from tests.corpus.place import DATABASE, Files, sound
from tests.support.files import opened

ANY = frozenset({0, 64, 65, 69, 77, 78, 80, 81})

_ITEMS = "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT, body BLOB, size INTEGER);"
_PLAIN = (
    "CREATE TABLE migrations (version TEXT PRIMARY KEY, name TEXT NOT NULL,"
    " applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);"
)
_BY_NAME = (
    "CREATE TABLE migrations (id INTEGER PRIMARY KEY, migration_name TEXT UNIQUE NOT NULL,"
    " applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, version TEXT DEFAULT '1.0.0');"
)
_ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

SHAPES = {
    "no columns of ours": "CREATE TABLE migrations (a, b, c);",
    "one column": "CREATE TABLE migrations (version TEXT PRIMARY KEY);",
    "versions are numbers": _PLAIN.replace("version TEXT", "version INTEGER"),
    "no primary key": _PLAIN.replace(" PRIMARY KEY", ""),
    "a column of the application's": _PLAIN.replace("CURRENT_TIMESTAMP)", "CURRENT_TIMESTAMP, x TEXT NOT NULL)"),
    "generated columns": _PLAIN.replace("CURRENT_TIMESTAMP)", "CURRENT_TIMESTAMP, checksum TEXT AS (hex(name)), run_id TEXT AS (version))"),
    "a generated version": "CREATE TABLE migrations (name TEXT NOT NULL, version TEXT AS (name), applied_at TIMESTAMP);",
    "another collation": _PLAIN.replace("TEXT PRIMARY KEY", "TEXT COLLATE NOCASE PRIMARY KEY"),
    "a check that fails": _PLAIN.replace("NOT NULL", "NOT NULL CHECK (length(name) > 1000)"),
    "a check of an unknown function": _PLAIN.replace("NOT NULL", "NOT NULL CHECK (unheard_of(name))"),
    "without rowid": _PLAIN.replace(");", ") WITHOUT ROWID;"),
    "strict": _PLAIN.replace("TIMESTAMP DEFAULT", "TEXT DEFAULT").replace(");", ") STRICT;"),
    "a view": "CREATE VIEW migrations AS SELECT '001' AS version, 'x' AS name, 1 AS applied_at;",
    "an endless view": f"CREATE VIEW migrations AS {_ENDLESS};",
    "a virtual table": "CREATE VIRTUAL TABLE migrations USING fts5(version, name, applied_at);",
    "an index of that name": "CREATE TABLE x (y); CREATE INDEX migrations ON x (y);",
    "a registry's": _BY_NAME + "INSERT INTO migrations (migration_name) VALUES ('add_users');",
    "a foreign key": _PLAIN.replace("CURRENT_TIMESTAMP)", "CURRENT_TIMESTAMP, checksum TEXT REFERENCES items(gone))"),
}  # fmt: skip
"""Tables, and others, that are called as the history is."""

VALUES = {
    "NULL": "NULL", "a number": "1", "a large number": "9223372036854775807", "a fraction": "1.5",
    "a blob": "x'00ff'", "a text that is no UTF-8": "CAST(x'ff80' AS TEXT)", "a NUL": "'0' || char(0) || '1'",
    "nothing": "''", "a space": "' 001'", "a line break": "'001' || char(10)", "a sign": "'-1'",
    "a long number": f"'{'9' * 5000}'", "a long text": "printf('%.*c', 100000, 'x')", "an emoji": "'1️⃣'",
    "other digits": "char(0x660, 0x660, 0x661)", "the same version": "'1'", "a later version": "'999'", "an earlier version": "'0'",
    "parts": "'1.2.3'", "empty parts": "'1..2'", "quotes": "'\"''`'", "an escape": "char(27) || '[31m'",
    "a lone surrogate": "CAST(x'eda080' AS TEXT)", "JSON": "'{\"event\":\"run.finished\"}'",
}  # fmt: skip

TRIGGERS = {
    "ignores the row": "BEFORE INSERT ON migrations BEGIN SELECT RAISE(IGNORE); END",
    "ends the transaction": "BEFORE INSERT ON migrations BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
    "fails": "BEFORE INSERT ON migrations BEGIN SELECT RAISE(ABORT, 'no'); END",
    "deletes the row": "AFTER INSERT ON migrations BEGIN DELETE FROM migrations; END",
    "changes the row": "AFTER INSERT ON migrations BEGIN UPDATE migrations SET run_id = 'x', name = 'y'; END",
    "adds a row": "AFTER INSERT ON migrations BEGIN INSERT OR IGNORE INTO migrations (version, name) VALUES ('003', 'more'); END",
    "loads an extension": "AFTER INSERT ON migrations BEGIN SELECT load_extension('/data/evil.so'); END",
    "writes a file": "AFTER INSERT ON migrations BEGIN SELECT writefile('/data/evil', 'x'); END",
}  # fmt: skip

_FOREIGN = {
    "a table": "CREATE TABLE schema_migrations (version TEXT); INSERT INTO schema_migrations VALUES (x'ff'), ('3');",
    "a generated column": "CREATE TABLE schema_migrations (v, version AS (zeroblob(900000000)));"
    "INSERT INTO schema_migrations (v) VALUES (1);",
    "a blob": "CREATE TABLE goose_db_version (version_id); INSERT INTO goose_db_version VALUES (x'ff00');",
    "an endless view": f"CREATE VIEW schema_migrations (version) AS {_ENDLESS};",
    "text that is no UTF-8": "CREATE TABLE alembic_version (version_num TEXT);"
    "INSERT INTO alembic_version VALUES (CAST(x'ff80' AS TEXT));",
}  # fmt: skip


def history_cases(seed: str) -> Iterator[Case]:
    """Yield databases whose history, or another tool's, is not what a run has written."""
    del seed
    for name, script in SHAPES.items():
        yield _case(f"history: {name}", _ITEMS + script)
    row = "INSERT INTO migrations VALUES ({}, {}, {});"
    for name, value in VALUES.items():
        yield _case(f"version: {name}", _ITEMS + _PLAIN + row.format(value, "'x'", "NULL"))
        if value != "NULL":
            yield _case(f"name: {name}", _ITEMS + _PLAIN + row.format("'001'", value, "NULL"))
        yield _case(f"applied_at: {name}", _ITEMS + _PLAIN + row.format("'001'", "'sizes'", value))
    twice = row.format("'001'", "'a'", "1") + row.format("'1'", "'b'", "2")
    yield _case("history: one version twice", _ITEMS + _PLAIN + twice)
    many = "".join(row.format(f"'{n:04d}'", "'x'", "1") for n in range(1, 3000))
    yield _case("history: 3000 rows", _ITEMS + _PLAIN + many)
    first = row.format("'001'", "'sizes'", "1")
    for name, trigger in TRIGGERS.items():
        script = f"{_ITEMS}{_PLAIN}{first}CREATE TRIGGER evil {trigger};"
        yield _case(f"history: a trigger that {name}", script)
    for name, script in _FOREIGN.items():
        yield _case(f"another tool's: {name}", _ITEMS + script)


def _case(name: str, script: str) -> Case:
    return Case(name, {**_rest(), DATABASE: _made(script)}, ANY)


def _rest() -> Files:
    """Return everything but the database and its backups."""
    kept = sound("plain").items()
    return {
        name: data for name, data in kept if name.startswith("migrations/00") and "000" not in name
    }


def _made(script: str) -> bytes:
    """Return the bytes of a database, made by an application that has a function of its own."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "made.db")
        with opened(path) as conn:
            conn.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF")
            conn.create_function("unheard_of", 1, len, deterministic=True)
            conn.executescript(script)
        return path.read_bytes()
