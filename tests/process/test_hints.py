"""What a failed run says to do next really works, typed where it is read."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import entrypoint
import migrator
from migrator import errors
from tests.support.files import history, opened, rows, tables, write_migrations
from tests.support.machine import tool
from tests.support.outcomes import Before, assert_failed, assert_succeeded
from tests.support.processes import (
    LOOKING,
    PACKAGES,
    Result,
    run_entrypoint,
    run_migrator,
)

_COMMAND = re.compile(r"`(migrator [^`]+)`")
_OPTION = re.compile(r"`(--[a-z-]+ [a-z,-]+)`")


@dataclass
class Place:
    """
    A directory as a deployment has it, and the way in which its settings are given.

    Args:
        root: The working directory; the volume and the migrations lie below it.
        form: `flags`, `variables`, or `relative` for flags with relative paths.
        image: Whether a command is typed after the image's own ENTRYPOINT.
    """

    root: Path
    form: str
    image: bool

    @property
    def database(self) -> Path:
        """The database's path."""
        return self.root / "the data" / "app.db"

    @property
    def migrations(self) -> Path:
        """The migrations' directory."""
        return self.root / "migrations"

    def start(self, *args: str) -> Result:
        """Start the entrypoint with the place's settings."""
        return run_entrypoint(*self._flags(), *args, env=self._env(), cwd=self.root)

    def type(self, line: str) -> Result:
        """Run a command as it was printed, in the same working directory and environment."""
        program, *words = shlex.split(line)
        assert program == "migrator"
        if self.image:
            return behind_entrypoint(self._flags(), *words, env=self._env(), cwd=self.root)
        return run_migrator(*words, env=self._env(), cwd=self.root)

    def migrator(self, *words: str) -> Result:
        """Run `migrator` with the place's settings."""
        return run_migrator(*words, *self._flags(), env=self._env(), cwd=self.root)

    def _flags(self) -> list[str]:
        if self.form == "variables":
            return ["--wait-timeout", "0"]
        base = Path() if self.form == "relative" else self.root
        return [
            "--database",
            str(base / "the data" / "app.db"),
            f"--migrations={base / 'migrations'}",
            "--backup-dir",
            str(base / "kept here"),
            "--wait-timeout",
            "0",
        ]

    def _env(self) -> dict[str, str]:
        if self.form != "variables":
            return {}
        return {
            "MIGRATOR_DATABASE": f"sqlite:{self.database}",
            "MIGRATOR_MIGRATIONS": str(self.migrations),
            "MIGRATOR_BACKUP_DIR": str(self.root / "kept here"),
        }


def behind_entrypoint(flags: Sequence[str], *words: str, **options: Any) -> Result:
    """Run `entrypoint FLAGS migrator WORDS…`, as `docker compose run` does; looks are no runs."""
    looks = words[0] in LOOKING
    return run_entrypoint(*flags, "migrator", *words, check_log=not looks, **options)


FORMS = {
    "flags": ("flags", False),
    "variables": ("variables", False),
    "relative": ("relative", False),
    "image with flags": ("flags", True),
    "image with variables": ("variables", True),
}


