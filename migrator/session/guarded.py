"""
The connection that migrations get inside the run's one transaction.

It looks like Python's own connection. It refuses what would end the real transaction, or
do something that a rollback cannot undo.
"""

from __future__ import annotations

import sqlite3
import sys
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from migrator.database import connecting
from migrator.database.sqlite_locks import SqliteLocks
from migrator.parsing.header_pragmas import setting
from migrator.session import authorizer
from migrator.session.authorizer import RefusedError
from migrator.session.noting import real_in_transaction
from migrator.session.record import FailedStatement
from migrator.session.reset import ConnectionSettings, close_cursors, drop_temporary
from migrator.session.transactions import TX, EmulatingConnection
from migrator.sqlite import fold

_ENABLE_FKEY, _RESET_DATABASE = 1002, 1009
_OURS = (
    "The connection belongs to the run, which closes it and has made a backup already;"
    " leave that to it, or open a connection of your own to another file."
)
_ONLY_HERE = "Use the connection that a migration is given, and open the database in no other way."


class GuardedConnection(EmulatingConnection):
    """
    The connection as migrations see it.

    SQLite asks the authorizer about each statement again (`cached_statements=0`), so
    that nothing is executed any more once SQLite has ended the real transaction by itself.

    Attributes:
        refused: The first refusal, even if the migration swallowed the exception.
        ended_by: The statement at which SQLite ended the transaction.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.refused: RefusedError | None = None
        self.ended_by: FailedStatement | None = None
        self._running = False
        self._forked = False
        self._locks: SqliteLocks | None = None
        self._pending: RefusedError | None = None
        self._blobs: list[weakref.ref[sqlite3.Blob]] = []
        self._like_set = False
        super().__init__(*args, **kwargs)

    # --- each statement -----------------------------------------------------

    def _guard(self) -> None:
        self._pending = None
        # Checked before each statement, so that SQLite never writes without its locks. Within a
        # script nothing but SQL runs between two of them.
        if self._has_lost_locks(lately=self._in_script):
            raise self._end_of_run()

    def _may_repeat(self) -> bool:
        return (
            (self._open or not self._begins())
            and not (self._engine or self._forked or self._pending)
            and real_in_transaction(self)
            and (self._locks is None or self._locks.held_lately())
        )

    def _before_vacuum(self) -> None:
        raise self._refusal(*authorizer.VACUUM, self.record.text)

    def _before_pragma(self) -> None:
        made = setting(self.record.text or "")
        if made is None:
            return
        now = self._look(f"PRAGMA {made.name}")[0][0]
        if not made.holds(now):
            raise self._refusal(*authorizer.unset(made, now), self.record.text)

    def _failed(self, error: Exception) -> None:
        if self._engine:
            return
        refusal, self._pending = self._pending, None
        if refusal is not None and refusal is not error:
            self.record.fail(refusal)
            raise refusal from error
        failure = self.record.fail(error)
        if not isinstance(error, RefusedError) and self._has_ended():
            self.ended_by = self.ended_by or failure

    def _watched(self, parameters: Iterable[Any]) -> Iterable[Any]:
        # Code that runs between two rows may make SQLite end the transaction,
        # and a statement that is prepared already is not asked about again.
        if self._engine or type(parameters) in (list, tuple):
            return parameters
        return self._while_alive(parameters)

    def _while_alive(self, parameters: Iterable[Any]) -> Iterator[Any]:
        for row in parameters:
            self._check_alive()
            yield row

    # --- what is refused ----------------------------------------------------

    def _install_authorizer(self) -> None:
        sqlite3.Connection.set_authorizer(self, self._authorize)

    def _authorize(
        self, action: int, first: str | None, second: str | None, schema: str | None, by: str | None
    ) -> int:
        if self._engine:
            return sqlite3.SQLITE_OK
        locks, record = self._locks, self.record
        # Before each of the statements that are executed together nobody else looks.
        lost = locks is not None and (not locks.held_lately() if record.together else locks.gone)
        if lost or self._forked or not real_in_transaction(self):
            self._pending = self._pending or self._end_of_run()
            return sqlite3.SQLITE_DENY
        if action in authorizer.FREE:
            return sqlite3.SQLITE_OK
        record.authorize(action, first, second, schema, by)
        if action in authorizer.RECORDED:
            return sqlite3.SQLITE_OK
        decision = authorizer.decide(action, first, second)
        if isinstance(decision, tuple):
            self._pending = self._refusal(*decision, self.record.text)
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_SAVEPOINT and first and second:
            self._savepoint = first, fold(second)
        elif action == sqlite3.SQLITE_PRAGMA and first and fold(first) == "case_sensitive_like":
            self._like_set = True
        return decision

    def _refusal(self, message: str, hint: str, statement: str | None = None) -> RefusedError:
        """Remember a refusal: it fails the run even if the error is swallowed."""
        error = RefusedError(message, hint, statement)
        self.refused = self.refused or error
        return error

    def _refuse_method(self, name: str) -> NoReturn:
        error = self._refusal(f"A migration may not call {name}() on the run's connection.", _OURS)
        self.record.failures.append(FailedStatement("", error))
        raise error

    def _has_ended(self) -> bool:
        """Tell whether SQLite has ended the run's transaction by itself."""
        return self._running and not real_in_transaction(self)

    def _check_alive(self) -> None:
        if self._engine:
            return
        if self._forked or not real_in_transaction(self) or self._has_lost_locks():
            raise self._end_of_run()

    def _has_lost_locks(self, *, lately: bool = False) -> bool:
        if self._locks is None or self._forked:
            return False
        return not (self._locks.held_lately() if lately else self._locks.held())

    @property
    def _given_up(self) -> bool:
        """Whether SQLite must not write any more, not even a rollback."""
        return self._locks is not None and self._locks.gone

    def _end_of_run(self) -> RefusedError:
        """Return why this connection cannot be used any more."""
        if self._forked:
            message = "A process that a migration forked may not use the run's connection."
            return RefusedError(message, "Open a connection to another file there.")
        if self._given_up:
            return self._refusal("SQLite's locks on the database are lost.", _ONLY_HERE)
        if not self._running:
            return RefusedError("The run's transaction is not open.", _OURS)
        why = f": {self.ended_by.error}" if self.ended_by is not None else "."
        hint = "Nothing is executed any more: it would be committed at once."
        return RefusedError(f"SQLite ended the transaction{why}", hint)

    def close(self) -> None:
        """Refuse a migration's close; do nothing in a process that it forked."""
        if self._forked or self._given_up:
            return
        if not self._engine:
            self._refuse_method("close")
        # A statement that has failed keeps SQLite's connection open, with its
        # locks, until its cursor is gone; a traceback may keep that one for long.
        with suppress(sqlite3.Error):
            self._raw.close()
        super().close()

    def set_authorizer(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: the run's own authorizer protects its one transaction."""
        self._refuse_method("set_authorizer")

    def deserialize(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: another database would replace the run's."""
        self._refuse_method("deserialize")

    def backup(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: SQLite would wait for ever for the run's own transaction."""
        if not self._engine:
            self._refuse_method("backup")
        super().backup(*args, **kwargs)

    def blobopen(self, *args: Any, **kwargs: Any) -> sqlite3.Blob:
        """Open a blob, and close it when the migration ends."""
        # SQLite opens blobs without asking the authorizer.
        self._check_alive()
        blob = super().blobopen(*args, **kwargs)
        self._blobs.append(weakref.ref(blob))
        return blob

    if sys.version_info >= (3, 12):

        def setconfig(self, op: int, enable: bool = True, /) -> Any:
            """Set a switch until the migration ends; foreign keys stay off, as with the pragma."""
            if op == _RESET_DATABASE and not self._engine:
                self._refuse_method("setconfig(SQLITE_DBCONFIG_RESET_DATABASE)")
            if op != _ENABLE_FKEY or self._engine:
                super().setconfig(op, enable)

    # --- for the engine -----------------------------------------------------

    def _execute(self, statement: str) -> list[Any]:
        self._require_usable()
        return super()._execute(statement)

    def _require_usable(self) -> None:
        """
        Make sure that the engine may still execute anything.

        Raises:
            RefusedError: This is a forked process, or SQLite's locks are gone for good.
        """
        if self._forked or self._given_up:
            raise self._end_of_run()

    @contextmanager
    def _as_engine(self) -> Iterator[None]:
        """Within, refuse and record nothing, and return plain rows."""
        factories = self.row_factory, self.text_factory
        self.row_factory, self.text_factory = None, str
        self._engine += 1
        try:
            yield
        finally:
            self._engine -= 1
            self.row_factory, self.text_factory = factories

    def _prepare_for(self, row_factory: Any) -> None:
        """Make the connection like new."""
        self._forget_transaction()
        self._pending = None
        self._like_set = False
        self.row_factory, self.text_factory = row_factory, str

    def _close_handles(self) -> None:
        """Close the cursors, statements and blobs that a migration has left open."""
        close_cursors(self, self._raw)
        self.forget_statements()
        blobs, self._blobs = self._blobs, []
        for blob in filter(None, (reference() for reference in blobs)):
            blob.close()

    def _take_back(self, baseline: ConnectionSettings, *, last: bool = False) -> None:
        """Undo a migration's changes to the connection itself; `last` if no migration follows."""
        self.set_progress_handler(None, 0)
        self.set_trace_callback(None)
        self._install_authorizer()
        if hasattr(self, "enable_load_extension"):
            self.enable_load_extension(False)  # noqa: FBT003  # its only argument
        with self._as_engine():
            baseline.put_back(like=self._like_set)
            self._end_transaction()
            drop_temporary(self._raw)
            self.registrations.take_back(self, everything=False)
            if self.registrations and not last:
                connecting.prepare(self)

    def _end_transaction(self) -> None:
        """Close the savepoint that a migration left open, and its own savepoints with it."""
        if self._open:
            self._execute(f"RELEASE {TX}")
        self._prepare_for(None)
