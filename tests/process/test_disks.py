"""Small disks, disks that only read, and no place for temporary files."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.aside import backups, digest_aside, pending
from tests.support.digest import logical_digest
from tests.support.files import (
    AFTER_A_RUN,
    history,
    listing,
    make_database,
    opened,
    rows,
    tables,
    write_migrations,
)
from tests.support.machine import tool
from tests.support.processes import clean_environment, run_entrypoint, run_migrator
from tests.support.recorder import read_only, small_disk

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("as_root")]

MIB = 1 << 20


def filled(path: Path, mib: int, *, wal: bool = False) -> Path:
    """Make a database of about that many MiB."""
    make_database(path, "CREATE TABLE big (id INTEGER PRIMARY KEY, b BLOB);", wal=wal)
    with opened(path) as conn:
        conn.execute("BEGIN")
        conn.executemany("INSERT INTO big (b) VALUES (?)", [(os.urandom(MIB // 16),)] * (16 * mib))
        conn.execute("COMMIT")
    return path


@contextmanager
def small_ext4(directory: Path, mib: int) -> Iterator[Path]:
    """Mount a small ext4 from a file."""
    image, path = directory / "disk.img", directory / "disk"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(mib * MIB)
    make = (tool("mkfs.ext4"), "-q", "-m", "0", "-O", "^has_journal", image)
    subprocess.run(make, check=True, capture_output=True)
    done = subprocess.run(
        (tool("mount"), "-o", "loop", image, path), capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"needs loop devices: {done.stderr.decode()}")
    try:
        yield path
    finally:
        subprocess.run((tool("umount"), "-l", path), check=True)


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request, tmp_path):
    """Return what mounts a disk of so many MiB, of each kind."""

    def mount(mib: int):
        if request.param == "ext4":
            return small_ext4(tmp_path, mib)
        return small_disk(tmp_path / "disk", f"{mib}m")

    return mount


def up(database: Path, migrations: Path, *args: str):
    """Run `migrator up`."""
    return run_migrator("up", "--database", database, "--migrations", migrations, *args)


def free(path: Path) -> int:
    """Return how many bytes may still be written."""
    found = os.statvfs(path)
    return found.f_frsize * found.f_bavail


def fill_up(path: Path, leave: int) -> None:
    """Leave only so many bytes free."""
    with (path / "ballast").open("wb") as file:
        file.write(b"x" * (free(path) - leave))


NEW = {"001_new.sql": "CREATE TABLE fresh (id INTEGER); INSERT INTO fresh VALUES (1);"}


def assert_application_can_write(database: Path) -> None:
    """Open the database as an application does, and write to it."""
    with opened(database) as conn:
        for _ in range(20):
            conn.execute("INSERT INTO big (b) VALUES (zeroblob(5000))")
        assert [("ok",)] == conn.execute("PRAGMA quick_check").fetchall()


# --- no space for the backup -------------------------------------------------------


@pytest.mark.parametrize("transaction", ["true", "false"])
def test_no_space_for_the_backup(transaction, disk, tmp_path):
    """Without space for the backup the run is 73 before anything is written to the database."""
    text = f"-- migrate:up transaction:{transaction}\n" + NEW["001_new.sql"]
    migrations = write_migrations(tmp_path / "m", {"001_new.sql": text})
    with disk(16) as path:
        database = filled(path / "app.db", 4)
        fill_up(path, 2 * MIB)
        before = digest_aside(database)

        result = run_entrypoint(
            "--database", database, "--migrations", migrations, "--", "echo", "application"
        )

        assert (73, "") == (result.code, result.stdout), result.stderr
        end = result.finished
        assert ("refused", "backup.no_space") == (end["outcome"], end["reason"])
        assert end["hint"]
        assert before == logical_digest(database)
        assert ["001"] == pending(database, migrations)
        assert [] == backups(database)
        assert [] == [name for name in os.listdir(path) if name.endswith(".partial")]
        assert_application_can_write(database)


def test_old_backups_make_room(disk, tmp_path):
    """Where space for the next backup is missing, the oldest go first, and the run goes on."""
    migrations = write_migrations(tmp_path / "m", {})
    with disk(24) as path:
        database = filled(path / "app.db", 4)
        for number in (1, 2, 3):
            write_migrations(migrations, {f"{number:03d}_s.sql": f"CREATE TABLE t{number} (id);"})
            assert 0 == up(database, migrations, "--backup-keep", "9").code
        made = [each["name"] for each in backups(database)]
        assert 3 == len(made)
        fill_up(path, 3 * MIB)
        write_migrations(migrations, {"004_s.sql": "CREATE TABLE t4 (id);"})

        result = up(database, migrations, "--backup-keep", "9")

        assert 0 == result.code, result.stderr
        pruned = result.named("backup.pruned")
        assert ["space"] == [each["reason"] for each in pruned]
        assert made[-1] == Path(pruned[0]["path"]).name
        left = [each["name"] for each in backups(database)]
        assert made[:2] == left[1:]
        assert ["001", "002", "003", "004"] == history(database)


def test_last_good_backup_stays(disk, tmp_path):
    """Where even that would not be enough, nothing is pruned: 73, with every backup in its place."""
    migrations = write_migrations(tmp_path / "m", {})
    with disk(24) as path:
        database = filled(path / "app.db", 4)
        for number in (1, 2):
            write_migrations(migrations, {f"{number:03d}_s.sql": f"CREATE TABLE t{number} (id);"})
            assert 0 == up(database, migrations).code
        made = [each["name"] for each in backups(database)]
        fill_up(path, MIB // 2)
        with opened(database) as conn:
            conn.execute("CREATE TABLE grown (b BLOB)")
        write_migrations(migrations, {"003_s.sql": "CREATE TABLE t3 (id);"})
        before = digest_aside(database)

        result = up(database, migrations)

        assert 73 == result.code, result.stderr
        left = [each["name"] for each in backups(database)]
        assert made == left
        assert before == logical_digest(database)
        assert ["003"] == pending(database, migrations)
        assert 0 == run_migrator("verify", "--database", database, "--migrations", migrations).code


# --- no space during the migration ----------------------------------------------------


@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
@pytest.mark.parametrize("transaction", ["true", "false"])
def test_full_during_the_migration(transaction, wal, disk, tmp_path):
    """A disk that fills up during a migration is 74; the database is as before and can be written to."""
    migrations = write_migrations(
        tmp_path / "m",
        {
            **NEW,
            "002_grow.sql": f"""
                -- migrate:up transaction:{transaction}
                CREATE TABLE grown (b BLOB);
                WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
                INSERT INTO grown SELECT randomblob(1000000) FROM n;
                """,
        },
    )
    with disk(24) as path:
        database = filled(path / "app.db", 2, wal=wal)
        before = digest_aside(database)

        result = run_entrypoint(
            "--database", database, "--migrations", migrations, "--", "echo", "application"
        )

        assert (74, "") == (result.code, result.stdout), result.stderr
        end = result.finished
        assert ("failed_restored", "disk.full") == (end["outcome"], end["reason"])
        assert "002" == result.one("migration.failed")["version"]
        assert result.one("restore.finished")["identical"] is True
        assert before == logical_digest(database)
        assert {"big"} == tables(database)
        assert ["001", "002"] == pending(database, migrations)
        assert not (path / "app.db.migrator" / "state.json").exists()
        assert_application_can_write(database)
        (migrations / "002_grow.sql").unlink()
        assert 0 == up(database, migrations).code


def test_full_in_a_python_migration(tmp_path):
    """A migration that swallows SQLite's "disk is full" has failed all the same."""
    migrations = write_migrations(
        tmp_path / "m",
        {
            "001_grow.py": """
                def up(conn):
                    conn.execute("CREATE TABLE grown (b BLOB)")
                    for _ in range(60):
                        try:
                            conn.execute("INSERT INTO grown VALUES (randomblob(1000000))")
                        except Exception:
                            pass
                """
        },
    )
    with small_disk(tmp_path / "disk", "16m") as path:
        database = filled(path / "app.db", 2)
        before = digest_aside(database)

        result = up(database, migrations)

        assert 74 == result.code, result.stderr
        assert before == logical_digest(database)
        assert ["001"] == pending(database, migrations)
        assert_application_can_write(database)