@pytest.fixture(params=FORMS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return a place with two migrations applied, in each form."""
    return make_place(tmp_path, *FORMS[request.param])


@pytest.fixture
def one_place(tmp_path: Path) -> Place:
    """Return a place whose settings are given as flags."""
    return make_place(tmp_path, "flags", image=False)


def make_place(root: Path, form: str, image: bool) -> Place:
    """Make a place with two migrations, one run each."""
    place = Place(root, form, image)
    place.database.parent.mkdir()
    write_migrations(place.migrations, {"001_a.sql": "CREATE TABLE a (id);\n"})
    assert_succeeded(place.start(), "created", 1)
    write_migrations(place.migrations, {"002_b.sql": "CREATE TABLE b (id);\n"})
    assert_succeeded(place.start(), "migrated", 1)
    return place


def commands(text: str) -> list[str]:
    """Return the commands that a text gives in backticks."""
    return _COMMAND.findall(text)


def only_command(text: str) -> str:
    """Return the one command of a text."""
    (line,) = commands(text)
    return line


# --- newer -------------------------------------------------------------------------


def test_the_way_back_from_a_newer_database(place):
    """The `migrator restore NAME` of the newer refusal leads back, while the start is refused."""
    (place.migrations / "002_b.sql").unlink()
    end = assert_failed(place.start("--", "true"), 78, "history.newer")
    line, undo = commands(end["hint"])
    assert undo.startswith("migrator down --to 001")
    name = shlex.split(line)[2]
    assert (place.root / "kept here" / name).is_file()
    result = place.type(line)
    assert_succeeded(result, "migrated", 1)
    assert history(place.database) == ["001"]
    assert tables(place.database) == {"a", "migrations"}
    assert_succeeded(place.start("--", "true"), "up_to_date")


def test_the_way_back_twice_changes_nothing_more(one_place):
    """Typed again, the command finds the backup in its place already."""
    (one_place.migrations / "002_b.sql").unlink()
    line, _ = commands(one_place.start().finished["hint"])
    one_place.type(line)
    before = Before.of(one_place.database)
    assert_succeeded(one_place.type(line), "up_to_date")
    before.assert_same()


def test_no_backup_leads_back(one_place):
    """Where no backup leads back, only the newer image's own way is named, and it works there."""
    for path in (one_place.root / "kept here").glob("app.db-*"):
        path.unlink()
    newer = one_place.migrations / "002_b.sql"
    text = newer.read_text()
    newer.unlink()
    end = assert_failed(one_place.start(), 78, "history.newer")
    assert "no backup here leads back" in end["hint"]
    line = only_command(end["hint"])
    newer.write_text(f"-- migrate:up\n{text}-- migrate:down\nDROP TABLE b;\n")
    assert_succeeded(one_place.type(f"{line} --accept changed"), "migrated", 1)
    newer.unlink()
    assert_succeeded(one_place.start("--", "true"), "up_to_date")


def test_migrations_that_are_not_mounted(one_place):
    """An empty directory, as Docker makes one of a wrong path, is named; no newer image is."""
    for path in one_place.migrations.iterdir():
        path.unlink()
    end = assert_failed(one_place.start(), 78, "history.newer")
    assert "there are no migrations here" in end["error"]
    assert f"There are no migrations in {str(one_place.migrations)!r}: mount" in end["hint"]
    assert "image" not in end["hint"]


# --- other misfits --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["missing", "changed", "out-of-order"])
@pytest.mark.parametrize("how", ["flag", "variable"])
def test_accepting_a_misfit(kind, how, one_place):
    """`--accept KIND`, and the variable beside it, are taken as they are printed."""
    write_migrations(one_place.migrations, {"003_c.sql": "CREATE TABLE c (id);\n"})
    if kind == "missing":
        (one_place.migrations / "001_a.sql").unlink()
    elif kind == "changed":
        (one_place.migrations / "001_a.sql").write_text("CREATE TABLE other (id);\n")
    else:
        write_migrations(one_place.migrations, {"000_early.sql": "CREATE TABLE early (id);\n"})
    end = assert_failed(one_place.start(), 78, f"history.{kind}")
    (option,) = _OPTION.findall(end["hint"])
    (variable,) = re.findall(r"\((MIGRATOR_[A-Z]+)=([a-z-]+)\)", end["hint"])
    if how == "flag":
        result = one_place.start(*shlex.split(option))
    else:
        os.environ.pop(variable[0], None)
        flags = one_place._flags()
        result = run_entrypoint(*flags, env={variable[0]: variable[1]}, cwd=one_place.root)
    assert_succeeded(result, "migrated", 2 if kind == "out-of-order" else 1)
    assert "003" in history(one_place.database)


@pytest.mark.parametrize("before", [(), ("--accept", "missing")])
def test_accepting_several_misfits(before, one_place):
    """What is printed accepts all of them at once, what was accepted before included."""
    (one_place.migrations / "001_a.sql").unlink()
    (one_place.migrations / "002_b.sql").write_text("CREATE TABLE other (id);\n")
    write_migrations(one_place.migrations, {"003_c.sql": "CREATE TABLE c (id);\n"})
    end = assert_failed(
        one_place.start(*before), 78, f"history.{'changed' if before else 'missing'}"
    )
    (option,) = _OPTION.findall(end["hint"])
    assert_succeeded(one_place.start(*shlex.split(option)), "migrated", 1)


def test_taking_over_another_tools_history(place):
    """The `migrator baseline V` of the refusal takes the database over, and the rest is applied."""
    with opened(place.database) as conn:
        conn.execute("DROP TABLE migrations")
        conn.execute("DROP TABLE b")
        conn.execute("CREATE TABLE schema_migrations (version TEXT PRIMARY KEY)")
        conn.execute("INSERT INTO schema_migrations VALUES ('001')")
    end = assert_failed(place.start(), 78, "history.foreign")
    line = only_command(end["hint"])
    assert shlex.split(line)[:3] == ["migrator", "baseline", "001"]
    assert_succeeded(place.type(line), "migrated", 1)
    assert_succeeded(place.start(), "migrated", 1)
    assert history(place.database) == ["001", "002"]
    assert rows(place.database, "SELECT version FROM schema_migrations") == [("001",)]


@pytest.mark.parametrize("taken", ["migrations", "schema_history"])
def test_a_history_table_of_another_name(one_place, taken):
    """Where the table's name is taken, `--history-table NAME` is named, and works."""
    with opened(one_place.database) as conn:
        conn.executescript(f"DROP TABLE migrations; CREATE TABLE {taken} (id INTEGER, batch)")
        conn.executescript("DROP TABLE a; DROP TABLE b")
    end = assert_failed(one_place.start("--history-table", taken), 78, "history.not_ours")
    option = end["hint"].split("`")[1].split()
    assert_succeeded(one_place.start(*option), "migrated", 2)


# --- restore ---------------------------------------------------------------------------


def test_undoing_without_a_down(place):
    """The `migrator restore --before V` of a migration without `down` leads back before it."""
    end = assert_failed(place.migrator("down"), 78, "migrations.no_down")
    _, line = commands(end["hint"])
    assert "--before 002" in line
    assert_succeeded(place.type(line), "migrated", 1)
    assert history(place.database) == ["001"]


def test_undoing_with_a_down_that_was_written_later(place):
    """Its file is then another than the one that was applied: the command says so."""
    path = place.migrations / "002_b.sql"
    text = path.read_text()
    end = assert_failed(place.migrator("down"), 78, "migrations.no_down")
    path.write_text(f"-- migrate:up\n{text}\n-- migrate:down\nSELECT * FROM nowhere;\n")
    line, _ = commands(end["hint"])
    end = assert_failed(place.type(line), 80, "migration.failed", "failed_restored")
    path.write_text(f"-- migrate:up\n{text}\n-- migrate:down\nDROP TABLE b;\n")
    assert_succeeded(place.type(only_command(end["hint"])), "migrated", 1)
    assert history(place.database) == ["001"]


def test_undoing_without_a_file(one_place):
    """The command named for a migration whose file is gone leads back before it."""
    (one_place.migrations / "002_b.sql").unlink()
    result = one_place.migrator("down")
    end = assert_failed(result, 78, "history.missing")
    assert_succeeded(one_place.type(only_command(end["hint"])), "migrated", 1)
    assert history(one_place.database) == ["001"]


@pytest.mark.parametrize("reason", ["migrations.no_down", "history.missing"])
def test_undoing_what_no_backup_is_from_before(one_place, reason):
    """Of the first install there is no backup: no command is named that would find none."""
    if reason == "history.missing":
        (one_place.migrations / "001_a.sql").unlink()
    (one_place.migrations / "002_b.sql").write_text(
        "-- migrate:up\nCREATE TABLE b (id);\n-- migrate:down\nDROP TABLE b;\n"
    )
    accepted = ("--accept", "changed,missing", "--steps", "2")
    end = assert_failed(one_place.migrator("down", *accepted), 78, reason)
    undone = [each for each in commands(end["hint"]) if each.startswith("migrator down")]
    assert commands(end["hint"]) == undone
    assert len(undone) == (reason == "migrations.no_down")
    result = one_place.migrator("restore", "--before", "001")
    assert_failed(result, 64, "backup.unknown")


def test_a_stray_file_without_a_backup(one_place):
    """Beside a `-wal` alone no command is named that would find nothing to bring back."""
    for backup in (one_place.root / "kept here").iterdir():
        backup.unlink()
    one_place.database.rename(f"{one_place.database}-wal")
    end = assert_failed(one_place.start(), 69, "database.missing")
    assert commands(end["hint"]) == []
    assert f"{one_place.database}-wal" in end["hint"]


def test_a_lost_database_is_brought_back(place):
    """Where backups lie without their database, the commands named list them and bring it back."""
    place.database.unlink()
    end = assert_failed(place.start(), 69, "database.missing")
    listing, restoring = commands(end["hint"])
    listed = place.type(listing)
    assert listed.code == 0
    assert "app.db-" in listed.stdout
    assert_succeeded(place.type(restoring), "migrated", 1)
    assert history(place.database) == ["001"]
    assert_succeeded(place.start(), "migrated", 1)


def test_an_unknown_backup(place):
    """The command named for an unknown backup lists the ones there are."""
    end = assert_failed(place.migrator("restore", "none.db"), 64, "backup.unknown")
    listed = place.type(only_command(end["hint"]))
    assert listed.code == 0
    assert "app.db-" in listed.stdout


def test_an_unknown_version(one_place):
    """The commands named for an unknown version list the ones there are."""
    for words in (("restore", "--before", "777"), ("down", "--to", "777")):
        end = one_place.migrator(*words).finished
        listed = one_place.type(only_command(end["hint"]))
        assert listed.code == 0
        assert "001" in listed.stdout


def test_a_damaged_database(one_place):
    """The commands named for a damaged database look at it, list the backups and restore one."""
    one_place.database.write_bytes(b"no database " * 400)
    end = assert_failed(one_place.start(), 65, "database.damaged")
    looking, listing, restoring = commands(end["hint"])
    assert one_place.type(looking).code == 65
    assert one_place.type(listing).code == 0
    assert_succeeded(one_place.type(restoring), "migrated", 1)
    assert history(one_place.database) == ["001"]


def test_after_an_interrupted_restore_that_cannot_be_finished(one_place):
    """With the backup of an interrupted restore damaged, another backup is the way out."""
    write_migrations(one_place.migrations, {"003_c.sql": "CREATE TABLE c (id);\n"})
    one_place.start()
    old, new = sorted((one_place.root / "kept here").glob("*.db"))[-2:]
    note = {
        "run_id": "0123456789abcdef",
        "phase": "restore",
        "since": "2026-01-01T00:00:00Z",
        "reason": "restore",
        "database": str(one_place.database),
        "backup": new.name,
        "format": 1,
    }
    (Path(f"{one_place.database}.migrator") / "state.json").write_text(json.dumps(note))
    new.write_bytes(new.read_bytes()[:-100] + b"\xee" * 100)
    end = assert_failed(one_place.start(), 82, "restore.failed", "restore_failed")
    assert one_place.type(commands(end["hint"])[-1]).code == 0
    refused = one_place.migrator("restore", new.name)
    assert refused.code != 0
    assert_succeeded(one_place.migrator("restore", old.name), "migrated", 1)
    assert history(one_place.database) == ["001"]
    assert_succeeded(one_place.start(), "migrated", 2)


@pytest.mark.parametrize("which", [0, 1], ids=["keep", "restore"])
def test_after_an_interrupted_restore_that_somebody_has_written_over(place, which):
    """Both commands that are named work as they were printed, and the next start goes on from there."""
    newest = max((place.root / "kept here").glob("*.db"))
    note = {
        "run_id": "0123456789abcdef",
        "phase": "restore",
        "since": "2026-01-01T00:00:00Z",
        "reason": "restore",
        "database": str(place.database),
        "backup": newest.name,
        "format": 1,
    }
    (Path(f"{place.database}.migrator") / "state.json").write_text(json.dumps(note))
    end = assert_failed(place.start(), 82, "restore.superseded", "restore_failed")
    said = place.type(commands(end["hint"])[which])
    assert_succeeded(said, *(("up_to_date",), ("migrated", 1))[which])
    assert history(place.database) == (["001", "002"], ["001"])[which]
    assert place.start().code == 0
    assert history(place.database) == ["001", "002"]


@contextmanager
def planted(directory: Path) -> Iterator[dict[str, str]]:
    """Return variables with which the check after the commit fails."""
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(
        "import migrator.verify.proof\n"
        "from migrator.errors import VerificationError\n"
        "def broken(*args):\n"
        "    raise VerificationError('This is planted.', hint='Take it away.')\n"
        "migrator.verify.proof.read_back = broken\n"
    )
    yield {"PYTHONPATH": f"{directory}{os.pathsep}{PACKAGES}"}


def test_after_a_check_that_failed_when_the_database_was_released(one_place, tmp_path):
    """The `migrator restore NAME` of an 82 puts the database back."""
    write_migrations(one_place.migrations, {"003_c.sql": "CREATE TABLE c (id);\n"})
    with planted(tmp_path / "site") as env:
        result = run_entrypoint(*one_place._flags(), "--in-use", "allow", env=env)
    end = assert_failed(result, 82, "verify.after_release", "restore_failed")
    assert history(one_place.database) == ["001", "002", "003"]
    assert_succeeded(one_place.type(only_command(end["hint"])), "migrated", 1)
    assert history(one_place.database) == ["001", "002"]


# --- the image's form --------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["no volume", "newer", "bad value"])
def test_the_migrator_runs_in_the_image_while_a_start_is_refused(bad, one_place):
    """`entrypoint <flags> migrator …` prepares nothing and runs at once, whatever is wrong."""
    flags = one_place._flags()
    env: dict[str, str] = {}
    if bad == "newer":
        (one_place.migrations / "002_b.sql").unlink()
    elif bad == "no volume":
        flags += ["--mount", "require"]
        env = {"container": "test"}
    elif bad == "bad value":
        env = {"MIGRATOR_MOUNT": "nonsense", "MIGRATOR_MIGRATE": "nonsense"}
    result = behind_entrypoint(flags, "backups", env=env)
    assert (result.code, result.stderr) == (0, "")
    assert "app.db-" in result.stdout
    result = behind_entrypoint([*flags, "--"], "status", env=env)
    assert (result.code, result.stderr) == (0, "")
    assert "001" in result.stdout


def test_the_migrator_is_the_one_beside_the_entrypoint(one_place, tmp_path):
    """`migrator` is found beside the entrypoint itself, whatever `PATH` says."""
    fake = tmp_path / "bin" / "migrator"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho fake\n")
    fake.chmod(0o755)
    result = behind_entrypoint(one_place._flags(), "backups", env={"PATH": str(fake.parent)})
    assert "fake" not in result.stdout
    assert "app.db-" in result.stdout


def test_the_migrator_in_the_image_keeps_its_exit_code(one_place):
    """Behind the entrypoint a command has its own exit code and its own results."""
    write_migrations(one_place.migrations, {"003_c.sql": "CREATE TABLE c (id);\n"})
    assert behind_entrypoint(one_place._flags(), "check").code == 1
    result = behind_entrypoint(one_place._flags(), "restore", "none.db")
    assert_failed(result, 64, "backup.unknown")


CONTAINERS = {
    "docker": ({"container": "docker"}, "`docker compose run --rm SERVICE migrator …`"),
    "podman": ({"container": "podman"}, "after `podman run --rm`, its volumes and its image"),
    "kubernetes": ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "as `args` of one with this image"),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_in_a_container_a_hint_says_how_its_commands_begin(kind, one_place):
    """After the commands, which stay as they are, comes what is typed before them."""
    env, beginning = CONTAINERS[kind]
    (one_place.migrations / "002_b.sql").unlink()
    end = assert_failed(run_entrypoint(*one_place._flags(), env=env), 78, "history.newer")
    assert f" In the container: {beginning}" in end["hint"]
    assert end["hint"].count("In the container: ") == 1
    line, _ = commands(end["hint"])
    result = behind_entrypoint(one_place._flags(), *shlex.split(line)[1:], env=env)
    assert_succeeded(result, "migrated", 1)


def test_a_command_in_a_container_says_it_too(one_place):
    """Behind the entrypoint as well: what to type next begins as this began."""
    env = CONTAINERS["docker"][0]
    result = behind_entrypoint(one_place._flags(), "restore", "none.db", env=env)
    end = assert_failed(result, 64, "backup.unknown")
    assert end["hint"].endswith(" In the container: `docker compose run --rm SERVICE migrator …`.")


def test_a_hint_without_a_command_says_nothing_of_the_container(one_place):
    """A failed migration is mended in its file, and nothing is typed in the container."""
    write_migrations(one_place.migrations, {"003_bad.sql": "INSERT INTO nowhere VALUES (1);\n"})
    result = run_entrypoint(*one_place._flags(), env=CONTAINERS["docker"][0])
    end = assert_failed(result, 80, "migration.failed", "failed_restored")
    assert "In the container" not in end["hint"]


# --- the images before and after --------------------------------------------------------

ORPHAN = """
CREATE TABLE parents (id INTEGER PRIMARY KEY);
CREATE TABLE children (id REFERENCES parents (id));
INSERT INTO children VALUES (9);
"""


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        ("INSERT INTO nowhere VALUES (1);\n", 80, "migration.failed"),
        (ORPHAN, 81, "verify.foreign_keys"),
    ],
)
def test_after_a_failure_the_previous_image_starts_as_it_is(text, code, reason, one_place):
    """The hint says so, and the migrations without the failed one are up to date."""
    write_migrations(one_place.migrations, {"003_bad.sql": text})
    end = assert_failed(one_place.start("--", "true"), code, reason, "failed_restored")
    assert end["hint"].endswith(" The previous image starts as it is.")
    (one_place.migrations / "003_bad.sql").unlink()
    assert_succeeded(one_place.start("--", "true"), "up_to_date")


