"""Looking at a database without being the one that recovers it."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.support.digest import logical_digest
from tests.support.files import opened
from tests.support.processes import run_migrator

_BESIDE = ("", "-journal", "-wal")


def digest_aside(database: Path, *, without: tuple[str, ...] = ()) -> str:
    """
    Return the digest of a copy, made with its journals, so that these stay as they are.

    Args:
        database: Nobody may be writing to it.
        without: Tables that are dropped from the copy first.
    """
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "copy.db")
        for end in _BESIDE:
            source = Path(f"{database}{end}")
            if source.exists():
                shutil.copyfile(source, f"{copy}{end}")
        if without:
            with opened(copy) as conn:
                for table in without:
                    conn.execute(f"DROP TABLE IF EXISTS {table}")
        return logical_digest(copy)


def expected_digest(database: Path, script: str) -> str:
    """Return the digest that a plain connection would leave after a script, run on a copy."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "copy.db")
        for end in _BESIDE:
            source = Path(f"{database}{end}")
            if source.exists():
                shutil.copyfile(source, f"{copy}{end}")
        with opened(copy) as conn:
            conn.executescript(script)
        return logical_digest(copy)


def status(database: Path, migrations: Path) -> dict[str, Any]:
    """Return what `migrator status --json` says."""
    result = run_migrator("status", "--json", "--database", database, "--migrations", migrations)
    assert result.code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def pending(database: Path, migrations: Path) -> list[str]:
    """Return the versions that are pending, as `migrator status` sees them."""
    return [row["version"] for row in status(database, migrations)["pending"]]


def backups(database: Path, *args: str) -> list[dict[str, Any]]:
    """Return what `migrator backups --json` says, newest first."""
    result = run_migrator("backups", "--json", "--database", database, *args)
    assert result.code == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found
