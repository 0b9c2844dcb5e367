"""
What a migration may not do inside the run's one transaction, and why.

These are decisions only; `migrator.session.guard` has SQLite ask for them
(https://sqlite.org/c3ref/set_authorizer.html) and remembers what was refused.
"""

from __future__ import annotations

import sqlite3

from migrator.parsing.header_pragmas import Setting, way_out
from migrator.session.transactions import RESERVED
from migrator.sqlite import fold

OUTSIDE = (
    "Say `transactional = False` in the migration's .py file, or"
    " `-- migrate:up transaction:false` in its .sql file: it then runs on a copy"
    " of the database, outside of any transaction."
)
_SAVEPOINT = (
    "Use `conn.rollback()`, or `SAVEPOINT name` and `ROLLBACK TO name`; to give up, raise an"
    " exception: the whole run is then rolled back."
)

# `journal_mode=OFF` and `=MEMORY` work inside a transaction, and a crash then
# leaves half of it; the others would move what a rollback needs.
_DENIED = frozenset(
    ("journal_mode", "locking_mode", "temp_store_directory", "data_store_directory")
)
# Inside a transaction SQLite itself ignores these, or fails.
_IGNORED = frozenset(("foreign_keys", "synchronous", "page_size", "temp_store"))

FREE = frozenset((sqlite3.SQLITE_READ, sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION))
"""The most frequent questions; never refused."""
RECORDED = frozenset((sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE))
"""Asked about every write; never refused."""


class RefusedError(sqlite3.OperationalError):
    """
    A statement or a method that the run's connection refuses.

    Args:
        message: A sentence saying what was refused, and why.
        hint: What to do instead.
        statement: The statement's text, None for a method.
    """

    def __init__(self, message: str, hint: str = "", statement: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.statement = statement
        self.sqlite_errorcode = sqlite3.SQLITE_AUTH
        self.sqlite_errorname = "SQLITE_AUTH"


def decide(action: int, first: str | None, second: str | None) -> int | tuple[str, str]:
    """
    Answer one question of SQLite's authorizer.

    Returns:
        `SQLITE_OK`, `SQLITE_IGNORE`, or the message and hint of a refusal.
    """
    if action == sqlite3.SQLITE_PRAGMA:
        return _pragma(fold(first or ""), second)
    if action == sqlite3.SQLITE_TRANSACTION:
        return sqlite3.SQLITE_IGNORE if first != "ROLLBACK" else _ROLLBACK
    if action == sqlite3.SQLITE_SAVEPOINT and fold(second or "").startswith(RESERVED):
        return (
            f"The savepoint {second!r} is refused: names beginning with {RESERVED!r} are reserved.",
            "Give the savepoint another name.",
        )
    if action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH):
        return _ATTACH
    return sqlite3.SQLITE_OK


_ROLLBACK = (
    "ROLLBACK is refused: it would undo the migrations before this one in the run's transaction.",
    _SAVEPOINT,
)
_ATTACH = (
    "ATTACH and DETACH are refused: the run's transaction is about one database.",
    OUTSIDE,
)
VACUUM = ("VACUUM is refused: SQLite cannot run it inside a transaction.", OUTSIDE)


def unset(made: Setting, now: object) -> tuple[str, str]:
    """Return message and hint for refusing a setting that SQLite would ignore."""
    message = (
        f"PRAGMA {made.name} = {made.value} is refused: SQLite would ignore it, since there are"
        f" tables already, and leave it at {now}."
    )
    return message, way_out(made.name)


def _pragma(name: str, value: str | None) -> int | tuple[str, str]:
    if name == "wal_checkpoint" or (name in _IGNORED and value is not None):
        return sqlite3.SQLITE_IGNORE
    if name in _DENIED and value is not None:
        return (
            f"PRAGMA {name} = {value} is refused: inside a transaction it would end its safety.",
            OUTSIDE,
        )
    return sqlite3.SQLITE_OK
