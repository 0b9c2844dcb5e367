"""Every row of the table of exit codes, and every case that could go either way."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest

from migrator.database import run_state
from migrator.database.checksum import fingerprint
from tests.support import others
from tests.support.files import (
    BY_VERSION,
    history,
    make_database,
    opened,
    rows,
    seed_by_name,
    tables,
    write_migrations,
)
from tests.support.machine import tool
from tests.support.outcomes import (
    Before,
    assert_failed,
    assert_succeeded,
)
from tests.support.processes import (
    PACKAGES,
    Result,
    run_entrypoint,
    run_migrator,
    running,
)
from tests.support.recorder import read_only, small_disk

Both = pytest.mark.parametrize("run", [run_entrypoint, run_migrator])
"""For what `entrypoint` and `migrator up` do alike."""


def start(run, database: Path, migrations: Path | str, *args: object, **options: object) -> Result:
    """Start a run by either of the two commands, with nothing waited for."""
    given = [] if "--wait-timeout" in args else ["--wait-timeout", "0"]
    words = ["up"] if run is run_migrator else []
    flags = ["--database", database, "--migrations", migrations, *given, *args]
    return run(*words, *map(str, flags), **options)


def pending(database: Path, migrations: Path) -> list[str]:
    """Return the versions that `migrator status` lists as pending."""
    result = run_migrator("status", "--json", "--database", database, "--migrations", migrations)
    return [each["version"] for each in json.loads(result.stdout)["pending"]]


def bound_to_fail(directory: Path, body: str, name: str = "001_bad.py") -> Path:
    """Write one migration whose `up` is the given text, or a whole `.sql` file."""
    if name.endswith(".sql"):
        return write_migrations(directory, {name: body})
    text = "import os, sqlite3, sys, time\n\ndef up(conn):\n"
    (directory).mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(
        text + "".join(f"    {line}\n" for line in dedent(body).strip().splitlines())
    )
    return directory


@contextmanager
def planted(directory: Path, text: str) -> Iterator[dict[str, str]]:
    """Return variables with which the program starts with a fault planted in it."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "sitecustomize.py").write_text(dedent(text))
    yield {"PYTHONPATH": f"{directory}{os.pathsep}{PACKAGES}"}


def in_namespace(*mounts: str) -> list[str]:
    """Return the command that runs another one with mounts that nobody else sees."""
    steps = " && ".join((*mounts, 'exec "$@"'))
    return [tool("unshare"), "-m", "--propagation", "private", "sh", "-c", steps, "sh"]


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


# --- 69 ----------------------------------------------------------------------


@Both
def test_a_missing_database_that_may_not_be_created_is_69(run, volume, migrations):
    """`--create never` without a database is 69, and creates nothing."""
    result = start(run, volume / "app.db", migrations, "--create", "never")
    end = assert_failed(result, 69, "database.missing")
    assert end["retryable"] is True
    assert list(volume.iterdir()) == []


@Both
def test_a_missing_directory_is_waited_for_and_then_69(run, tmp_path, migrations):
    """A directory that does not exist is waited for; waiting creates nothing."""
    database = tmp_path / "later" / "app.db"
    result = start(run, database, migrations, "--wait-timeout", "0.3")
    assert_failed(result, 69, "volume.directory_missing")
    waits = result.named("volume.waiting")
    assert waits
    assert all(event["reason"] == "volume.directory_missing" for event in waits)
    assert not database.parent.exists()


