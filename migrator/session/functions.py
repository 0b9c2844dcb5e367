"""
Note the functions and collations that a migration registers, and put SQLite's own back.

A function that a migration registers under one of SQLite's names (`lower`, `NOCASE`) decides
on this connection whether an index or a constraint seems to hold; whoever opens the database
next has SQLite's own. SQLite cannot restore its own: a deleted function or collation still
hides it. So a replacement is registered that asks an untouched connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from migrator.sqlite import fold

BUILTIN_COLLATIONS = frozenset(("binary", "nocase", "rtrim"))
_DETERMINISTIC = 0x800
"""`SQLITE_DETERMINISTIC`, among the flags of `PRAGMA function_list`."""


class Registrations:
    """
    What migrations have registered on one connection.

    Attributes:
        functions: Folded name and number of arguments of each function.
        collations: Folded names.
        extensions: Whether an extension may have been loaded, which registers unnoticed.
    """

    def __init__(self) -> None:
        self.functions: set[tuple[str, int]] = set()
        self.collations: set[str] = set()
        self.extensions = False
        self._plain: sqlite3.Connection | None = None

    def __bool__(self) -> bool:
        """Whether anything was, or may have been, registered."""
        return bool(self.functions or self.collations or self.extensions)

    def noted(self) -> tuple[set[tuple[str, int]], set[str], bool]:
        """Return what is noted now, for `become`."""
        return set(self.functions), set(self.collations), self.extensions

    def become(self, noted: tuple[set[tuple[str, int]], set[str], bool]) -> None:
        """Forget what was registered since: it is the application's, and is kept."""
        self.functions, self.collations, self.extensions = noted

    def note_function(self, name: str, narg: int) -> bool:
        """Note a function; returns whether it replaces one of SQLite's."""
        self.functions.add((fold(name), narg))
        return any(signature[0] == fold(name) for signature in self._builtin())

    def note_collation(self, name: str) -> bool:
        """Note a collation; returns whether it replaces one of SQLite's."""
        self.collations.add(fold(name))
        return fold(name) in BUILTIN_COLLATIONS

    def take_back(self, conn: sqlite3.Connection, *, everything: bool) -> None:
        """
        Put SQLite's own functions and collations back on a connection.

        Args:
            conn: The connection, with no running statement.
            everything: Whether to remove those under new names as well.
        """
        if self.extensions:
            self._find_unseen(conn)
        for name in self.collations:
            if name in BUILTIN_COLLATIONS:
                sqlite3.Connection.create_collation(conn, name, self._comparing(name))
            elif everything:
                sqlite3.Connection.create_collation(conn, name, None)
        if self.functions:
            self._take_back_functions(conn, everything=everything)

    def _take_back_functions(self, conn: sqlite3.Connection, *, everything: bool) -> None:
        replaced = {name for name, _ in self.functions}
        builtin = {each for each in self._builtin() if each[0] in replaced}
        names = {name for name, _, _ in builtin}
        for name, narg in self.functions:
            if everything or name in names:
                sqlite3.Connection.create_window_function(conn, name, narg, None)
        for name, narg, deterministic in builtin:
            sqlite3.Connection.create_function(
                conn, name, narg, self._calling(name), deterministic=deterministic
            )

    def _find_unseen(self, conn: sqlite3.Connection) -> None:
        """Find what an extension has registered; but not which collations it replaced."""
        plain = self._connection()
        query = "SELECT name, narg FROM pragma_function_list WHERE NOT builtin"
        found = {tuple(row) for row in conn.execute(query)} - {
            tuple(row) for row in plain.execute(query)
        }
        self.functions |= {(fold(str(name)), int(narg)) for name, narg in found}
        names = {str(row[1]) for row in conn.execute("PRAGMA collation_list").fetchall()}
        self.collations |= {fold(name) for name in names} - {"binary"}

    def _builtin(self) -> set[tuple[str, int, bool]]:
        """Return name, number of arguments and determinism of SQLite's own scalar functions."""
        rows = self._connection().execute("PRAGMA function_list").fetchall()
        return {
            (fold(name), narg, bool(flags & _DETERMINISTIC))
            for name, builtin, kind, _, narg, flags in rows
            if builtin and kind == "s"
        }

    def _connection(self) -> sqlite3.Connection:
        """Return an empty connection without registered functions."""
        if self._plain is None:
            self._plain = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        return self._plain

    def close(self) -> None:
        """Close the untouched connection, when the one that asks it is closed."""
        if self._plain is not None:
            self._plain.close()
            self._plain = None

    def _calling(self, name: str) -> Callable[..., Any]:
        plain = self._connection()

        def call(*arguments: Any) -> Any:
            marks = ", ".join("?" * len(arguments))
            return plain.execute(f'SELECT "{name}"({marks})', arguments).fetchone()[0]

        return call

    def _comparing(self, name: str) -> Callable[[str, str], int]:
        plain = self._connection()
        query = f"SELECT (?1 > ?2 COLLATE {name}) - (?1 < ?2 COLLATE {name})"

        def compare(left: str, right: str) -> int:
            return int(plain.execute(query, (left, right)).fetchone()[0])

        return compare


class RegisteringConnection(sqlite3.Connection):
    """
    A connection that notes which functions and collations are registered on it.

    Attributes:
        registrations: What was registered.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.registrations = Registrations()
        super().__init__(*args, **kwargs)

    def close(self) -> None:
        """Close the connection, and the one that knows SQLite's own functions."""
        super().close()
        self.registrations.close()

    def create_function(self, *args: Any, **kwargs: Any) -> None:
        """Register a function, as `sqlite3` does."""
        _refuse_count(args, kwargs)
        super().create_function(*args, **kwargs)
        self._note(args, kwargs)

    def create_aggregate(self, *args: Any, **kwargs: Any) -> None:
        """Register an aggregate function, as `sqlite3` does."""
        _refuse_count(args, kwargs)
        super().create_aggregate(*args, **kwargs)
        self._note(args, kwargs)

    def create_window_function(self, *args: Any, **kwargs: Any) -> None:
        """Register an aggregate window function, as `sqlite3` does."""
        _refuse_count(args, kwargs)
        super().create_window_function(*args, **kwargs)
        self._note(args, kwargs)

    def create_collation(self, *args: Any, **kwargs: Any) -> None:
        """Register a collation, as `sqlite3` does."""
        super().create_collation(*args, **kwargs)
        if self.registrations.note_collation(_name(args, kwargs)):
            self._replaced()

    if hasattr(sqlite3.Connection, "enable_load_extension"):

        def enable_load_extension(self, enable: bool, /) -> None:
            """Allow extensions to be loaded, or not, as `sqlite3` does."""
            super().enable_load_extension(enable)
            if enable:
                self.registrations.extensions = True
                self._replaced()

    def _replaced(self) -> None:
        """Handle a replacement, or a possible one, of something of SQLite's own."""

    def _note(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        narg = args[1] if len(args) > 1 else kwargs.get("narg", kwargs.get("n_arg", -1))
        if self.registrations.note_function(_name(args, kwargs), int(narg)):
            self._replaced()


def _name(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    return str(args[0] if args else kwargs.get("name", ""))


def _refuse_count(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if fold(_name(args, kwargs)) == "count":
        msg = "A migration may not replace count(), by which the run counts rows."
        raise sqlite3.NotSupportedError(msg)
