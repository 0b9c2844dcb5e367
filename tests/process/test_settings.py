"""Each flag and each variable in a real run: its effect, its bad values, which of two decides."""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from entrypoint.options import MIGRATE, MOUNT, RUN_AS
from migrator.commands.table import COMMANDS
from migrator.options.model import Option
from migrator.options.table import ENGINE_OPTIONS
from tests.support import others
from tests.support.files import history, make_database, opened, rows, tables, write_migrations
from tests.support.outcomes import Before, assert_failed, assert_succeeded
from tests.support.processes import (
    Result,
    clean_environment,
    command,
    run_entrypoint,
    run_migrator,
)

ALL: tuple[Option, ...] = (*ENGINE_OPTIONS, MIGRATE, MOUNT, RUN_AS)
BY_FLAG = {option.flag: option for option in ALL}
Ways = pytest.mark.parametrize("way", ["flag", "variable"])


@dataclass
class Scene:
    """A volume, its database and migrations, and how one setting is given to a run."""

    database: Path
    migrations: Path
    way: str
    flags: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)

    def give(self, flag: str, value: object) -> None:
        """Give one setting, as a flag or as its variable."""
        self.flags.pop(flag, None)
        if self.way == "flag":
            self.flags[flag] = str(value)
        else:
            self.env[str(BY_FLAG[flag].variable)] = str(value)

    def run(
        self,
        flag: str = "",
        value: object = "",
        run: Callable[..., Result] = run_entrypoint,
        words: tuple[str, ...] = (),
        **options: Any,
    ) -> Result:
        """Run, with one setting given on top of the usual ones."""
        if flag:
            self.give(flag, value)
        given = [part for pair in self.flags.items() for part in pair]
        env = {**self.env, **options.pop("env", {})}
        return run(*given, *words, env=env, **options)


@pytest.fixture
def scene(database: Path, migrations: Path, request: pytest.FixtureRequest) -> Scene:
    """Return a scene with database and migrations given as flags, and nothing waited for."""
    return Scene(
        database,
        migrations,
        request.getfixturevalue("way") if "way" in request.fixturenames else "flag",
        {
            "--database": str(database),
            "--migrations": str(migrations),
            "--wait-timeout": "0",
        },
    )


# --- the effect of each ---------------------------------------------------------


@Ways
@pytest.mark.parametrize("form", ["{}", "sqlite:{}", "sqlite:///{}"])
def test_database(way, form, scene):
    """The database is a path, `sqlite:/abs` or `sqlite:////abs`, by flag or variable."""
    scene.give("--database", form.format(scene.database))
    result = scene.run()
    assert_succeeded(result, "migrated", 2)
    assert result.finished["database"] == str(scene.database)
    assert history(scene.database) == ["001", "002"]


@Ways
def test_a_relative_database(way, scene):
    """A relative path counts from the working directory, and the log has the absolute one."""
    scene.give("--database", "app.db")
    result = scene.run(cwd=scene.database.parent)
    assert_succeeded(result, "migrated", 2)
    assert result.finished["database"] == str(scene.database)


@Ways
def test_three_slashes_are_refused_with_both_readings(way, scene):
    """`sqlite:///x` means different files to different tools: 64, with both readings."""
    before = Before.of(scene.database)
    end = assert_failed(scene.run("--database", "sqlite:///data/app.db"), 64, "usage")
    assert "'data/app.db'" in end["error"]
    assert "'/data/app.db'" in end["error"]
    assert "'data/app.db'" in end["hint"]
    assert "'/data/app.db'" in end["hint"]
    before.assert_untouched()


@Ways
def test_migrations(way, scene, tmp_path):
    """`--migrations` is the directory that is run."""
    other = write_migrations(tmp_path / "other", {"007_x.sql": "CREATE TABLE seven (id);\n"})
    assert_succeeded(scene.run("--migrations", other), "migrated", 1)
    assert history(scene.database) == ["007"]