def test_after_a_failed_first_install_no_previous_image_is_named(tmp_path):
    """Nothing is there that an image could start on."""
    write_migrations(tmp_path / "m", {"001_bad.sql": "INSERT INTO nowhere VALUES (1);\n"})
    result = run_entrypoint("--database", tmp_path / "app.db", "--migrations", tmp_path / "m")
    end = assert_failed(result, 80, "migration.failed", "failed_restored")
    assert "previous image" not in end["hint"]
    assert not (tmp_path / "app.db").exists()


def test_down_in_the_old_image_leads_to_the_newer_one(one_place):
    """The old image lacks the file; the same command in the newer one undoes it."""
    newer = one_place.migrations / "002_b.sql"
    text = f"-- migrate:up\n{newer.read_text()}-- migrate:down\nDROP TABLE b;\n"
    newer.unlink()
    end = assert_failed(one_place.migrator("down"), 78, "history.missing")
    assert end["hint"].startswith("Run it in the newer image, which has that file")
    newer.write_text(text)
    assert_succeeded(one_place.migrator("down", "--accept", "changed"), "migrated", 1)
    assert history(one_place.database) == ["001"]


def test_down_without_a_file_from_between_asks_for_the_file(one_place):
    """Where the image has later migrations, it is not too old: the file itself is lacking."""
    (one_place.migrations / "001_a.sql").unlink()
    (one_place.migrations / "002_b.sql").write_text(
        "-- migrate:up\nCREATE TABLE b (id);\n-- migrate:down\nDROP TABLE b;\n"
    )
    result = one_place.migrator("down", "--steps", "2", "--accept", "changed,missing")
    assert assert_failed(result, 78, "history.missing")["hint"].startswith("Bring its file back")


