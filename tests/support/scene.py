"""A database and its migrations on a volume, to start runs on and to look at afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from migrator.database.lock_probe import probe
from migrator.database.workspace import Layout
from migrator.model import Settings
from tests.support import aside
from tests.support.digest import logical_digest
from tests.support.files import history, make_database, write_migrations
from tests.support.logs import Event
from tests.support.outcomes import assert_explained
from tests.support.processes import Arg, Result, Running, run_entrypoint, running
from tests.support.waiting import until

SCHEMA = """
    CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    INSERT INTO items (name) VALUES ('one'), ('two'), ('three');
"""

UP = "import os, sys, time\n\ndef up(conn):\n"


@dataclass
class Scene:
    """
    One database and one directory of migrations.

    Attributes:
        before: The database's digest before the first run, None where there is none.
    """

    directory: Path
    database: Path
    migrations: Path
    before: str | None

    @classmethod
    def make(
        cls, directory: Path, files: Mapping[str, str], *, wal: bool = False, empty: bool = False
    ) -> Scene:
        """Make a database (unless `empty`) and write migrations."""
        database = directory / "data" / "app.db"
        database.parent.mkdir()
        if not empty:
            make_database(database, SCHEMA, wal=wal)
        migrations = write_migrations(directory / "migrations", files)
        return cls(directory, database, migrations, None if empty else logical_digest(database))

    @property
    def options(self) -> tuple[Arg, ...]:
        """The options that name both."""
        return "--database", self.database, "--migrations", self.migrations

    @property
    def layout(self) -> Layout:
        """Where everything of ours lies."""
        return Layout.of(Settings(database=self.database, migrations=str(self.migrations)))

    def run(self, *args: Arg, **more: object) -> Result:
        """Start the entrypoint and wait for its end."""
        return run_entrypoint(*self.options, *args, **more)  # type: ignore[arg-type]

    @contextmanager
    def running(self, *args: Arg, module: str = "entrypoint", **more: object) -> Iterator[Running]:
        """Start one of the commands and have it under way."""
        words = ("up", *self.options) if module == "migrator" else self.options
        with running(module, *words, *args, directory=self.directory, **more) as process:  # type: ignore[arg-type]
            yield process

    def locked(self) -> bool:
        """Tell whether somebody holds the run's lock."""
        return probe(self.layout.lock)

    def assert_as_before(self, *pending: str) -> None:
        """
        Assert the three facts of a failed run.

        What stayed is the database as it was, what was undone is everything
        of the run, and pending are the same migrations as before.
        """
        if self.before is None:
            assert not self.database.exists()
        else:
            assert logical_digest(self.database) == self.before
        assert aside.pending(self.database, self.migrations) == list(pending)
        assert not self.locked()

    def assert_failed(self, result: Result, code: int, *pending: str) -> Event:
        """Assert that a run failed with a code and left everything as it was."""
        end = result.finished
        assert (result.code, end["exit_code"]) == (code, code), end
        assert_explained(end)
        self.assert_as_before(*pending)
        return end

    def assert_goes_on(self, *versions: str, env: Mapping[str, str] | None = None) -> Result:
        """Assert that the next start applies what is pending and ends well."""
        result = self.run(env=env)
        assert result.code == 0, result.stderr
        assert history(self.database) == list(versions)
        return result


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and was not collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def wait_for_end(pid: int) -> None:
    """Wait until a process runs no more."""
    until(lambda: not is_alive(pid), f"Process {pid} is still there.")


def wait_for_file(path: Path) -> str:
    """Wait until a file has come into being with something in it, and return that."""
    return until(lambda: path.read_text() if path.exists() else "", f"{path} did not appear.")


def open_files(pid: int) -> dict[int, str]:
    """Return the descriptors of a process and what they lead to."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
    return found