@Ways
def test_a_registry_with_a_factory(way, scene, tmp_path):
    """`FILE.py:FACTORY` names the function that makes the registry."""
    file = tmp_path / "registry.py"
    file.write_text(
        "class M:\n"
        "    name, version, description = 'first', '1.0.0', 'the first'\n"
        "    def up_func(self, cursor):\n"
        "        cursor.execute('CREATE TABLE from_factory (id)')\n"
        "class R:\n"
        "    migrations = [M()]\n"
        "def make_runner(db_path):\n"
        "    return R()\n"
    )
    assert_succeeded(scene.run("--migrations", f"{file}:make_runner"), "migrated", 1)
    assert rows(scene.database, "SELECT migration_name FROM migrations") == [("first",)]


@Ways
def test_backup_dir(way, scene, tmp_path):
    """`--backup-dir` is where the backup goes, and nothing goes beside the database."""
    result = scene.run("--backup-dir", tmp_path / "elsewhere")
    assert_succeeded(result, "migrated", 2)
    (backup,) = (tmp_path / "elsewhere").glob("*.db")
    assert result.one("backup.finished")["path"] == str(backup)
    assert not (scene.database.parent / "backups").exists()


@Ways
@pytest.mark.parametrize(("keep", "left"), [(0, 0), (1, 1), (2, 2), (9, 3)])
def test_backup_keep(way, keep, left, scene):
    """`--backup-keep N` keeps the newest N; with 0 the run's own goes once it is verified."""
    for number in range(3, 6):
        write_migrations(scene.migrations, {f"{number:03}_x.sql": "SELECT 1;\n"})
        result = scene.run("--backup-keep", keep)
        assert result.code == 0
    backups = list((scene.database.parent / "backups").glob("*.db"))
    assert len(backups) == left
    if keep == 0:
        assert result.one("backup.pruned")["path"] == result.one("backup.finished")["path"]


@Ways
def test_create(way, scene):
    """`--create never` refuses a first install, and `auto` makes it."""
    scene.give("--database", scene.database.parent / "new.db")
    write_migrations(scene.migrations, {"001_add_email.py": "def up(conn):\n    pass\n"})
    assert_failed(scene.run("--create", "never"), 69, "database.missing")
    assert_succeeded(scene.run("--create", "auto"), "created", 2)


@Ways
def test_wait_timeout(way, scene, tmp_path):
    """`--wait-timeout` is how long a missing directory is waited for; 0 looks once."""
    scene.flags["--database"] = str(tmp_path / "later" / "app.db")
    once = scene.run("--wait-timeout", "0")
    assert_failed(once, 69, "volume.directory_missing")
    assert once.named("volume.waiting") == []
    longer = scene.run("--wait-timeout", ".8")
    assert_failed(longer, 69, "volume.directory_missing")
    assert longer.named("volume.waiting")
    assert longer.finished["seconds"] >= 0.5


@Ways
def test_lock_timeout(way, scene):
    """`--lock-timeout` is how long another run is waited for."""
    home = Path(f"{scene.database}.migrator")
    home.mkdir(mode=0o700)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = scene.run("--lock-timeout", "0.5")
    end = assert_failed(result, 75, "lock.timeout")
    assert "0.5" in end["error"]
    assert result.one("lock.waiting")["timeout"] == 0.5


@Ways
@pytest.mark.parametrize("in_use", ["wait", "allow"])
def test_in_use(way, in_use, scene):
    """`--in-use allow` migrates beside a connection that is open; `wait` does not."""
    with others.idle_connection(scene.database):
        result = scene.run("--in-use", in_use)
    if in_use == "allow":
        assert_succeeded(result, "migrated", 2)
    else:
        assert_failed(result, 69, "database.in_use")
        assert tables(scene.database) == {"users", "notes"}


