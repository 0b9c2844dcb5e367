"""The exit codes of a run that ends well, and of words that cannot be understood: 0, 1, 64, 65, 126 on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.exits import Both, bound_to_fail, owned_database, pending, start
from tests.support.files import (
    BY_VERSION,
    history,
    opened,
    rows,
    seed_by_name,
    tables,
    write_migrations,
)
from tests.support.outcomes import (
    Before,
    assert_failed,
    assert_succeeded,
)
from tests.support.processes import (
    run_entrypoint,
    run_migrator,
    running,
)

# --- 0 and 1 -----------------------------------------------------------------


@Both
def test_zero_when_migrations_were_applied(run, database, migrations):
    """A run that applies what is pending ends with 0 and `migrated`."""
    result = start(run, database, migrations)
    assert_succeeded(result, "migrated", 2)
    assert history(database) == ["001", "002"]
    assert pending(database, migrations) == []


@Both
def test_zero_when_nothing_is_pending(run, database, migrations):
    """A run with nothing pending ends with 0 and `up_to_date`, and writes nothing."""
    start(run, database, migrations)
    before = Before.of(database)
    assert_succeeded(start(run, database, migrations), "up_to_date")
    before.assert_untouched()


@Both
def test_zero_for_a_first_install(run, volume, migrations_alone):
    """A first install ends with 0 and `created`."""
    database = volume / "app.db"
    result = start(run, database, migrations_alone)
    assert_succeeded(result, "created", 1)
    assert tables(database) == {"first", "migrations"}


@pytest.fixture
def migrations_alone(tmp_path: Path) -> Path:
    """Return a directory with one migration that needs no earlier schema."""
    return write_migrations(tmp_path / "own", {"001_first.sql": "CREATE TABLE first (id);"})


def test_zero_when_migrations_are_skipped(database, migrations):
    """`--migrate skip` ends with 0 and `skipped`, and touches nothing."""
    before = Before.of(database)
    result = start(run_entrypoint, database, migrations, "--migrate", "skip")
    assert_succeeded(result, "skipped")
    before.assert_untouched()


def test_zero_when_a_registry_has_no_database(tmp_path):
    """A registry's database that does not exist is left to the application: `no_database`."""
    database, file = seed_by_name(tmp_path)
    database.unlink()
    result = start(run_entrypoint, database, file)
    assert_succeeded(result, "no_database")
    assert not database.exists()


def test_one_is_only_for_check(database, migrations):
    """`check` exits 1 when migrations are pending, and has written nothing."""
    before = Before.of(database)
    result = run_migrator("check", "--database", database, "--migrations", migrations)
    assert (1, "Pending migrations: 2.\n") == (result.code, result.stdout)
    before.assert_untouched()


def test_check_without_a_database(volume, migrations):
    """`check` without a database exits 1, and 69 with `--create never`."""
    flags = ("--database", volume / "app.db", "--migrations", migrations)
    assert run_migrator("check", *flags).code == 1
    result = run_migrator("check", *flags, "--create", "never")
    assert_failed(result, 69, "database.missing")
    assert list(volume.iterdir()) == []


def test_check_up_to_date(database, migrations):
    """`check` exits 0 when the database is up to date."""
    start(run_entrypoint, database, migrations)
    result = run_migrator("check", "--database", database, "--migrations", migrations)
    assert result.code == 0


def test_check_while_a_run_is_under_way(database, tmp_path):
    """`check` exits 75 while a run is under way."""
    slow = bound_to_fail(tmp_path / "m", "time.sleep(30)")
    flags = ("--database", database, "--migrations", slow)
    with running("entrypoint", *flags, directory=tmp_path) as run:
        run.wait_for("migration.started")
        result = run_migrator("check", *flags)
        assert result.code == 75
        assert_failed(result, 75, "run.under_way")


# --- 64 ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ["--no-such-flag"],
        ["--wait-timeout", "5s"],
        ["--wait-timeout"],
        ["--backup-dir", ""],
        ["--accept", "everything"],
        ["--migrate", "maybe"],
    ],
)
def test_a_bad_option_is_64(args, database, migrations):
    """A bad option ends the run before anything is looked at."""
    before = Before.of(database)
    result = run_entrypoint("--database", database, "--migrations", migrations, *args)
    assert_failed(result, 64, "usage")
    before.assert_untouched()
    assert pending(database, migrations) == ["001", "002"]


