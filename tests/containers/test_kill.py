"""`docker kill` at random times: the database is the old or the new one, and the next start goes on."""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from tests.containers.engine import USER, Ended, run, started
from tests.support.digest import logical_digest
from tests.support.files import history, make_database, opened, tables, write_migrations

KILLS = int(os.environ.get("SQLITE_ENTRYPOINT_KILLS") or 3)
"""How often a run of each way is killed."""
SEED = int(os.environ.get("SQLITE_ENTRYPOINT_SEED") or time.time_ns())

CONTENT = """
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
INSERT INTO users (name) SELECT hex(randomblob(100)) FROM n;
"""
STEP = """
import time

def up(conn):
    conn.execute("CREATE TABLE tags_{n} AS SELECT id FROM users")
    conn.execute("UPDATE users SET name = name || '{n}'")
    time.sleep(0.1)
"""
STEPS = {f"00{n}_step.py": STEP.format(n=n) for n in (1, 2, 3)}
WAYS = {
    "in place": STEPS,
    "on a copy": {**STEPS, "004_vacuum.sql": "-- migrate:up transaction:false\nVACUUM;\n"},
}

State = tuple[str, list[str]]


@dataclass(frozen=True)
class Stage:
    """
    A directory of this machine as the volume, and an application's image that migrates it.

    Args:
        image: The application's.
        directory: Where everything lies: `pristine.db`, `data`, `migrations`.
    """

    image: str
    directory: Path

    @property
    def volumes(self) -> list[str]:
        """What is mounted."""
        return [f"{self.directory}/data:/data", f"{self.directory}/migrations:/migrations:ro"]

    @property
    def user(self) -> str:
        """Whose the files are: the image's user, where root may give them away."""
        uid, gid = (USER, USER) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
        return f"{uid}:{gid}"

    def reset(self) -> None:
        """Put the old database on an empty volume."""
        data = self.directory / "data"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir()
        shutil.copy(self.directory / "pristine.db", data / "app.db")
        if os.geteuid() == 0:
            for path in (data, data / "app.db"):
                os.chown(path, USER, USER)

    def start(self) -> Ended:
        """Run to the end of the application."""
        user = f"--user={self.user}"
        return run(self.image, "/app/probe", volumes=self.volumes, options=[user])

    def kill_after(self, seconds: float) -> None:
        """Start, and kill so long after the run has begun."""
        with started(self.image, "/app/probe", volumes=self.volumes, user=self.user) as container:
            container.wait_for("run.started")
            time.sleep(seconds)
            container.kill()
            container.killed()

    def state(self) -> State:
        """Return what a plain sqlite3 finds, history apart, looking at a copy of the volume."""
        copy = self.directory / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.directory / "data", copy)
        path, applied = copy / "app.db", []
        if "migrations" in tables(path):
            applied = history(path)
            with opened(path) as conn:
                conn.execute("DROP TABLE migrations")
        return logical_digest(path), applied


@pytest.fixture
def stage(app_image: str, tmp_path: Path) -> Callable[[Mapping[str, str]], Stage]:
    """Return a function that prepares a database and its migrations."""

    def stage(files: Mapping[str, str]) -> Stage:
        make_database(tmp_path / "pristine.db", CONTENT)
        write_migrations(tmp_path / "migrations", files).chmod(0o755)
        made = Stage(app_image, tmp_path)
        made.reset()
        return made

    return stage


def duration(done: Ended) -> float:
    """Return the seconds from the first line of a log to its last."""
    first, last = (datetime.fromisoformat(done.events[n]["timestamp"]) for n in (0, -1))
    return (last - first).total_seconds()


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_killed_at_any_time(
    way: str,
    stage: Callable[[Mapping[str, str]], Stage],
    record_property: Callable[[str, object], None],
) -> None:
    """After `docker kill` the database is the old or the new one, and the next start ends new."""
    volume = stage(WAYS[way])
    old = volume.state()
    undisturbed = volume.start()
    new = volume.state()
    assert (undisturbed.code, old[1], len(new[1])) == (0, [], len(WAYS[way]))
    found = []
    sys.stdout.write(f"SQLITE_ENTRYPOINT_SEED={SEED}\n")
    moments = random.Random(f"{SEED} {way}")  # noqa: S311 - no secret
    for _ in range(KILLS):
        volume.reset()
        seconds = moments.uniform(0, duration(undisturbed))
        volume.kill_after(seconds)
        state = volume.state()
        assert state in (old, new), seconds
        found.append(state)
        following = volume.start()
        assert (following.code, following.facts("pid")) == (0, ["1"]), seconds
        assert volume.state() == new, seconds
    summary = f"{found.count(old)} old, {found.count(new)} new, seed {SEED}"
    record_property(f"docker kill at {KILLS} random times, {way}", summary)
