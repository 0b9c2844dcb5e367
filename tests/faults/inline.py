"""
A small program that migrates its own database by the Python API, as its developer wrote it.

Run as a script, so that nothing of the tests is imported: `inline.py DATABASE MIGRATIONS
WHAT IN_USE`, where WHAT is `up`, `down`, or `registered` for those that `registry.py`
among the migrations registers in code. Its log is structlog's as the program set it
up: the lines of the commands. It ends with the exit code of the error.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from migrator import MigrationRunner
from migrator.errors import MigratorError


def main() -> int:
    """Migrate up, or take the last migration back."""
    database, migrations, what, in_use = sys.argv[1:]
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
    try:
        if what == "registered":
            program = runpy.run_path(f"{migrations}/registry.py")
            program["create_migration_runner"](database, **options).run_migrations(verbose=False)
        elif what == "up":
            MigrationRunner(database, migrations, **options).run_pending_migrations(verbose=False)
        else:
            MigrationRunner(database, migrations, **options).rollback_last(verbose=False)
    except MigratorError as error:
        return error.exit_code
    return 0


def _name_logger(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    event["logger"] = "sqlite-entrypoint"
    return event


if __name__ == "__main__":
    sys.exit(main())