@Both
@pytest.mark.parametrize("left", ["app.db-wal", "app.db-journal", "backups"])
def test_what_a_database_leaves_behind_is_69_after_the_wait(run, left, volume, migrations):
    """A `-wal`, a `-journal` or backups without their database are waited for, then 69."""
    stray = volume / left
    if left == "backups":
        make_database(volume / "app.db", "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
        assert start(run_migrator, volume / "app.db", migrations).code == 0
        (stray,) = stray.glob("*.db")
        (volume / "app.db").unlink()
        shutil.rmtree(volume / "app.db.migrator")
    else:
        stray.write_bytes(b"left")
    before = Before.of(volume / "app.db")
    result = start(run, volume / "app.db", migrations, "--wait-timeout", "0.3")
    end = assert_failed(result, 69, "database.missing")
    assert stray.name in end["error"]
    assert result.named("volume.waiting")
    before.assert_untouched()


@Both
def test_a_second_hard_link_is_69_at_once(run, database, migrations):
    """A database with a second name is refused without a wait."""
    os.link(database, database.parent / "other.db")
    before = Before.of(database)
    result = start(run, database, migrations, "--wait-timeout", "60")
    end = assert_failed(result, 69, "database.hard_links")
    assert end["retryable"] is False
    assert result.named("volume.waiting") == []
    before.assert_untouched()
    assert pending(database, migrations) == ["001", "002"]


@Both
@pytest.mark.parametrize(
    "use", [others.read_transaction, others.write_lock, others.idle_connection]
)
def test_a_database_in_use_is_69(run, use, database, migrations):
    """Pending migrations on a database that another process keeps open end with 69."""
    before = Before.of(database)
    with use(database) as process:
        result = start(run, database, migrations)
        end = assert_failed(result, 69, "database.in_use")
        assert end["retryable"] is True
        assert str(process.pid) in json.dumps(end) or "lock" in end["error"]
    before.assert_untouched(ours=True)
    assert result.named("migration.started") == []
    assert pending(database, migrations) == ["001", "002"]


@pytest.mark.root
def test_a_read_only_mount_is_69_at_once(as_root, database, migrations, tmp_path):
    """A volume that is mounted read-only is refused at once when something is pending."""
    before = Before.of(database)
    with read_only(database.parent, tmp_path / "ro") as volume:
        result = start(run_entrypoint, volume / "app.db", migrations, "--wait-timeout", "60")
    end = assert_failed(result, 69, "volume.read_only")
    assert end["retryable"] is False
    assert result.named("volume.waiting") == []
    before.assert_untouched()


@pytest.mark.root
def test_a_read_only_mount_does_not_stop_a_start_with_nothing_pending(
    as_root, database, migrations, tmp_path
):
    """With nothing pending, nothing has to be written."""
    start(run_entrypoint, database, migrations)
    with read_only(database.parent, tmp_path / "ro") as volume:
        result = start(run_entrypoint, volume / "app.db", migrations)
    assert_succeeded(result, "up_to_date")


@pytest.mark.root
def test_a_single_file_mount_is_69_at_once(as_root, database, migrations, tmp_path):
    """A database that is mounted as a single file is refused at once, up to date or not."""
    target = tmp_path / "mounted" / "app.db"
    target.parent.mkdir()
    target.touch()
    before = Before.of(database)
    result = start(
        run_entrypoint,
        target,
        migrations,
        "--wait-timeout",
        "60",
        prefix=in_namespace(f"mount --bind '{database}' '{target}'"),
    )
    assert_failed(result, 69, "volume.single_file")
    assert result.named("volume.waiting") == []
    before.assert_untouched()
    assert [path.name for path in target.parent.iterdir()] == ["app.db"]


def test_a_required_mount_that_is_missing_is_69(volume, migrations):
    """In a container `--mount require` refuses a directory on the container's own layer."""
    result = start(
        run_entrypoint,
        volume / "app.db",
        migrations,
        "--mount",
        "require",
        "--wait-timeout",
        "30",
        env={"container": "test"},
    )
    if result.code == 0:
        pytest.skip("the temporary directory is a mount of its own")
    assert_failed(result, 69, "volume.not_mounted")
    assert result.one("volume.not_mounted")["level"] == "error"
    assert list(volume.iterdir()) == []


def test_a_way_that_needs_the_database_alone_is_69_beside_others(database, tmp_path):
    """`--in-use allow` refuses a migration that cannot run in a transaction, with the way out."""
    directory = write_migrations(
        tmp_path / "m", {"001_v.sql": "-- migrate:up transaction:false\nVACUUM;\n"}
    )
    before = Before.of(database)
    result = start(run_entrypoint, database, directory, "--in-use", "allow")
    end = assert_failed(result, 69, "database.in_use")
    assert end["retryable"] is False
    assert "--in-use wait" in end["hint"]
    before.assert_untouched(ours=True)


def test_wait_mode_ends_with_69(database, migrations):
    """`--migrate wait` writes nothing, and ends with 69 when nobody migrates."""
    before = Before.of(database)
    result = start(
        run_entrypoint, database, migrations, "--migrate", "wait", "--wait-timeout", "0.3"
    )
    end = assert_failed(result, 69, "migrations.pending")
    assert end["retryable"] is True
    before.assert_untouched()


def test_a_registry_without_a_database_is_69_with_create_never(tmp_path):
    """`--create never` wants a registry's database to be there as well."""
    database, file = seed_by_name(tmp_path)
    database.unlink()
    result = start(run_entrypoint, database, file, "--create", "never")
    assert_failed(result, 69, "database.missing")
    assert not database.exists()


# --- 70 ----------------------------------------------------------------------


@Both
@pytest.mark.parametrize("where", ["migrator.inspect.status", "migrator.run", "migrator.prepare"])
def test_a_bug_is_70_with_its_traceback_in_one_line(run, where, database, migrations, tmp_path):
    """A crash of this program is one JSON line, exit 70, and the database is as before."""
    name = {"migrator.prepare": "prepare", "migrator.run": "refuse_or_warn"}.get(
        where, "inspect_database"
    )
    before = Before.of(database)
    with planted(
        tmp_path / "site",
        f"""
        import {where} as module

        def broken(*args, **more):
            raise ZeroDivisionError("planted")

        module.{name} = broken
        """,
    ) as env:
        result = start(run, database, migrations, env=env)
    end = assert_failed(result, 70, "bug", "bug")
    assert "ZeroDivisionError" in end["traceback"]
    assert "planted" in end["error"]
    before.assert_untouched(ours=True)
    assert pending(database, migrations) == ["001", "002"]


def test_a_bug_in_the_middle_of_a_run_is_70_and_undone(database, migrations, tmp_path):
    """A crash of this program after the migrations have run leaves the database as before."""
    before = Before.of(database)
    with planted(
        tmp_path / "site",
        """
        import migrator.verify.proof

        def broken(*args, **more):
            raise ZeroDivisionError("planted")

        migrator.verify.proof.verify = broken
        """,
    ) as env:
        result = start(run_entrypoint, database, migrations, env=env)
    end = assert_failed(result, 70, "bug", "bug")
    assert "ZeroDivisionError" in end["traceback"]
    before.assert_same()
    assert pending(database, migrations) == ["001", "002"]
    assert_succeeded(start(run_entrypoint, database, migrations), "migrated", 2)


# --- 73 and 74 -----------------------------------------------------------------


@Both
def test_no_place_for_the_backup_is_73(run, database, migrations, tmp_path):
    """A backup directory that cannot be made is 73, before the first migration."""
    (tmp_path / "file").write_text("in the way")
    before = Before.of(database)
    result = start(run, database, migrations, "--backup-dir", tmp_path / "file" / "backups")
    assert result.code == 73
    end = result.finished
    assert_failed(result, 73, end["reason"])
    assert end["reason"].startswith("backup.")
    assert result.named("migration.started") == []
    before.assert_untouched(ours=True)
    assert pending(database, migrations) == ["001", "002"]


@pytest.mark.root
def test_no_space_for_the_backup_is_73(as_root, database, migrations, tmp_path):
    """A backup directory without space is 73, before the first migration."""
    with opened(database) as conn:
        conn.execute("CREATE TABLE big AS SELECT randomblob(1500000) AS data")
    before = Before.of(database)
    with small_disk(tmp_path / "small") as small:
        result = start(run_entrypoint, database, migrations, "--backup-dir", small / "b")
        assert not list(small.glob("b/*.db"))
    assert_failed(result, 73, "backup.no_space")
    assert result.named("migration.started") == []
    before.assert_untouched(ours=True)
    assert pending(database, migrations) == ["001", "002"]


@pytest.mark.root
def test_no_permission_for_the_backup_is_73(other_user, open_path, migrations_of_anybody):
    """A backup directory that the run's user may not write is 73."""
    database = owned_database(open_path / "data" / "app.db", other_user)
    closed = open_path / "closed"
    closed.mkdir(mode=0o755)
    before = Before.of(database)
    result = start(
        run_entrypoint,
        database,
        migrations_of_anybody,
        "--backup-dir",
        closed / "backups",
        prefix=as_user(other_user),
        cwd="/",
    )
    assert_failed(result, 73, "backup.permission")
    before.assert_untouched(ours=True)
    assert list(closed.iterdir()) == []


def as_user(user: tuple[int, int]) -> Sequence[str]:
    """Return the command that runs another one as a user."""
    return [tool("setpriv"), f"--reuid={user[0]}", f"--regid={user[1]}", "--clear-groups"]


def owned_database(path: Path, user: tuple[int, int]) -> Path:
    """Make a database that belongs, with its directory, to a user."""
    make_database(path, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
    for each in (path, path.parent):
        os.chown(each, *user)
    return path


@pytest.fixture
def migrations_of_anybody(open_path: Path) -> Path:
    """Return a directory of migrations that every user can read."""
    return write_migrations(
        open_path / "migrations", {"001_more.sql": "ALTER TABLE users ADD COLUMN more TEXT;"}
    )


@Both
def test_a_full_database_is_74(run, database, tmp_path):
    """SQLite's "database or disk is full" is 74, with the database as before."""
    directory = bound_to_fail(
        tmp_path / "m",
        """
        conn.execute("CREATE TABLE big (data BLOB)")
        conn.execute("PRAGMA max_page_count = 20")
        conn.execute("INSERT INTO big VALUES (randomblob(1000000))")
        """,
    )
    before = Before.of(database)
    result = start(run, database, directory)
    end = assert_failed(result, 74, "disk.full", "failed_restored")
    assert "full" in end["error"]
    assert result.one("restore.finished")["identical"] is True
    before.assert_same()
    assert pending(database, directory) == ["001"]


@pytest.mark.root
def test_a_full_disk_is_74_and_the_database_as_before(as_root, tmp_path):
    """A disk that fills up during a migration is 74; the database is as before and usable."""
    directory = bound_to_fail(
        tmp_path / "m",
        """
        conn.execute("CREATE TABLE big (data BLOB)")
        for _ in range(100):
            conn.execute("INSERT INTO big VALUES (randomblob(200000))")
        """,
    )
    with small_disk(tmp_path / "small", "4m") as small:
        database = make_database(small / "app.db", "CREATE TABLE users (id)")
        before = Before.of(database)
        result = start(run_entrypoint, database, directory)
        assert_failed(result, 74, "disk.full", "failed_restored")
        before.assert_same()
        assert pending(database, directory) == ["001"]
        assert not list(small.glob("backups/*.db")), "on a full disk the run's backup goes"
        with opened(database) as conn:
            conn.execute("INSERT INTO users VALUES (1)")


@pytest.mark.parametrize("number", ["ENOSPC", "EIO", "EACCES"])
def test_a_migrations_own_oserror_is_80(number, database, tmp_path):
    """An `OSError` that a migration itself raises is its own failure, not the disk's."""
    directory = bound_to_fail(
        tmp_path / "m", f"raise OSError({getattr(errno, number)}, os.strerror(5))"
    )
    before = Before.of(database)
    result = start(run_entrypoint, database, directory)
    assert_failed(result, 80, "migration.failed", "failed_restored")
    before.assert_same()
    assert pending(database, directory) == ["001"]


# --- 75 ----------------------------------------------------------------------


@Both
def test_another_run_that_holds_the_lock_is_75(run, database, migrations):
    """A lock that another run keeps past `--lock-timeout` is 75, to be tried again."""
    home = Path(f"{database}.migrator")
    home.mkdir(mode=0o700)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = Before.of(database)
        result = start(run, database, migrations, "--lock-timeout", "0.3")
        end = assert_failed(result, 75, "lock.timeout")
        assert end["retryable"] is True
        before.assert_untouched()
    assert_succeeded(start(run, database, migrations), "migrated", 2)


def test_a_database_busy_with_another_run_is_waited_for_as_a_lock(database, tmp_path):
    """BUSY while another run holds the lock is a matter of the lock: 75, not 69."""
    slow = bound_to_fail(tmp_path / "m", "conn.execute('CREATE TABLE x (y)')\ntime.sleep(30)")
    flags = ("--database", database, "--migrations", slow)
    with running("entrypoint", *flags, directory=tmp_path) as run:
        run.wait_for("migration.started")
        result = run_entrypoint(*flags, "--wait-timeout", "0", "--lock-timeout", "0.3")
        assert_failed(result, 75, "lock.timeout")
        ended = run.stop()
    assert ended.code == 128 + signal.SIGTERM


# --- 77 ----------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_database_of_another_user_is_77(mode, other_user, open_path, migrations_of_anybody):
    """A database that may not be read, or with something pending not written, is 77."""
    database = owned_database(open_path / "data" / "app.db", (0, 0))
    database.chmod(mode)
    before = Before.of(database)
    result = start(
        run_entrypoint, database, migrations_of_anybody, prefix=as_user(other_user), cwd="/"
    )
    end = assert_failed(result, 77, "database.permission")
    assert "12345" in end["error"]
    assert "PUID" in end["hint"]
    before.assert_untouched()


@pytest.mark.root
def test_a_directory_of_another_user_is_77(other_user, open_path, migrations_of_anybody):
    """A directory that may not be written when something is pending is 77."""
    database = owned_database(open_path / "data" / "app.db", other_user)
    os.chown(database.parent, 0, 0)
    before = Before.of(database)
    result = start(
        run_entrypoint, database, migrations_of_anybody, prefix=as_user(other_user), cwd="/"
    )
    assert_failed(result, 77, "database.permission")
    before.assert_untouched()


# --- 78 ----------------------------------------------------------------------


@Both
def test_a_missing_migrations_directory_is_78_at_once(run, database, tmp_path):
    """A missing migrations directory is 78 at once, not waited for."""
    before = Before.of(database)
    result = start(run, database, tmp_path / "nowhere", "--wait-timeout", "60")
    end = assert_failed(result, 78, "migrations.directory_missing")
    assert "nowhere" in end["error"]
    assert result.named("volume.waiting") == []
    before.assert_untouched()


MISFITS = {
    "an open string": ("001_a.sql", "SELECT 'x;\n", "migrations.syntax"),
    "cut off": ("001_a.sql", "SELECT 1;\nCREATE TABLE x (y\n", "migrations.syntax"),
    "unknown directive": ("001_a.sql", "-- migrate:sideways\nSELECT 1;\n", "migrations.directive"),
    "unknown option": (
        "001_a.sql",
        "-- migrate:up transactional:no\nSELECT 1;\n",
        "migrations.directive",
    ),
    "python syntax": ("001_a.py", "def up(conn:\n    pass\n", "migrations.syntax"),
    "python import": (
        "001_a.py",
        "import no_such_module\ndef up(conn):\n    pass\n",
        "migrations.import",
    ),
    "no up": ("001_a.py", "def upp(conn):\n    pass\n", "migrations.no_up"),
    "no literal": (
        "001_a.py",
        "transactional = bool(1)\ndef up(conn):\n    pass\n",
        "migrations.literal",
    ),
    "unknown requirement": (
        "001_a.py",
        "requires = ('009',)\ndef up(conn):\n    pass\n",
        "migrations.requires",
    ),
    "itself": (
        "001_a.py",
        "requires = ('001',)\ndef up(conn):\n    pass\n",
        "migrations.requires",
    ),
    "bad name": ("3-add.sql", "SELECT 1;\n", "migrations.bad_name"),
    "rollback": ("001_a.sql", "SELECT 1;\nROLLBACK;\n", "migrations.not_transactional"),
    "attach": ("001_a.sql", "ATTACH 'x.db' AS x;\n", "migrations.not_transactional"),
    "vacuum": ("001_a.sql", "VACUUM;\n", "migrations.not_transactional"),
    "journal mode": (
        "001_a.sql",
        "SELECT 1;\n\nPRAGMA journal_mode = WAL;\n",
        "migrations.not_transactional",
    ),
    "ends when imported": (
        "001_a.py",
        "import os\nos._exit(0)\ndef up(conn):\n    pass\n",
        "migrations.import",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_file_that_is_no_migration_is_78(case, database, tmp_path):
    """A file that cannot be run is found before the backup, with its name and what to do."""
    name, text, reason = MISFITS[case]
    directory = write_migrations(
        tmp_path / "m", {"000_good.sql": "CREATE TABLE good (id);\n", name: text}
    )
    before = Before.of(database)
    result = start(run_entrypoint, database, directory)
    end = assert_failed(result, 78, reason)
    assert name in end["error"]
    assert result.named("backup.started") == []
    assert result.named("migration.started") == []
    before.assert_untouched(ours=True)
    if case != "bad name":
        assert len(pending(database, directory)) == 2


@pytest.mark.parametrize("reported", ["python syntax", "cut off", "rollback", "journal mode"])
def test_a_file_that_does_not_parse_is_named_with_its_line(reported, database, tmp_path):
    """What does not parse is reported with file and line."""
    name, text, reason = MISFITS[reported]
    directory = write_migrations(tmp_path / "m", {name: text})
    end = assert_failed(start(run_entrypoint, database, directory), 78, reason)
    line = {"python syntax": 1, "cut off": 2, "rollback": 2, "journal mode": 3}[reported]
    assert (end["file"], end["line"]) == (name, line)


def test_a_duplicate_version_is_78(database, tmp_path):
    """`1` and `001` are one version."""
    directory = write_migrations(
        tmp_path / "m", {"001_a.sql": "SELECT 1;\n", "1_b.sql": "SELECT 1;\n"}
    )
    before = Before.of(database)
    end = assert_failed(start(run_entrypoint, database, directory), 78, "migrations.duplicate")
    assert "001_a.sql" in end["error"]
    assert "1_b.sql" in end["error"]
    before.assert_untouched()


@pytest.fixture
def migrated(database: Path, migrations: Path) -> Path:
    """Return the database with both migrations applied."""
    assert_succeeded(start(run_entrypoint, database, migrations), "migrated", 2)
    return database


def with_third(migrations: Path) -> None:
    """Add a third migration, so that something is pending."""
    write_migrations(migrations, {"003_more.sql": "CREATE TABLE more (id);\n"})


@Both
def test_a_newer_database_is_78_even_with_nothing_pending(run, migrated, migrations):
    """A database with migrations that this image lacks is refused, naming both sides."""
    (migrations / "002_create_tags.sql").unlink()
    before = Before.of(migrated)
    end = assert_failed(start(run, migrated, migrations), 78, "history.newer")
    assert "002" in end["error"]
    assert "001" in end["error"]
    assert "migrator restore app.db-" in end["hint"]
    before.assert_untouched()
    result = start(run, migrated, migrations, "--accept", "newer")
    assert_succeeded(result, "up_to_date")
    assert result.one("history.misfit")["kind"] == "newer"


@pytest.mark.parametrize("kind", ["missing", "changed", "out-of-order"])
def test_each_other_misfit_is_78_with_something_pending(kind, migrated, migrations):
    """Missing, changed and out-of-order are refused when something is pending, unless accepted."""
    with_third(migrations)
    applied = 1
    if kind == "missing":
        (migrations / "001_add_email.py").unlink()
    elif kind == "changed":
        (migrations / "002_create_tags.sql").write_text("CREATE TABLE other (id);\n")
    else:
        write_migrations(migrations, {"000_early.sql": "CREATE TABLE early (id);\n"})
        applied = 2
    before = Before.of(migrated)
    end = assert_failed(start(run_entrypoint, migrated, migrations), 78, f"history.{kind}")
    assert [each["kind"] for each in end["problems"]] == [kind]
    assert f"--accept {kind}" in end["hint"]
    before.assert_untouched(ours=True)
    result = start(run_entrypoint, migrated, migrations, "--accept", kind)
    assert_succeeded(result, "migrated", applied)
    assert kind in [each["kind"] for each in result.named("history.misfit")]


@pytest.mark.parametrize("kind", ["missing", "changed"])
def test_other_misfits_are_no_refusal_with_nothing_pending(kind, migrated, migrations):
    """With nothing pending `missing` is a warning, and texts are not even hashed."""
    if kind == "missing":
        (migrations / "001_add_email.py").unlink()
    else:
        (migrations / "002_create_tags.sql").write_text("CREATE TABLE other (id);\n")
    before = Before.of(migrated)
    result = start(run_entrypoint, migrated, migrations)
    assert_succeeded(result, "up_to_date")
    warned = [each["kind"] for each in result.named("history.misfit")]
    assert warned == (["missing"] if kind == "missing" else [])
    before.assert_untouched()


def test_the_first_of_several_misfits_decides(migrated, migrations):
    """Newer before missing before changed before out-of-order decides; all are listed."""
    with_third(migrations)
    start(run_entrypoint, migrated, migrations)
    (migrations / "003_more.sql").unlink()
    (migrations / "001_add_email.py").unlink()
    (migrations / "002_create_tags.sql").write_text("CREATE TABLE other (id);\n")
    write_migrations(migrations, {"000_early.sql": "CREATE TABLE early (id);\n"})
    order = ["newer", "missing", "changed", "out-of-order"]
    accepted: list[str] = []
    for kind in order:
        flags = ["--accept", ",".join(accepted)] if accepted else []
        end = assert_failed(
            start(run_entrypoint, migrated, migrations, *flags), 78, f"history.{kind}"
        )
        listed = [each["kind"] for each in end["problems"]]
        assert listed == order[len(accepted) :], (kind, listed)
        accepted.append(kind)


@Both
def test_a_table_of_the_applications_own_is_78(run, database, migrations):
    """A table `migrations` of another shape belongs to the application and is never touched."""
    with opened(database) as conn:
        conn.execute("CREATE TABLE migrations (id INTEGER PRIMARY KEY, batch INTEGER)")
    before = Before.of(database)
    end = assert_failed(start(run, database, migrations), 78, "history.not_ours")
    assert "--history-table" in end["hint"]
    before.assert_untouched(ours=True)
    result = start(run, database, migrations, "--history-table", "our_migrations")
    assert_succeeded(result, "migrated", 2)
    assert history(database, "our_migrations") == ["001", "002"]


@Both
@pytest.mark.parametrize(
    ("table", "columns", "row"),
    [
        ("schema_migrations", "version TEXT PRIMARY KEY", "('001')"),
        ("goose_db_version", "id INTEGER PRIMARY KEY, version_id, is_applied", "(1, 1, 1)"),
        ("alembic_version", "version_num TEXT", "('ae1027a6acf')"),
        ("django_migrations", "id INTEGER PRIMARY KEY, app, name, applied", "(1, 'a', '0001', 0)"),
    ],
)
def test_another_tools_history_is_78(run, table, columns, row, database, migrations):
    """Another tool's history is refused when something is pending, with the way in."""
    with opened(database) as conn:
        conn.execute(f"CREATE TABLE {table} ({columns})")
        conn.execute(f"INSERT INTO {table} VALUES {row}")
    before = Before.of(database)
    end = assert_failed(start(run, database, migrations), 78, "history.foreign")
    assert table in end["error"]
    assert "migrator baseline " in end["hint"]
    before.assert_untouched(ours=True)


def test_a_history_of_the_other_kind_is_78(tmp_path, migrations):
    """A registry's history does not fit a directory of numbered files."""
    database, _ = seed_by_name(tmp_path)
    before = Before.of(database)
    assert_failed(start(run_entrypoint, database, migrations), 78, "history.other_source")
    before.assert_untouched(ours=True)


def test_down_without_a_down_is_78_before_anything_runs(database, tmp_path):
    """`down` over a migration that has none is refused before anything runs."""
    directory = write_migrations(
        tmp_path / "m",
        {
            "001_a.sql": "CREATE TABLE a (id);\n",
            "002_b.sql": "-- migrate:up\nCREATE TABLE b (id);\n-- migrate:down\nDROP TABLE b;\n",
        },
    )
    start(run_entrypoint, database, directory)
    before = Before.of(database)
    result = run_migrator("down", "--steps", "2", "--database", database, "--migrations", directory)
    end = assert_failed(result, 78, "migrations.no_down")
    assert "001_a.sql" in end["error"]
    before.assert_untouched(ours=True)
    assert history(database) == ["001", "002"]


# --- 80 ----------------------------------------------------------------------


FAILING = {
    "an exception": "raise RuntimeError('no')",
    "bad SQL": "conn.execute('CREATE TABEL x (y)')",
    "rollback": "conn.execute('ROLLBACK')",
    "attach": "conn.execute(\"ATTACH ':memory:' AS x\")",
    "a swallowed refusal": """
        try:
            conn.execute("ATTACH ':memory:' AS x")
        except Exception:
            pass
        """,
    "a swallowed end of the transaction": """
        conn.execute("CREATE TABLE x (id INTEGER PRIMARY KEY)")
        conn.execute("INSERT INTO x VALUES (1)")
        try:
            conn.execute("INSERT OR ROLLBACK INTO x VALUES (1)")
        except sqlite3.Error:
            pass
        """,
    "sys.exit": "sys.exit(0)",
    "os._exit": "os._exit(0)",
    "a kill": "os.kill(os.getpid(), 9)",
    "a crash": "os.abort()",
}


@pytest.mark.parametrize("case", FAILING)
def test_a_failing_migration_is_80_and_proven_undone(case, database, tmp_path):
    """A failed migration leaves the database as before, proven, with everything pending."""
    directory = write_migrations(tmp_path / "m", {"001_good.sql": "CREATE TABLE good (id);\n"})
    bound_to_fail(directory, FAILING[case], "002_bad.py")
    before = Before.of(database)
    result = start(run_entrypoint, database, directory)
    reason = "worker.killed" if case in ("os._exit", "a kill", "a crash") else "migration.failed"
    end = assert_failed(result, 80, reason, "failed_restored")
    assert end["version"] == "002"
    assert result.one("migration.failed")["version"] == "002"
    restored = result.one("restore.finished")
    assert (restored["method"], restored["identical"]) == ("rollback", True)
    before.assert_same()
    assert pending(database, directory) == ["001", "002"]


def test_a_failing_statement_is_named_with_its_line(database, tmp_path):
    """A failed run names the migration, the statement, its line and SQLite's message."""
    directory = write_migrations(
        tmp_path / "m",
        {"001_a.sql": "CREATE TABLE a (id);\n\nINSERT INTO\n  nowhere VALUES (1);\n"},
    )
    before = Before.of(database)
    result = start(run_entrypoint, database, directory)
    end = assert_failed(result, 80, "migration.failed", "failed_restored")
    facts = {name: end[name] for name in ("version", "name", "file", "line", "statement")}
    assert facts == {
        "version": "001",
        "name": "a",
        "file": "001_a.sql",
        "line": 3,
        "statement": "INSERT INTO\n  nowhere VALUES (1);",
    }
    assert "no such table: nowhere" in end["error"]
    failed = result.one("migration.failed")
    assert {name: failed[name] for name in facts} == facts
    assert failed["error"] == "no such table: nowhere"
    before.assert_same()


@Both
def test_a_failing_migration_on_a_copy_is_80(run, database, tmp_path):
    """On a copy a failure is the same: the copy is thrown away, and that is said."""
    directory = write_migrations(
        tmp_path / "m",
        {
            "001_v.sql": "-- migrate:up transaction:false\nCREATE TABLE a (id);\nVACUUM;\n",
            "002_bad.sql": "INSERT INTO nowhere VALUES (1);\n",
        },
    )
    before = Before.of(database)
    result = start(run, database, directory)
    assert_failed(result, 80, "migration.failed", "failed_restored")
    restored = result.one("restore.finished")
    assert (restored["method"], restored["identical"]) == ("discarded", True)
    before.assert_same()
    assert pending(database, directory) == ["001", "002"]


@Both
@pytest.mark.parametrize("transactional", [True, False])
def test_a_failed_first_install_leaves_no_database(run, transactional, volume, tmp_path):
    """A failed first install leaves no database, and the next start begins anew."""
    mark = "" if transactional else "-- migrate:up transaction:false\n"
    directory = write_migrations(
        tmp_path / "m", {"001_a.sql": f"{mark}CREATE TABLE a (id);\nINSERT INTO b VALUES (1);\n"}
    )
    database = volume / "app.db"
    result = start(run, database, directory)
    assert_failed(result, 80, "migration.failed", "failed_restored")
    left = {path.name for path in volume.iterdir()}
    assert left <= {"app.db.migrator"}
    (directory / "001_a.sql").write_text("CREATE TABLE a (id);\n")
    assert_succeeded(start(run, database, directory), "created", 1)


def test_a_failing_down_is_80(migrated, migrations):
    """A `down` that fails leaves the migration applied."""
    (migrations / "002_create_tags.sql").write_text(
        "-- migrate:up\nSELECT 1;\n-- migrate:down\nDROP TABLE nowhere;\n"
    )
    before = Before.of(migrated)
    flags = ("--database", migrated, "--migrations", migrations, "--accept", "changed")
    result = run_migrator("down", *flags)
    assert_failed(result, 80, "migration.failed", "failed_restored")
    before.assert_same()
    assert history(migrated) == ["001", "002"]


# --- 81 ----------------------------------------------------------------------


@pytest.mark.parametrize("check", ["check_before", "check_after"])
def test_a_failing_check_of_a_migration_is_81(check, database, tmp_path):
    """What `check_before` or `check_after` raises is a failed verification."""
    directory = write_migrations(
        tmp_path / "m",
        {
            "001_a.py": f"""
                def up(conn):
                    conn.execute("CREATE TABLE a (id)")

                def {check}(conn):
                    raise ValueError("three users are one too few")
                """
        },
    )
    before = Before.of(database)
    result = start(run_entrypoint, database, directory)
    end = assert_failed(result, 81, f"verify.{check}", "failed_restored")
    assert "three users" in end["error"]
    assert result.one("restore.finished")["identical"] is True
    before.assert_same()
    assert pending(database, directory) == ["001"]


LOSING = {
    "orphans": ("INSERT INTO notes (user_id) VALUES (99);\n", "verify.foreign_keys"),
    "a smaller rebuild": (
        (
            "CREATE TABLE new_users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);\n"
            "INSERT INTO new_users SELECT * FROM users WHERE name <> 'Edsger';\n"
            "DROP TABLE users;\nALTER TABLE new_users RENAME TO users;\n"
        ),
        "rows.lost",
    ),
}


@pytest.mark.parametrize("case", LOSING)
def test_what_fails_the_verification_is_81(case, database, tmp_path):
    """Orphans that a migration makes, and rows lost without a word, are 81 and undone."""
    text, reason = LOSING[case]
    directory = write_migrations(tmp_path / "m", {"001_a.sql": text})
    before = Before.of(database)
    result = start(run_entrypoint, database, directory)
    end = assert_failed(result, 81, reason, "failed_restored")
    if case == "orphans":
        assert "oreign keys are off during the run" in end["hint"]
        assert result.one("verify.failed")["check"] == "foreign_key_check"
    else:
        assert "users" in end["error"]
        assert end["version"] == "001"
    assert result.one("restore.finished")["identical"] is True
    before.assert_same()
    assert pending(database, directory) == ["001"]


def test_orphans_from_before_do_not_block(database, migrations):
    """Orphans that were there before are reported and do not block."""
    with opened(database) as conn:
        conn.execute("INSERT INTO notes (user_id) VALUES (77), (78)")
    result = start(run_entrypoint, database, migrations)
    assert_succeeded(result, "migrated", 2)
    warning = next(each for each in result.named("verify.finished") if each["level"] == "warning")
    assert warning["violations"] == 2


def test_a_foreign_key_mismatch_does_not_block(database, migrations):
    """Foreign keys that SQLite cannot check are reported and do not block."""
    with opened(database) as conn:
        conn.execute("CREATE TABLE odd (name TEXT REFERENCES users(name))")
        conn.execute("INSERT INTO odd VALUES ('Ada')")
    result = start(run_entrypoint, database, migrations)
    assert_succeeded(result, "migrated", 2)
    assert "warning" in [each["level"] for each in result.named("verify.finished")]


# --- 82 and 74 unknown ---------------------------------------------------------


def test_an_interrupted_restore_that_cannot_be_finished_is_82(migrated, migrations):
    """A restore that was cut off and whose backup is damaged needs a person: 82, with its path."""
    (backup,) = (migrated.parent / "backups").glob("*.db")
    with backup.open("r+b") as file:
        file.seek(5000)
        file.write(b"\xee" * 100)
    leave_restore(migrated, backup)
    before = Before.of(migrated)
    result = start(run_entrypoint, migrated, migrations)
    end = assert_failed(result, 82, "restore.failed", "restore_failed")
    assert str(backup) in json.dumps(end)
    before.assert_same()
    again = start(run_entrypoint, migrated, migrations)
    assert_failed(again, 82, "restore.failed", "restore_failed")


def leave_restore(database: Path, backup: Path) -> None:
    """Leave the note of a restore that was cut off."""
    with database.open("rb") as file:
        found = {"found": "pages", "fingerprint": fingerprint(file.fileno())}
    noted = run_state.RunState(
        "0123456789abcdef",
        "restore",
        run_state.now(),
        "restore",
        database=str(database),
        backup=backup.name,
        journal_mode="delete",
        extra=found,
    )
    fields = {name: getattr(noted, name) for name in run_state.RunState.__dataclass_fields__}
    (Path(f"{database}.migrator") / "state.json").write_text(json.dumps(fields))


def test_an_interrupted_restore_is_finished_by_the_next_start(migrated, migrations):
    """A restore that was cut off is finished by whatever starts next, which then goes on."""
    (backup,) = (migrated.parent / "backups").glob("*.db")
    leave_restore(migrated, backup)
    result = start(run_entrypoint, migrated, migrations)
    assert_succeeded(result, "migrated", 2)
    assert result.one("recovery.finished")["outcome"] == "restored"
    assert history(migrated) == ["001", "002"]


@Both
@pytest.mark.parametrize("in_use", ["wait", "allow"])
def test_a_check_that_fails_after_the_commit(run, in_use, database, migrations, tmp_path):
    """A check after the commit puts the backup back, unless others may have the database: 82."""
    before = Before.of(database)
    with planted(
        tmp_path / "site",
        """
        import migrator.verify.proof
        from migrator.errors import VerificationError

        def broken(*args):
            raise VerificationError("This is planted.", hint="Take it away.")

        migrator.verify.proof.read_back = broken
        """,
    ) as env:
        result = start(run, database, migrations, "--in-use", in_use, env=env)
    if in_use == "wait":
        assert_failed(result, 81, "verify.failed", "failed_restored")
        restored = result.one("restore.finished")
        assert (restored["method"], restored["identical"]) == ("backup", True)
        before.assert_same()
        assert pending(database, migrations) == ["001", "002"]
        return
    end = assert_failed(result, 82, "verify.after_release", "restore_failed")
    (backup,) = (database.parent / "backups").glob("*.db")
    assert end["backup"] == str(backup)
    assert backup.name in end["hint"]
    assert history(database) == ["001", "002"], "nothing is overwritten any more"


def test_a_database_that_is_damaged_after_its_release_is_82(database, migrations, tmp_path):
    """What is found when others had it already is no refusal: the run had been committed."""
    with planted(
        tmp_path / "site",
        """
        import migrator.backup_step
        from migrator.process import audit_hook as protection

        def damaged(ctx, saved):
            with protection.allowed():
                ctx.layout.database.write_bytes(b"no database")

        migrator.backup_step.prune_and_clean = damaged
        """,
    ) as env:
        result = start(run_entrypoint, database, migrations, env=env)
    end = assert_failed(result, 82, "verify.after_release", "restore_failed")
    assert str(database) in end["error"]
    assert "migrator backups" in end["hint"]


def test_a_restore_that_fails_is_82(database, migrations, tmp_path):
    """A backup that cannot be put back needs a person, and names the backup."""
    with planted(
        tmp_path / "site",
        """
        import sqlite3
        import migrator.verify.proof, migrator.recovery.copy_back
        from migrator.errors import VerificationError

        def broken(*args):
            raise VerificationError("This is planted.", hint="Take it away.")

        def stuck(*args):
            raise sqlite3.OperationalError("disk I/O error")

        migrator.verify.proof.read_back = broken
        migrator.recovery.copy_back._pump_back = stuck
        """,
    ) as env:
        result = start(run_entrypoint, database, migrations, env=env)
    end = assert_failed(result, 82, "restore.failed", "restore_failed")
    (backup,) = (database.parent / "backups").glob("*.db")
    assert end["backup"] == str(backup)
    assert result.one("restore.failed")["error"]
    again = start(run_entrypoint, database, migrations)
    assert_succeeded(again, "migrated", 2)
    assert again.one("recovery.finished")["outcome"] == "restored"


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