def test_full_on_first_install(tmp_path):
    """A first install that fills the disk leaves no database."""
    migrations = write_migrations(
        tmp_path / "m",
        {
            "001_grow.sql": """
                CREATE TABLE grown (b BLOB);
                WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
                INSERT INTO grown SELECT randomblob(1000000) FROM n;
                """
        },
    )
    with small_disk(tmp_path / "disk", "8m") as path:
        result = up(path / "app.db", migrations)

        assert 74 == result.code, result.stderr
        assert not (path / "app.db").exists()
        assert [".gitignore", "last_run.json", "lock"] == sorted(
            os.listdir(path / "app.db.migrator")
        )
        assert ["app.db.migrator"] == os.listdir(path)


def test_crash_loop_on_a_full_disk(tmp_path):
    """Starts that fail again and again for want of space do not use up more of it each time."""
    migrations = write_migrations(
        tmp_path / "m",
        {
            "001_grow.sql": """
                CREATE TABLE grown (b BLOB);
                WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
                INSERT INTO grown SELECT randomblob(1000000) FROM n;
                """
        },
    )
    with small_disk(tmp_path / "disk", "16m") as path:
        database = filled(path / "app.db", 2)
        left = []
        for _ in range(3):
            assert 74 == up(database, migrations).code
            left.append(free(path))

        assert left[0] == left[1] == left[2]


