"""Where migrations come from: a directory of files, a registry, or the caller's own code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from migrator.errors import MisfitError
from migrator.model import Entry, Script


class Source(Protocol):
    """All migrations of a database, at three depths: names, texts, code."""

    @property
    def by_name(self) -> bool:
        """Whether the history identifies them by name instead of by version."""

    def entries(self) -> tuple[Entry, ...]:
        """Return all migrations by name, in order."""

    def scripts(self) -> tuple[Script, ...]:
        """Read and parse all of them; nothing of theirs is executed."""

    def load(self, scripts: Sequence[Script]) -> tuple[Script, ...]:
        """Import the ones given, which executes their modules."""


class DirectorySource:
    """A directory of `001_name.py` and `002_name.sql` files."""

    by_name = False

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def entries(self) -> tuple[Entry, ...]:
        """List the names; no file is opened."""
        from migrator.parsing import directory as source

        return source.list_directory(self.directory)

    def scripts(self) -> tuple[Script, ...]:
        """Parse every file, also the applied ones."""
        from migrator.parsing import scripts

        return scripts.read_all(self.entries())

    def load(self, scripts: Sequence[Script]) -> tuple[Script, ...]:
        """Import the `.py` files among `scripts`."""
        from migrator.parsing.scripts import load

        return tuple(load(script) for script in scripts)


class RegistrySource:
    """
    A Python file with a factory that returns a runner with registered migrations.

    The file is code, so only a worker reads it; every other process is told
    what is in it (`entries` given here).
    """

    by_name = True

    def __init__(
        self,
        path: Path,
        factory: str,
        database: Path,
        entries: tuple[Entry, ...] | None = None,
    ) -> None:
        self.path = path
        self.factory = factory
        self.database = database
        self._entries = entries
        self._scripts: tuple[Script, ...] | None = None

    @property
    def is_known(self) -> bool:
        """Whether the names in it are known already."""
        return self._entries is not None

    def known(self, entries: tuple[Entry, ...]) -> RegistrySource:
        """Return this source with what a worker found in it."""
        return RegistrySource(self.path, self.factory, self.database, entries)

    def entries(self) -> tuple[Entry, ...]:
        """Return the registered migrations in their order."""
        if self._entries is None:
            self._entries = tuple(script.entry for script in self.scripts())
        return self._entries

    def scripts(self) -> tuple[Script, ...]:
        """
        Execute the file and its factory.

        A runner that opens its database as soon as it is made is given an
        empty one instead, since reading a registry must not write.
        """
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


class CodeSource:
    """Migrations that the caller of the Python API registered itself."""

    by_name = True

    def __init__(self, scripts: Sequence[Script]) -> None:
        self._scripts = tuple(scripts)

    def entries(self) -> tuple[Entry, ...]:
        """Return the registered migrations in their order."""
        return tuple(script.entry for script in self._scripts)

    def scripts(self) -> tuple[Script, ...]:
        """Return the registered migrations."""
        return self._scripts

    def load(self, scripts: Sequence[Script]) -> tuple[Script, ...]:
        """Return the scripts as they are."""
        return tuple(scripts)


def open_source(text: str, database: Path) -> Source:
    """
    Return the source that `--migrations` names.

    Raises:
        MisfitError: A registry's file does not exist.
    """
    if ".py" not in text:
        return DirectorySource(Path(text))
    from migrator.formats import registry

    found = registry.parse_source(text)
    if found is None:
        return DirectorySource(Path(text))
    return RegistrySource(found[0], found[1], database)
