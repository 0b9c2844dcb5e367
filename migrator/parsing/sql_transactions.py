"""
Pair each `BEGIN` of an `.sql` migration with its `COMMIT`.

In SQLite's own shell a script that ends inside a transaction does nothing: closing the
connection rolls it back. In the run's one transaction it would be applied, even if its
end was cut off.
"""

from __future__ import annotations

from collections.abc import Iterable

from migrator.errors import MisfitError
from migrator.model import Entry, Script, Section
from migrator.parsing import sql
from migrator.parsing.directory import misfit
from migrator.statement import Statement

_ENDS = ("COMMIT", "END")
_FOLLOWED = frozenset(("BEGIN", *_ENDS, "SAVEPOINT", "RELEASE", "ROLLBACK"))


def refuse_unpaired(scripts: Iterable[Script], *, down: bool = False) -> None:
    """
    Refuse scripts whose transactions are not closed, or were never opened.

    Only for pending migrations: an applied file cannot be changed any more.

    Raises:
        MisfitError: With the line of the statement that lacks its other half.
    """
    for script in scripts:
        section = script.sql_down if down else script.sql_up
        if section is not None and (fault := _fault(script.entry, section)) is not None:
            raise fault


def _fault(entry: Entry, section: Section) -> MisfitError | None:
    """Return what is wrong with the transactions of a section, None for nothing."""
    found = _Transactions()
    for statement in section.statements:
        if statement.keyword in _FOLLOWED and (wrong := found.follow(statement)) is not None:
            return _unpaired(entry, statement, wrong)
    # `COMMIT; PRAGMA foreign_keys = OFF; BEGIN; ...` leaves a runner's transaction and
    # opens another one for it to commit.
    if found.early is not None and (found.begun is None or not section.transactional):
        return _unpaired(entry, found.early, "ends a transaction that no BEGIN has opened")
    if found.begun is not None and found.early is None:
        return _unpaired(entry, found.begun, "opens a transaction that no COMMIT closes")
    if found.begun is None and found.savepoints:
        return _unpaired(entry, found.savepoints[0][1], "opens a savepoint that no RELEASE closes")
    return None


class _Transactions:
    """Follow the open transaction and savepoints, statement by statement."""

    def __init__(self) -> None:
        self.begun: Statement | None = None
        self.early: Statement | None = None
        self.savepoints: list[tuple[str, Statement]] = []

    def follow(self, statement: Statement) -> str | None:
        """Follow one statement; returns what is wrong with it."""
        keyword = statement.keyword
        if keyword == "BEGIN":
            if self.begun is not None:
                return f"is inside the transaction that line {self.begun.line} opens"
            if self.savepoints:
                line = self.savepoints[0][1].line
                return f"is inside the savepoint that line {line} opens"
            self.begun = statement
        elif keyword in _ENDS:
            self._end(statement)
        elif keyword in ("SAVEPOINT", "RELEASE", "ROLLBACK"):
            self._savepoint(keyword, statement)
        return None

    def _end(self, statement: Statement) -> None:
        if self.begun is None and not self.savepoints:
            self.early = self.early or statement
        self.begun = None
        self.savepoints.clear()

    def _savepoint(self, keyword: str, statement: Statement) -> None:
        words = [word for word in sql.words(statement.text, 5) if word != ";"]
        if keyword == "SAVEPOINT":
            self.savepoints.append((words[-1].upper(), statement))
        elif keyword == "RELEASE":
            names = [name for name, _ in self.savepoints]
            if (name := words[-1].upper()) in names:
                del self.savepoints[len(names) - 1 - names[::-1].index(name) :]
        elif "TO" not in words[1:3]:
            self.begun = None
            self.savepoints.clear()


def _unpaired(entry: Entry, statement: Statement, wrong: str) -> MisfitError:
    text = statement.text.rstrip("; \n")
    return misfit(
        entry,
        f"{text[:100]!r} {wrong}.",
        hint="Is the file complete? Write the missing half, or take this one out.",
        reason="migrations.transaction",
        line=statement.line,
        statement=statement.text[:500],
    )