# --- a run that is killed on a full disk ----------------------------------------------

KILLED = """
    import os
    import signal

    transactional = False

    def up(conn):
        copy = conn.execute("PRAGMA database_list").fetchone()[2]
        if {fill}:
            with open(copy + ".filler", "wb", 0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    pass
        os.kill(os.getpid(), signal.{signal})
    """


@pytest.mark.parametrize(
    ("signal", "fill", "code", "reason"),
    [
        ("SIGBUS", True, 74, "disk.full"),
        ("SIGKILL", True, 80, "worker.killed"),
        ("SIGBUS", False, 80, "worker.killed"),
    ],
)
def test_killed_on_a_full_disk(signal, fill, code, reason, disk, tmp_path):
    """A worker killed on a full disk leaves nothing in the way; SIGBUS there is the disk's."""
    text = KILLED.format(signal=signal, fill=fill)
    migrations = write_migrations(tmp_path / "m", {"001_killed.py": text})
    with disk(16) as path:
        database = filled(path / "app.db", 2, wal=True)
        before = digest_aside(database)

        result = up(database, migrations)

        assert (code, reason) == (result.code, result.finished["reason"]), result.stderr
        assert "failed_restored" == result.finished["outcome"]
        assert result.one("restore.finished")["identical"] is True
        assert before == logical_digest(database)
        assert ["001"] == pending(database, migrations)
        assert AFTER_A_RUN == sorted(os.listdir(path / "app.db.migrator"))
        assert (code == 74) == (list((path / "backups").glob("*.db")) == [])
        assert_application_can_write(database)


# --- errors of the disk, with little room -------------------------------------------------

IO_ERROR = """
    import sqlite3

    def up(conn):
        conn.execute("INSERT INTO big (b) VALUES (zeroblob(10))")
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error
    """


def test_an_error_of_the_disk_costs_no_backup(tmp_path):
    """After an I/O error the backup stays, though there is no room for a second one."""
    migrations = write_migrations(tmp_path / "m", {"001_fails.py": IO_ERROR})
    with small_disk(tmp_path / "disk", "20m") as path:
        database = filled(path / "app.db", 8)
        before = digest_aside(database)

        result = up(database, migrations)

        assert (74, "disk.failed") == (result.code, result.finished["reason"]), result.stderr
        assert MIB < free(path)
        assert free(path) < database.stat().st_size
        assert 1 == len(backups(database))
        assert before == logical_digest(database)


