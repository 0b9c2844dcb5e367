"""The command `migrator`, given to the entrypoint: whose it is, and what it takes no notice of."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.files import history, make_database, tables, write_migrations
from tests.support.processes import Result, run_entrypoint

UP = {"users", "x", "migrations"}


@dataclass(frozen=True, slots=True)
class Kept:
    """A database of another user's, and a run of `migrator` with `--run-as keep` as root."""

    database: Path
    migrations: Path

    def run(self, *words: object, **env: str) -> Result:
        """Run `entrypoint OPTIONS migrator WORDS`."""
        given = ("--database", self.database, "--migrations", self.migrations)
        env = {"MIGRATOR_RUN_AS": "keep", **env}
        return run_entrypoint(
            *given, "migrator", *map(str, words), env=env, cwd="/", check_log=False
        )


def silent(result: Result) -> str:
    """Return what a successful command printed, which logged nothing."""
    assert (result.code, result.stderr) == (0, "")
    return result.stdout


@pytest.fixture
def kept(open_path: Path, other_user: tuple[int, int]) -> Kept:
    """Return a scene for `--run-as keep`, whose database and directory are another user's."""
    database = make_database(open_path / "data" / "app.db", "CREATE TABLE users (id)")
    for path in (database, database.parent):
        os.chown(path, *other_user)
    migrations = write_migrations(open_path / "m", {"001_x.sql": "CREATE TABLE x (id);\n"})
    return Kept(database, migrations)


@pytest.mark.root
@pytest.mark.parametrize("words", [("--help",), ("--version",), ("status", "--help")])
@pytest.mark.parametrize("who", ["keep", "nonsense"])
def test_the_migrator_tells_of_itself_without_a_database(
    as_root: None, who: str, words: tuple[str, ...]
) -> None:
    """As root, its help and version ask for no database, and for nobody to run as."""
    env = {"MIGRATOR_RUN_AS": who}
    assert silent(run_entrypoint("migrator", *words, env=env, check_log=False))


@pytest.mark.root
@pytest.mark.parametrize("given", [True, False], ids=["a database", "no database"])
def test_new_makes_a_file_without_a_database(given: bool, kept: Kept) -> None:
    """With `keep`, `migrator new` needs no database; where one is given, the file is its owner's."""
    os.chown(kept.migrations, 12345, 12345)
    words: tuple[str | Path, ...] = ("new", "add_email", "--migrations", kept.migrations)
    words += ("--database", kept.database) if given else ()
    made = Path(
        silent(
            run_entrypoint("--run-as", "keep", "migrator", *words, cwd="/", check_log=False)
        ).strip()
    )
    assert made == kept.migrations / "002_add_email.py"
    assert made.stat().st_uid == (12345 if given else 0)


@pytest.mark.root
@pytest.mark.parametrize("name", ["MIGRATOR_MOUNT", "MIGRATOR_MIGRATE"])
@pytest.mark.parametrize("words", [("status",), ("up",), ("backups",), ("verify",)])
def test_the_migrator_takes_no_notice_of_the_containers_options(
    name: str, words: tuple[str, ...], kept: Kept
) -> None:
    """With `keep` and no PUID it judges none of them, and works as the database's owner."""
    assert kept.run(*words, **{name: "nonsense"}).code == 0
    assert tables(kept.database) == (UP if words == ("up",) else {"users"})
    assert {path.stat().st_uid for path in kept.database.parent.rglob("*")} == {12345}


@pytest.mark.root
def test_the_users_own_database_decides_whose_the_run_is(kept: Kept, open_path: Path) -> None:
    """`migrator up --database` after the image's own: the owner of the one that is worked on."""
    other = make_database(open_path / "other" / "app.db", "CREATE TABLE users (id)")
    for path in (other, other.parent):
        os.chown(path, 4321, 4321)
    assert kept.run("up", "--database", other).code == 0
    assert {path.stat().st_uid for path in other.parent.rglob("*")} == {4321}
    assert history(other) == ["001"]
    assert tables(kept.database) == {"users"}
