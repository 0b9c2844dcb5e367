"""What a review of the whole program found, and what it does now."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from migrator.api import MigrationRunner
from migrator.database.checksum import fingerprint
from migrator.errors import NotReadyError
from tests.support.files import history, opened, tables, write_migrations
from tests.support.machine import tool
from tests.support.processes import (
    clean_environment,
    command,
    run_entrypoint,
    run_migrator,
    running,
)
from tests.support.recorder import small_disk

KILLS_ITSELF = """
    def up(conn):
        conn.execute("CREATE TABLE extra (a)")

    def down(conn):
        {how}
        conn.execute("DROP TABLE extra")
"""


def flags(database: Path, migrations: Path | str) -> tuple[str, ...]:
    """Return the flags that name a database and its migrations."""
    return ("--database", str(database), "--migrations", str(migrations))


def backups(database: Path) -> list[str]:
    """Return the names of the finished backups, oldest first."""
    return sorted(path.name for path in (database.parent / "backups").glob("*.db"))


def leave_restore(database: Path, name: str) -> None:
    """Leave what a restore leaves that a power cut ended before its first page."""
    with database.open("rb") as file:
        found = {"found": "pages", "fingerprint": fingerprint(file.fileno())}
    noted = {
        "format": 2,
        "extra": found,
        "run_id": "x",
        "phase": "restore",
        "since": "2026-01-01T00:00:00Z",
        "reason": "restore",
        "backup": name,
        "journal_mode": "delete",
    }
    Path(f"{database}.migrator", "state.json").write_text(json.dumps(noted))


def test_a_look_waits_for_a_lock_that_keeps_readers_out(
    database: Path, migrations: Path, tmp_path: Path
) -> None:
    """A database that is locked at the first look is waited for within the budget."""
    given = (*flags(database, migrations), "--wait-timeout", "30")
    with opened(database) as conn:
        conn.execute("BEGIN EXCLUSIVE")
        with running("entrypoint", *given, directory=tmp_path) as run:
            run.wait_for("volume.waiting")
            conn.close()
            result = run.finish()
    assert (result.code, result.finished["outcome"]) == (0, "migrated")
    assert result.named("volume.waiting")[0]["reason"] == "database.in_use"


def test_waiting_for_another_run_costs_nothing_of_the_budget(
    database: Path, tmp_path: Path
) -> None:
    """With `--migrate wait` the time of a run under way is the lock's."""
    text = """
        import time

        def up(conn):
            time.sleep(4)
            conn.execute("CREATE TABLE extra (a)")
    """
    directory = write_migrations(tmp_path / "slow", {"001_slow.py": text})
    given = flags(database, directory)
    with running("entrypoint", *given, directory=tmp_path) as first:
        first.wait_for("migration.started")
        second = run_entrypoint(*given, "--migrate", "wait", "--wait-timeout", "1")
        assert (first.finish().code, second.code) == (0, 0)
    assert second.finished["outcome"] == "up_to_date"


def test_work_beside_readers_costs_nothing_of_the_budget_of_its_commit(
    database: Path, tmp_path: Path
) -> None:
    """A busy commit has the whole budget, however long the migrations took."""
    text = """
        import time

        def up(conn):
            conn.execute("CREATE TABLE extra (a)")
            time.sleep(4)
    """
    directory = write_migrations(tmp_path / "slow", {"001_slow.py": text})
    given = (*flags(database, directory), "--in-use", "allow", "--wait-timeout", "4")
    with running("entrypoint", *given, directory=tmp_path) as run:
        run.wait_for("migration.started")
        with opened(database) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM users").fetchone()
            time.sleep(5)
        assert run.finish().code == 0
    assert "extra" in tables(database)


def test_an_interrupted_restore_is_finished_before_the_history_is_judged(
    database: Path, migrations: Path
) -> None:
    """An old image finishes the restore that was to lead back to it."""
    assert run_entrypoint(*flags(database, migrations)).code == 0
    write_migrations(migrations, {"900_later.sql": "CREATE TABLE later (a);"})
    assert run_entrypoint(*flags(database, migrations)).code == 0
    (migrations / "900_later.sql").unlink()
    assert run_entrypoint(*flags(database, migrations)).code == 78

    leave_restore(database, backups(database)[-1])
    result = run_entrypoint(*flags(database, migrations))

    assert (result.code, result.finished["outcome"]) == (0, "up_to_date")
    assert result.one("recovery.finished")["outcome"] == "restored"
    assert "later" not in tables(database)