def test_a_rollback_that_the_disk_fails_costs_no_backup(tmp_path):
    """Where the rollback itself meets an I/O error, the backup stays as well."""
    migrations = write_migrations(tmp_path / "m", {"001_fails.py": IO_ERROR})
    with small_disk(tmp_path / "disk", "20m") as path:
        database = filled(path / "app.db", 8)
        before = digest_aside(database)
        prefix = (tool("strace"), "-f", "-qq", "-o", tmp_path / "trace")
        fault = (*("-P", f"{database}-journal"), *("-e", "inject=fdatasync:error=EIO:when=1+"))

        result = run_migrator(
            *("up", "--database", database, "--migrations", migrations), prefix=(*prefix, *fault)
        )

        assert "(INJECTED)" in (tmp_path / "trace").read_text()
        assert (74, "disk.failed") == (result.code, result.finished["reason"]), result.stderr
        assert [] == result.named("restore.finished")
        assert free(path) < database.stat().st_size
        assert 1 == len(backups(database))
        migrations.joinpath("001_fails.py").unlink()
        assert 0 == up(database, migrations).code
        assert before == logical_digest(database)


# --- disks that only read ------------------------------------------------------------


@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
def test_read_only_and_up_to_date(wal, database, migrations, tmp_path):
    """On a volume mounted read-only a start with nothing pending becomes the application."""
    assert 0 == up(database, migrations).code
    with opened(database) as conn:
        conn.execute(f"PRAGMA journal_mode = {'wal' if wal else 'delete'}")
    with read_only(database.parent, tmp_path / "ro") as volume:
        result = run_entrypoint(
            *("--database", volume / "app.db", "--migrations", migrations),
            *("--", "echo", "application"),
        )

    assert (0, "application\n") == (result.code, result.stdout), result.stderr
    assert "up_to_date" == result.finished["outcome"]


@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
def test_read_only_and_pending(wal, database, migrations, tmp_path):
    """On a volume mounted read-only something pending is 69 at once."""
    with opened(database) as conn:
        conn.execute(f"PRAGMA journal_mode = {'wal' if wal else 'delete'}")
    before = listing(database.parent)
    with read_only(database.parent, tmp_path / "ro") as volume:
        result = run_entrypoint(
            *("--database", volume / "app.db", "--migrations", migrations),
            *("--wait-timeout", "50", "--", "echo", "application"),
        )

    assert (69, "") == (result.code, result.stdout), result.stderr
    assert result.named("volume.waiting") == []
    end = result.finished
    assert ("volume.read_only", False) == (end["reason"], end["retryable"])
    assert before == listing(database.parent)


@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
@pytest.mark.parametrize("applied", [False, True], ids=["pending", "up-to-date"])
def test_read_only_and_looking(wal, applied, database, migrations, tmp_path):
    """Every look works on a volume mounted read-only."""
    if applied:
        assert 0 == up(database, migrations).code
    with opened(database) as conn:
        conn.execute(f"PRAGMA journal_mode = {'wal' if wal else 'delete'}")
    with read_only(database.parent, tmp_path / "ro") as volume:
        given = ("--database", volume / "app.db", "--migrations", migrations)
        looks = ("status", "plan", "check", "backups", "verify")
        results = {look: run_migrator(look, *given) for look in looks}
        found = json.loads(run_migrator("status", "--json", *given).stdout)

    codes = {look: result.code for look, result in results.items()}
    assert {**dict.fromkeys(looks, 0), "check": 0 if applied else 1} == codes, results
    assert ([] if applied else ["001", "002"]) == [row["version"] for row in found["pending"]]
    assert [] == found["problems"]


def test_read_only_backup_directory(database, migrations, tmp_path):
    """A backup directory that cannot be written to is 73, with the database untouched."""
    store = tmp_path / "store"
    store.mkdir()
    before = digest_aside(database)
    with read_only(store, tmp_path / "ro") as mounted:
        result = up(database, migrations, "--backup-dir", str(mounted))

    assert 73 == result.code, result.stderr
    assert "backup.permission" == result.finished["reason"]
    assert before == logical_digest(database)
    assert ["001", "002"] == pending(database, migrations)


# --- no space for a restore ------------------------------------------------------------


def upgraded(directory: Path, *, wal: bool = False) -> tuple[Path, Path, str]:
    """Return a database after an upgrade, its migrations, and a digest of its state."""
    migrations = write_migrations(directory / "m", NEW)
    database = filled(directory / "data" / "app.db", 2, wal=wal)
    assert 0 == up(database, migrations).code
    return database, migrations, digest_aside(database)