@Ways
def test_accept(way, scene):
    """`--accept KIND,KIND` warns about these misfits instead of refusing them."""
    scene.run()
    write_migrations(scene.migrations, {"000_early.sql": "SELECT 1;\n"})
    (scene.migrations / "002_create_tags.sql").write_text("SELECT 2;\n")
    assert_failed(scene.run(), 78, "history.changed")
    assert_failed(scene.run("--accept", "changed"), 78, "history.out-of-order")
    result = scene.run("--accept", "changed, out-of-order")
    assert_succeeded(result, "migrated", 1)
    kinds = [each["kind"] for each in result.named("history.misfit")]
    assert set(kinds) == {"changed", "out-of-order"}


@Ways
def test_history_table(way, scene):
    """`--history-table` is the table's name."""
    assert_succeeded(scene.run("--history-table", "our$history"), "migrated", 2)
    assert history(scene.database, "our$history") == ["001", "002"]
    assert "migrations" not in tables(scene.database)


LOSES = """
CREATE TABLE fewer (id INTEGER PRIMARY KEY, user_id INTEGER, text TEXT);
INSERT INTO fewer SELECT * FROM notes WHERE id < 3;
DROP TABLE notes;
ALTER TABLE fewer RENAME TO notes;
"""


@Ways
@pytest.mark.parametrize(
    ("guard", "text", "code"),
    [
        ("on", LOSES, 81),
        ("off", LOSES, 0),
        ("on", "DELETE FROM notes;\n", 0),
        ("strict", "DELETE FROM notes;\n", 81),
        ("strict", "-- migrate:allow-row-loss notes\nDELETE FROM notes;\n", 0),
    ],
)
def test_row_guard(way, guard, text, code, scene, tmp_path):
    """`--row-guard` refuses losses that were not said, each loss, or none."""
    scene.flags["--migrations"] = str(write_migrations(tmp_path / "m", {"001_x.sql": text}))
    result = scene.run("--row-guard", guard)
    if code:
        assert_failed(result, 81, "rows.lost", "failed_restored")
        assert rows(scene.database, "SELECT count(*) FROM notes") == [(3,)]
    else:
        assert_succeeded(result, "migrated", 1)
        assert rows(scene.database, "SELECT count(*) FROM notes") != [(3,)]


@Ways
@pytest.mark.parametrize(
    ("level", "pragma"), [("quick", "quick_check"), ("full", "integrity_check")]
)
def test_verify(way, level, pragma, scene):
    """`--verify` chooses the structural check before the commit."""
    result = scene.run("--verify", level)
    assert_succeeded(result, "migrated", 2)
    assert pragma in result.named("verify.finished")[-1]["check"]


@Ways
def test_log_format(way, scene):
    """`--log-format console` makes lines for people: what, how long, and no `key=value`."""
    result = scene.run("--log-format", "console", check_log=False)
    assert result.code == 0
    lines = result.stderr.splitlines()
    assert len(lines) > 5
    assert not any(line.startswith("{") for line in lines)
    assert "\x1b" not in result.stderr, "no colours where stderr is no terminal"
    assert str(scene.database) in lines[0]
    # A run of less than 0.05 s is told without its time.
    end = r"The database was brought to its new state( \(\d+\.\d s\))?\.$"
    assert len([line for line in lines if re.search(end, line)]) == 1
    assert "=" not in result.stderr


@Ways
@pytest.mark.parametrize("level", ["debug", "info", "warning", "ERROR"])
def test_log_level(way, level, scene):
    """`--log-level` drops what is below it, but never `run.finished`."""
    result = scene.run("--log-level", level)
    assert_succeeded(result, "migrated", 2)
    order = ["debug", "info", "warning", "error"]
    least = order.index(level.lower())
    kept = [each for each in result.events if each["event"] != "run.finished"]
    assert all(order.index(each["level"]) >= least for each in kept)
    assert bool(kept) == (least < 2)
    assert ("debug" in {each["level"] for each in kept}) == (level == "debug")


@Ways
@pytest.mark.parametrize("migrate", ["run", "wait", "skip"])
def test_migrate(way, migrate, scene):
    """`--migrate` runs what is pending, waits for another to do it, or touches nothing."""
    before = Before.of(scene.database)
    result = scene.run("--migrate", migrate, words=("--", "true"))
    if migrate == "run":
        assert_succeeded(result, "migrated", 2)
        return
    before.assert_untouched()
    if migrate == "wait":
        assert_failed(result, 69, "migrations.pending")
    else:
        assert_succeeded(result, "skipped")
        assert result.one("run.skipped")["level"] == "warning"
        assert result.names[-1] == "app.exec"


