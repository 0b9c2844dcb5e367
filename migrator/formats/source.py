"""Where migrations come from: a directory of files, a registry, or the caller's own code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from migrator.errors import MisfitError, UsageError
from migrator.formats.history import BY_NAME, BY_VERSION, own_format
from migrator.model import Entry, Script, Settings

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
        Decide whose migrations these are, where that is not known.

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


class RecognisedSource(Source):
    """
    A directory of migrations whose tool is known once the database has been seen.

    It is recognised at each look: what stands there may be another database by then.
    """

    undecided = True
    is_code = False
    needs_database = False

    def __init__(self, directory: Path, database: Path) -> None:
        self.directory = directory
        self.database = database
        self._native = DirectorySource(directory)
        self._chosen: Source | None = None

    def recognise(self, conn: sqlite3.Connection | None, table: str) -> None:
        """
        Decide by a database's tables, or where it has no history by the files.

        Raises:
            UsageError: It has the histories of two tools, and the files may be either's.
        """
        # First, and alone: a database that was taken over has another tool's history as well.
        if conn is not None and own_format(conn, table) is BY_VERSION:
            self._chosen = self._native
            return
        from migrator.formats.recognise import recognised

        self._chosen = recognised(conn, self.directory, self.database) or self._native

    @property
    def chosen(self) -> Source:
        """The source that was decided for; by the files alone before any database was seen."""
        if self._chosen is None:
            self.recognise(None, "")
        return self._chosen or self._native

    @property
    def format(self) -> Format:
        """How the migrations are identified, ordered and compared."""
        return self.chosen.format

    def entries(self) -> tuple[Entry, ...]:
        """Return all migrations by name, in order."""
        return self.chosen.entries()

    def scripts(self, entries: Sequence[Entry] | None = None) -> tuple[Script, ...]:
        """Read and parse all of them."""
        return self.chosen.scripts(entries)

    def load(self, scripts: Sequence[Script]) -> tuple[Script, ...]:
        """Import the ones given."""
        return self.chosen.load(scripts)

    def ignored(self) -> tuple[tuple[str, str], ...]:
        """Return the files that the tool does not run, and why."""
        return self.chosen.ignored()


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


def open_source(settings: Settings, database: Path, ask: Ask | None = None) -> Source:
    """
    Return the source that `--migrations` and `--format` name.

    Args:
        settings: With both options' values.
        database: The database, which a registry's factory is told.
        ask: Reads the names of a registry in another process; None in a worker.

    Raises:
        MisfitError: A registry's file does not exist.
        UsageError: The migrations are a file and the tool's are a directory, or the other way.
    """
    path, chosen = Path(settings.migrations), settings.format
    found = None
    if ".py" in settings.migrations:
        from migrator.formats import registry

        found = registry.parse_source(settings.migrations)
    if found is not None:
        if chosen == "sqlite-utils" or (chosen == "auto" and _is_sqlite_utils(settings, database)):
            from migrator.formats.sqlite_utils import SqliteUtils

            return SqliteUtils(found[0], database, ask)
        if chosen not in ("auto", "native"):
            raise _no_registry(settings)
        return RegistrySource(found[0], found[1], database, ask)
    if chosen == "native":
        return DirectorySource(path)
    if chosen == "auto":
        return RecognisedSource(path, database)
    if chosen == "sqlite-utils":
        raise _no_file(settings)
    from migrator.formats.tools import tool

    return tool(chosen, path, database)


def _is_sqlite_utils(settings: Settings, database: Path) -> bool:
    """Tell whether a file is sqlite-utils', by its text; a factory that is named is ours."""
    path = Path(settings.migrations)
    try:
        text = path.read_bytes()
    except OSError:
        return False
    if b"sqlite_" not in text or b"Migrations" not in text:
        return False
    from migrator.formats.sqlite_utils import SqliteUtils

    return SqliteUtils(path, database).marked()


def _no_file(settings: Settings) -> UsageError:
    message = f"--format sqlite-utils needs a Python file; {settings.migrations!r} is not one."
    hint = "Name the file with `--migrations` (MIGRATOR_MIGRATIONS): migrations.py, say."
    return UsageError(message, hint=hint, data={"option": "--format"})


def _no_registry(settings: Settings) -> UsageError:
    message = f"--format {settings.format} is a directory's; {settings.migrations!r} is a file."
    hint = "Name the directory with `--migrations` (MIGRATOR_MIGRATIONS), or leave `--format` out."
    return UsageError(message, hint=hint, data={"option": "--format"})