def files(database: Path) -> list[str]:
    """Name every file beside a database and in its directories."""
    return sorted(str(path) for path in database.parent.rglob("*") if path.is_file())


@pytest.mark.parametrize("wal", [False, True])
def test_a_disk_that_is_full_during_a_restore(wal, tmp_path):
    """The restore is taken back as a whole: no note that has it begun again, no own backup."""
    database, migrations, before = upgraded(tmp_path, wal=wal)
    there = files(database)
    written = f"{database}-wal" if wal else database
    fault = ("-P", written, "-e", "inject=pwrite64:error=ENOSPC:when=3")
    given = ("restore", "latest", "--database", database, "--migrations", migrations)

    result = run_migrator(*given, prefix=(tool("strace"), "-f", "-qq", "-o", "/dev/null", *fault))

    assert 74 == result.code, result.stderr
    end = result.finished
    assert ("failed_restored", "disk.full") == (end["outcome"], end["reason"])
    assert "migrator restore app.db-000001" in end["hint"]
    assert ("rollback", True) == tuple(
        result.one("restore.finished")[key] for key in ("method", "identical")
    )
    assert before == logical_digest(database)
    assert there == files(database)
    assert 0 == run_migrator(*given).code
    assert ["001"] == pending(database, migrations)


def test_a_restore_without_space_is_refused_before_its_backup(disk, tmp_path):
    """Where space obviously lacks, the restore is 73, and nothing is written."""
    with disk(16) as path:
        database, migrations, before = upgraded(path)
        fill_up(path, 3 * MIB)
        there = files(database)

        result = run_migrator(
            *("restore", "latest", "--database", database, "--migrations", migrations)
        )

        assert 73 == result.code, result.stderr
        assert ("refused", "backup.no_space") == (
            result.finished["outcome"],
            result.finished["reason"],
        )
        assert [] == result.named("backup.started")
        assert before == logical_digest(database)
        assert there == files(database)
        assert_application_can_write(database)


# --- backups on another disk ------------------------------------------------------------


@pytest.mark.parametrize("transaction", ["true", "false"])
def test_backups_on_another_disk(transaction, database, tmp_path):
    """Backups may lie on another file system; from there they are put back."""
    text = f"-- migrate:up transaction:{transaction}\n" + NEW["001_new.sql"]
    migrations = write_migrations(tmp_path / "m", {"001_new.sql": text})
    before = digest_aside(database)
    with small_disk(tmp_path / "other", "8m") as other:
        given = ("--backup-dir", str(other / "deep" / "store"))
        assert 0 == up(database, migrations, *given).code
        assert not (database.parent / "backups").exists()
        args = ("restore", "latest", "--database", database, "--migrations", migrations, *given)
        result = run_migrator(*args)
        assert 0 == result.code, result.stderr
        assert before == digest_aside(database)
        database.unlink()
        assert 0 == run_migrator(*args).code
        assert before == digest_aside(database)


def test_other_disk_full(tmp_path):
    """A full disk of backups is 73, however much space the database's own has."""
    migrations = write_migrations(tmp_path / "m", NEW)
    database = filled(tmp_path / "data" / "app.db", 4)
    before = digest_aside(database)
    with small_disk(tmp_path / "other", "3m") as other:
        result = up(database, migrations, "--backup-dir", str(other))
        assert [] == [name for name in os.listdir(other) if name.endswith((".db", ".partial"))]

    assert 73 == result.code, result.stderr
    assert "backup.no_space" == result.finished["reason"]
    assert before == logical_digest(database)
    assert ["001"] == pending(database, migrations)


# --- nowhere to put temporary files ---------------------------------------------------------

READ_ONLY_ROOT = """
set -e
volume=$1
shift
for point in $(cut -d' ' -f5 /proc/self/mountinfo | sort -u); do
    case $point in /proc*|/sys*|/dev*) ;; *) mount -o remount,bind,ro "$point" 2>/dev/null || : ;; esac
done
mount --bind "$volume" "$volume"
mount -o remount,bind,rw "$volume"
for place in /tmp /var/tmp /usr/tmp /; do
    if touch "$place/probe" 2>/dev/null; then rm "$place/probe"; exit 99; fi
done
cd /
exec "$@"
"""