# --- a module of the application ----------------------------------------------------------


@pytest.mark.parametrize("form", ["models.py", "models/__init__.py", "models/notes.py"])
@pytest.mark.parametrize("where", ["migrations", "database/migrations"])
def test_a_module_of_the_application_is_found_by_the_variable_in_the_hint(form, where, tmp_path):
    """It lies in a directory above the migrations: `PYTHONPATH=…`, as printed, finds it."""
    app = tmp_path / "the app"
    path = app / form
    path.parent.mkdir(parents=True)
    (path.parent / "__init__.py").touch()
    path.write_text("TABLE = 'notes'\n")
    name = form.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    text = f"""
        from {name} import TABLE

        def up(conn):
            conn.execute(f"CREATE TABLE {{TABLE}} (id)")
        """
    migrations = write_migrations(app / where, {"001_notes.py": text})
    options = ("--database", tmp_path / "app.db", "--migrations", migrations)
    end = assert_failed(run_entrypoint(*options, cwd=tmp_path), 78, "migrations.import")
    (line,) = re.findall(r"`([^`]+)`", end["hint"])
    variable, _, value = shlex.split(line)[0].partition("=")
    assert (variable, value) == ("PYTHONPATH", str(app))
    env = {variable: f"{value}{os.pathsep}{PACKAGES}"}
    assert_succeeded(run_entrypoint(*options, cwd=tmp_path, env=env), "created", 1)
    assert "notes" in tables(tmp_path / "app.db")


