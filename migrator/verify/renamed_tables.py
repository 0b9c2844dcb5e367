"""Follow the tables of a database through renames, drops and rebuilds."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from migrator.parsing import sql
from migrator.session.changes import Change, Deleted, Dropped, Followed, Renamed
from migrator.sqlite import fold

_FTS = ("FTS3", "FTS4", "FTS5")
_SHOWING = ("FTS5VOCAB", "FTS4AUX", "FTS3TOKENIZE")


class Whereabouts:
    """
    The tables of a database, followed through the changes of one migration.

    A table is identified by its name before the migration (folded, as every name here);
    a table that the migration created is an object of its own.

    Args:
        changes: What was deleted, dropped and renamed, in order.
    """

    def __init__(self, changes: Iterable[Change]) -> None:
        self._at: dict[str, object] = {}
        self._last: dict[object, str] = {}
        self._dropped: set[object] = set()
        self._deleted: dict[object, set[str]] = {}
        self._followed: dict[object, set[str]] = {}
        for change in changes:
            self._take(change)

    def last_name(self, table: str) -> str:
        """Return a table's name now, or when it was dropped."""
        return self._last.get(table, table)

    def is_dropped(self, table: str) -> bool:
        """Tell whether a table was dropped, even if another table has its name now."""
        return table in self._dropped

    def deleted(self, table: str, now: str, *, rebuilt: bool) -> bool:
        """
        Tell whether the migration deleted from a table, or from the one in its place.

        A `DELETE` on an old table after another one took its name does not explain the rows
        that its successor lacks.

        Args:
            table: The table.
            now: The name at which its rows are expected.
            rebuilt: Whether another table stands there.
        """
        names = self._deleted.get(table, set())
        return now in names or bool(self._deleted.get(self._table(now)) if rebuilt else names)

    def followed(self, table: str, now: str) -> set[str]:
        """Return the tables whose `DELETE` made triggers write to a table."""
        return self._followed.get(table, set()) | self._followed.get(self._table(now), set())

    def _table(self, name: str) -> object:
        return self._at.setdefault(name, name)

    def _take(self, change: Change) -> None:
        name = fold(change.table)
        table = self._table(name)
        match change:
            case Deleted():
                self._deleted.setdefault(table, set()).add(name)
            case Followed(upon=upon):
                self._followed.setdefault(table, set()).add(fold(upon))
            case Dropped():
                self._dropped.add(table)
                self._at[name] = object()
            case Renamed(new=new):
                self._at[name] = object()
                self._at[fold(new)] = table
                self._last[table] = fold(new)
                if table in self._deleted:
                    self._deleted[table].add(fold(new))


def shows_another(statement: str) -> bool:
    """
    Tell whether a `CREATE VIRTUAL TABLE` shows the rows of another table.

    A full-text index with `content=table` answers with what that table holds
    (https://sqlite.org/fts5.html#external_content_tables); one with `content=''`
    has its rows itself.
    """
    tokens = sql.words(statement, sys.maxsize)
    at = tokens.index("USING") + 1 if "USING" in tokens else len(tokens)
    module = tokens[at].upper() if at < len(tokens) else ""
    if module not in _FTS:
        return module in _SHOWING
    for n in range(at + 1, len(tokens) - 3):
        if tokens[n] in {"(", ","} and tokens[n + 1 : n + 3] == ("CONTENT", "="):
            return tokens[n + 3] not in {"", ",", ")"}
    return False