def on_read_only_root(volume: Path) -> tuple[str, ...]:
    """Return the prefix that runs a command with nothing writable but the volume."""
    return (tool("unshare"), "-m", "sh", "-c", READ_ONLY_ROOT, "sh", str(volume))


BIG = """
CREATE TABLE big (id INTEGER PRIMARY KEY, text TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
INSERT INTO big SELECT i, hex(randomblob(60)) FROM n;
"""


def test_teeth_of_the_read_only_root(volume):
    """A plain `VACUUM` fails there: what the next test shows is not shown by luck."""
    database = make_database(volume / "app.db", BIG)
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        " c.execute('PRAGMA cache_size = 10'); c.execute('VACUUM')"
    )

    done = subprocess.run(
        (*on_read_only_root(volume), sys.executable, "-c", script, database),
        env=clean_environment({"TMPDIR": None, "SQLITE_TMPDIR": None}),
        capture_output=True,
        text=True,
        check=False,
    )

    assert 1 == done.returncode, done.stderr
    assert "sqlite3.OperationalError" in done.stderr


WAYS = {
    "in-place": {"001_index.sql": "CREATE INDEX big_text ON big (text);"},
    "copy": {
        "001_index.sql": "CREATE INDEX big_text ON big (text);",
        "002_vacuum.sql": "-- migrate:up transaction:false\nVACUUM;",
    },
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
def test_no_temporary_directory(wal, way, volume, tmp_path):
    """On a read-only root without a `/tmp`, a big index and a `VACUUM` work as anywhere."""
    database = make_database(volume / "app.db", BIG, wal=wal)
    migrations = write_migrations(tmp_path / "m", WAYS[way])

    result = run_entrypoint(
        *("--database", database, "--migrations", migrations, "--", "echo", "application"),
        prefix=on_read_only_root(volume),
        env={"TMPDIR": None, "SQLITE_TMPDIR": None},
        cwd="/",
    )

    assert (0, "application\n") == (result.code, result.stdout), result.stderr
    assert len(WAYS[way]) == len(history(database))
    assert [("ok",)] == rows(database, "PRAGMA integrity_check")
    assert AFTER_A_RUN == sorted(os.listdir(volume / "app.db.migrator"))


@pytest.mark.parametrize("transactional", [True, False], ids=["in-place", "copy"])
def test_first_install_without_temporary_directory(transactional, volume, tmp_path):
    """The same holds for a first install."""
    vacuum = "" if transactional else "-- migrate:up transaction:false\nVACUUM;"
    migrations = write_migrations(
        tmp_path / "m",
        {"001_big.sql": BIG, "002_index.sql": "CREATE INDEX i ON big (text);", "003_v.sql": vacuum},
    )
    database = volume / "app.db"

    result = run_entrypoint(
        *("--database", database, "--migrations", migrations, "--", "echo", "application"),
        prefix=on_read_only_root(volume),
        env={"TMPDIR": None, "SQLITE_TMPDIR": None},
        cwd="/",
    )

    assert (0, "application\n") == (result.code, result.stdout), result.stderr
    assert ["001", "002", "003"] == history(database)
    assert stat.S_ISREG(database.stat().st_mode)


@pytest.mark.parametrize("transactional", [True, False], ids=["in-place", "copy"])
def test_failure_without_temporary_directory(transactional, volume, tmp_path):
    """A failing run is undone and proven there as well."""
    database = make_database(volume / "app.db", BIG)
    head = "" if transactional else "-- migrate:up transaction:false\n"
    text = (
        f"{head}CREATE INDEX big_text ON big (text);\nDELETE FROM big;\nINSERT INTO no VALUES (1);"
    )
    migrations = write_migrations(tmp_path / "m", {"001_fails.sql": text})
    before = digest_aside(database)

    result = run_entrypoint(
        *("--database", database, "--migrations", migrations, "--", "echo", "application"),
        prefix=on_read_only_root(volume),
        env={"TMPDIR": None, "SQLITE_TMPDIR": None},
        cwd="/",
    )

    assert (80, "") == (result.code, result.stdout), result.stderr
    assert result.one("restore.finished")["identical"] is True
    assert before == logical_digest(database)
    assert ["001"] == pending(database, migrations)
