"""Backups in one directory, of databases that all have the same path: by an id, not by the path."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.planted import Bug
from tests.support.files import describe, make_database, tables, write_migrations
from tests.support.logs import finished, split
from tests.support.machine import tool
from tests.support.processes import PACKAGES, clean_environment, run_migrator

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("as_root")]

STEP = "CREATE TABLE step_{} (x);"


@dataclass(frozen=True, slots=True)
class Ran:
    """One command that has ended."""

    code: int
    out: str
    err: str

    @property
    def finished(self) -> dict[str, object]:
        """Its `run.finished`."""
        return finished(split(self.err)[0])

    @property
    def events(self) -> set[str]:
        """The names of what it has logged."""
        return {event["event"] for event in split(self.err)[0]}


@dataclass(slots=True)
class Machine:
    """Volumes that are mounted at one path, each in a mount namespace of its own."""

    root: Path
    packages: Path = PACKAGES

    def volume(self, name: str, *, empty: bool = False) -> Path:
        """Make a volume, with a database that says whose it is."""
        (self.root / name).mkdir()
        database = self.root / name / "app.db"
        return database if empty else make_database(database, f"CREATE TABLE of_{name} (x)")

    def run(self, volume: str, *words: str) -> Ran:
        """Run a command of `migrator` where the volume is mounted at the common path."""
        given = ("--database", self.root / "data" / "app.db", "--backup-dir", self.root / "both")
        given = (*given, "--migrations", self.root / "migrations", "--wait-timeout", "0")
        line = [sys.executable, "-m", "migrator", *words, *map(str, given)]
        mount = f"mount --bind {shlex.quote(str(self.root / volume))} {self.root / 'data'}"
        done = subprocess.run(
            [tool("unshare"), "-m", "sh", "-c", f"{mount} && exec {shlex.join(line)}"],
            capture_output=True,
            text=True,
            env=clean_environment() | {"PYTHONPATH": str(self.packages)},
            cwd=self.root,
            timeout=120,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def step(self, number: int) -> None:
        """Add a migration."""
        write_migrations(self.root / "migrations", {f"{number:03d}_s.sql": STEP.format(number)})

    def names(self, volume: str) -> list[str]:
        """Return the names that `backups` lists, newest first."""
        ran = self.run(volume, "backups", "--json")
        assert ran.code == 0, ran.err
        return [each["name"] for each in json.loads(ran.out)]

    def forget_ids(self) -> None:
        """Make the backups those of a version that knew no ids."""
        for path in (self.root / "both").glob("*.json"):
            facts = json.loads(path.read_text())
            for key in ("id", "volume", "app_version"):
                del facts[key]
            path.write_text(json.dumps(facts))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine with two volumes, a directory for the backups of both, and a migration."""
    made = Machine(tmp_path)
    for name in ("data", "both", "migrations"):
        (tmp_path / name).mkdir()
    made.volume("a")
    made.volume("b")
    made.step(1)
    return made


def used_by_both(machine: Machine) -> None:
    """Have the first volume make a backup, and the second one several after it."""
    assert machine.run("a", "up").code == 0
    for number in (2, 3, 4):
        assert machine.run("b", "up", "--backup-keep", "2").code == 0
        machine.step(number)
    assert machine.run("b", "up", "--backup-keep", "2").code == 0


def test_each_lists_keeps_and_restores_its_own(machine: Machine) -> None:
    """What the other has made is not listed, pruned or restored, though it is newer."""
    used_by_both(machine)

    (own,) = machine.names("a")
    assert 2 == len(machine.names("b"))
    assert own not in machine.names("b")
    restored = machine.run("a", "restore", "latest")

    assert 0 == restored.code, restored.err
    assert {"of_a"} == tables(machine.root / "a" / "app.db")
    assert {"of_b", "migrations"} < tables(machine.root / "b" / "app.db")
    assert "backup.by_path" not in restored.events