@Both
def test_no_database_given_is_64(run, migrations):
    """Without a database's path there is nothing to do."""
    words = ["up"] if run is run_migrator else []
    result = run(*words, "--migrations", migrations)
    end = assert_failed(result, 64, "usage")
    assert end["database"] is None
    assert "--database" in end["hint"]


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["restore", "nothing.db"], "nothing.db"),
        (["restore", "--before", "777"], "777"),
        (["restore", "latest"], "backup"),
        (["down", "--to", "777"], "777"),
        (["down", "--steps", "0"], "0"),
        (["baseline", "777"], "777"),
        (["restore"], "BACKUP"),
        (["frobnicate"], "frobnicate"),
        (["down", "--to", "001", "--steps", "1"], "--steps"),
    ],
)
def test_an_unknown_argument_is_64(args, named, database, migrations):
    """An unknown version, backup or command is 64, named, with the database untouched."""
    before = Before.of(database)
    result = run_migrator(*args, "--database", database, "--migrations", migrations)
    assert result.code == 64
    end = result.finished
    assert end["exit_code"] == 64
    assert end["outcome"] == "refused"
    assert named in end["error"]
    before.assert_untouched(ours=True)
    assert pending(database, migrations) == ["001", "002"]


# --- 65 ----------------------------------------------------------------------


@Both
@pytest.mark.parametrize("up_to_date", [True, False])
def test_a_file_that_is_no_database_is_65(run, up_to_date, volume, migrations_alone, tmp_path):
    """Text renamed to `.db` is 65, whatever is pending, and stays as it is."""
    directory = tmp_path / "none" if up_to_date else migrations_alone
    directory.mkdir(exist_ok=True)
    database = volume / "app.db"
    database.write_text("These are my notes, and no database at all.\n" * 100)
    before = Before.of(database, readable=False)
    result = start(run, database, directory)
    assert_failed(result, 65, "database.damaged")
    before.assert_untouched()
    assert database.read_text().startswith("These are my notes")


@Both
def test_a_damaged_page_is_65_when_something_is_pending(run, database, migrations):
    """Damage is looked for before the first migration: nothing has run."""
    damage(database)
    content = database.read_bytes()
    result = start(run, database, migrations)
    assert_failed(result, 65, "database.damaged")
    assert database.read_bytes() == content
    assert result.named("migration.started") == []
    assert not list(database.parent.glob("backups/*.db"))


def damage(database: Path) -> None:
    """Overwrite a page in the middle of a database, leaving its schema readable."""
    with opened(database) as conn:
        conn.execute("CREATE TABLE filler (id INTEGER PRIMARY KEY, text TEXT)")
        conn.execute("CREATE INDEX filler_text ON filler (text)")
        conn.executemany(
            "INSERT INTO filler (text) VALUES (?)", [(f"{n:0100}",) for n in range(999)]
        )
        (page,) = conn.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'filler_text'"
        ).fetchone()
        (size,) = conn.execute("PRAGMA page_size").fetchone()
    with database.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xee" * size)


