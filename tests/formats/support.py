"""What the tests of all formats ask of a database and of a run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.files import make_database, opened, rows
from tests.support.processes import Result, run_migrator

Files = Mapping[str, str]
Told = str | Sequence[str]


def installed(name: str) -> str:
    """Return the path of a command that the test dependencies installed beside Python."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found is not None, f"{name} is not installed: pip install -e '.[test]'"
    return found


def run_tool(*words: object, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run another tool's command, which has to succeed, and return what it printed."""
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def schema(database: Path, *, without: Sequence[str] = ()) -> list[tuple[Any, ...]]:
    """Return the whole schema, but for the tables named."""
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    return [row for row in rows(database, query) if row[2] not in without]


def content(database: Path) -> list[str]:
    """Return a database as the statements that make it."""
    with opened(database) as conn:
        return list(conn.iterdump())


def up(database: Path, migrations: Path, *options: object) -> Result:
    """Run what is pending."""
    return migrator("up", database, migrations, *options)


def migrator(command: str, database: Path, migrations: Path, *options: object) -> Result:
    """Run a command of `migrator`."""
    return run_migrator(
        command, "--database", database, "--migrations", migrations, *map(str, options)
    )


def write(directory: Path, files: Files) -> Path:
    """Write files as they are given, in directories of their own where their names say so."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode(errors="surrogateescape"))
    return directory


def refused(result: Result, reason: str, *told: str) -> None:
    """Assert that a run ended with 78, its reason, and a message and hint that say these words."""
    last = result.finished
    assert (result.code, last["outcome"], last["reason"]) == (78, "refused", reason), last
    text = f"{last['error']} {last['hint']} {last.get('file')} {last}"
    for word in told:
        assert word in text, (word, text)


def dump(name: str) -> str:
    """Return the SQL that makes a database as a tool left it."""
    return Path(__file__).with_name("dumps").joinpath(f"{name}.sql").read_text()


def left_alone(database: Path, files: Path, *options: object, reason: str, told: Told) -> None:
    """Assert that `up` is refused for this reason, in these words, with nothing written."""
    before = database.read_bytes()
    refused(up(database, files, *options), reason, *([told] if isinstance(told, str) else told))
    assert database.read_bytes() == before


@dataclass(frozen=True)
class Dumps:
    """
    The databases that one tool has made, and what is in its table but for the times.

    Args:
        name: The directory with the dumps.
        table: The tool's own table.
        columns: What is compared of the table, ordered by the first of them.
    """

    name: str
    table: str
    columns: str

    def left(self, directory: Path, name: str) -> Path:
        """Return a database as the tool left it."""
        return make_database(directory / f"{name}.db", dump(f"{self.name}/{name}"))

    def noted(self, database: Path, table: str | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of the tool's table."""
        table = table or self.table
        return rows(database, f"SELECT {self.columns} FROM {table} ORDER BY 1")

    def same(self, one: Path, other: Path, table: str | None = None) -> bool:
        """Tell whether two databases differ in nothing but times."""
        table = table or self.table

        def parts(database: Path) -> tuple[object, ...]:
            rest = [line for line in content(database) if f'INTO "{table}"' not in line]
            return schema(database), rest, self.noted(database, table)

        return parts(one) == parts(other)