@Ways
@pytest.mark.parametrize("mount", ["require", "warn", "ignore"])
def test_mount(way, mount, scene):
    """`--mount` refuses, warns about, or says nothing of a place that goes with the container."""
    result = scene.run("--mount", mount, env={"container": "test"})
    said = result.named("volume.not_mounted")
    if mount == "require":
        if result.code == 0:
            pytest.skip("the temporary directory is a mount of its own")
        assert_failed(result, 69, "volume.not_mounted")
        assert tables(scene.database) == {"users", "notes"}
    else:
        assert_succeeded(result, "migrated", 2)
    assert [each["level"] for each in said] == {
        "require": ["error"],
        "warn": ["warning"],
        "ignore": [],
    }[mount]


@pytest.mark.parametrize("mount", ["require", "warn"])
def test_nothing_is_said_of_mounts_on_a_plain_host(mount, scene):
    """Outside any container nothing is said about mounts."""
    if os.path.exists("/.dockerenv") or "container" in os.environ:
        pytest.skip("this is, or looks like, a container")
    result = scene.run("--mount", mount)
    assert_succeeded(result, "migrated", 2)
    assert result.named("volume.not_mounted") == []


@pytest.mark.root
@pytest.mark.parametrize("way", ["flag", "variable", "PUID"])
def test_run_as(way, other_user, open_path, scene):
    """`--run-as`, or PUID and PGID, is who the run and the application are."""
    database = make_database(
        open_path / "data" / "app.db", "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)"
    )
    scene.flags["--database"] = str(database)
    scene.flags["--migrations"] = str(
        write_migrations(open_path / "migrations", {"001_x.sql": "CREATE TABLE x (id);\n"})
    )
    if way == "PUID":
        scene.env.update(PUID="12345", PGID="12346")
    else:
        scene.give("--run-as", "12345:12346")
    result = scene.run(words=("--", "sh", "-c", "id -u; id -g; echo $HOME"), cwd="/")
    assert_succeeded(result, "migrated", 1)
    assert result.stdout.split() == ["12345", "12346", "/"]
    assert (database.stat().st_uid, database.stat().st_gid) == (12345, 12346)
    assert Path(f"{database}.migrator").stat().st_uid == 12345


@pytest.mark.root
@Ways
def test_run_as_keep(way, other_user, open_path, scene):
    """With `keep` the run is done as the database's owner and the application starts as root."""
    database = make_database(open_path / "data" / "app.db", "CREATE TABLE users (id)")
    for path in (database, database.parent):
        os.chown(path, 12345, 12345)
    scene.flags["--database"] = str(database)
    scene.flags["--migrations"] = str(
        write_migrations(
            open_path / "migrations",
            {
                "001_x.py": """
                    import os

                    def up(conn):
                        conn.execute("CREATE TABLE who AS SELECT ? AS uid", (os.getuid(),))
                    """
            },
        )
    )
    result = scene.run("--run-as", "keep", words=("--", "id", "-u"), cwd="/")
    assert_succeeded(result, "migrated", 1)
    assert result.stdout.split() == ["0"]
    assert rows(database, "SELECT uid FROM who") == [(12345,)]
    assert database.stat().st_uid == 12345


# --- which of two decides -----------------------------------------------------------

GOOD = {
    "--format": "native",
    "--app-version": "1.2",
    "--backup-dir": "{volume}/b",
    "--backup-keep": "3",
    "--create": "auto",
    "--wait-timeout": "1",
    "--lock-timeout": "1",
    "--in-use": "wait",
    "--accept": "missing",
    "--history-table": "migrations",
    "--row-guard": "on",
    "--verify": "quick",
    "--log-format": "json",
    "--log-level": "info",
    "--migrate": "run",
    "--mount": "warn",
}

