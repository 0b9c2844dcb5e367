"""What the tests of exit codes share: a start that waits for nothing, and faults to plant."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.files import (
    make_database,
    write_migrations,
)
from tests.support.machine import tool
from tests.support.processes import (
    PACKAGES,
    Result,
    run_entrypoint,
    run_migrator,
)

Both = pytest.mark.parametrize("run", [run_entrypoint, run_migrator])
"""For what `entrypoint` and `migrator up` do alike."""


def start(
    run: Callable[..., Result],
    database: Path,
    migrations: Path | str,
    *args: object,
    **options: object,
) -> Result:
    """Start a run by either of the two commands, with nothing waited for."""
    given = [] if "--wait-timeout" in args else ["--wait-timeout", "0"]
    words = ["up"] if run is run_migrator else []
    flags = ["--database", database, "--migrations", migrations, *given, *args]
    return run(*words, *map(str, flags), **options)


def pending(database: Path, migrations: Path) -> list[str]:
    """Return the versions that `migrator status` lists as pending."""
    result = run_migrator("status", "--json", "--database", database, "--migrations", migrations)
    return [each["version"] for each in json.loads(result.stdout)["pending"]]


def bound_to_fail(directory: Path, body: str, name: str = "001_bad.py") -> Path:
    """Write one migration whose `up` is the given text, or a whole `.sql` file."""
    if name.endswith(".sql"):
        return write_migrations(directory, {name: body})
    text = "import os, sqlite3, sys, time\n\ndef up(conn):\n"
    (directory).mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(
        text + "".join(f"    {line}\n" for line in dedent(body).strip().splitlines())
    )
    return directory


@contextmanager
def planted(directory: Path, text: str) -> Iterator[dict[str, str]]:
    """Return variables with which the program starts with a fault planted in it."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "sitecustomize.py").write_text(dedent(text))
    yield {"PYTHONPATH": f"{directory}{os.pathsep}{PACKAGES}"}


def in_namespace(*mounts: str) -> list[str]:
    """Return the command that runs another one with mounts that nobody else sees."""
    steps = " && ".join((*mounts, 'exec "$@"'))
    return [tool("unshare"), "-m", "--propagation", "private", "sh", "-c", steps, "sh"]


def owned_database(path: Path, user: tuple[int, int]) -> Path:
    """Make a database that belongs, with its directory, to a user."""
    make_database(path, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
    for each in (path, path.parent):
        os.chown(each, *user)
    return path
