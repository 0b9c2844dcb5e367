"""A Python that the user to run as cannot reach: found out before anything is given away."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.files import make_database, tables, write_migrations
from tests.support.outcomes import assert_failed, assert_succeeded
from tests.support.processes import PACKAGES, Result, run_entrypoint

pytestmark = pytest.mark.root


@dataclass(frozen=True, slots=True)
class Installed:
    """A database that is root's, and packages of which some part is closed to other users."""

    database: Path
    migrations: Path
    packages: Path

    def run(self, *words: str, **env: str) -> Result:
        """Run the packages' own `entrypoint`."""
        given = ("--database", self.database, "--migrations", self.migrations)
        more = {"PYTHONPATH": str(self.packages), **env}
        return run_entrypoint(*given, "--wait-timeout", "0", *words, env=more, cwd="/")

    def owners(self) -> set[int]:
        """Return whose the database's directory is, and all in it."""
        place = self.database.parent
        return {path.stat().st_uid for path in (place, *place.rglob("*"))}


@pytest.fixture
def installed(open_path: Path, other_user: tuple[int, int]) -> Installed:
    """Return packages in a home of root's, which everybody may enter yet."""
    packages = open_path / "a home" / "lib" / "packages"
    for name in ("migrator", "entrypoint"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PACKAGES / name, packages / name, ignore=ignored)
    database = make_database(open_path / "data" / "app.db", "CREATE TABLE users (id)")
    migrations = write_migrations(open_path / "m", {"001_x.sql": "CREATE TABLE x (id);\n"})
    return Installed(database, migrations, packages)


CLOSED = {
    "home": ("a home", 0o700),
    "two directories": ("a home/lib/packages", 0o700),
    "package": ("a home/lib/packages/migrator", 0o700),
    "files": ("a home/lib/packages/entrypoint/__init__.py", 0o600),
}


@pytest.mark.parametrize(
    ("how", "what"),
    [
        *(("--run-as", each) for each in CLOSED),
        ("PUID", "home"),
        ("keep", "home"),
        ("migrator", "home"),
    ],
)
def test_a_user_that_cannot_reach_python_is_refused(
    what: str, how: str, installed: Installed, open_path: Path
) -> None:
    """It is 77 with the directory, before an owner changes; after the hint's command it works."""
    name, mode = CLOSED[what]
    closed = open_path / name
    if what == "two directories":
        closed.parent.chmod(mode)
    closed.chmod(mode)
    words, env = {
        "--run-as": (("--run-as", "12345:12345"), {}),
        "PUID": ((), {"PUID": "12345", "PGID": "12345"}),
        "keep": (("--run-as", "keep"), {"PUID": "12345"}),
        "migrator": (("--run-as", "12345", "migrator", "up"), {}),
    }[how]

    refused = installed.run(*words, **env)

    end = assert_failed(refused, 77, "privileges.python_unreachable")
    assert repr(str(closed.parent if what == "two directories" else closed)) in end["error"]
    assert "12345:12345" in end["error"]
    assert installed.owners() == {0}
    assert tables(installed.database) == {"users"}
    (command,) = re.findall(r"`(chmod [^`]+)`", end["hint"])
    subprocess.run(["/bin/sh", "-c", command], check=True)
    if how == "migrator":
        for path in (installed.database, installed.database.parent):
            os.chown(path, 12345, 12345)
    assert_succeeded(installed.run(*words, **env), "migrated", 1)
    assert installed.owners() == {12345}


def test_the_owner_that_a_run_is_done_as_is_asked_for_as_well(
    installed: Installed, open_path: Path
) -> None:
    """`--run-as keep` without PUID: the database's owner has to reach Python."""
    for path in (installed.database, installed.database.parent):
        os.chown(path, 12345, 12345)
    (open_path / "a home").chmod(0o700)
    end = assert_failed(installed.run("--run-as", "keep"), 77, "privileges.python_unreachable")
    assert repr(str(open_path / "a home")) in end["error"]
    assert tables(installed.database) == {"users"}


def test_root_itself_needs_nothing(installed: Installed, open_path: Path) -> None:
    """What only root can reach is no matter where the run stays root's."""
    (open_path / "a home").chmod(0o700)
    assert_succeeded(installed.run("--run-as", "keep"), "migrated", 1)