BAD = {
    "--format": ["rails"],
    "--migrate-command": ["a 'b"],
    "--pending-command": ["'"],
    "--app-version": [" 1.2"],
    "--backup-keep": ["-1"],
    "--create": ["yes"],
    "--wait-timeout": ["60s", "-1"],
    "--lock-timeout": ["10m"],
    "--in-use": ["maybe"],
    "--accept": ["changed,,missing", "all"],
    "--history-table": ["my table"],
    "--row-guard": ["yes"],
    "--verify": ["none"],
    "--log-format": ["text"],
    "--log-level": ["warn"],
    "--migrate": ["no"],
    "--mount": ["required"],
    "--run-as": ["nobody", "1000:"],
    "--database": [":memory:", "postgres://x/y"],
}
"""One or two of each: the table of all bad values is that of the unit tests."""


def test_every_option_is_in_these_tables():
    """No option is left out of the two tables by mistake."""
    commands = {"--migrate-command", "--pending-command"}  # tests/process/test_migrate_command.py
    files = {"--database", "--migrations", "--connect"}
    switches = {"--rehearse"}  # below
    assert {*GOOD, *files, *switches, "--run-as"} | commands == BY_FLAG.keys()
    assert {*BAD, *switches, "--migrations", "--connect", "--backup-dir"} == BY_FLAG.keys()


@pytest.mark.parametrize("flag", GOOD)
def test_a_flag_beats_its_variable(flag, scene):
    """A flag beats its variable, which is then not even looked at."""
    scene.flags[flag] = GOOD[flag].format(volume=scene.database.parent)
    bad = BAD.get(flag, ["/proc/nowhere"])[0]
    result = scene.run(env={str(BY_FLAG[flag].variable): bad})
    assert_succeeded(result, "migrated", 2)


def test_a_switch_beats_its_variable(scene):
    """`--rehearse` takes no value, and its variable is not looked at beside it: alone it is 64."""
    bad = {"MIGRATOR_REHEARSE": "perhaps"}
    given = ("--database", scene.database, "--migrations", scene.migrations)
    assert run_entrypoint(*given, env=bad).code == 64
    assert_succeeded(run_entrypoint(*given, "--rehearse", env=bad), "migrated", 2)


def test_the_database_and_migrations_flags_beat_their_variables(scene):
    """The two flags that every start has beat their variables as well."""
    env = {"MIGRATOR_DATABASE": "sqlite:///x", "MIGRATOR_MIGRATIONS": "/nowhere"}
    assert_succeeded(scene.run(env=env), "migrated", 2)


def test_the_last_of_a_repeated_flag_decides(scene, tmp_path):
    """Of a flag given twice the last one counts: what follows an image's ENTRYPOINT decides."""
    result = run_entrypoint(
        "--database",
        tmp_path / "none" / "x.db",
        "--migrations",
        "/nowhere",
        "--database",
        scene.database,
        "--migrations",
        scene.migrations,
    )
    assert_succeeded(result, "migrated", 2)


@pytest.mark.parametrize("run", [run_entrypoint, run_migrator])
def test_an_empty_variable_counts_as_not_set(run, scene):
    """Compose and Helm write empty variables: each of them counts as not set."""
    env = {str(option.variable): "" for option in ALL} | {"PUID": "", "PGID": ""}
    words = ("up",) if run is run_migrator else ()
    result = scene.run(run=run, words=words, env=env)
    assert_succeeded(result, "migrated", 2)
    assert result.named("settings.ignored") == []
    assert list((scene.database.parent / "backups").glob("*.db"))


@Ways
@pytest.mark.parametrize(("flag", "value"), [(flag, value) for flag in BAD for value in BAD[flag]])
def test_a_bad_value_is_64_with_its_name_and_what_is_allowed(way, flag, value, scene):
    """A bad value is 64 and names flag or variable, the value, and what is allowed."""
    before = Before.of(scene.database)
    result = scene.run(flag, value)
    option = BY_FLAG[flag]
    end = assert_failed(result, 64, "usage")
    assert (flag if way == "flag" else str(option.variable)) in end["error"]
    assert repr(value) in end["error"]
    assert option.allows() in end["error"]
    assert end["retryable"] is False
    assert end["applied"] == 0
    before.assert_untouched()


