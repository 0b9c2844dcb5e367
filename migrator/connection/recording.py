"""
A SQLite connection that remembers what is done through it.

It behaves as `sqlite3.Connection` does. What it adds is a `Record`: which
statement is running or has failed, and which tables were written, deleted
from, dropped, altered and renamed, as SQLite's authorizer tells
(https://sqlite.org/c3ref/c_alter_table.html). Way B runs migrations on it as
it is; way A's guarded connection (`migrator.connection.guard`) is built on it.
"""
# ruff: noqa: SLF001  # a cursor and its connection are one thing

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, Self

from migrator.connection.record import FailedStatement, Record, fold, is_disk_error, quoted
from migrator.definitions import sql
from migrator.model import Statement

__all__ = [
    "LEGACY",
    "FailedStatement",
    "Record",
    "RecordingConnection",
    "RecordingCursor",
    "fold",
    "is_disk_error",
    "quoted",
    "real_in_transaction",
]

_NEEDS_AFTER = frozenset(("ALTER", "SAVEPOINT", "RELEASE", "ROLLBACK"))

LEGACY = -1
"""`sqlite3.LEGACY_TRANSACTION_CONTROL`, which Python 3.11 does not know."""

_WRITES = frozenset((sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE))
_DROPS = frozenset((sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_DROP_VTABLE))

real_in_transaction: Callable[[sqlite3.Connection], bool] = (
    sqlite3.Connection.in_transaction.__get__
)
"""Ask SQLite itself, whatever a subclass tells its migrations."""


# Looked up once: a migration may execute a million statements.
_execute = sqlite3.Cursor.execute
_executemany = sqlite3.Cursor.executemany
_cursor = sqlite3.Connection.cursor


class RecordingCursor(sqlite3.Cursor):
    """A cursor whose statements are noted in its connection's record."""

    connection: RecordingConnection

    def execute(self, statement: str, parameters: Any = (), /) -> Self:
        """Execute one statement, as `sqlite3.Cursor.execute` does."""
        connection = self.connection
        try:
            connection._before(statement)
            _execute(self, statement, parameters)
            if connection.record.keyword in _NEEDS_AFTER:
                connection._after()
        except Exception as error:
            connection._failed(error)
            raise
        return self

    def executemany(self, statement: str, parameters: Iterable[Any], /) -> Self:
        """Execute one statement for each set of parameters, in one call of SQLite's C layer."""
        connection = self.connection
        try:
            connection._before(statement)
            _executemany(self, statement, connection._watched(parameters))
        except Exception as error:
            connection._failed(error)
            raise
        return self

    def executescript(self, script: str, /) -> Self:
        """
        Execute the statements of a script one by one, after a commit.

        As with `sqlite3`, no transaction is begun for the script, and the
        results of its queries are dropped.
        """
        _check_script(script)
        self.connection._commit_before_script()
        self.connection.run_statements(sql.split_lenient(script))
        return self


def _check_script(script: Any) -> None:
    """Refuse what `sqlite3`'s own `executescript` refuses, in its words."""
    if not isinstance(script, str):
        msg = f"executescript() argument must be str, not {type(script).__name__}"
        raise TypeError(msg)
    if "\0" in script:
        msg = "embedded null character"
        raise ValueError(msg)


class RecordingConnection(sqlite3.Connection):
    """A connection that notes what is done through it in `record`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.record = Record()
        self._factories: dict[type, type] = {}
        super().__init__(*args, **kwargs)
        self._install_authorizer()

    def cursor(self, factory: Any = RecordingCursor) -> Any:
        """Return a cursor; a factory of one's own must be a subclass of `sqlite3.Cursor`."""
        if factory is not RecordingCursor:
            factory = self._recording(factory)
        return super().cursor(factory)

    def execute(self, statement: str, parameters: Any = (), /) -> Any:
        """Execute one statement on a new cursor."""
        return _cursor(self, RecordingCursor).execute(statement, parameters)

    def executemany(self, statement: str, parameters: Iterable[Any], /) -> Any:
        """Execute one statement on a new cursor for each set of parameters."""
        return self.cursor().executemany(statement, parameters)

    def executescript(self, script: str, /) -> Any:
        """Execute the statements of a script on a new cursor."""
        return self.cursor().executescript(script)

    def set_authorizer(self, authorizer_callback: Any) -> None:
        """Let a migration's own authorizer decide; what is done is recorded all the same."""
        record = self.record.authorize

        def authorize(*question: Any) -> Any:
            record(*question)
            return authorizer_callback(*question)

        if authorizer_callback is None:
            self._install_authorizer()
        else:
            super().set_authorizer(authorize)

    def deserialize(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: what is done from then on would be done in memory only, and lost."""
        msg = "A migration may not call deserialize(): another database would take its place."
        raise sqlite3.NotSupportedError(msg)

    def run_statements(self, statements: Iterable[Statement]) -> None:
        """
        Execute statements one by one without beginning a transaction for them.

        What a failing one is called afterwards (`record.failed`) has its line.
        """
        cursor = self.cursor()
        with self._as_script():
            for statement in statements:
                self.record.line = statement.line
                try:
                    cursor.execute(statement.text)
                    self._drain(cursor)
                finally:
                    self.record.line = None

    def _drain(self, cursor: sqlite3.Cursor) -> None:
        """Let a query run to its end: what it does, it does row by row."""
        try:
            deque(cursor, maxlen=0)
        except Exception as error:
            self._failed(error)
            raise

    def _recording(self, factory: Any) -> type[RecordingCursor]:
        """Return a cursor class that is the given one, and records."""
        if not (isinstance(factory, type) and issubclass(factory, sqlite3.Cursor)):
            msg = f"A cursor's factory must be a subclass of sqlite3.Cursor, not {factory!r}."
            raise TypeError(msg)
        if factory is sqlite3.Cursor:
            return RecordingCursor
        if issubclass(factory, RecordingCursor):
            return factory
        if factory not in self._factories:
            bases = (factory, RecordingCursor)
            self._factories[factory] = type(factory.__name__, bases, {})
        return self._factories[factory]

    def _install_authorizer(self) -> None:
        record = self.record.authorize

        def authorize(*question: Any) -> int:
            record(*question)
            return sqlite3.SQLITE_OK

        super().set_authorizer(authorize)

    def _before(self, statement: str) -> None:
        """Prepare for a statement that is about to be executed."""
        if isinstance(statement, str):
            self.record.begin(statement)

    def _after(self) -> None:
        """Note what a statement that has been executed changed beyond rows."""
        self.record.end()

    def _failed(self, error: Exception) -> None:
        """Note that the statement raised, or raise something that says more."""
        self.record.fail(error)

    def _watched(self, parameters: Iterable[Any]) -> Iterable[Any]:
        """Return the sets of parameters of an `executemany`."""
        return parameters

    def _commit_before_script(self) -> None:
        """Commit, where `sqlite3`'s own `executescript` would."""
        if getattr(self, "autocommit", LEGACY) == LEGACY:
            self.commit()

    @contextmanager
    def _as_script(self) -> Iterator[None]:
        """Within, no transaction is begun for an INSERT, UPDATE, DELETE or REPLACE."""
        level = self.isolation_level
        # With `autocommit` set, the level is without effect, and changing it commits.
        if level is None or getattr(self, "autocommit", LEGACY) != LEGACY:
            yield
            return
        self.isolation_level = None
        try:
            yield
        finally:
            self.isolation_level = level
