"""What a migration does to a database, statement by statement and table by table."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from migrator.parsing import sql
from migrator.session.changes import DROPS, Dropped, Ledger, Question, Renamed
from migrator.sqlite import fold

_REMEMBERED = 32
_WRITES = frozenset((sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE))
_CREATES = frozenset((sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_VTABLE))
_ENDS = frozenset((sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT))
_EXPLAINED: tuple[Question, ...] = ()
_QUERIES = frozenset(("SELECT", "WITH", "VALUES", "PRAGMA", "EXPLAIN"))
_MAY_RETURN = frozenset(("INSERT", "REPLACE", "UPDATE", "DELETE"))


@dataclass(frozen=True, slots=True)
class FailedStatement:
    """
    A statement that raised.

    `line` is its line in its script, None for a statement that was executed alone.
    """

    text: str
    error: BaseException
    line: int | None = None


class Record:
    """
    What one migration did, until `reset()`.

    Attributes:
        text: The statement being executed, or executed last; None before the first.
        keyword: Its first word in upper case.
        failed: The statement that raised last.
        command: The same, after leading semicolons, which SQLite skips and Python does not.
        failed: The statement that raised last.
        written: Tables that rows were inserted into, updated in or deleted from.
        defined: Tables that were created or dropped, or altered out of sight of the ledger.
        schema_written: Whether the migration may have written to `sqlite_schema` itself.
        replaced: Whether it may have replaced a function or collation of SQLite's own.
        lasting: Whether it has asked for a pragma or for something temporary: what such a
            statement changes is the connection's, not the database's.
        ledger: What it deleted itself, dropped and renamed, and what was not rolled back.
        asked: SQLite's relevant questions about the writes of the running statement;
            None if a cursor that does not record executes it.
        together: Whether it is many statements, and all questions about them are relevant.
    """

    __slots__ = (
        "asked",
        "command",
        "defined",
        "failures",
        "keyword",
        "lasting",
        "ledger",
        "line",
        "replaced",
        "schema_written",
        "text",
        "together",
        "unheard",
        "written",
    )

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.asked: list[Question] | tuple[Question, ...] | None = None
        self.together = False
        self.reset()

    def reset(self) -> None:
        """Forget everything, for the next migration."""
        self.text: str | None = None
        self.keyword = self.command = ""
        self.line: int | None = None
        self.failures: deque[FailedStatement] = deque(maxlen=_REMEMBERED)
        self.written: set[str] = set()
        self.defined: set[str] = set()
        self.unheard: list[Dropped] = []
        self.schema_written = self.replaced = self.lasting = False
        self.ledger.clear()

    @property
    def failed(self) -> FailedStatement | None:
        """The statement that raised last."""
        return self.failures[-1] if self.failures else None

    @property
    def suspect(self) -> bool:
        """Whether the migration may have misled SQLite's own checks."""
        return self.replaced or self.schema_written

    @property
    def renames(self) -> list[tuple[str, str]]:
        """Old and new name of each renamed table, in order."""
        return [(each.table, each.new) for each in self.ledger if isinstance(each, Renamed)]

    def begin(self, text: str, keyword: str | None = None) -> None:
        """Note the statement that is executed from now on, and its first word if that is known."""
        # A loop executes the same string again: look at it once.
        if text is not self.text:
            self.text = text
            self.keyword = sql.keyword(text) if keyword is None else keyword
            self.command = self.keyword or sql.command(text)
        self.asked = [] if self.command != "EXPLAIN" else _EXPLAINED

    def fail(self, error: BaseException) -> FailedStatement:
        """Note that the statement raised; returns the note."""
        failure = FailedStatement(str(self.text or ""), error, self.line)
        self.failures.append(failure)
        return failure

    def authorize(
        self, action: int, first: str | None, second: str | None, schema: str | None, by: str | None
    ) -> None:
        """Note a question to SQLite's authorizer; `by` is the trigger or view that does it."""
        if self.together and self._is_next((action, first, schema, by)):
            return
        self.lasting |= schema == "temp"
        if action in _WRITES:
            if schema == "main" and first is not None:
                self.written.add(first)
            self._note(action, first, schema, by)
        elif action in DROPS:
            self._note_drop(first, schema)
            self._note(action, first, schema, by)
        elif action in _CREATES and schema == "main" and first is not None:
            self.defined.add(first)
        elif action == sqlite3.SQLITE_ALTER_TABLE and first == "main" and second is not None:
            self._altered(second)
        elif action in _ENDS:
            self.ledger.doubtful = True
        elif action == sqlite3.SQLITE_PRAGMA:
            self.lasting = True
            self.schema_written |= second is not None and fold(first or "") == "writable_schema"

    def _is_next(self, question: Question) -> bool:
        """Note the question with which the next of many alike begins: all of it is known."""
        asked = self.asked
        if not isinstance(asked, list) or not asked or asked[0] != question:
            return False
        asked.append(question)
        return True

    def _note_drop(self, table: str | None, schema: str | None) -> None:
        if schema == "main" and table is not None:
            self.defined.add(table)
            if self.asked is None:
                self.unheard.append(Dropped(table))

    def _altered(self, table: str) -> None:
        """Note an `ALTER TABLE`: it keeps all rows, and of a renaming the ledger knows."""
        if self.asked is None or self.command != "ALTER":
            self.defined.add(table)

    def _note(self, action: int, table: str | None, schema: str | None, by: str | None) -> None:
        """Keep all questions about a statement that deletes, and the first about any other."""
        asked = self.asked
        if isinstance(asked, list) and (
            not asked or self.together or asked[0][0] == sqlite3.SQLITE_DELETE
        ):
            asked.append((action, table, schema, by))

    def blame(self, error: BaseException) -> FailedStatement | None:
        """
        Find the statement behind an exception, and the error to report.

        Follow the causes of the exception. If a rollback failed, or was refused, while an
        earlier error was being handled, report the earlier one.

        Returns:
            None if no statement is behind the exception.
        """
        known = {id(failure.error): failure for failure in self.failures}
        found = [known[id(link)] for link in chain(error) if id(link) in known]
        telling = [failure for failure in found if sql.keyword(failure.text) != "ROLLBACK"]
        if telling or found:
            return (telling or found)[0]
        if self.text is None or not self._gives_rows():
            return None  # another connection's, or an earlier query's: its text is not known
        for link in chain(error):
            # Raised while rows were fetched, long after `execute` had returned.
            if isinstance(link, sqlite3.Error):
                return FailedStatement(self.text, link, self.line)
        return None

    def _gives_rows(self) -> bool:
        """Tell whether the last statement may have had rows to fetch."""
        returning = "RETURNING" in str(self.text).upper()
        return self.keyword in _QUERIES or (self.keyword in _MAY_RETURN and returning)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and its causes, the latest first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        hidden = None if error.__suppress_context__ else error.__context__
        error = error.__cause__ or hidden