@pytest.mark.parametrize(("name", "value"), [("PUID", "me"), ("PGID", "users"), ("PUID", "-1")])
def test_a_bad_puid_is_64(name, value, scene):
    """PUID and PGID are numbers."""
    env = {"PUID": "1000", "PGID": "1000", name: value}
    end = assert_failed(scene.run(env=env), 64, "usage")
    assert name in end["error"]
    assert repr(value) in end["error"]


@pytest.mark.parametrize("flag", sorted(BY_FLAG))
def test_an_empty_flag_is_64(flag, scene):
    """An empty flag is a mistake, unlike an empty variable."""
    before = Before.of(scene.database)
    scene.flags.pop(flag, None)
    given = [part for pair in scene.flags.items() for part in pair]
    words = [flag, ""] if len(flag) % 2 else [f"{flag}="]
    end = assert_failed(run_entrypoint(*given, *words), 64, "usage")
    assert flag in end["error"]
    before.assert_untouched()


@pytest.mark.parametrize("run", [run_entrypoint, run_migrator])
@pytest.mark.parametrize(
    ("typed", "meant"),
    [("--databse", "--database"), ("--backup_keep", "--backup-keep"), ("--lock-timeot", "--lock")],
)
def test_an_unknown_flag_is_64_with_the_one_that_was_meant(run, typed, meant, scene):
    """An unknown flag is 64, and the near one is named."""
    words = ("up",) if run is run_migrator else ()
    end = assert_failed(run(*words, typed, "5", "--database", scene.database), 64, "usage")
    assert typed in end["error"]
    assert meant in end["error"] + end["hint"]


# --- variables that are not ours ---------------------------------------------------


@pytest.mark.parametrize("run", [run_entrypoint, run_migrator])
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MIGRATOR_DATABSE", "MIGRATOR_DATABASE"),
        ("MIGRATOR_BACKUPDIR", "MIGRATOR_BACKUP_DIR"),
        ("MIGRATOR_MIGRATION", "MIGRATOR_MIGRATIONS"),
        ("MIGRATR_IN_USE", "MIGRATOR_IN_USE"),
        ("MIGRATOR_RUNAS", "MIGRATOR_RUN_AS"),
        ("MIGRATOR_MOUTN", "MIGRATOR_MOUNT"),
    ],
)
def test_a_variable_one_slip_away_is_64(run, name, meant, scene):
    """A variable one slip away from one of ours is 64 and names both."""
    before = Before.of(scene.database)
    words = ("up",) if run is run_migrator else ()
    end = assert_failed(scene.run(run=run, words=words, env={name: "a value"}), 64, "usage")
    assert name in end["error"]
    assert "'a value'" in end["error"]
    assert meant in end["error"]
    before.assert_untouched()


@pytest.mark.parametrize("run", [run_entrypoint, run_migrator])
def test_any_other_unknown_variable_is_a_warning(run, scene):
    """A rolled-back image meets newer variables: a warning, without the value."""
    words = ("up",) if run is run_migrator else ()
    result = scene.run(run=run, words=words, env={"MIGRATOR_SHINY_FEATURE": "s3cret"})
    assert_succeeded(result, "migrated", 2)
    warning = result.one("settings.ignored")
    assert warning["level"] == "warning"
    assert warning["variable"] == "MIGRATOR_SHINY_FEATURE"
    assert "s3cret" not in result.stderr