def test_the_same_state_of_another_is_not_reused(machine: Machine) -> None:
    """Two databases with the same content have a backup each."""
    assert machine.run("a", "up").code == 0
    (machine.root / "b" / "app.db").write_bytes(
        next((machine.root / "both").glob("*.db")).read_bytes()
    )

    ran = machine.run("b", "up")

    assert 0 == ran.code
    assert "backup.finished" in ran.events
    assert 1 == len(machine.names("a")) == len(machine.names("b"))
    assert machine.names("a") != machine.names("b")


def test_a_name_of_another_is_refused_and_its_path_is_not(machine: Machine) -> None:
    """The hint's command puts it here all the same, and the database keeps its own id."""
    used_by_both(machine)
    theirs, own = machine.names("b")[0], machine.names("a")
    id_of = (machine.root / "a/app.db.migrator/identity/id").read_text()

    refused = machine.run("a", "restore", theirs)
    assert (64, "backup.unknown") == (refused.code, refused.finished["reason"])
    assert f"restore {machine.root / 'both' / theirs}" in str(refused.finished["hint"])
    assert "of_a" in tables(machine.root / "a" / "app.db")

    ran = machine.run("a", "restore", str(machine.root / "both" / theirs))
    assert 0 == ran.code, ran.err
    assert "of_b" in tables(machine.root / "a" / "app.db")
    assert "backup.by_path" in ran.events
    assert id_of == (machine.root / "a/app.db.migrator/identity/id").read_text()
    assert set(own) < set(machine.names("a"))


def test_a_first_install_on_another_volume_is_one(machine: Machine) -> None:
    """A volume with a name of its own is another one: it begins anew, and the log says so."""
    used_by_both(machine)
    database = machine.volume("c", empty=True)

    ran = machine.run("c", "up")

    assert (0, "created") == (ran.code, ran.finished["outcome"])
    assert "backup.others" in ran.events
    assert {"step_1", "step_4", "migrations"} <= tables(database)
    assert machine.names("c") == []


def test_a_volume_that_is_emptied_is_a_lost_database(machine: Machine) -> None:
    """Its id is lost with it: the start is refused, and `latest` gives the id back."""
    assert machine.run("a", "up").code == 0
    before = machine.names("a")
    id_of = (machine.root / "a/app.db.migrator/identity/id").read_text()
    (machine.root / "a").rename(machine.root / "lost")
    (machine.root / "a").mkdir()

    refused = machine.run("a", "up")
    assert (69, "database.missing") == (refused.code, refused.finished["reason"])
    assert not (machine.root / "a" / "app.db").exists()
    assert "restore latest" in str(refused.finished["hint"])

    ran = machine.run("a", "restore", "latest")
    assert 0 == ran.code, ran.err
    assert "of_a" in tables(machine.root / "a" / "app.db")
    assert "backup.by_path" in ran.events
    assert (id_of, before) == (
        (machine.root / "a/app.db.migrator/identity/id").read_text(),
        machine.names("a"),
    )


def test_the_way_out_of_the_refusal_works_as_typed(machine: Machine) -> None:
    """Where it is another database after all, `--create new` says so, once."""
    assert machine.run("a", "up").code == 0
    (machine.root / "a").rename(machine.root / "lost")
    (machine.root / "a").mkdir()
    assert "migrator up --create new" in str(machine.run("a", "up").finished["hint"])

    ran = machine.run("a", "up", "--create", "new")

    assert (0, "created") == (ran.code, ran.finished["outcome"])
    assert 0 == machine.run("a", "up").code


def test_of_a_lost_database_and_two_ids_the_name_is_asked_for(machine: Machine) -> None:
    """Which of the two it was cannot be told; each named command works as typed."""
    used_by_both(machine)
    for path in (machine.root / "both").glob("*.json"):
        facts = json.loads(path.read_text())
        path.write_text(json.dumps(facts | {"volume": None}))
    machine.volume("c", empty=True)

    refused = machine.run("c", "restore", "latest")
    assert (64, "backup.ambiguous") == (refused.code, refused.finished["reason"])
    theirs = machine.names("a")[0]
    assert f"migrator restore {theirs}" in str(refused.finished["hint"])

    assert 0 == machine.run("c", "restore", theirs).code
    assert "of_a" in tables(machine.root / "c" / "app.db")


