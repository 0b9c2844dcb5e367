"""Several containers on one volume: one run at a time, and what is said of the others."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import run as run_command

import pytest

from tests.containers.engine import PATIENCE, PYTHON, Ended, Started, Volume, docker, run, started
from tests.support.digest import logical_digest
from tests.support.files import history, rows

Mounted = Callable[[Mapping[str, str]], str]

HOLD = """
import signal, sqlite3
conn = sqlite3.connect('/data/app.db', isolation_level=None)
conn.execute('BEGIN IMMEDIATE')
conn.execute("INSERT INTO users (name) VALUES ('Barbara')")
print('ready', flush=True)
signal.sigwait({signal.SIGTERM})
conn.execute('COMMIT')
"""
"""An old application: writes, and commits when it is stopped."""
BLOCKED = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
SLEEPING = "import time\n\ndef up(conn):\n    print('asleep', flush=True); time.sleep(600)\n"


def old_application(image: str, volume: Volume) -> AbstractContextManager[Started]:
    """Start the application that still has the database."""
    code = BLOCKED + HOLD
    return started(image, "-c", code, volumes=[volume.mount], entrypoint=PYTHON)


def found_by(hint: str) -> set[str]:
    """Run the command that a hint has for finding the others, and return the containers' ids."""
    (command,) = re.findall(r"`(docker ps [^`]+)`", hint)
    words = shlex.split(command)
    run_command(words, capture_output=True, check=True)
    filters = words[: words.index("--format")] if "--format" in words else words
    ids = [*filters, "--quiet", "--no-trunc"]
    return set(run_command(ids, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.slow
def test_ten_at_once(app_image: str, used_volume: Volume, add_email: str, tmp_path: Path) -> None:
    """Of ten containers on one volume one migrates, and all of them become their application."""

    def start(_number: int) -> Ended:
        return run(app_image, "/app/probe", volumes=[used_volume.mount, add_email], timeout=300)

    with ThreadPoolExecutor(10) as threads:
        ends = list(threads.map(start, range(10)))
    assert [(0, ["1"])] * 10 == [(done.code, done.facts("pid")) for done in ends]
    assert Counter(done.finished["outcome"] for done in ends) == {"migrated": 1, "up_to_date": 9}
    assert history(used_volume.copy_to(tmp_path)) == ["001", "002"]


def test_refused_and_found(image: str, used_volume: Volume, add_email: str, tmp_path: Path) -> None:
    """A database that another container writes to is 69; the hint finds it, and stopping it helps."""
    volumes = [used_volume.mount, add_email]
    options = ["--env=MIGRATOR_WAIT_TIMEOUT=1"]
    with old_application(image, used_volume) as old:
        old.wait_for("ready")
        done = run(image, volumes=volumes, options=options)
        end = done.finished
        assert (69, "refused", "database.in_use") == (done.code, end["outcome"], end["reason"])
        assert "'/data/app.db' is in use" in end["error"]
        assert "another container" in end["error"]
        assert found_by(end["hint"]) == {old.id}
        old.stop()
        assert run(image, volumes=volumes, options=options).finished["outcome"] == "migrated"
    path = used_volume.copy_to(tmp_path)
    assert rows(path, "SELECT name FROM users WHERE id = 4 AND email IS NOT NULL") == [("Barbara",)]


def test_found_by_its_mount_point(
    image: str, used_volume: Volume, add_email: str, tmp_path: Path
) -> None:
    """Where a directory of the host is mounted, others are found by the place of the mount."""
    path = used_volume.copy_to(tmp_path)
    path.parent.chmod(0o777)
    path.chmod(0o666)
    volume = f"{path.parent}:/data"
    with started(image, "-c", BLOCKED + HOLD, volumes=[volume], entrypoint=PYTHON) as old:
        old.wait_for("ready")
        options = ["--env=MIGRATOR_WAIT_TIMEOUT=1"]
        done = run(image, volumes=[volume, add_email], options=options)
        assert old.id in found_by(done.finished["hint"])
    assert done.finished["reason"] == "database.in_use"


def test_waited_for(image: str, used_volume: Volume, add_email: str, tmp_path: Path) -> None:
    """An old application that is stopped in time is waited for, and its last rows are migrated."""
    with old_application(image, used_volume) as old:
        old.wait_for("ready")
        with started(image, volumes=[used_volume.mount, add_email]) as new:
            new.wait_for("volume.waiting")
            old.stop()
            done = new.wait()
    assert (done.code, done.finished["outcome"]) == (0, "migrated")
    path = used_volume.copy_to(tmp_path)
    assert rows(path, "SELECT email FROM users WHERE id = 4") == [("barbara@example.org",)]


def test_restore_beside_an_application(image: str, used_volume: Volume, add_email: str) -> None:
    """`migrator` in a container says as well how the one in its way is found."""
    volumes = [used_volume.mount, add_email]
    assert run(image, volumes=volumes).code == 0
    with old_application(image, used_volume) as old:
        old.wait_for("ready")
        options = ["--env=MIGRATOR_WAIT_TIMEOUT=1"]
        done = run(image, "migrator", "restore", "latest", volumes=volumes, options=options)
        assert (done.code, found_by(done.finished["hint"])) == (69, {old.id})
        old.stop()
    assert run(image, "migrator", "restore", "latest", volumes=volumes).code == 0


def test_another_run(image: str, used_volume: Volume, mounted: Mounted, tmp_path: Path) -> None:
    """Another run that lasts is 75, saying which and since when; the hint finds its container."""
    volumes = [used_volume.mount, mounted({"001_sleep.py": SLEEPING})]
    before = logical_digest(used_volume.copy_to(tmp_path / "before"))
    with started(image, volumes=volumes) as first:
        first.wait_for("asleep")
        done = run(image, volumes=volumes, options=["--env=MIGRATOR_LOCK_TIMEOUT=1"])
        end = done.finished
        run_id = first.output()[1].split('"run_id": "')[1].partition('"')[0]
        assert (75, "refused", "lock.timeout") == (done.code, end["outcome"], end["reason"])
        assert f"Another run ({run_id}, migrate since" in end["error"]
        assert found_by(end["hint"]) == {first.id}
        docker("stop", f"--time={PATIENCE}", *found_by(end["hint"]))
        assert first.wait().code == 143
    assert logical_digest(used_volume.copy_to(tmp_path / "after")) == before
