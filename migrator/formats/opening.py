"""Which migrations `--migrations` and `--format` name: ours, a registry, or another tool's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from migrator.errors import UsageError
from migrator.formats.history import BY_VERSION, own_format
from migrator.formats.source import Ask, DirectorySource, RegistrySource, Source
from migrator.model import Entry, Script, Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

    from migrator.formats.format import Format


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