def test_a_truncated_database_is_65(database, migrations):
    """A database that lost its end is damaged, and untouched."""
    with opened(database) as conn:
        conn.execute("CREATE TABLE filler (text)")
        conn.executemany("INSERT INTO filler VALUES (?)", [("x" * 3000,)] * 50)
    os.truncate(database, database.stat().st_size // 2)
    content = database.read_bytes()
    result = start(run_entrypoint, database, migrations)
    assert_failed(result, 65, "database.damaged")
    assert database.read_bytes() == content


def test_damage_is_not_looked_for_with_nothing_pending(database, migrations):
    """Damage is looked for when something is pending, and not at each start."""
    start(run_entrypoint, database, migrations)
    damage(database)
    assert_succeeded(start(run_entrypoint, database, migrations), "up_to_date")


@Both
def test_a_directory_in_place_of_the_database_is_65(run, volume, migrations):
    """A directory in place of the database is 65 at once, and stays."""
    (volume / "app.db").mkdir()
    before = Before.of(volume / "app.db")
    result = start(run, volume / "app.db", migrations, "--wait-timeout", "60")
    assert_failed(result, 65, "database.is_directory")
    assert result.named("volume.waiting") == []
    before.assert_untouched()


def test_a_pipe_in_place_of_the_database_is_65(volume, migrations):
    """A named pipe in place of the database is 65, and is not waited on."""
    os.mkfifo(volume / "app.db")
    result = start(run_entrypoint, volume / "app.db", migrations)
    assert_failed(result, 65, "database.not_a_file")
    assert [path.name for path in volume.iterdir()] == ["app.db"]


def test_a_damaged_backup_is_65(database, migrations):
    """`restore` refuses a backup that does not match its checksum, before anything is done."""
    start(run_entrypoint, database, migrations)
    (backup,) = (database.parent / "backups").glob("*.db")
    with backup.open("r+b") as file:
        file.seek(5000)
        file.write(b"\xee" * 100)
    before = Before.of(database)
    result = run_migrator(
        "restore", backup.name, "--database", database, "--migrations", migrations
    )
    assert_failed(result, 65, "backup.damaged")
    before.assert_untouched(ours=True)


# --- 126 and 127 ---------------------------------------------------------------


def test_a_command_that_does_not_exist_is_127(database, migrations):
    """A command that does not exist is found out before anything runs."""
    before = Before.of(database)
    result = start(run_entrypoint, database, migrations, "--", "no-such-program")
    assert_failed(result, 127, "command.not_found")
    before.assert_untouched()
    assert pending(database, migrations) == ["001", "002"]


@pytest.mark.parametrize("content", [None, "", "not a program\n", "#!/no/such/interpreter\n"])
def test_a_command_that_cannot_be_executed_is_126_or_127(content, database, migrations, tmp_path):
    """A command that execve would refuse is found out by permission and first bytes."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n" if content is None else content)
    program.chmod(0o644 if content is None else 0o755)
    before = Before.of(database)
    result = start(run_entrypoint, database, migrations, "--", program)
    lost = content is not None and content.startswith("#!/no")
    code, reason = (127, "command.not_found") if lost else (126, "command.not_executable")
    end = assert_failed(result, code, reason)
    assert str(program) in end["error"]
    before.assert_untouched()
    assert pending(database, migrations) == ["001", "002"]


@pytest.mark.root
def test_a_command_is_looked_at_as_the_user_that_will_run_it(
    other_user, open_path, migrations_of_anybody
):
    """What root could execute and the application's user may not is 126, before anything runs."""
    program = open_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    database = owned_database(open_path / "data" / "app.db", other_user)
    before = Before.of(database)
    result = start(
        run_entrypoint, database, migrations_of_anybody, "--run-as", "12345:12345", "--", program
    )
    assert_failed(result, 126, "command.not_executable")
    before.assert_untouched()


# --- 128+n and the application's own -------------------------------------------------


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT], ids=lambda n: n.name
)
def test_a_signal_during_a_migration_is_128_and_more(number, database, tmp_path):
    """A signal during a migration ends the run with 128+n and the database as before."""
    slow = bound_to_fail(tmp_path / "m", "conn.execute('CREATE TABLE x (y)')\ntime.sleep(30)")
    before = Before.of(database)
    flags = ("--database", database, "--migrations", slow)
    with running("entrypoint", *flags, directory=tmp_path) as run:
        run.wait_for("migration.started")
        result = run.stop(number)
    end = assert_failed(result, 128 + number, "signal", "failed_restored")
    assert end["retryable"] is True
    before.assert_same()
    assert pending(database, slow) == ["001"]


def test_a_signal_during_the_wait_is_refused(tmp_path, migrations):
    """A signal while nothing had begun ends with `refused`."""
    database = tmp_path / "later" / "app.db"
    flags = ("--database", database, "--migrations", migrations)
    with running("entrypoint", *flags, directory=tmp_path) as run:
        run.wait_for("volume.waiting")
        result = run.stop()
    assert_failed(result, 143, "signal")
    assert not database.parent.exists()


@pytest.mark.parametrize("code", [0, 1, 3, 64, 255])
def test_after_exec_the_code_is_the_applications(code, database, migrations):
    """After exec the exit code is the application's own."""
    result = start(run_entrypoint, database, migrations, "--", "sh", "-c", f"exit {code}")
    assert result.code == code
    assert result.finished["exit_code"] == 0
    assert result.names[-1] == "app.exec"
    assert history(database) == ["001", "002"]


def test_a_history_row_of_a_later_version_is_kept_by_the_old_columns(database, migrations):
    """The history's first columns are those of the framework of numbered files."""
    with opened(database) as conn:
        conn.execute(BY_VERSION)
        conn.execute("INSERT INTO migrations (version, name) VALUES ('001', 'add_email')")
        conn.execute("ALTER TABLE users ADD COLUMN email TEXT")
    assert_succeeded(start(run_entrypoint, database, migrations), "migrated", 1)
    assert history(database) == ["001", "002"]
    assert rows(database, "SELECT count(*) FROM tags") == [(2,)]
