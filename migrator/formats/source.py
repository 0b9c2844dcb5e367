"""Where migrations come from: a directory of files, a registry, or the caller's own code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from migrator.errors import MisfitError
from migrator.formats.history import BY_NAME, BY_VERSION
from migrator.model import Entry, Script

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Protocol

    from migrator.formats.format import Format
else:
    Protocol = object

Ask = Callable[[Path], Sequence[tuple[str, str]]]
"""Returns version and name of what a registry's file has, without running it in this process."""


class Source(Protocol):
    """All migrations of a database, at three depths: names, texts, code."""

    @property
    def format(self) -> Format:
        """How they are identified, ordered and compared, and where it is noted that they ran."""

    is_code: bool
    """Whether reading them executes them: only a worker does."""

    needs_database: bool
    """Whether a database that does not exist is left to the application, which creates it."""

    has_history: bool = True
    """Whether a history lists what is applied; without one only the pages show what a run did."""

    way: str | None = None
    """The way that all of them take, where they do not decide it one by one."""

    undecided: bool = False
    """Whether a look at the database decides whose migrations they are."""

    def recognise(self, conn: sqlite3.Connection | None, table: str) -> None:
        """
        Decide whose migrations these are, if that is not known yet.

        Args:
            conn: The database, None where it does not exist or cannot be read.
            table: The history's table, as given.

        Raises:
            UsageError: They may be two tools'.
        """
        del conn, table

    def entries(self) -> tuple[Entry, ...]:
        """Return all migrations by name, in order."""

    def scripts(self, entries: Sequence[Entry] | None = None) -> tuple[Script, ...]:
        """Read and parse all of them, as they were listed if that has just been done."""

    def load(self, scripts: Sequence[Script]) -> tuple[Script, ...]:
        """Import the ones given, which executes their modules."""

    def ignored(self) -> tuple[tuple[str, str], ...]:
        """Return the files that look like migrations and that the tool does not run, and why."""
        return ()


class DirectorySource(Source):
    """A directory of `001_name.py` and `002_name.sql` files."""

    format = BY_VERSION
    is_code = False
    needs_database = False

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def entries(self) -> tuple[Entry, ...]:
        """List the names; no file is opened."""
        from migrator.parsing import directory as source

        return source.list_directory(self.directory)

    def scripts(self, entries: Sequence[Entry] | None = None) -> tuple[Script, ...]:
        """Parse every file, also the applied ones."""
        from migrator.parsing import scripts

        return scripts.read_all(self.entries() if entries is None else entries)

    def load(self, scripts: Sequence[Script]) -> tuple[Script, ...]:
        """Import the `.py` files among `scripts`."""
        from migrator.parsing.scripts import load

        return tuple(load(script) for script in scripts)


class RegistrySource(Source):
    """
    A Python file with a factory that returns a runner with registered migrations.

    The file is code, so only a worker reads it. Any other process gives `ask`, which has a
    worker say what is in it.
    """

    format = BY_NAME
    is_code = True
    needs_database = True

    def __init__(
        self,
        path: Path,
        factory: str,
        database: Path,
        ask: Ask | None = None,
    ) -> None:
        self.path = path
        self.factory = factory
        self.database = database
        self._ask = ask
        self._entries: tuple[Entry, ...] | None = None
        self._scripts: tuple[Script, ...] | None = None

    def entries(self) -> tuple[Entry, ...]:
        """Return the registered migrations in their order."""
        if self._entries is None:
            if self._ask is not None:
                rows = self._ask(self.path)
                self._entries = tuple(
                    Entry(name, version, name, self.path) for version, name in rows
                )
            else:
                self._entries = tuple(script.entry for script in self.scripts())
        return self._entries

    def scripts(self, entries: Sequence[Entry] | None = None) -> tuple[Script, ...]:
        """
        Execute the file and its factory.

        A runner that opens its database as soon as it is made is given an
        empty one instead, since reading a registry must not write.
        """
        del entries
        if self._scripts is None:
            self._scripts = self._load()
        return self._scripts

    def _load(self) -> tuple[Script, ...]:
        from migrator.formats import registry
        from migrator.process import audit_hook

        with audit_hook.unconnectable(self.database) as watch:
            try:
                return registry.load(self.path, self.factory, self.database)
            except MisfitError:
                if not watch.tried_to_connect:
                    raise
        import tempfile

        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory,
            audit_hook.unconnectable(self.database),
        ):
            scratch = Path(directory, self.database.name)
            return registry.load(self.path, self.factory, scratch)

    def load(self, scripts: Sequence[Script]) -> tuple[Script, ...]:
        """Return the scripts as they are: registered functions are loaded already."""
        return tuple(scripts)


class CodeSource(Source):
    """Migrations that the caller of the Python API registered itself."""

    format = BY_NAME
    is_code = True
    needs_database = True

    def __init__(self, scripts: Sequence[Script]) -> None:
        self._scripts = tuple(scripts)

    def entries(self) -> tuple[Entry, ...]:
        """Return the registered migrations in their order."""
        return tuple(script.entry for script in self._scripts)

    def scripts(self, entries: Sequence[Entry] | None = None) -> tuple[Script, ...]:
        """Return the registered migrations."""
        del entries
        return self._scripts

    def load(self, scripts: Sequence[Script]) -> tuple[Script, ...]:
        """Return the scripts as they are."""
        return tuple(scripts)
