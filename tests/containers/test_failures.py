"""Migrations that fail in a container: what is left, what is said, and what restarts add."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.containers.engine import PATIENCE, Volume, docker, run, started
from tests.support import logs
from tests.support.digest import logical_digest
from tests.support.files import history, rows
from tests.support.waiting import until

Mounted = Callable[[Mapping[str, str]], str]

BROKEN = {
    "001_tags.sql": "CREATE TABLE tags (name TEXT);\n",
    "002_broken.sql": "DELETE FROM users;\nINSERT INTO nowhere VALUES (1);\n",
}
LISTING = """
import os
for base, folders, files in sorted(os.walk('/data')):
    for name in sorted(files):
        print(os.path.join(base, name), os.lstat(os.path.join(base, name)).st_size)
"""


def test_failing_migration(
    app_image: str, used_volume: Volume, mounted: Mounted, tmp_path: Path
) -> None:
    """A failing migration is 80: the database is as before, and the app was never started."""
    before = logical_digest(used_volume.copy_to(tmp_path / "before"))
    volumes = [used_volume.mount, mounted(BROKEN)]
    done = run(app_image, "/app/probe", volumes=volumes)
    path = used_volume.copy_to(tmp_path / "after")
    end = done.finished
    assert (done.code, end["outcome"], end["reason"]) == (80, "failed_restored", "migration.failed")
    assert (end["version"], end["line"]) == ("002", 2)
    assert (done.stdout, "app.exec" in done.names) == ("", False)
    (restored,) = logs.named(done.events, "restore.finished")
    assert (restored["method"], restored["identical"]) == ("rollback", True)
    assert logical_digest(path) == before


def test_mended(app_image: str, used_volume: Volume, mounted: Mounted, tmp_path: Path) -> None:
    """Once the migration is mended, the next start applies all of them and starts the app."""
    volumes = [used_volume.mount, mounted(BROKEN)]
    assert run(app_image, "/app/probe", volumes=volumes).code == 80
    mounted({"002_broken.sql": "DELETE FROM users WHERE id = 1;\n"})
    done = run(app_image, "/app/probe", volumes=volumes)
    path = used_volume.copy_to(tmp_path)
    assert (done.code, done.finished["applied"], done.facts("pid")) == (0, 2, ["1"])
    assert history(path) == ["001", "002"]
    assert rows(path, "SELECT count(*) FROM users") == [(2,)]


def restarts(container: str) -> int:
    """Return how often the engine has started a container again."""
    return int(docker("inspect", "--format={{.RestartCount}}", container))


def test_restarts_do_not_grow_the_volume(
    app_image: str, used_volume: Volume, mounted: Mounted, tmp_path: Path
) -> None:
    """Under `--restart=always` a failing migration makes one backup, however often it starts."""
    before = logical_digest(used_volume.copy_to(tmp_path / "before"))
    volumes = [used_volume.mount, mounted(BROKEN)]
    policy = {"Name": "always"}
    with started(app_image, "/app/probe", volumes=volumes, restart_policy=policy) as container:

        def restarted(times: int) -> bool:
            return restarts(container.id) >= times

        until(lambda: restarted(1), "it was not started again", 60)
        first = stopped_listing(container.id, used_volume)
        docker("start", container.id)
        until(lambda: restarted(3), "it was not started again", 60)
        last = stopped_listing(container.id, used_volume)
        _, stderr = container.output()
    assert last == first
    ends = [logs.parse_line(line) for line in stderr.splitlines() if "run.finished" in line]
    assert {80, 143} >= {end["exit_code"] for end in ends}
    assert sum(end["exit_code"] == 80 for end in ends) >= 4
    assert sum("/backups/" in line and line.split()[0].endswith(".db") for line in last) == 1
    assert logical_digest(used_volume.copy_to(tmp_path / "after")) == before


def stopped_listing(container: str, volume: Volume) -> list[str]:
    """Stop a container and return what lies on its volume, with sizes."""
    docker("stop", f"--time={PATIENCE}", container)
    return volume.python(LISTING).splitlines()


def test_the_way_back_from_a_newer_database(
    app_image: str, used_volume: Volume, mounted: Mounted, add_email: str, tmp_path: Path
) -> None:
    """An older image is 78, and the `migrator restore` that it names works as the command there."""
    volumes = [used_volume.mount, add_email]
    assert run(app_image, "/app/probe", volumes=volumes).code == 0
    (tmp_path / "migrations" / "002_create_tags.sql").unlink()
    (tmp_path / "migrations" / "001_add_email.py").unlink()
    mounted({"000_older.sql": "SELECT 1;\n"})
    end = run(app_image, "/app/probe", volumes=volumes).finished
    assert (end["exit_code"], end["reason"]) == (78, "history.newer")
    words = end["hint"].partition("`migrator ")[2].partition("`")[0].split()
    assert run(app_image, "migrator", *words, volumes=volumes).code == 0
    done = run(app_image, "/app/probe", volumes=volumes)
    assert (done.code, done.facts("pid")) == (0, ["1"])
    assert history(used_volume.copy_to(tmp_path / "end")) == ["000"]
