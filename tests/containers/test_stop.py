"""`docker stop` at every phase: the run ends by itself, and the database is as before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.containers.engine import Ended, Volume, run, started
from tests.support.digest import logical_digest
from tests.support.files import history

Mounted = Callable[[Mapping[str, str]], str]
Record = Callable[[str, object], None]

ASLEEP = "print('asleep', flush=True); time.sleep(600)"


@dataclass(frozen=True)
class Phase:
    """
    Where a run is when it is stopped.

    Args:
        files: Its migrations.
        sign: What has to stand in its log first.
        unseen: An event that would show that the phase was over.
    """

    files: Mapping[str, str]
    sign: str
    unseen: str = "migration.finished"
    env: Mapping[str, str] = field(default_factory=dict)


PYTHON = {"001_sleep.py": f"import time\n\ndef up(conn):\n    {ASLEEP}\n"}
STUBBORN = {
    "001_stubborn.py": f"""
        import signal, time

        def up(conn):
            conn.execute("DELETE FROM users")
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            {ASLEEP}
        """
}
CHECK = {
    "001_checked.py": f"""
        import time

        def up(conn):
            conn.execute("ALTER TABLE users ADD COLUMN email TEXT")

        def check_after(conn):
            {ASLEEP}
        """
}
STATEMENT = {
    "001_long.sql": """
        CREATE TABLE numbers AS
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1e12)
        SELECT max(i) FROM n;
        """
}
COPY = {"001_copy.py": f"import time\n\ntransactional = False\n\ndef up(conn):\n    {ASLEEP}\n"}

PHASES = {
    "a migration in Python": Phase(PYTHON, "asleep"),
    "a migration that ignores the signal": Phase(STUBBORN, "asleep"),
    "one long SQL statement": Phase(STATEMENT, "migration.started"),
    "a migration's own check": Phase(CHECK, "asleep", unseen="verify.finished"),
    "a migration on the copy": Phase(COPY, "asleep"),
}


def assert_stopped(done: Ended, unseen: str) -> None:
    """Assert that the signal ended the run in its phase, and that no application was started."""
    outcome = "failed_restored" if "migration.started" in done.names else "refused"
    end = done.finished
    assert (143, outcome, "signal") == (done.code, end["outcome"], end["reason"])
    assert not {unseen, "app.exec"}.intersection(done.names), done.names
    assert done.stdout == ""


@pytest.mark.parametrize("name", PHASES)
def test_stopped(
    name: str,
    app_image: str,
    used_volume: Volume,
    mounted: Mounted,
    tmp_path: Path,
    record_property: Record,
) -> None:
    """Stopped while it works, a run ends with 143 and without Docker's kill; the next one goes on."""
    phase = PHASES[name]
    before = logical_digest(used_volume.copy_to(tmp_path / "before"))
    volumes = [used_volume.mount, mounted(phase.files)]
    with started(app_image, "/app/probe", volumes=volumes) as container:
        container.wait_for(phase.sign)
        record_property(f"docker stop, {name}", f"{container.stop():.2f} s")
        done = container.wait()
    assert_stopped(done, phase.unseen)
    assert logical_digest(used_volume.copy_to(tmp_path / "after")) == before
    for file in (tmp_path / "migrations").iterdir():
        file.unlink()
    mounted({"001_tags.sql": "CREATE TABLE tags (name TEXT);\n"})
    assert run(app_image, "/app/probe", volumes=volumes).code == 0
    assert history(used_volume.copy_to(tmp_path / "end")) == ["001"]


def test_stopped_waiting_for_the_volume(
    app_image: str, volume: Volume, add_email: str, record_property: Record
) -> None:
    """Stopped while it waits for a database, a start ends with 143 and leaves nothing behind."""
    env = {"MIGRATOR_CREATE": "never"}
    mounts = [volume.mount, add_email]
    with started(app_image, "/app/probe", volumes=mounts, env=env) as container:
        container.wait_for("volume.waiting")
        record_property("docker stop, volume.waiting", f"{container.stop():.2f} s")
        done = container.wait()
    assert_stopped(done, "volume.ready")
    assert volume.python("import os; print(os.listdir('/data'))") == "[]"


def test_stopped_waiting_for_the_lock(
    app_image: str, used_volume: Volume, mounted: Mounted, record_property: Record
) -> None:
    """Stopped while it waits for another run, a start ends with 143; the other one goes on."""
    volumes = [used_volume.mount, mounted(PYTHON)]
    with ExitStack() as both:
        first = both.enter_context(started(app_image, "/app/probe", volumes=volumes))
        first.wait_for("asleep")
        second = both.enter_context(started(app_image, "/app/probe", volumes=volumes))
        second.wait_for("lock.waiting")
        record_property("docker stop, lock.waiting", f"{second.stop():.2f} s")
        assert_stopped(second.wait(), "lock.acquired")
        assert first.running()


