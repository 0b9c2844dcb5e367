"""
What a migration has done to tables, as far as SQLite has not taken it back.

Three things are told apart here that a statement's text does not tell:

- *What a `DELETE` of its own is.* SQLite's authorizer asks about every write while a
  statement is compiled (https://sqlite.org/c3ref/set_authorizer.html), the statement's
  own first; what is asked for a trigger, a cascade, a dropped table or the inside of a
  virtual table comes after it. So the first write that is asked about is what the
  statement is, whatever its text looks like.
- *Where a renamed table is now.* `ALTER TABLE … RENAME TO` changes the table's row in
  `sqlite_schema` in place: within that one statement its rowid is the table. Between
  statements it is not, since a new table takes the number of a dropped one, and VACUUM
  numbers anew; nor is `rootpage`, which VACUUM and auto_vacuum move, and which virtual
  tables lack. The new name is therefore read by rowid, before and after each rename.
- *What was rolled back*: by `conn.rollback()`, a savepoint, a failing statement, a
  trigger's RAISE, at times without a word to Python. `Ledger` has SQLite keep its
  place, in a field of the temporary database's header that nothing else uses
  (https://sqlite.org/pragma.html#pragma_application_id): a rollback of any kind takes
  it back together with what was done.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

PLACE = "PRAGMA temp.application_id"
"""Where SQLite keeps the number of the last change."""

DROPS = frozenset((sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_DROP_VTABLE))

Question = tuple[int, str | None, str | None, str | None]
"""What the authorizer asked: the action, the table, its schema, the trigger that does it."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """Rows were deleted from `table` by a `DELETE` of the migration's own."""

    table: str


@dataclass(frozen=True, slots=True)
class Followed:
    """A trigger wrote to `table` upon a `DELETE` of the migration's own on `upon`."""

    table: str
    upon: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """`table` was dropped."""

    table: str


@dataclass(frozen=True, slots=True)
class Renamed:
    """The table `table` is called `new` now."""

    table: str
    new: str


Change = Deleted | Followed | Dropped | Renamed


class Ledger:
    """
    The changes of one migration, in their order and numbered, without those undone.

    SQLite keeps the number of the last one (`PLACE`). Whoever reads it there hands
    it to `confirm`, which strikes out what came after it.

    Attributes:
        doubtful: Whether something may have been rolled back since the last look.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[int, Change]] = []
        self._number = 0
        self._final = 0
        self._known: set[object] = set()
        self.doubtful = False

    def __iter__(self) -> Iterator[Change]:
        """Go through the changes in their order."""
        return iter([change for _, change in self._entries])

    @property
    def open(self) -> bool:
        """Whether a rollback could still reach a change."""
        return len(self._entries) > self._final

    def clear(self) -> None:
        """Begin anew; the numbers go on, since SQLite still keeps an old one."""
        self._entries.clear()
        self._known.clear()
        self._final = 0
        self.doubtful = False

    def knows(self, reason: object) -> bool:
        """Tell whether `add` with this reason would change nothing: a loop repeats itself."""
        return not self.doubtful and reason in self._known

    def add(self, changes: Iterable[Change], reason: object = None) -> int:
        """Write changes down; returns the number that SQLite is to keep."""
        self._number += 1
        if reason is None:
            # A name means another table from here on.
            self._known.clear()
        else:
            self._known.add(reason)
        self._entries += [(self._number, change) for change in changes]
        return self._number

    def confirm(self, number: int, *, final: bool) -> None:
        """
        Strike out what was rolled back.

        Args:
            number: What SQLite has kept.
            final: Whether there is no transaction, so that the rest stays.
        """
        numbers = [entry[0] for entry in self._entries[self._final :]]
        # An unknown number is that of a time before the first of them.
        stay = len(numbers) - numbers[::-1].index(number) if number in numbers else 0
        if stay < len(numbers):
            del self._entries[self._final + stay :]
            self._known.clear()
        if final:
            self.finish()
        self.doubtful = False

    def finish(self) -> None:
        """Note that no rollback can reach what is written down."""
        self._final = len(self._entries)


def of_statement(
    asked: Sequence[Question], views: Callable[[], dict[str, set[str]]]
) -> Iterator[Change]:
    """
    Yield what a statement that has been executed dropped, or deletes by its own word.

    Args:
        asked: What SQLite asked about its writes, in order, the first a `DELETE`.
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
    """Return what is deleted from by INSTEAD OF triggers of a view, and of views behind it."""
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


def fold(name: str) -> str:
    """Return a table's name as SQLite compares it: without the case of ASCII letters."""
    return name.translate(_FOLD)


_FOLD = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
