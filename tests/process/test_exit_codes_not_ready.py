"""The exit codes of a start that was not ready, had no space or no lock, or met a bug: 69 to 77."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support import others
from tests.support.exits import (
    Both,
    bound_to_fail,
    in_namespace,
    owned_database,
    pending,
    planted,
    start,
)
from tests.support.files import (
    make_database,
    opened,
    seed_by_name,
    write_migrations,
)
from tests.support.machine import tool
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
from tests.support.recorder import read_only, small_disk

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
@pytest.mark.parametrize("left", ["app.db-wal", "backups"])
def test_an_emptied_database_is_69_after_the_wait(run, left, volume, migrations):
    """A file of zero bytes is no first install where a `-wal` or a backup has another state."""
    database = volume / "app.db"
    stray = volume / left
    if left == "backups":
        make_database(database, "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
        assert start(run_migrator, database, migrations).code == 0
        (stray,) = stray.glob("*.db")
    else:
        stray.write_bytes(b"left")
    database.write_bytes(b"")
    kept = stray.read_bytes()
    result = start(run, database, migrations, "--wait-timeout", "0.3")
    end = assert_failed(result, 69, "database.missing")
    assert stray.name in end["error"]
    assert result.named("volume.waiting")
    assert (database.read_bytes(), stray.read_bytes()) == (b"", kept), "SQLite deletes a -wal there"
    assert pending(database, migrations) == ["001", "002"]


@Both
def test_a_database_that_was_empty_when_it_was_backed_up_is_a_first_install(
    run, volume, migrations
):
    """The backup of a file of zero bytes, which a failed run leaves, does not keep the next out."""
    database = volume / "app.db"
    database.touch()
    result = start(run, database, migrations)
    assert_failed(result, 80, "migration.failed", "failed_restored")
    assert list(volume.glob("backups/*.db"))
    assert database.stat().st_size == 0
    assert pending(database, migrations) == ["001", "002"]
    (migrations / "000_first.sql").write_text("CREATE TABLE users (name TEXT);")
    assert_succeeded(start(run, database, migrations), "migrated", 3)


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