SERVICE_LINKS = {
    "MIGRATOR_SERVICE_HOST": "10.0.0.11",
    "MIGRATOR_SERVICE_PORT": "80",
    "MIGRATOR_SERVICE_PORT_HTTP": "80",
    "MIGRATOR_PORT": "tcp://10.0.0.11:80",
    "MIGRATOR_PORT_80_TCP": "tcp://10.0.0.11:80",
    "MIGRATOR_PORT_80_TCP_PROTO": "tcp",
    "MIGRATOR_PORT_80_TCP_PORT": "80",
    "MIGRATOR_PORT_80_TCP_ADDR": "10.0.0.11",
    "MIGRATOR_DATABASE_SERVICE_HOST": "10.0.0.12",
    "MIGRATOR_DATABASE_PORT": "tcp://10.0.0.12:5432",
    "MIGRATOR_DATABASE_PORT_5432_TCP": "tcp://10.0.0.12:5432",
    "MIGRATOR_DATABASE_PORT_5432_TCP_ADDR": "10.0.0.12",
}


@pytest.mark.parametrize("run", [run_entrypoint, run_migrator])
def test_service_links_are_nothing_at_all(run, scene):
    """Kubernetes' service links are neither settings nor mistakes nor worth a word."""
    words = ("up",) if run is run_migrator else ()
    result = scene.run(run=run, words=words, env=SERVICE_LINKS)
    assert_succeeded(result, "migrated", 2)
    assert result.named("settings.ignored") == []


@pytest.mark.parametrize("name", ["up", "status", "check", "plan", "backups", "verify"])
def test_the_migrator_ignores_the_containers_variables(name, scene):
    """`migrator` takes no notice of the container's variables, whatever their value."""
    env = {
        "MIGRATOR_MIGRATE": "nonsense",
        "MIGRATOR_MOUNT": "nonsense",
        "MIGRATOR_RUN_AS": "nonsense",
        "PUID": "nonsense",
        "PGID": "nonsense",
    }
    result = scene.run(run=run_migrator, words=(name,), env=env)
    assert result.code == (1 if name == "check" else 0)
    assert result.named("settings.ignored") == []


@pytest.mark.parametrize("flag", ["--mount", "--run-as", "--migrate"])
def test_the_migrator_has_no_container_flags(flag, scene):
    """The container's flags are the entrypoint's alone."""
    result = scene.run(run=run_migrator, words=("up", flag, "run"))
    end = assert_failed(result, 64, "usage")
    assert flag in end["error"]


def test_options_of_the_migrator_stand_before_or_after_the_command(scene):
    """`migrator` takes its options before or after the command."""
    flags = ("--database", scene.database, "--migrations", scene.migrations)
    before = run_migrator(*flags, "status", "--json")
    after = run_migrator("status", *flags, "--json")
    assert before.stdout == after.stdout
    assert before.code == after.code == 0


# --- help and version -----------------------------------------------------------------


def silent(result: Result) -> str:
    """Return what a successful command printed, which logged nothing."""
    assert (result.code, result.stderr) == (0, "")
    return result.stdout


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_the_entrypoint(flag):
    """`--help` shows every flag, every variable and an example, on stdout, and touches nothing."""
    text = silent(run_entrypoint(flag))
    for option in ALL:
        assert option.flag in text
        assert str(option.variable) in text
    assert "PUID" in text
    assert "entrypoint --database" in text


@pytest.mark.parametrize("words", [(), ("--verify", "full")])
def test_no_command_prints_the_help_on_stderr(words):
    """Nobody asked for a result, so standard output stays empty, and no log line is in between."""
    command = [sys.executable, "-m", "migrator", *words]
    done = subprocess.run(
        command, env=clean_environment(), check=False, capture_output=True, text=True
    )
    assert (64, "") == (done.returncode, done.stdout)
    assert done.stderr == silent(run_migrator("--help"))


def test_a_command_of_the_migrator_without_its_name_leads_to_it(database, migrations):
    """`docker run IMAGE status`: 127 says what was meant."""
    result = run_entrypoint("--database", database, "--migrations", migrations, "status")
    assert 127 == result.code
    assert result.finished["hint"].startswith("Did you mean `migrator status --database ")


def test_help_of_the_migrator():
    """`migrator --help` lists every command and every option."""
    text = silent(run_migrator("--help"))
    for each in COMMANDS:
        assert each.name in text
    for option in ENGINE_OPTIONS:
        assert option.flag in text
    assert "--run-as" not in text


