"""
A SQLite connection that keeps a record of what is done through it.

The `Record` has which statement is running or has failed, and which tables were written,
deleted from, dropped, altered and renamed, by the questions of SQLite's authorizer
(https://sqlite.org/c3ref/c_alter_table.html).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from migrator.parsing.header_pragmas import Setting, setting
from migrator.session import changes
from migrator.session.changes import Change
from migrator.session.functions import RegisteringConnection
from migrator.session.record import Record
from migrator.sqlite import fold

DELETE = sqlite3.SQLITE_DELETE

real_in_transaction: Callable[[sqlite3.Connection], bool] = (
    sqlite3.Connection.in_transaction.__get__
)
"""SQLite's own answer, whatever a subclass tells its migrations."""

# Looked up once, since a migration may execute a million statements.
total_changes: Callable[[sqlite3.Connection], int] = sqlite3.Connection.total_changes.__get__

_TABLES = "SELECT rowid, name FROM main.sqlite_schema WHERE type = 'table'"
_VIEWS = (
    "SELECT type, name, tbl_name FROM main.sqlite_schema WHERE type IN ('trigger', 'view')"
    " UNION ALL"
    " SELECT type, name, tbl_name FROM sqlite_temp_master WHERE type IN ('trigger', 'view')"
)


class NotingConnection(RegisteringConnection):
    """
    A connection whose `record` is kept by `_before` and `_after` each statement.

    `asked` holds the settings of the database's header that a migration asked for, by name.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.record = Record()
        self.asked: dict[str, Setting] = {}
        self._names: dict[int, str] = {}
        self._looking = False
        super().__init__(*args, **kwargs)
        self._install_authorizer()

    def set_authorizer(self, authorizer_callback: Any) -> None:
        """Let a migration's own authorizer decide, and keep recording."""
        record = self.record.authorize

        def authorize(*question: Any) -> Any:
            if self._looking:
                return sqlite3.SQLITE_OK
            record(*question)
            return authorizer_callback(*question)

        if authorizer_callback is None:
            self._install_authorizer()
        else:
            super().set_authorizer(authorize)

    def _install_authorizer(self) -> None:
        record = self.record.authorize

        def authorize(*question: Any) -> int:
            if not self._looking:
                record(*question)
            return sqlite3.SQLITE_OK

        super().set_authorizer(authorize)

    def _before(self, statement: str, keyword: str | None = None) -> None:
        """Prepare for a statement that is about to be executed."""
        record = self.record
        if not isinstance(statement, str):
            return
        if record.ledger.open and not real_in_transaction(self):
            # `PRAGMA temp_store` outside of a transaction deletes the ledger's stored number.
            self._settle()
        record.begin(statement, keyword)
        if record.command == "ALTER":
            self._names = self._read_names(statement)
        elif record.command == "PRAGMA" and (made := setting(statement)) is not None:
            self.asked[made.name] = made

    def _after(self) -> None:
        """Note what an executed statement dropped, renamed or deleted."""
        record = self.record
        asked = tuple(record.asked or ())
        if record.command == "ALTER" and self._names:
            renamed = [*changes.renames(self._names, self._read_names(record.text or ""))]
            self._names = {}
            if renamed:
                self._keep(renamed)
        elif asked and asked[0][0] == DELETE and not record.ledger.knows(asked):
            found = [*changes.of_statement(asked, self._read_views)]
            if found:
                self._keep(found, None if isinstance(found[0], changes.Dropped) else asked)

    def _keep_part(self, before: int) -> None:
        """
        Note a failed `DELETE` that kept a part of its work, as after `RAISE(FAIL)`.

        `total_changes` counts what a failing statement has kept.
        """
        record = self.record
        record.ledger.doubtful = True
        if not record.asked or record.asked[0][0] != DELETE:
            return
        with suppress(sqlite3.Error):
            if real_in_transaction(self) and total_changes(self) != before:
                self._after()

    def _keep(self, found: Sequence[Change], reason: object = None) -> None:
        """Record changes, and store their number in SQLite."""
        ledger = self.record.ledger
        # What was rolled back must go first, or the new number would confirm it.
        if ledger.doubtful or self.record.unheard:
            self._settle()
        number = ledger.add(found, reason)
        if real_in_transaction(self):
            self._look(f"{changes.PLACE} = {number}")
        else:
            ledger.finish()

    def _settle(self) -> None:
        """Remove the changes that SQLite has rolled back."""
        ledger = self.record.ledger
        if ledger.open:
            found = self._look(changes.PLACE)
            ledger.confirm(found[0][0], final=not real_in_transaction(self))
        ledger.doubtful = False
        unheard, self.record.unheard = self.record.unheard, []
        if unheard:
            self._keep(unheard)

    def _look(self, statement: str) -> list[Any]:
        """Execute a statement of the engine's own, unrecorded."""
        factory, self.text_factory = self.text_factory, str
        self._looking = True
        try:
            return sqlite3.Cursor(self).execute(statement).fetchall()
        finally:
            self._looking = False
            self.text_factory = factory

    def plan(self, statement: str, parameters: Any) -> list[str]:
        """Return the lines of SQLite's plan for a statement that is about to be executed."""
        factories = self.row_factory, self.text_factory
        self.row_factory, self.text_factory = None, str
        try:
            with self._unasked():
                found = sqlite3.Cursor(self).execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
                return [str(row[3]) for row in found.fetchall()]
        finally:
            self.row_factory, self.text_factory = factories

    @contextmanager
    def _unasked(self) -> Iterator[None]:
        """Within, nothing of what SQLite asks the authorizer is recorded."""
        self._looking = True
        try:
            yield
        finally:
            self._looking = False

    def _read_names(self, statement: str) -> dict[int, str]:
        """Return the tables' names by rowid in the schema; empty for any other statement."""
        # Reading all names costs time, and most statements rename nothing.
        if "RENAME" not in statement.upper():
            return {}
        with suppress(sqlite3.Error):
            return dict(self._look(_TABLES))
        return {}

    def _read_views(self) -> dict[str, set[str]]:
        """Return which views a trigger of a name belongs to, all folded."""
        rows = [(kind, fold(name), fold(table)) for kind, name, table in self._look(_VIEWS)]
        views = {name for kind, name, _ in rows if kind == "view"}
        found: dict[str, set[str]] = {}
        for kind, name, table in rows:
            if kind == "trigger" and table in views:
                found.setdefault(name, set()).add(table)
        return found

    def _failed(self, error: Exception) -> None:
        """Note that the statement raised, or raise a better error."""
        self.record.fail(error)


def settle(conn: NotingConnection) -> None:
    """Bring a migration's record up to date before its connection is closed."""
    conn._settle()  # noqa: SLF001 - the record is the connection's own