# --- phases that only a large database makes long enough ----------------------------------

LARGE = """
PRAGMA synchronous = OFF;
PRAGMA temp_store = MEMORY;
CREATE TABLE blobs (id INTEGER PRIMARY KEY, hash TEXT, data BLOB);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 90000)
INSERT INTO blobs SELECT i, hex(randomblob(16)), randomblob(2000) FROM n;
CREATE INDEX blobs_hash ON blobs (hash);
CREATE INDEX blobs_both ON blobs (hash, id);
"""
CONTENT = """
import sqlite3
conn = sqlite3.connect('/data/app.db')
print(conn.execute("SELECT group_concat(name) FROM sqlite_schema").fetchone(),
      conn.execute("SELECT count(*), sum(length(data)), min(hash), max(hash) FROM blobs").fetchone())
"""
"""Reads every page, as somebody who knows nothing of this program."""

TAGS = {"001_tags.sql": "CREATE TABLE tags (name TEXT);\n"}
VACUUM = {
    "001_tags.sql": "CREATE TABLE tags (name TEXT);\n",
    "002_vacuum.sql": "-- migrate:up transaction:false\nVACUUM;\n",
}
FULL = {"MIGRATOR_VERIFY": "full"}

LONG_PHASES = {
    "backup": Phase(TAGS, "backup.started", unseen="backup.finished"),
    "copying": Phase(VACUUM, "backup.finished", unseen="verify.finished"),
    "VACUUM on the copy": Phase(VACUUM, '"version": "002"', unseen="verify.finished"),
    "verification": Phase(TAGS, "migration.finished", unseen="verify.finished", env=FULL),
}


@pytest.fixture(scope="module")
def large(image: str) -> Iterator[Volume]:
    """Return a volume with a database of 200 MB."""
    volume = Volume(image)
    try:
        volume.execute(LARGE)
        yield volume
    finally:
        volume.remove()


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG_PHASES)
def test_stopped_in_a_long_phase(
    name: str, app_image: str, large: Volume, mounted: Mounted, record_property: Record
) -> None:
    """Stopped in the middle of what takes long on a large database, a run ends with 143 as well."""
    phase = LONG_PHASES[name]
    before = large.python(CONTENT)
    large.python("import shutil; shutil.rmtree('/data/backups', ignore_errors=True)")
    mounts = [large.mount, mounted(phase.files)]
    with started(app_image, "/app/probe", volumes=mounts, env=phase.env) as container:
        container.wait_for(phase.sign)
        record_property(f"docker stop, {name}", f"{container.stop():.2f} s")
        done = container.wait()
    assert_stopped(done, phase.unseen)
    assert large.python(CONTENT) == before


@pytest.mark.slow
def test_stopped_while_publishing(
    app_image: str, large: Volume, mounted: Mounted, record_property: Record
) -> None:
    """Stopped around the commit of a copy, the database is what `run.finished` says, and 143."""
    before = large.python(CONTENT)
    large.python("import shutil; shutil.rmtree('/data/backups', ignore_errors=True)")
    volumes = [large.mount, mounted(VACUUM)]
    with started(app_image, "/app/probe", volumes=volumes) as container:
        container.wait_for("verify.finished")
        record_property("docker stop, publishing", f"{container.stop():.2f} s")
        done = container.wait()
    outcome = done.finished["outcome"]
    after = large.python(CONTENT)
    assert (done.code, done.stdout) == (143, "")
    assert outcome in ("migrated", "failed_restored")
    assert ("tags" in after) is (outcome == "migrated")
    assert after.partition(")")[2] == before.partition(")")[2]


def test_stopped_in_the_application(
    app_image: str, used_volume: Volume, add_email: str, record_property: Record
) -> None:
    """After the run `docker stop` is the application's to answer, and its code the container's."""
    volumes = [used_volume.mount, add_email]
    with started(app_image, "/app/probe", "wait", volumes=volumes) as container:
        container.wait_for("ready\n")
        record_property("docker stop, the application", f"{container.stop():.2f} s")
        done = container.wait()
    assert (done.code, done.finished["outcome"]) == (42, "migrated")
    assert (done.facts("pid"), done.stdout.splitlines()[-1]) == (["1"], "stopped")
