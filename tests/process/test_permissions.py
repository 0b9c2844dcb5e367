"""Another user's directory, which may not even be entered: that is 77, for every command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.files import make_database, write_migrations
from tests.support.processes import Result, run_entrypoint, run_migrator

COMMANDS = {
    "up": 77,
    "plan": 77,
    "check": 77,
    "status --json": 0,
    "backups": 77,
    "verify": 77,
    "restore latest": 77,
    "down --steps 1": 77,
    "baseline 001": 77,
}


@pytest.fixture
def closed(open_path: Path, other_user: tuple[int, int]) -> list[str]:
    """Return the options that name a database in a directory that only its owner may enter."""
    database = make_database(open_path / "data" / "app.db", "CREATE TABLE users (id)")
    migrations = write_migrations(open_path / "migrations", {"001_a.sql": "CREATE TABLE a (id);"})
    for path in (migrations, *migrations.iterdir()):
        path.chmod(0o755)
    for path in (database, database.parent):
        os.chown(path, 1000, 1000)
        path.chmod(0o750)
    return ["--database", str(database), "--migrations", str(migrations), "--wait-timeout", "0"]


def as_user(user: tuple[int, int]) -> list[str]:
    """Return the words before a command that make it another user's."""
    return ["setpriv", f"--reuid={user[0]}", f"--regid={user[1]}", "--clear-groups"]


def assert_denied(result: Result, database: str) -> None:
    """Assert that it is 77, naming the owner."""
    assert (77, "database.permission") == (result.code, result.finished["reason"]), result.stderr
    directory = os.path.dirname(database)
    assert directory in result.finished["error"]


@pytest.mark.root
def test_start(closed: list[str], other_user: tuple[int, int]) -> None:
    """A start names the owner and the commands that help, and is no bug."""
    result = run_entrypoint(*closed, "--", "true", prefix=as_user(other_user), cwd="/")
    assert_denied(result, closed[1])
    assert "belongs to 1000:1000 with mode 0750" in result.finished["error"]
    assert "`docker run --user 1000:1000 …`" in result.finished["hint"]
    assert f"`chown -R 12345:12345 {Path(closed[1]).parent}`" in result.finished["hint"]


@pytest.mark.root
@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, closed: list[str], other_user: tuple[int, int]) -> None:
    """So does each command; `status` reports it as a problem."""
    prefix = as_user(other_user)
    result = run_migrator(*command.split(), *closed, prefix=prefix, cwd="/")
    if COMMANDS[command] == 77:
        assert_denied(result, closed[1])
    else:
        assert result.code == 0, result.stderr
        assert "belongs to 1000:1000 with mode 0750" in result.stdout


@pytest.mark.root
@pytest.mark.parametrize(
    ("mode", "command", "code"),
    [(0o755, "up", 73), (0o700, "up", 73), (0o700, "backups", 77), (0o700, "restore latest", 77)],
)
def test_backup_directory_of_another_user(
    mode: int, command: str, code: int, open_path: Path, other_user: tuple[int, int]
) -> None:
    """What must be opened is the backup directory itself, and doing what the hint says helps."""
    volume = open_path / "data"
    database = make_database(volume / "app.db", "CREATE TABLE users (id)")
    migrations = write_migrations(open_path / "migrations", {"001_a.sql": "CREATE TABLE a (id);"})
    directory = volume / "backups"
    directory.mkdir()
    for path in (migrations, *migrations.iterdir()):
        path.chmod(0o755)
    for path in (volume, database):
        os.chown(path, *other_user)
    directory.chmod(mode)
    given = ("--database", database, "--migrations", migrations, "--wait-timeout", "0")

    def called() -> Result:
        return run_migrator(*command.split(), *given, prefix=as_user(other_user), cwd="/")

    result = called()
    assert code == result.code, result.stderr
    assert repr(str(directory)) in result.finished["hint"]
    os.chown(directory, *other_user)
    directory.chmod(0o700)
    assert called().code == (64 if command == "restore latest" else 0)
