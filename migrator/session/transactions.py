"""
Emulate the transaction control of `sqlite3` with a savepoint.

It follows https://docs.python.org/3/library/sqlite3.html#transaction-control, inside a
transaction that only the run ends.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Self

from migrator.session.noting import real_in_transaction
from migrator.session.recording import LEGACY, RecordingConnection

RESERVED = "_migrator"
"""The prefix of this program's own savepoints."""

TX = f"{RESERVED}_tx"
_LEVELS = ("", "DEFERRED", "IMMEDIATE", "EXCLUSIVE")


class EmulatingConnection(RecordingConnection):
    """
    A connection whose commits and rollbacks stay inside the real transaction.

    `commit()`, `rollback()`, `with conn:`, `isolation_level`, `autocommit`,
    `executescript()`, `BEGIN` and `COMMIT` act on one savepoint, opened where
    Python, or SQLite, would have begun a transaction.
    """

    _level: str | None
    _control: int
    _open: bool
    _by_savepoint: bool
    _in_script: bool
    _savepoints: list[str]
    _savepoint: tuple[str, str] | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._engine = 0
        self._forget_transaction()
        super().__init__(*args, **kwargs)
        self._raw = sqlite3.Cursor(self)

    @property
    def in_transaction(self) -> bool:
        """Whether Python's own connection would be inside a transaction."""
        return self._open and real_in_transaction(self)

    @property
    def isolation_level(self) -> Any:
        """The emulated isolation level; None never begins a transaction."""
        return self._level

    @isolation_level.setter
    def isolation_level(self, level: str | None) -> None:
        if level is None:
            self.commit()
        elif not isinstance(level, str):
            msg = "isolation_level must be str or None"
            raise TypeError(msg)
        elif level.upper() not in _LEVELS:
            msg = "isolation_level string must be '', 'DEFERRED', 'IMMEDIATE', or 'EXCLUSIVE'"
            raise ValueError(msg)
        self._level = None if level is None else level.upper()

    if sys.version_info >= (3, 12):

        @property
        def autocommit(self) -> int:
            """The emulated `autocommit`: the legacy control, True or False."""
            return self._control

        @autocommit.setter
        def autocommit(self, value: int) -> None:
            if value is not True and value is not False and value != LEGACY:
                msg = "autocommit must be True, False, or sqlite3.LEGACY_TRANSACTION_CONTROL"
                raise ValueError(msg)
            self._control = value
            if value is True:
                self._leave()
            elif value is False:
                self._enter()

    def commit(self) -> None:
        """Keep the changes since the last commit; the run itself commits later."""
        self._check_alive()
        if self._control is not True:
            self._leave()
        # With `autocommit=False` a transaction is always open (PEP 249), so begin the next one.
        if self._control is False:
            self._enter()

    def rollback(self) -> None:
        """Undo the changes since this migration's last commit."""
        if self._control is not True and real_in_transaction(self):
            self._check_alive()
            self._leave(undo=True)
            if self._control is False:
                self._enter()

    def __enter__(self) -> Self:
        """Return the connection, as `sqlite3` does."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> Literal[False]:
        """Commit, or roll back after an exception or a commit that failed."""
        if kind is not None:
            self.rollback()
            return False
        try:
            self.commit()
        except BaseException:
            self.rollback()
            raise
        return False

    def _enter(self) -> None:
        """Open the savepoint that acts as a transaction."""
        if not self._open:
            self._execute(f"SAVEPOINT {TX}")
            self._open = True

    def _leave(self, *, undo: bool = False) -> None:
        """Close the savepoint that acts as a transaction."""
        if not self._open:
            return
        if undo:
            self._execute(f"ROLLBACK TO {TX}")
            # Whatever was recorded since then may be undone: look before the next change.
            self.record.ledger.doubtful = True
        self._execute(f"RELEASE {TX}")
        self._open = self._by_savepoint = False
        self._savepoints.clear()

    def _forget_transaction(self) -> None:
        """Reset the emulation to that of a new connection."""
        self._level = ""
        self._control = LEGACY
        self._open = self._by_savepoint = self._in_script = False
        self._savepoints = []
        self._savepoint = None

    def _before(self, statement: str, keyword: str | None = None) -> None:
        if self._engine or not isinstance(statement, str):
            return
        self._guard()
        self._savepoint = None
        record = self.record
        record.begin(statement, keyword)
        if record.command == "ALTER":
            self._names = self._read_names(statement)
        if (prepare := _PREPARE.get(record.keyword)) is not None:
            getattr(self, prepare)()

    def _begins(self) -> bool:
        """Tell whether Python would begin a transaction before an INSERT, and the like."""
        return (
            not self._open
            and self._level is not None
            and self._control == LEGACY
            and not self._in_script
        )

    def _before_dml(self) -> None:
        if self._begins():
            self._check_alive()
            self._enter()

    def _before_begin(self) -> None:
        self._check_alive()
        # SQLite's own message, since migrations may look at it.
        if self._open:
            msg = "cannot start a transaction within a transaction"
            raise sqlite3.OperationalError(msg)
        self._enter()

    def _before_commit(self) -> None:
        self._check_alive()
        self._leave()

    def _before_savepoint(self) -> None:
        # Outside of a transaction a savepoint begins one, and ends it.
        if not self._open:
            self._check_alive()
            self._enter()
            self._by_savepoint = True

    def _before_vacuum(self) -> None:
        """Handle a statement that cannot run in a transaction, before it does."""

    def _before_pragma(self) -> None:
        """Handle a statement that SQLite may ignore in a transaction, before it does."""

    def _after(self) -> None:
        if self._engine:
            return
        super()._after()
        if self._savepoint is not None:
            (what, name), self._savepoint = self._savepoint, None
            self._follow_savepoint(what, name)

    def _follow_savepoint(self, what: str, name: str) -> None:
        """Track the migration's open savepoints after a statement about them."""
        if what == "BEGIN":
            self._savepoints.append(name)
            return
        if name not in self._savepoints:
            return
        at = len(self._savepoints) - 1 - self._savepoints[::-1].index(name)
        del self._savepoints[at + (what == "ROLLBACK") :]
        if self._by_savepoint and not self._savepoints:
            self._leave()

    def _commit_before_script(self) -> None:
        if self._control == LEGACY:
            self.commit()

    @contextmanager
    def _as_script(self) -> Iterator[None]:
        before, self._in_script = self._in_script, True
        try:
            yield
        finally:
            self._in_script = before

    def _check_alive(self) -> None:
        """Raise if the real transaction has ended."""

    def _guard(self) -> None:
        """Raise if SQLite must not execute anything."""

    def _look(self, statement: str) -> list[Any]:
        factory, self.text_factory = self.text_factory, str
        try:
            return self._execute(statement)
        finally:
            self.text_factory = factory

    @contextmanager
    def _unasked(self) -> Iterator[None]:
        self._engine += 1
        try:
            yield
        finally:
            self._engine -= 1

    def _execute(self, statement: str) -> list[Any]:
        """Execute a statement of the engine's own, unrecorded."""
        self._engine += 1
        try:
            return self._raw.execute(statement).fetchall()
        finally:
            self._engine -= 1


_PREPARE = {
    **dict.fromkeys(("INSERT", "UPDATE", "DELETE", "REPLACE"), "_before_dml"),
    **dict.fromkeys(("COMMIT", "END"), "_before_commit"),
    "BEGIN": "_before_begin",
    "SAVEPOINT": "_before_savepoint",
    "VACUUM": "_before_vacuum",
    "PRAGMA": "_before_pragma",
}
