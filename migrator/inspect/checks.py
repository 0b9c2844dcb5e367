"""What `migrator verify` checks in the database itself."""

from __future__ import annotations

import sqlite3

from migrator.database import connecting
from migrator.database.integrity_check import Structural, examine
from migrator.database.workspace import Layout
from migrator.errors import NotReadyError, VerificationError
from migrator.inspect.database import NeedsRecoveryError, reading
from migrator.log.hints import damaged
from migrator.log.translate import of_sqlite
from migrator.model import Emit, Settings
from migrator.verify import checks
from migrator.verify.checks import References


def check_database(settings: Settings, layout: Layout, emit: Emit) -> None:
    """
    Check structure and foreign keys of a database that nothing is written to.

    What SQLite cannot check is no damage; it is warned about.

    Raises:
        DamagedError: The structure is damaged.
        NotReadyError: It cannot be read without recovering it.
        VerificationError: Foreign keys are violated.
    """
    try:
        with reading(layout.database) as conn:
            connecting.prepare(conn)
            found = examine(conn, settings.verify)
            keys = References() if found.problems else checks.foreign_keys(conn)
    except NeedsRecoveryError as error:
        message = f"The database cannot be read: {error}."
        raise NotReadyError(message, hint="Start the entrypoint once; it recovers it.") from error
    except (sqlite3.Error, UnicodeDecodeError) as error:
        doing = "while it was verified"
        raise of_sqlite(error, layout.database, doing, writing=False) from error
    if found.problems:
        raise damaged(settings, found.problems)
    _say_unchecked(settings, emit, found, keys)
    if keys.orphans:
        tables = "; ".join(
            f"{table} to {parent}: {n}" for (table, parent), n in keys.orphans.items()
        )
        message = f"Foreign keys are violated: {tables}."
        hint = "`PRAGMA foreign_key_check` lists the rows."
        raise VerificationError(message, hint=hint, reason="verify.foreign_keys")


def _say_unchecked(settings: Settings, emit: Emit, found: Structural, keys: References) -> None:
    """Warn about what SQLite cannot check, which is not damage, and rows against a constraint."""
    told = [("foreign_key_check", f"of {table!r}: {why}") for table, why in keys.unchecked.items()]
    check = "integrity_check" if settings.verify == "full" else "quick_check"
    if found.incomplete is not None:
        told.append((check, found.incomplete))
    for name, why in told:
        message = f"SQLite could not finish {name}, which is not damage: {why}."
        emit("verify.finished", message, level="warning", check=name, error=why)
    if found.rows:
        text = "; ".join(found.rows)[:500]
        message = f"There are rows that their table's own constraints forbid: {text}."
        emit("verify.finished", message, level="warning", check=check, error=text)