def test_backups_from_before_ids_go_by_their_path(machine: Machine) -> None:
    """They are listed and restored, and the log says by what."""
    assert machine.run("a", "up").code == 0
    machine.forget_ids()
    (machine.root / "a/app.db.migrator/identity/id").unlink()

    assert 1 == len(machine.names("a"))
    ran = machine.run("a", "restore", "latest")

    assert 0 == ran.code, ran.err
    assert "backup.by_path" in ran.events
    assert {"of_a"} == tables(machine.root / "a" / "app.db")


def test_a_path_that_is_shared_prunes_nothing_without_an_id(machine: Machine) -> None:
    """Where another id has the same path, backups without one may be the other's."""
    assert machine.run("a", "up").code == 0
    machine.forget_ids()
    (machine.root / "a/app.db.migrator/identity/id").unlink()
    (early,) = machine.names("a")
    machine.step(2)
    assert machine.run("a", "up").code == 0
    for number in (3, 4):
        assert machine.run("b", "up", "--backup-keep", "1").code == 0
        machine.step(number)

    assert machine.run("b", "up", "--backup-keep", "1").code == 0

    assert (machine.root / "both" / early).exists()


@pytest.mark.parametrize("below", ["", "failed", "x/y", "../app.db.migrator/z"])
def test_a_backup_directory_in_our_own_is_64(tmp_path: Path, below: str) -> None:
    """What a run has left is deleted there; nothing is made or changed."""
    database = make_database(tmp_path / "app.db", "CREATE TABLE t (x)")
    (tmp_path / "link").symlink_to(tmp_path / "app.db.migrator")
    files = write_migrations(tmp_path / "migrations", {"001_x.sql": STEP.format(1)})
    for base in ("app.db.migrator", "link"):
        where = tmp_path / base / below
        given = ("--database", database, "--migrations", files, "--backup-dir", where)
        ran = run_migrator("up", *given)
        assert (64, "usage") == (ran.code, ran.finished["reason"])
        assert str(tmp_path / "backups") in ran.finished["hint"]
    assert {"t"} == tables(database)
    assert not (tmp_path / "app.db.migrator").exists()


@pytest.mark.parametrize(
    "where",
    ["app.db", "app.db/x", "app.db-wal", "app.db-journal/x", "x" * 256, "/".join("x" * 2000)],
)
def test_a_backup_directory_that_cannot_be_one_is_64(tmp_path: Path, where: str) -> None:
    """One in the place of the database or of its `-wal`, or of an impossible name, is not made."""
    database = make_database(tmp_path / "app.db", "CREATE TABLE t (x)")
    files = write_migrations(tmp_path / "migrations", {"001_x.sql": STEP.format(1)})
    given = ("--database", database, "--migrations", files, "--backup-dir", tmp_path / where)
    for command in ("up", "check", "backups"):
        ran = run_migrator(command, *given)
        assert (64, "usage") == (ran.code, ran.finished["reason"])
        assert str(tmp_path / "backups") in ran.finished["hint"]
    assert {"t"} == tables(database)
    assert {"app.db", "migrations"} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("name", ["app.db-2.db", "app.db-000002-old.db", "app.db-1-notes.txt"])
def test_what_only_looks_like_a_backup_is_none(tmp_path: Path, name: str) -> None:
    """What `backups` does not list forbids no first install, and stays as it is."""
    (tmp_path / "backups").mkdir()
    (tmp_path / "backups" / name).write_text("somebody's")
    files = write_migrations(tmp_path / "migrations", {"001_x.sql": STEP.format(1)})
    given = ("--database", tmp_path / "app.db", "--migrations", files, "--wait-timeout", "0")

    assert run_migrator("backups", "--json", *given).stdout.strip() == "[]"
    ran = run_migrator("up", *given)

    assert (0, "created") == (ran.code, ran.finished["outcome"])
    assert "somebody's" == (tmp_path / "backups" / name).read_text()


