"""Make a consistent copy of a database in use, without changing the database."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from migrator.database.pages import copy_pages, read_header
from migrator.database.workspace import like_database
from migrator.engine.parent import Parent
from migrator.errors import BackupError, MigratorError, NotReadyError
from migrator.exclusive import in_use
from migrator.files import FULL, Ownership, open_regular
from migrator.inspect.database import NeedsRecoveryError, reading, stamp
from migrator.log.translate import is_busy, is_out_of_space, of_sqlite, of_system
from migrator.strategy.on_copy import set_mode
from migrator.wait import wait_until_ready

_LOOKS = 3
"""How often a database is copied that was written to meanwhile without a lock against it."""
_WAIT_HINT = "It keeps readers out: let it finish, or allow more time with `--wait-timeout`."


def copy(parent: Parent, target: Path) -> None:
    """
    Copy the database into a new file, in the same journal mode.

    One read transaction holds what is copied. In WAL mode an application goes on writing
    meanwhile; without WAL its commits wait for the copy.

    Raises:
        NotReadyError: Somebody kept readers out until the end of the budget, or the database
            cannot be read without recovering it.
        BackupError: There is no space for the copy.
        DamagedError: The database is damaged.
    """
    owner = like_database(parent.layout).private
    wait_until_ready(
        lambda: _attempt(parent, target, owner),
        parent.deadline,
        parent.emit,
        ready="The database can be read.",
        level=None,
    )


def _attempt(parent: Parent, target: Path, owner: Ownership) -> None:
    database = parent.layout.database
    try:
        mode = _copied(parent, target, owner)
        set_mode(target, mode)
    except NeedsRecoveryError as error:
        raise unreadable(str(error)) from error
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if is_busy(error):
            raise in_use(database, _WAIT_HINT) from error
        if is_out_of_space(error, target.parent):
            raise _no_space(target.parent, str(error)) from error
        raise of_sqlite(error, database, "while it was copied", writing=False) from error
    except OSError as error:
        if error.errno in FULL:
            raise _no_space(target.parent, error.strerror or str(error)) from error
        raise of_system(error, "while the database was copied") from error


def _copied(parent: Parent, target: Path, owner: Ownership) -> str:
    """Copy the pages, and return the journal mode."""
    database = parent.layout.database
    for last in (*[False] * (_LOOKS - 1), True):
        before, mode = stamp(database), _journal_mode(database)
        with reading(database) as source:
            source.execute("BEGIN")
            # In WAL mode a lock would create files beside a database that is not open: it is
            # read without one, and copied again if it was written to meanwhile.
            unlocked = mode == "wal" and not os.path.lexists(f"{database}-wal")
            source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            copy_pages(source, target, owner, lambda _done, _all: parent.signals.check())
        if not unlocked or stamp(database) == before:
            return mode
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)
        if last:
            break
    message = f"{str(database)!r} was written to each time that it was copied."
    hint = "Keep the application running, or stopped, while it is copied."
    raise NotReadyError(message, hint=hint, reason="database.in_use")


def _journal_mode(database: Path) -> str:
    """Return the journal mode that the file keeps: WAL, or one that each connection chooses."""
    descriptor = open_regular(database)
    try:
        header = read_header(descriptor)
    finally:
        os.close(descriptor)
    return "wal" if header is not None and header.wal else "delete"


def unreadable(why: str) -> NotReadyError:
    """Return the error for a database that cannot be read without being written."""
    message = f"The database cannot be read without recovering it: {why}."
    hint = (
        "Start the entrypoint once, which recovers it; or rehearse on a backup:"
        " `migrator rehearse --database BACKUP.db --in DIR`."
    )
    return NotReadyError(message, hint=hint, reason="rehearsal.needs_recovery", retryable=False)


def _no_space(directory: Path, why: str) -> MigratorError:
    message = f"The copy for the rehearsal cannot be written in {str(directory)!r}: {why}."
    hint = "Make space, or name another directory with `--in DIR`."
    return BackupError(message, hint=hint, reason="backup.no_space")
