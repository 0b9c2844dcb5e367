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
_ASKS = "SELECT count(*) FROM sqlite_master WHERE name = 'log'"


def command_scenes(make: type[Scene], application: tuple[str, ...]) -> Iterator[Scene]:
    """
    Yield the scenes.

    Args:
        make: The class.
        application: What the entrypoint becomes.
    """
    asks = f"raise SystemExit(1 - c.execute({_ASKS!r}).fetchone()[0])"
    for journal, hot, fails in product(("delete", "wal"), (False, True), (False, True)):
        name = f"command {journal} {'hot' if hot else 'clean'}{' failing' if fails else ''}"
        does = f"{_OPEN}\n{_MIGRATES}{_FAILS if fails else ''}c.commit(); c.close()"
        options = (
            *("--migrate-command", _python(does)),
            *("--pending-command", _python(f"{_OPEN}\n{asks}")),
        )
        command = ("entrypoint", *options, "--", *application)
        yield make(
            name, "another tool's command", {}, command, journal, hot, fails=fails, asks=True
        )


def _python(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])