def test_a_module_that_is_nowhere_near(tmp_path):
    """Both are named: a package is installed, and the application's own directory is said."""
    text = "import nonesuch_module\n\n\ndef up(conn):\n    pass\n"
    migrations = write_migrations(tmp_path / "m", {"001_x.py": text})
    options = ("--database", tmp_path / "app.db", "--migrations", migrations)
    end = assert_failed(run_entrypoint(*options, cwd=tmp_path), 78, "migrations.import")
    assert "Install 'nonesuch_module' for the Python at " in end["hint"]
    assert "PYTHONPATH=/app" in end["hint"]


# --- the termination message ----------------------------------------------------------------


def in_namespace(log: Path) -> list[str]:
    """Return the command under which /dev/termination-log is a file of ours."""
    steps = (
        "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3"
        f" && touch /dev/termination-log && mount --bind '{log}' /dev/termination-log"
        ' && exec "$@"'
    )
    return [tool("unshare"), "-m", "--propagation", "private", "sh", "-c", steps, "sh"]


@pytest.mark.root
def test_the_termination_message(as_root, one_place, tmp_path):
    """Where `/dev/termination-log` can be written, error and hint are there too."""
    log = tmp_path / "termination-log"
    log.write_text("of an earlier start, and longer than what comes now " * 200)
    (one_place.migrations / "002_b.sql").unlink()
    result = run_entrypoint(*one_place._flags(), prefix=in_namespace(log))
    end = assert_failed(result, 78, "history.newer")
    assert log.read_text() == f"{end['error']}\n{end['hint']}"