@pytest.mark.parametrize("name", [each.name for each in COMMANDS])
def test_help_of_each_command_shows_an_example(name):
    """Each command's `--help` shows its usage and an example that parses."""
    text = silent(run_migrator(name, "--help"))
    each = next(each for each in COMMANDS if each.name == name)
    assert each.usage in " ".join(text.split())  # a long one is wrapped
    assert each.example in text


@pytest.mark.parametrize("run", [run_entrypoint, run_migrator])
def test_version(run):
    """`--version` prints name and version on stdout."""
    from migrator._version import __version__

    name = "entrypoint" if run is run_entrypoint else "migrator"
    assert silent(run("--version")) == f"{name} {__version__}\n"


def test_help_wants_no_settings_to_be_right():
    """Who asks for help may have everything else wrong."""
    env = {"MIGRATOR_WAIT_TIMEOUT": "soon", "MIGRATOR_DATABSE": "x"}
    assert "--database" in silent(run_entrypoint("--help", env=env))
    assert "restore" in silent(run_migrator("--help", env=env))
    assert "BACKUP" in silent(run_entrypoint("migrator", "restore", "--help", env=env))


def test_flags_after_the_command_are_the_applications(scene):
    """What follows the command is the application's, with `--` before it or not."""
    script = "import sys; print(sys.argv[1:])"
    for dashes in ((), ("--",)):
        words = (*dashes, sys.executable, "-c", script, "--database", "x", "--help", "--")
        result = scene.run(words=words)
        assert result.stdout == "['--database', 'x', '--help', '--']\n"


def test_settings_reach_the_migrator_behind_the_entrypoint(scene):
    """The flags of an image's ENTRYPOINT hold for `migrator` too; what is added decides."""
    result = scene.run(words=("migrator", "status", "--json"), check_log=False)
    assert result.code == 0
    assert str(scene.database) in result.stdout
    other = scene.database.parent / "other.db"
    result = scene.run(
        words=("migrator", "status", "--json", "--database", str(other)), check_log=False
    )
    assert str(other) in result.stdout


def test_console_is_the_default_on_a_terminal(scene):
    """The format is json unless stderr is a terminal."""
    import pty

    with ExitStack() as stack:
        parent, child = pty.openpty()
        stack.callback(os.close, parent)
        flags = [part for pair in scene.flags.items() for part in pair]
        subprocess.run(
            command("entrypoint", flags),
            env=clean_environment({"NO_COLOR": "1"}),
            stdin=subprocess.DEVNULL,
            stderr=child,
            check=True,
            timeout=60,
        )
        os.close(child)
        text = b""
        while b"brought to its new state" not in text:
            text += os.read(parent, 65536)
    assert b'{"timestamp"' not in text


def test_two_databases_are_chained(scene, tmp_path):
    """An application with two databases chains two entrypoints, each with its own settings."""
    second = make_database(tmp_path / "second" / "b.db", "CREATE TABLE b (id)")
    other = write_migrations(tmp_path / "b", {"001_b.sql": "ALTER TABLE b ADD COLUMN c;\n"})
    inner = command("entrypoint", ["--database", second, "--migrations", other, "--", "echo", "up"])
    result = scene.run(words=("--", *inner))
    assert (result.code, result.stdout) == (0, "up\n")
    assert history(scene.database) == ["001", "002"]
    assert history(second) == ["001"]
    assert '"outcome": "migrated"' in result.app_stderr


def test_a_database_given_by_a_link_is_its_target(scene, tmp_path):
    """The database is its resolved path everywhere."""
    link = tmp_path / "link.db"
    link.symlink_to(scene.database)
    result = scene.run("--database", link)
    assert_succeeded(result, "migrated", 2)
    assert result.finished["database"] == str(scene.database)
    assert not Path(f"{link}.migrator").exists()
    with opened(link) as conn:
        assert isinstance(conn, sqlite3.Connection)
