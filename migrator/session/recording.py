"""
A SQLite connection for migrations: `sqlite3.Connection`, with its statements recorded.

Way B runs migrations on it as it is; way A's guarded connection (`migrator.session.guard`) is
built on it.
"""
# ruff: noqa: SLF001  # a cursor and its connection are one thing

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, Self

from migrator.parsing import sql
from migrator.session.noting import DELETE, NotingConnection, real_in_transaction, total_changes
from migrator.session.together import batches
from migrator.statement import Statement

_NEEDS_AFTER = frozenset(("ALTER", "SAVEPOINT", "RELEASE", "ROLLBACK"))

_REPEATED = frozenset(("INSERT", "REPLACE", "UPDATE", "SELECT"))
_MOST_KNOWN = 128
"""Statements that a connection keeps prepared, as many as Python's own does."""

LEGACY = -1
"""`sqlite3.LEGACY_TRANSACTION_CONTROL`, which Python 3.11 does not know."""

# Looked up once, since a migration may execute a million statements.
_execute = sqlite3.Cursor.execute
_executemany = sqlite3.Cursor.executemany
_executescript = sqlite3.Cursor.executescript
_cursor = sqlite3.Connection.cursor
_prepare: Callable[[sqlite3.Connection, str], Any] = sqlite3.Connection.__call__


class RecordingCursor(sqlite3.Cursor):
    """A cursor that notes its statements in its connection's record."""

    connection: RecordingConnection

    def execute(self, statement: str, parameters: Any = (), /) -> Self:
        """Execute one statement, as `sqlite3.Cursor.execute` does."""
        connection = self.connection
        known = connection._known.get(statement) if type(statement) is str else None
        # A traceback keeps what its frames hold, and such a statement the connection open.
        if known is None or not connection._may_repeat():
            del known
            connection._wanted = statement
            try:
                connection._run(self, statement, parameters)
                connection._learn(statement)
            finally:
                connection._wanted = connection._made = None
            return self
        record = connection.record
        outer = record.asked
        connection._ready, keyword = known
        del known
        try:
            record.begin(statement, keyword)
            _execute(self, statement, parameters)
        except Exception as error:
            connection._keep_part(0)
            connection._failed(error)
            raise
        finally:
            record.asked = outer
            connection._ready = None
        return self

    def executemany(self, statement: str, parameters: Iterable[Any], /) -> Self:
        """Execute one statement for each set of parameters, in one call of SQLite's C layer."""
        connection = self.connection
        connection._run(self, statement, connection._watched(parameters), call=_executemany)
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
    """Refuse what `sqlite3`'s own `executescript` refuses, with the same message."""
    if not isinstance(script, str):
        msg = f"executescript() argument must be str, not {type(script).__name__}"
        raise TypeError(msg)
    if "\0" in script:
        msg = "embedded null character"
        raise ValueError(msg)


