"""What another tool's command does under faults: a process of its own, on a copy."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.scenes import Scene

_OPEN = "import os, sqlite3; c = sqlite3.connect(os.environ['MIGRATOR_DATABASE'])"
_MIGRATES = """
c.execute("ALTER TABLE users ADD COLUMN email TEXT")
c.commit()
c.execute("UPDATE users SET email = lower(name) || '@example.org', filler = upper(filler) || 'x'")
c.executescript("CREATE TABLE log (id INTEGER); INSERT INTO log VALUES (1);")
"""
_FAILS = 'c.execute("INSERT INTO nowhere VALUES (1)")\n'
_CREATES = 'c.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, filler TEXT)")\n'
_ASKS = f"""{_OPEN}
raise SystemExit(1 - c.execute("SELECT count(*) FROM sqlite_master WHERE name = 'log'").fetchone()[0])
"""
GROUP = "another tool's command"


def command_scenes(make: type[Scene], application: tuple[str, ...]) -> Iterator[Scene]:
    """
    Yield the scenes.

    Args:
        make: The class.
        application: What the entrypoint becomes.
    """
    for journal, hot, fails in product(("delete", "wal"), (False, True), (False, True)):
        name = f"command {journal} {'hot' if hot else 'clean'}{' failing' if fails else ''}"
        does = f"{_OPEN}\n{_MIGRATES}{_FAILS if fails else ''}c.commit(); c.close()"
        yield make(name, GROUP, {}, _start(does, application), journal, hot, fails=fails, asks=True)
    does = f"{_OPEN}\n{_CREATES}{_MIGRATES}c.commit(); c.close()"
    yield make("command install", GROUP, {}, _start(does, application), asks=True)


def _start(does: str, application: tuple[str, ...]) -> tuple[str, ...]:
    """Return a start with a command that migrates, and one that says whether it is needed."""
    options = ("--migrate-command", _python(does), "--pending-command", _python(_ASKS))
    return ("entrypoint", *options, "--", *application)


def _python(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])