@pytest.mark.root
def test_a_long_termination_message_is_cut(as_root, one_place, tmp_path):
    """It is cut to 4096 bytes, between two characters of the error: the hint is there whole."""
    log = tmp_path / "termination-log"
    log.touch()
    orphans = "".join(
        f"CREATE TABLE {'ä' * 60}_{n} (a REFERENCES parent (id));"
        f"INSERT INTO {'ä' * 60}_{n} VALUES (1);\n"
        for n in range(60)
    )
    text = f"CREATE TABLE parent (id INTEGER PRIMARY KEY);\n{orphans}"
    write_migrations(one_place.migrations, {"003_orphans.sql": text})
    result = run_entrypoint(*one_place._flags(), prefix=in_namespace(log))
    end = assert_failed(result, 81, "verify.foreign_keys", "failed_restored")
    data = log.read_bytes()
    assert 4000 < len(data) <= 4096
    error, hint = data.decode().split("\n")
    assert end["error"].startswith(error)
    assert end["hint"] == hint


@pytest.mark.root
def test_a_termination_message_that_nobody_takes_holds_nothing_up(as_root, one_place, tmp_path):
    """A pipe without a reader stands there: the run ends as it does without a message."""
    log = tmp_path / "termination-log"
    os.mkfifo(log)
    (one_place.migrations / "002_b.sql").unlink()
    result = run_entrypoint(*one_place._flags(), prefix=in_namespace(log), timeout=20)
    assert_failed(result, 78, "history.newer")


@pytest.mark.root
def test_no_termination_message_after_a_success(as_root, one_place, tmp_path):
    """A run that succeeds leaves the termination message as it was."""
    log = tmp_path / "termination-log"
    log.touch()
    result = run_entrypoint(*one_place._flags(), prefix=in_namespace(log))
    assert_succeeded(result, "up_to_date")
    assert log.read_text() == ""


# --- every error has a hint ------------------------------------------------------------------


def raised_without_hint(path: Path) -> Iterator[str]:
    """Name the places in a file where an error of ours is made without a hint."""
    kinds = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.MigratorError)
    }
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id in kinds and not {"hint", None} & {each.arg for each in node.keywords}:
            yield f"{path.name}:{node.lineno}: {node.func.id}"


@pytest.mark.parametrize("package", [migrator, entrypoint])
def test_every_error_is_made_with_a_hint(package):
    """No place in the code makes an error without saying what to do."""
    files = Path(str(package.__file__)).parent.glob("*.py")
    assert [found for path in files for found in raised_without_hint(path)] == []
