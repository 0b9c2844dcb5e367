"""
The sets of migrations that a file for sqlite-utils makes, run on the run's own connection.

sqlite-utils itself is imported here, by the file: in a worker only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from migrator.errors import MisfitError
from migrator.model import Entry, Script
from migrator.parsing import python_file
from migrator.parsing.directory import misfit, printable
from migrator.parsing.scripts import checked_function
from migrator.process import audit_hook
from migrator.sqlite import quoted

_SHAPE = ("name", "applied", "pending", "apply")
"""What sqlite-utils takes for a set, whoever made it."""


def load(path: Path, database: Path) -> tuple[Script, ...]:
    """
    Run a file, and return the migrations that it registers.

    Args:
        path: The file.
        database: The live database, which the file may not open.

    Raises:
        MisfitError: It fails, makes no set, or registers a name twice.
    """
    path = path.absolute()  # the file may change the working directory
    if not path.is_file():
        msg = f"The migrations {str(path)!r} do not exist or are not a file."
        hint = "Name the file with --migrations FILE.py (MIGRATOR_MIGRATIONS)."
        reason = "migrations.registry_missing"
        raise MisfitError(msg, hint=hint, reason=reason, data={"file": path.name})
    with audit_hook.unconnectable(database):
        module = python_file.load_module(path, python_file.read_bytes(path))
        try:
            found = [*_scripts(path, _sets(vars(module).values()))]
        except ImportError as error:
            raise python_file.failure(path, error, doing="it cannot be used") from error
    if not found:
        msg = f"{path.name}: it has no migrations of sqlite-utils."
        hint = 'Make a set in it, `migrations = Migrations("name")`, and register functions.'
        raise MisfitError(msg, hint=hint, reason="migrations.registry", data={"file": path.name})
    _refuse_duplicates(found)
    return tuple(found)


def _sets(values: Iterable[Any]) -> list[Any]:
    """Return the sets among a file's names, each once."""
    found: list[Any] = []
    for value in list(values):
        is_set = not isinstance(value, type) and all(hasattr(value, each) for each in _SHAPE)
        if is_set and not any(value is each for each in found):
            found.append(value)
    return found


def _scripts(path: Path, sets: Iterable[Any]) -> Iterator[Script]:
    for each in sets:
        if not isinstance(each.name, str):
            continue
        with closing(sqlite3.connect(":memory:")) as empty:
            migrations = list(each.pending(_wrapped(empty)))
        for migration in migrations:
            entry = entry_of(path, f"{each.name}:{migration.name}", str(migration.name))
            yield _script(entry, migration)


def _script(entry: Entry, migration: Any) -> Script:
    """Take one registered migration; before sqlite-utils 4 it says nothing of transactions."""
    function = checked_function(entry, migration.fn, entry.name, "db")
    transactional = getattr(migration, "transactional", True)
    begins = bool(getattr(migration, "transactional", False))
    return Script(
        entry,
        transactional=bool(transactional),
        no_transaction="Register it with `(transactional=False)`, which sqlite-utils 4 has",
        allow_row_loss=_tables(entry, getattr(migration.fn, "allow_row_loss", ())),
        up=partial(_run, function, begins=begins),
    )


def _run(function: Callable[[Any], Any], conn: sqlite3.Connection, *, begins: bool) -> Any:
    """Run one as sqlite-utils does: with its database, and since version 4 in a transaction."""
    conn.row_factory = None
    db = _wrapped(conn)
    if begins:
        conn.execute("BEGIN")
    result = function(db)
    if conn.in_transaction:
        conn.commit()
    return result


def _wrapped(conn: sqlite3.Connection) -> Any:
    """Return a connection as a database of sqlite-utils."""
    return import_module("sqlite_utils").Database(conn)


def _tables(entry: Entry, value: Any) -> frozenset[str]:
    tables = (value,) if isinstance(value, str) else value
    if isinstance(tables, Iterable):
        found = list(tables)
        if all(isinstance(table, str) and table for table in found):
            return frozenset(found)
    raise misfit(
        entry,
        f"the `allow_row_loss` of {entry.name!r} is {value!r}, not a tuple of tables.",
        hint=f'Write it below the function: `{entry.name}.allow_row_loss = ("table",)`.',
        reason="migrations.registry",
    )


def _refuse_duplicates(scripts: Iterable[Script]) -> None:
    seen: set[Any] = set()
    for script in scripts:
        if script.entry.key in seen:
            raise misfit(
                script.entry,
                f"two migrations are called {printable(script.entry.version)!r}.",
                hint="Rename the one that has not been applied anywhere yet.",
                reason="migrations.duplicate",
            )
        seen.add(script.entry.key)


# --- the table ----------------------------------------------------------------


def prepare(conn: sqlite3.Connection, table: str, *, there: bool) -> None:
    """
    Create the table with the statements of the sqlite-utils that is installed.

    Args:
        conn: The run's connection.
        table: The table's name.
        there: Whether it is there; in an old form it is brought to the newer one.
    """
    wanted = _statements(conn, table, there=there)
    if there and wanted == _schema(conn, table):
        return
    rows: list[Any] = []
    columns = "migration_set, name, applied_at"
    if there:
        query = f"SELECT {columns} FROM {quoted(table)} ORDER BY rowid"  # noqa: S608 - quoted
        rows = conn.execute(query).fetchall()
        conn.execute(f"DROP TABLE {quoted(table)}")
    for statement in wanted:
        conn.execute(statement)
    insert = f"INSERT INTO {quoted(table)} ({columns}) VALUES (?, ?, ?)"  # noqa: S608 - quoted
    conn.executemany(insert, rows)


def _statements(conn: sqlite3.Connection, table: str, *, there: bool) -> list[str]:
    """Return what makes the table, by having sqlite-utils make it in an empty database."""
    made = _class()("none")
    made.migrations_table = table
    with closing(sqlite3.connect(":memory:")) as empty:
        for statement in _schema(conn, table) if there else ():
            empty.execute(statement)
        made.ensure_migrations_table(_wrapped(empty))
        return _schema(empty, table)


def _schema(conn: sqlite3.Connection, table: str) -> list[str]:
    query = (
        "SELECT sql FROM main.sqlite_master WHERE lower(tbl_name) = lower(?) AND sql IS NOT NULL"
        " AND type IN ('table', 'index') ORDER BY type DESC, name"
    )
    return [str(row[0]) for row in conn.execute(query, (table,)).fetchall()]


def _class() -> Any:
    """Return sqlite-utils' own class of sets; before version 4 it is sqlite-migrate's."""
    package = import_module("sqlite_utils")
    if hasattr(package, "Migrations"):
        return package.Migrations
    return import_module("sqlite_migrate").Migrations


def entry_of(path: Path, version: str, name: str) -> Entry:
    """Return a migration by `SET:NAME` and its name."""
    return Entry((version.removesuffix(f":{name}"), name), version, name, path, many=True)
