"""What a migration does to a database, statement by statement and table by table."""

from __future__ import annotations

import sqlite3
import string
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from migrator.definitions import sql

_FOLD = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_DELETING = frozenset(("DELETE", "WITH"))
_REMEMBERED = 32
_SQLITE_IOERR, _SQLITE_FULL = 10, 13

_WRITES = frozenset((sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE))
_DROPS = frozenset((sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_DROP_VTABLE))


def fold(name: str) -> str:
    """Return a table's name as SQLite compares it: without the case of ASCII letters."""
    return name.translate(_FOLD)


def quoted(name: str) -> str:
    """Return a name as it can stand in a statement."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class FailedStatement:
    """
    A statement that raised.

    `line` is its line in the script that it came from, counted as the script's
    statements were, None for one that was executed alone.
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
        written: Tables that rows were inserted into, updated in or deleted from.
        deleted: Folded names of tables that a `DELETE` of the migration named.
            A renamed table takes this along.
        dropped: Tables that were dropped.
        altered: Tables that were altered or renamed.
        renames: Old and new name of each renamed table, in order.
    """

    __slots__ = (
        "_target_of",
        "altered",
        "deleted",
        "dropped",
        "failures",
        "keyword",
        "line",
        "renames",
        "target",
        "text",
        "written",
    )

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: another migration begins."""
        self.text: str | None = None
        self.keyword = ""
        self.line: int | None = None
        self.failures: deque[FailedStatement] = deque(maxlen=_REMEMBERED)
        self.written: set[str] = set()
        self.deleted: set[str] = set()
        self.dropped: set[str] = set()
        self.altered: set[str] = set()
        self.renames: list[tuple[str, str]] = []
        self.target: str | None = None
        self._target_of: str | None = None

    @property
    def failed(self) -> FailedStatement | None:
        """The statement that raised last."""
        return self.failures[-1] if self.failures else None

    def begin(self, text: str) -> None:
        """Note which statement is executed from now on."""
        # A loop executes one and the same string: looking at it once is enough.
        if text is not self.text:
            self.text = text
            self.keyword = sql.keyword(text)

    def end(self) -> None:
        """Note that the statement has been executed."""
        if self.keyword == "ALTER" and self.text is not None:
            renamed = sql.renamed(self.text)
            if renamed is not None:
                self.renames.append(renamed)
                if fold(renamed[0]) in self.deleted:
                    self.deleted.add(fold(renamed[1]))

    def fail(self, error: BaseException) -> FailedStatement:
        """Note that the statement raised; returns what is remembered of it."""
        failure = FailedStatement(str(self.text or ""), error, self.line)
        self.failures.append(failure)
        return failure

    def authorize(
        self, action: int, first: str | None, second: str | None, schema: str | None, by: str | None
    ) -> None:
        """Note what SQLite's authorizer was asked; `by` is the trigger or view it is done by."""
        if action in _WRITES:
            if schema == "main" and first is not None:
                self.written.add(first)
                if action == sqlite3.SQLITE_DELETE and by is None:
                    self._note_delete(first)
        elif action in _DROPS:
            if schema == "main" and first is not None:
                self.dropped.add(first)
        elif action == sqlite3.SQLITE_ALTER_TABLE and first == "main" and second is not None:
            self.altered.add(second)

    def _note_delete(self, table: str) -> None:
        """
        Note a `DELETE` that the migration's own statement names.

        SQLite asks the same question about a table that is dropped, explained,
        emptied by a foreign key's cascade or part of a virtual table; only the
        statement's text tells them apart.
        """
        if self.keyword not in _DELETING or self.text is None:
            return
        if self._target_of is not self.text:
            self._target_of, self.target = self.text, _delete_target(self.text)
        if self.target == fold(table):
            self.deleted.add(self.target)

    def blame(self, error: BaseException) -> FailedStatement | None:
        """
        Find the statement behind an exception, and the error to report.

        An exception that hides another one is followed to it. A rollback that
        failed, or was refused, while an earlier error was being handled is not
        what went wrong: the earlier one is.

        Returns:
            None where no statement is behind the exception.
        """
        known = {id(failure.error): failure for failure in self.failures}
        found = [known[id(link)] for link in chain(error) if id(link) in known]
        telling = [failure for failure in found if sql.keyword(failure.text) != "ROLLBACK"]
        if telling or found:
            return (telling or found)[0]
        for link in chain(error):
            # Raised while rows were fetched, long after `execute` had returned.
            if isinstance(link, sqlite3.Error) and self.text is not None:
                return FailedStatement(self.text, link, self.line)
        return None


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those behind it, the latest first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        hidden = None if error.__suppress_context__ else error.__context__
        error = error.__cause__ or hidden


def is_disk_error(error: BaseException) -> bool:
    """Tell whether SQLite says "disk I/O error" or "database or disk is full"."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF in (_SQLITE_IOERR, _SQLITE_FULL)


def _delete_target(text: str) -> str | None:
    """Return the folded name of the table in `[WITH …] DELETE FROM [schema.]table`."""
    plain = sql.words(text, 5) if sql.keyword(text) == "DELETE" else sql.words(text, sys.maxsize)
    for at, (word, following) in enumerate(pairwise(plain)):
        if (word, following) == ("DELETE", "FROM"):
            names = plain[at + 2 : at + 5]
            name = names[2:3] if names[1:2] == (".",) else names[:1]
            return fold(name[0]) if name else None
    return None