@pytest.mark.parametrize("kind", ["directory", "link", "json of another shape", "huge number"])
def test_a_backups_name_alone_makes_no_backup(tmp_path: Path, kind: str) -> None:
    """A run passes over it, and its own backup is found."""
    database = make_database(tmp_path / "app.db", "CREATE TABLE t (x)")
    path = tmp_path / "backups" / "app.db-000007-x.db"
    path.parent.mkdir()
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(database)
    elif kind == "huge number":
        path = path.with_name("app.db-99999999999999999999999-x.db")
    if kind == "json of another shape":
        path.touch()
        path.with_name(f"{path.name}.json").write_text('{"format": "1", "id": [1]}')
    else:
        describe(path, database)
    files = write_migrations(tmp_path / "migrations", {"001_x.sql": STEP.format(1)})
    given = ("--database", database, "--migrations", files)

    assert 0 == run_migrator("up", *given).code
    (own,) = json.loads(run_migrator("backups", "--json", *given).stdout)

    assert {"name", "path", "created_at", "bytes", "sha256", "version", "reason"} < set(own)
    assert own["app_version"] is None
    assert 0 == run_migrator("restore", "latest", *given).code
    assert {"t"} == tables(database)


@pytest.mark.parametrize("text", ["", "nonsense\n", "0" * 31, "\xff" * 40])
def test_an_id_that_is_none_is_78(tmp_path: Path, text: str) -> None:
    """No crash leaves it so: nothing is made on the strength of it; the hint is the way out."""
    database = make_database(tmp_path / "app.db", "CREATE TABLE t (x)")
    path = tmp_path / "app.db.migrator" / "identity" / "id"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="latin-1")
    files = write_migrations(tmp_path / "migrations", {"001_x.sql": STEP.format(1)})
    given = ("--database", database, "--migrations", files)

    ran = run_migrator("up", *given)
    assert (78, "identity.unreadable") == (ran.code, ran.finished["reason"])
    assert {"t"} == tables(database)
    assert f"rm {path}" in ran.finished["hint"]

    path.unlink()
    assert 0 == run_migrator("up", *given).code


BUGS = (
    Bug(
        "the list goes by the path",
        "migrator/backups/owner.py",
        "each.id in ids or (each.id is None and has_path(layout, each))",
        "ids is not None and has_path(layout, each)",
        "test_each_lists_keeps_and_restores_its_own",
        (),
        (),
    ),
    Bug(
        "pruning goes by the path",
        "migrator/backups/owner.py",
        "    ours = of_this(layout, backups)\n    if is_beside(layout):\n",
        "    ours = list(backups)\n    if True:\n",
        "test_each_lists_keeps_and_restores_its_own",
        (),
        (),
    ),
    Bug(
        "what is reused goes by the path",
        "migrator/backups/catalog.py",
        "        return owner.of_this(layout, readable_backups(layout))\n",
        "        return readable_backups(layout)\n",
        "test_the_same_state_of_another_is_not_reused",
        (),
        (),
    ),
    Bug(
        "every other volume is a lost one",
        "migrator/database/volume.py",
        "    return mine == its and here != there\n",
        "    return False\n",
        "test_a_first_install_on_another_volume_is_one",
        (),
        (),
    ),
    Bug(
        "every lost volume is another one",
        "migrator/database/volume.py",
        "    return mine == its and here != there\n",
        "    return True\n",
        "test_a_volume_that_is_emptied_is_a_lost_database",
        (),
        (),
    ),
)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_planted_bugs_are_found(bug: Bug, machine: Machine, tmp_path: Path) -> None:
    """Each test has teeth: on a program with the bug it fails."""
    (tmp_path / "planted").mkdir()
    machine.packages = bug.plant(tmp_path / "planted")
    with pytest.raises((AssertionError, KeyError, ValueError)):
        globals()[bug.scene](machine)
