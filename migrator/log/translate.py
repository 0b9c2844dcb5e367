"""What SQLite's and the system's errors mean for an operator."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from pathlib import Path

from migrator.errors import (
    REPORT,
    DamagedError,
    DiskError,
    MigratorError,
    NoPermissionError,
    NotReadyError,
)
from migrator.files import A_LITTLE, has_space
from migrator.sqlite import primary_code

_DISK = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_DENIED = (errno.EACCES, errno.EPERM)
_IN_THE_WAY = (errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)
_GIVEN_BACK = 192 << 10
"""Bytes: the beginnings of SQLite's files beside a small database, and then some."""
_LACKING = r"(?is)(?:no such|unknown) (function|module|tokenizer|collation sequence): (.+)"
_DAMAGE = ("unsupported file format", "Could not decode", "must use the same text encoding")
"""What SQLite and Python say of damage without a code of its own."""
LEFT_BEHIND = "A thread that a migration has left behind interrupts the connection."
END_IT = "End what a migration starts before it returns, and start again."


def is_busy(error: BaseException) -> bool:
    """Tell whether another connection's lock was in the way."""
    return primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_damage(error: BaseException) -> bool:
    """Tell whether SQLite found the database damaged, as far as its message is a text at all."""
    told = isinstance(error, UnicodeDecodeError) or any(each in str(error) for each in _DAMAGE)
    return primary_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or told


def is_disk_failure(error: BaseException) -> bool:
    """Tell whether SQLite says "disk I/O error" or "database or disk is full"."""
    return primary_code(error) in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL)


def is_interrupted(error: BaseException) -> bool:
    """Tell whether a statement was interrupted, which only a migration's own thread can do."""
    return primary_code(error) == sqlite3.SQLITE_INTERRUPT


def is_unopened(error: BaseException) -> bool:
    """Tell whether SQLite says "unable to open database file", a journal's among them."""
    return primary_code(error) == sqlite3.SQLITE_CANTOPEN


def is_out_of_space(error: BaseException, directory: Path) -> bool:
    """Tell whether a disk, or a quota, was full."""
    code = primary_code(error)
    # On a full disk SQLite also says that it cannot open the database (it cannot make a journal
    # or a `-shm`) or that it is read-only (it cannot roll back). Only trying to write tells the
    # reason, beyond the space that SQLite has given back meanwhile.
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        return not has_space(directory, _GIVEN_BACK + A_LITTLE)
    # Of a full quota SQLite says "disk I/O error".
    return code == sqlite3.SQLITE_FULL or (
        code == sqlite3.SQLITE_IOERR and not has_space(directory, A_LITTLE)
    )


def registered_elsewhere(error: BaseException) -> str | None:
    """
    Say what to do where SQLite lacks what only the application registers.

    Its code for it is the one for every other mistake in a statement, so its words are
    looked at: where they are others, the hint is the usual one.

    Returns:
        None where something else went wrong.
    """
    match = re.search(_LACKING, str(error)) if primary_code(error) == sqlite3.SQLITE_ERROR else None
    if match is None:
        return None
    what, name = match[1], match[2].removesuffix("()")
    how = "`conn.load_extension(...)`, after `conn.enable_load_extension(True)`"
    if what == "function":
        how = f"`conn.create_function({name!r}, ...)`"
    elif what == "collation sequence":
        how = f"`conn.create_collation({name!r}, ...)`"
    return (
        f"If {name!r} is not a typing error, it is a {what} that the application registers on"
        f" its own connections, and SQLite does not have it. Register it for the whole run in a"
        f" file with `def connect(conn):`, with {how}, and name that file in `--connect FILE.py`"
        " (MIGRATOR_CONNECT); a .py migration can also register it for itself."
    )


def of_sqlite(
    error: sqlite3.Error | UnicodeDecodeError, database: Path, doing: str, *, writing: bool = True
) -> MigratorError:
    """
    Translate an error of SQLite that came outside of a migration.

    Args:
        error: What SQLite raised; of a damaged schema its message may be no text.
        database: The file it was about.
        doing: What was being done, as in "while the backup was made".
        writing: False where nothing may be written, not even to try whether there is room.
    """
    code = primary_code(error)
    text = f"SQLite says {str(error)!r} of {str(database)!r} {doing}."
    if is_damage(error):
        hint = (
            "Look at it with `migrator verify`; `migrator backups` lists what can be put back"
            " with `migrator restore latest`."
        )
        return DamagedError(text, hint=hint)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return NotReadyError(
            text, hint="Stop whatever uses the database.", reason="database.in_use"
        )
    if code == sqlite3.SQLITE_FULL or (writing and is_out_of_space(error, database.parent)):
        return DiskError(text, hint="Make space on the volume.", reason="disk.full")
    if code == sqlite3.SQLITE_IOERR:
        return DiskError(text, hint="Check the volume and its disk.", reason="disk.failed")
    if code in (
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_AUTH,
    ):
        hint = "Check the owner and the mode of the database, its directory and its sidecars."
        if is_unopened(error):
            hint += " Where they are right, the volume failed for a moment: start again."
        return NoPermissionError(text, hint=hint)
    return MigratorError(text, hint=REPORT, reason="sqlite.unexpected")


def of_system(error: OSError, doing: str) -> MigratorError:
    """Translate an error of the operating system in our own file work."""
    text = f"{error.strerror or error} ({error.filename!r}) {doing}."
    if error.errno in _IN_THE_WAY:
        # Of a rename the second path is the one in the way.
        path = Path(os.fsdecode(error.filename2 or error.filename or "?"))
        from migrator.file_errors import kind_of, unsafe_entry

        return unsafe_entry(path, kind_of(path))
    if error.errno in _DENIED:
        hint = "Check the owner and the mode of the database's directory."
        return NoPermissionError(text, hint=hint)
    if error.errno in _DISK:
        reason = "disk.full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "disk.failed"
        return DiskError(text, hint="Check the volume and its free space.", reason=reason)
    return DiskError(text, hint="Check the volume.", reason="disk.failed")
