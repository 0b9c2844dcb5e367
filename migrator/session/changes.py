"""
Track what a migration has done to tables and SQLite has not rolled back.

A statement's text does not show three things that this module finds out:

- *Which `DELETE` is the migration's own.* While SQLite compiles a statement it asks the
  authorizer about every write (https://sqlite.org/c3ref/set_authorizer.html), first about
  the statement's own; then about triggers, cascades, a dropped table or the inside of a
  virtual table. So the first question tells what the statement is, whatever its text.
- *Where a renamed table is now.* `ALTER TABLE … RENAME TO` changes the table's row in
  `sqlite_schema` in place: within that one statement the rowid identifies the table.
  Between statements it does not, since a new table reuses the rowid of a dropped one, and
  VACUUM renumbers; nor does `rootpage`, which VACUUM and auto_vacuum move, and which
  virtual tables lack. So the name is read by rowid before and after each rename.
- *What was rolled back*: by `conn.rollback()`, a savepoint, a failing statement, a
  trigger's RAISE, sometimes unknown to Python. `Ledger` stores its position in SQLite, in
  a field of the temporary database's header that nothing else uses
  (https://sqlite.org/pragma.html#pragma_application_id): any rollback also rolls back
  that field.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from migrator.sqlite import fold

PLACE = "PRAGMA temp.application_id"
"""Where SQLite stores the number of the last change."""

DROPS = frozenset((sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_DROP_VTABLE))

Question = tuple[int, str | None, str | None, str | None]
"""A question of the authorizer: action, table, schema, and the trigger that does it."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """The migration's own `DELETE` deleted rows from `table`."""

    table: str


@dataclass(frozen=True, slots=True)
class Followed:
    """A trigger wrote to `table` on the migration's own `DELETE` on `upon`."""

    table: str
    upon: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """`table` was dropped."""

    table: str


@dataclass(frozen=True, slots=True)
class Renamed:
    """`table` was renamed to `new`."""

    table: str
    new: str


Change = Deleted | Followed | Dropped | Renamed


class Ledger:
    """
    The numbered changes of one migration, in order, without those rolled back.

    SQLite stores the number of the last one (`PLACE`). Whoever reads it there passes it to
    `confirm`, which removes the changes after it.

    Attributes:
        doubtful: Whether something may have been rolled back since the last check.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[int, Change]] = []
        self._number = 0
        self._final = 0
        self._known: set[object] = set()
        self.doubtful = False

    def __iter__(self) -> Iterator[Change]:
        """Iterate over the changes in order."""
        return iter([change for _, change in self._entries])

    @property
    def open(self) -> bool:
        """Whether a rollback could still reach a change."""
        return len(self._entries) > self._final

    def clear(self) -> None:
        """Start again; the numbers continue, since SQLite still stores an old one."""
        self._entries.clear()
        self._known.clear()
        self._final = 0
        self.doubtful = False

    def knows(self, reason: object) -> bool:
        """Tell whether `add` with this reason would change nothing, as in a loop."""
        return not self.doubtful and reason in self._known

    def add(self, changes: Iterable[Change], reason: object = None) -> int:
        """Record changes; returns the number that SQLite is to store."""
        self._number += 1
        if reason is None:
            # The name means another table from now on.
            self._known.clear()
        else:
            self._known.add(reason)
        self._entries += [(self._number, change) for change in changes]
        return self._number

    def confirm(self, number: int, *, final: bool) -> None:
        """
        Remove what was rolled back.

        Args:
            number: The number that SQLite has stored.
            final: Whether no transaction is open, so that the rest is permanent.
        """
        numbers = [entry[0] for entry in self._entries[self._final :]]
        # An unknown number is older than the first of them.
        stay = len(numbers) - numbers[::-1].index(number) if number in numbers else 0
        if stay < len(numbers):
            del self._entries[self._final + stay :]
            self._known.clear()
        if final:
            self.finish()
        self.doubtful = False

    def finish(self) -> None:
        """Mark the recorded changes as permanent."""
        self._final = len(self._entries)


def of_statement(
    asked: Sequence[Question], views: Callable[[], dict[str, set[str]]]
) -> Iterator[Change]:
    """
    Yield what an executed statement dropped, or deleted itself.

    Args:
        asked: SQLite's questions about its writes, in order, the first a `DELETE`.
        views: Returns, per folded name of each INSTEAD OF trigger, its views.
    """
    dropped = [table for action, table, schema, _ in asked if action in DROPS and schema == "main"]
    if dropped:
        yield from (Dropped(table) for table in dropped if table is not None)
        return
    _, own, schema, by = asked[0]
    if own is None or by is not None:
        return
    triggered = [(what, t, by) for what, t, where, by in asked[1:] if t and by and where == "main"]
    deletes = [(fold(t), fold(by)) for what, t, by in triggered if what == sqlite3.SQLITE_DELETE]
    said = {fold(own)} | _through_views(fold(own), deletes, views() if deletes else {})
    if schema == "main":
        yield Deleted(own)
    elif len(said) == 1:
        return
    yield from (Deleted(table) for table in sorted(said - {fold(own)}))
    yield from (Followed(table, own) for table in sorted({t for _, t, _ in triggered}))


def _through_views(
    own: str, deletes: list[tuple[str, str]], views: dict[str, set[str]]
) -> set[str]:
    """Return the tables from which INSTEAD OF triggers of a view delete, also through views."""
    said = {own}
    while True:
        more = {table for table, by in deletes if views.get(by, set()) & said} - said
        if not more:
            return said - {own}
        said |= more


def renames(before: dict[int, str], after: dict[int, str]) -> Iterator[Renamed]:
    """Yield what a single `ALTER TABLE` renamed, from the schema's rowids and names."""
    for rowid, name in before.items():
        new = after.get(rowid, name)
        if new != name:
            yield Renamed(name, new)
