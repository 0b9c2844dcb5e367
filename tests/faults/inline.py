"""
A small program that migrates its own database by the Python API, as its developer wrote it.

Run as a script, so that nothing of the tests is imported: `inline.py DATABASE MIGRATIONS
WHAT IN_USE [ACCEPTED...]`, where WHAT is `up`, `down`, `registered` for those that `registry.py` among
the migrations registers in code, or `again` for a program that uses its database before
and after, and tries again when it has failed. Its log is structlog's as the program set it
up: the lines of the commands. It ends with the exit code of the error.
"""

from __future__ import annotations

import contextlib
import runpy
import sqlite3
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import structlog

from migrator import MigrationRunner
from migrator.errors import MigratorError

LOCKED = "The program finds its database locked."


def main() -> int:
    """Migrate up, or take the last migration back."""
    database, migrations, what, in_use, *accepted = sys.argv[1:]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%dT%H:%M:%S.%fZ"),
            _name_logger,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    options: dict[str, Any] = {"in_use": in_use, "wait_timeout": 2.0, "lock_timeout": 2.0}
    options["accept"] = frozenset(accepted)

    def migrate() -> int:
        try:
            _migrate(what, database, migrations, options)
        except MigratorError as error:
            return error.exit_code
        return 0

    return _go_on(database, migrate) if what == "again" else migrate()


def _migrate(what: str, database: str, migrations: str, options: Mapping[str, Any]) -> None:
    if what == "registered":
        program = runpy.run_path(f"{migrations}/registry.py")
        program["create_migration_runner"](database, **options).run_migrations(verbose=False)
        return
    runner = MigrationRunner(database, migrations, **options)
    if what == "down":
        runner.rollback_last(verbose=False)
    else:
        runner.run_pending_migrations(verbose=False)


def _go_on(database: str, migrate: Callable[[], int]) -> int:
    """Migrate with a connection of its own open; after a failure use that, and try again."""
    with contextlib.closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as own:
        _use(own)
        code = migrate()
        _use(own)
        return migrate() if code else code


def _use(own: sqlite3.Connection) -> None:
    """Say where the database is locked; what else is wrong with it the faults may have done."""
    try:
        own.execute("SELECT count(*) FROM users").fetchone()
        own.execute("BEGIN IMMEDIATE")
        own.execute("ROLLBACK")
    except sqlite3.Error as error:
        if "locked" in str(error):
            sys.stdout.write(f"{LOCKED}\n")


def _name_logger(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    event["logger"] = "sqlite-entrypoint"
    return event


if __name__ == "__main__":
    sys.exit(main())