class RecordingConnection(NotingConnection):
    """
    A connection that notes in `record` what is done through it.

    `measure` executes each statement instead of the connection, where a rehearsal measures.
    `together` says that SQLite may be given many alike statements of a script in one call.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._factories: dict[type, type] = {}
        self.measure: Callable[[RecordingCursor, Any, Any, Callable[..., object]], None] | None
        self.measure = None
        self.together = False
        self._known: dict[str, tuple[Any, str]] = {}
        self._wanted: Any = None
        self._made: Any = None
        self._ready: Any = None
        self._lent = False
        self._lending = threading.RLock()
        super().__init__(*args, **kwargs)

    @contextmanager
    def lent(self) -> Iterator[Self]:
        """Within, a migration uses the connection, and its threads may interrupt it."""
        with self._lending:
            self._lent = True
        try:
            yield self
        finally:
            with self._lending:
                self._lent = False

    def interrupt(self) -> None:
        """Interrupt the running statement, if it can be a migration's."""
        # A thread may go on calling it; after the migration, the statements are the engine's.
        with self._lending:
            if self._lent:
                super().interrupt()

    def cursor(self, factory: Any = RecordingCursor) -> Any:
        """Return a cursor; a given factory must be a subclass of `sqlite3.Cursor`."""
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

    def _replaced(self) -> None:
        self.record.replaced = True

    def deserialize(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: later changes would be made in memory only, and lost."""
        msg = "A migration may not call deserialize(): another database would take its place."
        raise sqlite3.NotSupportedError(msg)

    def run_statements(self, statements: Iterable[Statement]) -> None:
        """
        Execute the statements of a script in order, without beginning a transaction for them.

        After a failure `record.failed` has the line.
        """
        cursor = self.cursor()
        together = self.together and self.measure is None
        with self._as_script():
            for batch in batches(statements) if together else zip(statements):
                if len(batch) > 1:
                    self._run_together(cursor, batch)
                else:
                    self._run_alone(cursor, batch[0])

    def _run_alone(self, cursor: RecordingCursor, statement: Statement) -> None:
        """Execute one statement of a script."""
        self.record.line = statement.line
        try:
            self._run(cursor, statement.text, (), statement.keyword)
            if cursor.description is not None:
                self._drain(cursor)
        finally:
            self.record.line = None

    def _run_together(self, cursor: RecordingCursor, batch: Sequence[Statement]) -> None:
        """Execute alike statements in one call of SQLite's C layer."""
        record = self.record
        outer = record.asked
        try:
            self._before(batch[0].text, batch[0].keyword)
            record.together = True
            # It begins with a COMMIT, which the authorizer of a guarded connection ignores.
            _executescript(cursor, "".join([each.text for each in batch]))
        except Exception as error:
            failing = self._failing(batch, error)
            record.line = failing.line
            record.begin(failing.text, failing.keyword)
            self._keep_part(0)
            self._failed(error)
            raise
        finally:
            record.together = False
            record.asked = outer
            record.line = None

    def _failing(self, batch: Sequence[Statement], error: Exception) -> Statement:
        """
        Return the statement of a batch that has failed.

        SQLite asks about each as it prepares it, the same question first, so that their number
        says how far it has come. Text that is not SQL fails before its question.
        """
        asked = self.record.asked or ()
        begun = asked.count(asked[0]) if asked else 0
        if begun == 0 or (begun < len(batch) and self._fails_unasked(batch[begun], error)):
            return batch[begun]
        return batch[begun - 1]

    def _fails_unasked(self, statement: Statement, error: Exception) -> bool:
        """Tell whether a statement fails with this error before SQLite has a question about it."""
        if not real_in_transaction(self):
            return False
        self.record.asked = []
        try:
            _prepare(self, statement.text)
        except sqlite3.Error as found:
            return not self.record.asked and str(found) == str(error)
        return False

    def _run(
        self,
        cursor: RecordingCursor,
        statement: str,
        parameters: Any,
        keyword: str | None = None,
        call: Callable[..., object] = _execute,
    ) -> None:
        """
        Execute a statement, and note what it is and what it does.

        Args:
            cursor: The cursor that executes it.
            statement: Its text.
            parameters: What `call` takes.
            keyword: Its first word in upper case, where it is known.
            call: `execute` or `executemany` of `sqlite3`.
        """
        record = self.record
        # A function that SQL calls may execute a statement within this one.
        outer, before = record.asked, 0
        try:
            before = total_changes(self)
            self._before(statement, keyword)
            if self.measure is None:
                call(cursor, statement, parameters)
            else:
                self.measure(cursor, statement, parameters, call)
            asked = record.asked
            if record.command in _NEEDS_AFTER or (asked and asked[0][0] == DELETE):
                self._after()
        except Exception as error:
            self._keep_part(before)
            self._failed(error)
            raise
        finally:
            record.asked = outer

    def _drain(self, cursor: sqlite3.Cursor) -> None:
        """Run a query to its end: it may write with each row."""
        try:
            deque(cursor, maxlen=0)
        except Exception as error:
            self._failed(error)
            raise

    def _recording(self, factory: Any) -> type[RecordingCursor]:
        """Return a subclass of a cursor class that records."""
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

    def __call__(self, statement: str, /) -> Any:
        """Prepare a statement, as `sqlite3` asks for it at each execution, since it caches none."""
        ready, self._ready = self._ready, None
        if ready is None:
            ready = _prepare(self, statement)
            if statement is self._wanted:
                self._made = ready
        return ready

    def _may_repeat(self) -> bool:
        """Tell whether a known statement can be executed as it was prepared, and nothing before."""
        return not self.record.ledger.open

    def _learn(self, statement: str) -> None:
        """
        Keep a statement that has been executed prepared, if nothing of it is ever to be noted.

        SQLite would ask the same about the next one with that text, unless the schema has
        changed: then it asks by itself.
        """
        record = self.record
        # Of the engine's own statements the record knows nothing.
        if self._made is None or record.text is not statement or record.keyword not in _REPEATED:
            return
        if self.measure is not None:
            return
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[statement] = self._made, record.keyword

    def forget_statements(self) -> None:
        """Let go of the statements that are kept prepared: they keep a connection open."""
        self._known.clear()

    def _watched(self, parameters: Iterable[Any]) -> Iterable[Any]:
        """Return the parameters of an `executemany`; a subclass watches them."""
        return parameters

    def _commit_before_script(self) -> None:
        """Commit if `sqlite3`'s own `executescript` would."""
        if getattr(self, "autocommit", LEGACY) == LEGACY:
            self.commit()

    @contextmanager
    def _as_script(self) -> Iterator[None]:
        """Within, no transaction is begun for an INSERT, UPDATE, DELETE or REPLACE."""
        level = self.isolation_level
        # With `autocommit` set, the level has no effect, and changing it commits.
        if level is None or getattr(self, "autocommit", LEGACY) != LEGACY:
            yield
            return
        self.isolation_level = None
        try:
            yield
        finally:
            self.isolation_level = level
