"""
Another tool's command in place of migrations: what is pending is asked of it, or of its note.

Without `--pending-command` the command runs once for each `--app-version`, and where the
schema is not the one that it left; without a version at each start.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from migrator.errors import UsageError
from migrator.formats.format import Format, History
from migrator.formats.history import InOrderApplied
from migrator.formats.source import Source
from migrator.model import Applied, Entry, Script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Left: TypeAlias = "tuple[str | None, str]"


class CommandSource(Source, InOrderApplied):
    """
    A command that migrates, as a source of one migration.

    Args:
        words: The command.
        version: The application's version, None where it was not given.
        pending: Says whether the command has something to do; None where it cannot be asked.
        left: Returns the version and the schema with which it ended when it ran last.
    """

    name = "command"
    has_checksums = False
    checks_down = False
    notes_runs = False
    goes_back = False
    is_code = True
    needs_database = False
    undecided = True
    has_history = False
    way = "copy"

    def __init__(
        self,
        words: Sequence[str],
        version: str | None,
        pending: Callable[[], bool] | None,
        left: Callable[[], Left | None],
    ) -> None:
        self.words = tuple(words)
        self.version = version
        self.left = left
        self._pending = pending
        self._exists = False
        self._answer: bool | None = None

    @property
    def format(self) -> Format:
        """The command itself."""
        return self

    @property
    def asks(self) -> bool:
        """Whether another command says if there is something to do."""
        return self._pending is not None

    def recognise(self, conn: sqlite3.Connection | None, table: str) -> None:
        """Note whether there is a database: without one there is always something to do."""
        del table
        self._exists = conn is not None

    def entries(self) -> tuple[Entry, ...]:
        """Return the command, unless it has said that it has nothing to do."""
        if self._exists and self._pending is not None:
            if self._answer is None:
                self._answer = self._pending()
            if not self._answer:
                return ()
        return (self.entry,)

    @property
    def entry(self) -> Entry:
        """The command as people call it: by the name of its program."""
        name = Path(self.words[0]).name
        return Entry(name, self.version or name, name)

    def scripts(self, entries: Sequence[Entry] | None = None) -> tuple[Script, ...]:
        """
        Refuse to list its migrations, which only the command knows.

        Raises:
            UsageError: Always.
        """
        del entries
        message = f"The migrations are those of a command ({self.entry.name}), which has its own."
        hint = (
            "Undo, or note as applied, with the command itself while the application is stopped;"
            " `migrator restore` goes back to a backup."
        )
        raise UsageError(message, hint=hint, data={"option": "--migrate-command"})

    def load(self, scripts: Sequence[Script]) -> tuple[Script, ...]:
        """Return the scripts as they are."""
        return tuple(scripts)

    def newer(self, entries: Sequence[Entry], history: Collection[Applied]) -> set[Any]:
        """Return nothing: what is newer, the command says."""
        del entries, history
        return set()

    def history(self, table: str) -> CommandHistory:
        """Return what is known of what the command did."""
        del table
        return CommandHistory(self)


class CommandHistory(History):
    """What a command has done is in no table of ours: a note beside the database says so."""

    table = ""

    def __init__(self, source: CommandSource) -> None:
        self._source = source

    def exists(self, conn: sqlite3.Connection) -> bool:
        """Return true: another tool's table is the command's own."""
        del conn
        return True

    def read(self, conn: sqlite3.Connection) -> tuple[Applied, ...]:
        """Return the command as applied where it ran for this version and left this schema."""
        source = self._source
        left = source.left()
        if source.asks or source.version is None or left != (source.version, schema_of(conn)):
            return ()
        entry = source.entry
        return (Applied(entry.key, entry.version, entry.name),)

    def keys(self, conn: sqlite3.Connection) -> Iterable[Any]:
        """Return nothing: there is no table."""
        del conn
        return ()

    def prepare(self, conn: sqlite3.Connection) -> None:
        """Do nothing: there is no table."""

    def record(
        self, conn: sqlite3.Connection, script: Script, seconds: float | None, run_id: str
    ) -> None:
        """Do nothing: there is no table."""

    def erase(self, conn: sqlite3.Connection, applied: Applied) -> None:
        """Do nothing: there is no table."""


def schema_of(conn: sqlite3.Connection) -> str:
    """Return the checksum of a database's schema."""
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name, tbl_name"
    digest = hashlib.sha256()
    for row in conn.execute(query):
        digest.update(repr(tuple(row)).encode(errors="surrogatepass"))
    return digest.hexdigest()