def test_a_down_that_is_killed_is_recognised_under_another_spelling(
    database: Path, tmp_path: Path
) -> None:
    """What was to be undone is known by the history's own spelling."""
    directory = write_migrations(tmp_path / "m", {"001_a.py": KILLS_ITSELF.format(how="pass")})
    assert run_entrypoint(*flags(database, directory)).code == 0
    (directory / "001_a.py").unlink()
    text = KILLS_ITSELF.format(how="import os; os.kill(os.getpid(), 9)")
    write_migrations(directory, {"1_a.py": text})

    result = run_migrator("down", *flags(database, directory), "--accept", "changed")

    assert (result.code, result.finished["outcome"]) == (80, "failed_restored")
    assert (history(database), "extra" in tables(database)) == (["001"], True)


def test_a_restore_consumes_no_backup(database: Path, migrations: Path) -> None:
    """Neither space nor `--backup-keep` removes the backup that is put back."""
    given = (*flags(database, migrations), "--backup-keep", "2")
    for number in range(3):
        write_migrations(migrations, {f"90{number}_x.sql": f"CREATE TABLE x{number} (a);"})
        assert run_entrypoint(*given).code == 0
    oldest = backups(database)[0]
    for _ in range(2):
        assert run_migrator("restore", oldest, *given).code == 0
    assert oldest in backups(database)


def test_a_restore_that_a_signal_ends_says_what_is_there(database: Path, migrations: Path) -> None:
    """The outcome is true of the database that it leaves."""
    with opened(database) as conn:
        conn.execute("CREATE TABLE ballast (a)")
        conn.executemany("INSERT INTO ballast VALUES (?)", [(os.urandom(1 << 20),)] * 40)
    assert run_entrypoint(*flags(database, migrations)).code == 0
    old = tables(database)
    words = command("migrator", ("restore", "latest", *flags(database, migrations)))
    run = subprocess.Popen(
        words, env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    noted = Path(f"{database}.migrator", "state.json")
    deadline = time.monotonic() + 20
    while not (noted.exists() and '"restore",' in noted.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    _, err = run.communicate(timeout=20)
    finished = json.loads(err.splitlines()[-1])

    changed = tables(database) != old
    assert (run.returncode, finished["event"]) in ((143, "run.finished"), (0, "run.finished"))
    assert changed == (finished["outcome"] == "migrated")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_a_disk_that_is_full_from_the_start_is_no_space_for_the_backup(
    database: Path, migrations: Path, tmp_path: Path
) -> None:
    """Nothing is written before the space is looked at."""
    tool("mount")
    with small_disk(tmp_path / "small", "2m") as disk:
        place = disk / "app.db"
        place.write_bytes(database.read_bytes())
        with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        result = run_entrypoint(*flags(place, migrations))
        assert (result.code, result.finished["reason"]) == (73, "backup.no_space")


def test_a_registered_migration_is_named_where_it_fails(database: Path, tmp_path: Path) -> None:
    """The file of a registry alone does not say which migration failed."""
    registry = tmp_path / "registry.py"
    registry.write_text(
        "from types import SimpleNamespace as S\n"
        "def bad(cursor):\n"
        "    cursor.execute('SELECT nope')\n"
        "def create_migration_runner(path):\n"
        "    return S(migrations=[S(name='add_x', version='1', description='', up_func=bad)])\n"
    )
    result = run_entrypoint(*flags(database, registry))
    assert result.code == 80
    assert "add_x" in result.finished["error"]
    assert "registry.py" in result.finished["error"]


def test_a_missing_directory_is_no_failure_of_the_disk(tmp_path: Path, migrations: Path) -> None:
    """The API says 69 as the commands do."""
    runner = MigrationRunner(tmp_path / "none" / "app.db", migrations, wait_timeout=0)
    with pytest.raises(NotReadyError) as caught:
        runner.run_pending_migrations(verbose=False)
    assert caught.value.exit_code == 69


def test_ten_starts_at_once_on_a_wal_database_all_end_well(
    database: Path, migrations: Path
) -> None:
    """A look beside a run in exclusive WAL mode misleads nobody."""
    with opened(database) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
    words = [*command("entrypoint", flags(database, migrations)), "--", sys.executable, "-c", ""]
    runs = [
        subprocess.Popen(words, env=clean_environment(), stderr=subprocess.DEVNULL)
        for _ in range(10)
    ]
    assert [run.wait(60) for run in runs] == [0] * 10
