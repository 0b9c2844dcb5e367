"""
What the engine asks of a format, ours or another tool's.

Three questions apart, since tools answer them differently: what identifies a migration, how
migrations are ordered, and whether a changed text is a conflict.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence

from migrator.model import Applied, Entry, Script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol
else:
    Protocol = object


class History(Protocol):
    """The table in which a database notes what is applied."""

    @property
    def table(self) -> str:
        """The table's name."""

    @property
    def siblings(self) -> tuple[str, ...]:
        """The names of other tables that belong to it."""
        return ()

    def exists(self, conn: sqlite3.Connection) -> bool:
        """
        Tell whether the table is there, in the shape of this format.

        Raises:
            MisfitError: A table or view of that name belongs to somebody else,
                or is another format's.
        """

    def read(self, conn: sqlite3.Connection) -> tuple[Applied, ...]:
        """Return what is applied, in the format's order; nothing without a table."""

    def keys(self, conn: sqlite3.Connection) -> Iterable[Any]:
        """Return what identifies each applied migration; nothing without a table."""

    def prepare(self, conn: sqlite3.Connection) -> None:
        """Create the table, or add what it lacks."""

    def record(
        self, conn: sqlite3.Connection, script: Script, seconds: float | None, run_id: str
    ) -> None:
        """Write the row of a migration that has just been applied."""

    def erase(self, conn: sqlite3.Connection, applied: Applied) -> None:
        """Remove the row of a migration that has just been undone."""


class Format(Protocol):
    """
    How migrations are identified, ordered and compared, and where it is noted that they ran.

    A key is what `Entry.key` and `Applied.key` hold; only the format knows its type.
    """

    name: str
    """The value of `--format` that stands for it."""

    has_checksums: bool
    """Whether the history keeps checksums, so that a changed text is a conflict."""

    checks_down: bool
    """Whether what undoes a migration is of the text that the history has a checksum of."""

    notes_runs: bool
    """Whether the history's rows name the run that added them; another tool's do not."""

    @property
    def goes_back(self) -> bool:
        """Whether a migration can say how it is undone."""

    def key(self, text: str) -> Any:
        """Return the key that VERSION of a command means, None for a text that cannot be one."""

    def key_of(self, version: str | None, name: str) -> Any:
        """Return the key of an applied migration."""

    def in_order(self, rows: Iterable[Applied]) -> tuple[Applied, ...]:
        """Return the rows of a table in the order in which they count as applied."""

    def newer(self, entries: Sequence[Entry], history: Collection[Applied]) -> set[Any]:
        """Return the keys of the applied migrations that come after all those given."""

    def out_of_order(
        self, pending: Sequence[Entry], history: Collection[Applied]
    ) -> dict[Any, Applied]:
        """Return the keys of what is pending too late, with what has been applied before it."""

    def history(self, table: str) -> History:
        """Return the history in the table of that name."""
