"""Many starts on one volume at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import logs, others
from tests.support.aside import backups, pending
from tests.support.digest import logical_digest
from tests.support.files import history, opened, rows, tables, write_migrations
from tests.support.machine import tool
from tests.support.processes import (
    clean_environment,
    command,
    run_entrypoint,
    run_migrator,
    running,
)

COUNTED = {
    "001_count.sql": """
        CREATE TABLE counted (id INTEGER PRIMARY KEY, at TEXT DEFAULT CURRENT_TIMESTAMP);
        INSERT INTO counted DEFAULT VALUES;
        """,
    "002_slow.py": """
        import time

        def up(conn):
            conn.execute("INSERT INTO counted DEFAULT VALUES")
            time.sleep(0.3)
        """,
}

HELD = """
    import pathlib, time

    def up(conn):
        conn.execute("CREATE TABLE half (id INTEGER)")
        conn.execute("INSERT INTO half VALUES (1)")
        while not pathlib.Path({go!r}).exists():
            time.sleep(0.01)
    """


def start(args: tuple[str, ...], directory: Path, number: int) -> subprocess.Popen[str]:
    """Start an entrypoint whose output goes to files of its own."""
    with (
        (directory / f"{number}.out").open("w") as out,
        (directory / f"{number}.err").open("w") as err,
    ):
        return subprocess.Popen(
            command("entrypoint", args),
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            text=True,
        )


def all_at_once(count: int, args: tuple[str, ...], directory: Path) -> list[list[logs.Event]]:
    """Run that many at once; each must end with 0 and have become the application."""
    directory.mkdir()
    started = [start(args, directory, number) for number in range(count)]
    try:
        codes = [process.wait(350) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    errors = [(directory / f"{number}.err").read_text() for number in range(count)]
    assert [0] * count == codes, [e for e, code in zip(errors, codes, strict=True) if code]
    for number in range(count):
        assert "application\n" == (directory / f"{number}.out").read_text()
    return [logs.split(text)[0] for text in errors]


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("count", "wal"),
    [
        (2, False),
        (2, True),
        (10, False),
        (10, True),
        pytest.param(50, True, marks=pytest.mark.slow),
    ],
)
def test_one_migrates(count, wal, database, tmp_path):
    """However many start at once, exactly one migrates, and all become the application."""
    with opened(database) as conn:
        conn.execute(f"PRAGMA journal_mode = {'wal' if wal else 'delete'}")
    migrations = write_migrations(tmp_path / "m", COUNTED)
    args = (
        *("--database", str(database), "--migrations", str(migrations)),
        *("--wait-timeout", "300", "--lock-timeout", "300"),
        *("--", "echo", "application"),
    )

    events = all_at_once(count, args, tmp_path / "logs")

    outcomes = [logs.finished(each)["outcome"] for each in events]
    assert ["migrated"] + ["up_to_date"] * (count - 1) == sorted(outcomes)
    assert 1 == sum(event["event"] == "backup.finished" for each in events for event in each)
    assert [(1,), (2,)] == rows(database, "SELECT id FROM counted")
    assert ["001", "002"] == history(database)
    assert 1 == len(backups(database))


@pytest.mark.parametrize("count", [2, 10])
def test_one_creates(count, volume, tmp_path):
    """However many start at once on an empty volume, exactly one creates the database."""
    migrations = write_migrations(tmp_path / "m", COUNTED)
    database = volume / "app.db"
    args = (
        *("--database", str(database), "--migrations", str(migrations)),
        *("--wait-timeout", "120", "--", "echo", "application"),
    )

    events = all_at_once(count, args, tmp_path / "logs")

    outcomes = [logs.finished(each)["outcome"] for each in events]
    assert ["created"] + ["up_to_date"] * (count - 1) == sorted(outcomes)
    assert [(1,), (2,)] == rows(database, "SELECT id FROM counted")


@pytest.mark.parametrize("count", [3])
def test_none_starts_after_a_failure(count, database, tmp_path):
    """When the migration fails, none of several starts becomes the application, and one backup stays."""
    migrations = write_migrations(
        tmp_path / "m", {**COUNTED, "003_fails.sql": "INSERT INTO nowhere VALUES (1);"}
    )
    before = logical_digest(database)
    args = (
        "--database",
        str(database),
        "--migrations",
        str(migrations),
        "--",
        "echo",
        "application",
    )
    directory = tmp_path / "logs"
    directory.mkdir()

    started = [start(args, directory, number) for number in range(count)]

    assert [80] * count == [process.wait(60) for process in started]
    assert [""] * count == [(directory / f"{n}.out").read_text() for n in range(count)]
    assert before == logical_digest(database)
    assert ["001", "002", "003"] == pending(database, migrations)
    assert 1 == len(backups(database))


@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
def test_nothing_pending_beside_an_application(wal, database, migrations, tmp_path):
    """Twenty starts with nothing pending go on at once beside an application that writes."""
    with opened(database) as conn:
        conn.execute(f"PRAGMA journal_mode = {'wal' if wal else 'delete'}")
    given = ("--database", str(database), "--migrations", str(migrations))
    assert 0 == run_migrator("up", *given).code
    args = (*given, "--wait-timeout", "20", "--", "echo", "application")

    with others.writing(database) as other:
        events = all_at_once(20, args, tmp_path / "logs")
        assert other.poll() is None

    for each in events:
        assert "up_to_date" == logs.finished(each)["outcome"]
        assert "lock.acquired" not in [event["event"] for event in each]
    ids = [number for (number,) in rows(database, "SELECT id FROM heartbeat ORDER BY id")]
    assert list(range(1, len(ids) + 1)) == ids
    assert [("ok",)] == rows(database, "PRAGMA integrity_check")


def test_nothing_left_after_the_lock_forks_nothing(database, tmp_path):
    """A start that waited for the lock looks again before it makes a worker, and needs none."""
    go = tmp_path / "go"
    migrations = write_migrations(tmp_path / "m", {"001_held.py": HELD.format(go=str(go))})
    given = ("--database", database, "--migrations", migrations)
    trace = tmp_path / "trace"
    traced = (tool("strace"), "-f", "-qq", "-e", "trace=clone,clone3,fork,vfork,execve")
    with ExitStack() as stack:
        first = stack.enter_context(running("entrypoint", *given, directory=tmp_path))
        first.wait_for("migration.started")
        second = stack.enter_context(
            running(
                *("entrypoint", *given, "--", "/bin/echo", "application"),
                directory=tmp_path,
                prefix=(*traced, "-e", "signal=none", "-o", trace),
            )
        )
        second.wait_for("lock.waiting")
        go.touch()
        assert "migrated" == first.finish().finished["outcome"]
        result = second.finish()

    assert 0 == result.code, result.stderr
    assert "application\n" == result.stdout
    assert "up_to_date" == result.finished["outcome"]
    assert (0, 1) == tuple(result.one("plan.ready")[key] for key in ("pending", "applied"))
    calls = [line for line in trace.read_text().splitlines() if " = -1" not in line]
    assert ["execve", "execve"] == [line.split("(")[0].split()[-1] for line in calls], calls


def test_wait_beside_a_runner(database, tmp_path):
    """`--migrate wait` writes nothing and becomes the application once another run is done."""
    go = tmp_path / "go"
    migrations = write_migrations(tmp_path / "m", {"001_held.py": HELD.format(go=str(go))})
    given = ("--database", database, "--migrations", migrations)
    with ExitStack() as stack:
        runner = stack.enter_context(running("entrypoint", *given, directory=tmp_path))
        runner.wait_for("migration.started")
        waiting = stack.enter_context(
            running(
                *("entrypoint", *given, "--migrate", "wait", "--wait-timeout", "1"),
                *("--", "echo", "application"),
                directory=tmp_path,
            )
        )
        waiting.wait_for("volume.waiting")
        assert waiting.process.poll() is None
        go.touch()
        assert "migrated" == runner.finish().finished["outcome"]
        result = waiting.finish()

    assert 0 == result.code, result.stderr
    assert "application\n" == result.stdout
    assert "up_to_date" == result.finished["outcome"]
    assert "lock.acquired" not in result.names


def test_wait_beside_a_runner_that_lasts_too_long(database, tmp_path):
    """Then `--migrate wait` ends with 69, and names the time that ran out."""
    go = tmp_path / "go"
    migrations = write_migrations(tmp_path / "m", {"001_held.py": HELD.format(go=str(go))})
    given = ("--database", database, "--migrations", migrations)
    with running("entrypoint", *given, directory=tmp_path) as runner:
        runner.wait_for("migration.started")
        times = ("--wait-timeout", "0", "--lock-timeout", "0")
        result = run_entrypoint(*given, "--migrate", "wait", *times, "--", "true")
        go.touch()
        runner.finish()

    assert (69, "migrations.pending") == (result.code, result.finished["reason"]), result.stderr
    assert "--lock-timeout" in result.finished["hint"]


def test_wait_where_there_are_no_migrations(volume, tmp_path):
    """There is nothing to wait for, with a database or without one, as for the run itself."""
    given = ("--database", volume / "app.db", "--migrations", tmp_path, "--wait-timeout", "0")
    for mode in ("run", "wait"):
        result = run_entrypoint(*given, "--migrate", mode, "--", "echo", "application")
        assert (0, "application\n") == (result.code, result.stdout), result.stderr
        assert "up_to_date" == result.finished["outcome"]
        assert [] == os.listdir(volume)


def test_wait_without_a_runner(database, migrations, tmp_path):
    """`--migrate wait` ends with 69 where nobody migrates, and has created nothing."""
    before = sorted(os.listdir(database.parent))

    result = run_entrypoint(
        *("--database", database, "--migrations", migrations),
        *("--migrate", "wait", "--wait-timeout", "0.5", "--", "echo", "application"),
    )

    assert 69 == result.code, result.stderr
    assert "" == result.stdout
    assert before == sorted(os.listdir(database.parent))
    assert ["001", "002"] == pending(database, migrations)


def test_lock_timeout(database, tmp_path):
    """Another run that lasts longer than `--lock-timeout` is 75, which is worth a retry."""
    go = tmp_path / "go"
    migrations = write_migrations(tmp_path / "m", {"001_held.py": HELD.format(go=str(go))})
    given = ("--database", database, "--migrations", migrations)
    with running("migrator", "up", *given, directory=tmp_path) as runner:
        runner.wait_for("migration.started")
        result = run_entrypoint(*given, "--lock-timeout", "0.3", "--", "echo", "application")
        again = run_migrator("restore", "latest", *given, "--lock-timeout", "0.3")
        go.touch()
        assert 0 == runner.finish().code

    assert 75 == result.code, result.stderr
    assert "" == result.stdout
    end = result.finished
    assert ("refused", True) == (end["outcome"], end["retryable"])
    assert result.named("lock.waiting")
    assert 75 == again.code, again.stderr
    assert ["001"] == history(database)


@pytest.mark.parametrize("whom", ["parent", "worker", "both"])
@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
def test_crash_of_the_holder(whom, wal, database, tmp_path):
    """When the run that holds the lock is killed, the next one gets the lock and the whole work."""
    with opened(database) as conn:
        conn.execute(f"PRAGMA journal_mode = {'wal' if wal else 'delete'}")
    go = tmp_path / "go"
    migrations = write_migrations(tmp_path / "m", {"001_held.py": HELD.format(go=str(go))})
    given = ("--database", database, "--migrations", migrations)
    with ExitStack() as stack:
        first = stack.enter_context(running("entrypoint", *given, directory=tmp_path))
        first.wait_for("migration.started")
        (worker,) = first.children()
        second = stack.enter_context(
            running("entrypoint", *given, "--", "echo", "application", directory=tmp_path)
        )
        second.wait_for("lock.waiting")
        if whom in ("worker", "both"):
            os.kill(worker, signal.SIGKILL)
        if whom in ("parent", "both"):
            first.send(signal.SIGKILL)
        code = first.process.wait(20)
        second.wait_for("migration.started")
        go.touch()
        result = second.finish()

    assert (80 if whom == "worker" else -9) == code
    assert 0 == result.code, result.stderr
    assert "application\n" == result.stdout
    assert "migrated" == result.finished["outcome"]
    assert [(1,)] == rows(database, "SELECT * FROM half")
    assert ["001"] == history(database)
    assert 1 == len(backups(database))


def test_killed_waiter_changes_nothing(database, tmp_path):
    """A start that is killed while it waits for the lock leaves the run that has it alone."""
    go = tmp_path / "go"
    migrations = write_migrations(tmp_path / "m", {"001_held.py": HELD.format(go=str(go))})
    given = ("--database", database, "--migrations", migrations)
    with ExitStack() as stack:
        first = stack.enter_context(running("entrypoint", *given, directory=tmp_path))
        first.wait_for("migration.started")
        second = stack.enter_context(running("entrypoint", *given, directory=tmp_path))
        second.wait_for("lock.waiting")
        second.send(signal.SIGKILL)
        second.process.wait(20)
        go.touch()
        result = first.finish()

    assert 0 == result.code, result.stderr
    assert {"users", "notes", "half", "migrations"} == tables(database)


def test_lock_ends_with_exec(database, migrations, tmp_path):
    """The application that a start has become holds no lock: the next start goes on beside it."""
    given = ("--database", database, "--migrations", migrations)
    sleeper = ("--", sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)")
    with running("entrypoint", *given, *sleeper, directory=tmp_path) as first:
        first.wait_for_stdout("up")
        (migrations / "003_more.sql").write_text("CREATE TABLE more (id INTEGER);")
        result = run_entrypoint(*given, "--lock-timeout", "5", "--", "echo", "application")

    assert 0 == result.code, result.stderr
    assert [] == result.named("lock.waiting")
    assert ["001", "002", "003"] == history(database)
