"""Volumes of every kind: what is refused, what is waited for, and the hints that lead on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.containers.engine import PYTHON, Ended, Volume, docker, options_printed, run, started
from tests.support.digest import logical_digest
from tests.support.files import history

Mounted = Callable[[Mapping[str, str]], str]


def test_first_install(image: str, volume: Volume, create_users: str, tmp_path: Path) -> None:
    """On an empty volume the database is made by the migrations; the next start finds it."""
    done = run(image, volumes=[volume.mount, create_users])
    again = run(image, volumes=[volume.mount, create_users])
    assert (done.code, done.finished["outcome"], done.finished["applied"]) == (0, "created", 1)
    assert (again.code, again.finished["outcome"]) == (0, "up_to_date")
    assert history(volume.copy_to(tmp_path)) == ["001"]


NO_VOLUME = {
    "no volume": ((), "container's own layer"),
    "an anonymous volume": (("--volume=/data",), "anonymous volume"),
    "tmpfs": (("--tmpfs=/data",), "in memory"),
}


@pytest.mark.parametrize("kind", NO_VOLUME)
def test_no_volume_that_lasts(image: str, volume: Volume, create_users: str, kind: str) -> None:
    """A first install where the data would go with the container is refused; the hint works."""
    options, said = NO_VOLUME[kind]
    done = run(image, volumes=[create_users], options=options)
    end = done.finished
    assert (69, "refused", "volume.not_mounted") == (done.code, end["outcome"], end["reason"])
    assert said in end["error"]
    (printed,) = options_printed(end["hint"])
    named = [word.replace("NAME", volume.name) for word in printed]
    assert run(image, volumes=[create_users], options=named).finished["outcome"] == "created"
    snippets = [
        yaml.safe_load(text) for text in re.findall(r"`((?:services|volumes): .*?)`", end["hint"])
    ]
    assert snippets == [
        {"services": {"app": {"volumes": ["NAME:/data"]}}},
        {"volumes": {"NAME": {}}},
    ]


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_started_all_the_same(image: str, create_users: str, how: str) -> None:
    """`--mount ignore`, and the variable beside it, start where the data goes, as the hint says."""
    hint = run(image, volumes=[create_users], options=["--volume=/data"]).finished["hint"]
    flag, variable = re.findall(r"`(--mount ignore)` \((MIGRATOR_MOUNT=ignore)\)", hint)[0]
    options = ["--volume=/data", *([f"--env={variable}"] if how == "variable" else [])]
    words = flag.split() if how == "flag" else []
    done = run(image, *words, volumes=[create_users], options=options)
    assert (done.code, done.finished["outcome"]) == (0, "created")


def test_anonymous_volume_with_data(image: str, create_users: str) -> None:
    """An anonymous volume that holds a database already is no first install: a warning only."""
    volumes, options = [create_users], ["--volume=/data"]
    allowed = [*options, "--env=MIGRATOR_MOUNT=ignore"]
    first = docker("create", *allowed, f"--volume={create_users}", image)
    try:
        docker("start", "--attach", first)
        done = run(image, volumes=volumes, options=[f"--volumes-from={first}"])
    finally:
        docker("rm", "--force", "--volumes", first)
    assert (done.code, done.finished["outcome"]) == (0, "up_to_date")
    assert "volume.not_mounted" in done.names


def test_single_file_mount(image: str, used_volume: Volume, add_email: str, tmp_path: Path) -> None:
    """A mount of the database alone is refused and left as it is; its directory is the way."""
    path = used_volume.copy_to(tmp_path)
    before = logical_digest(path)
    done = run(image, volumes=[f"{path}:/data/app.db", add_email])
    end = done.finished
    assert (69, "refused", "volume.single_file") == (done.code, end["outcome"], end["reason"])
    assert logical_digest(path) == before
    path.parent.chmod(0o777)
    path.chmod(0o666)
    (printed,) = options_printed(end["hint"])
    mount = [word.replace("DIRECTORY", str(path.parent)) for word in printed]
    assert run(image, volumes=[add_email], options=mount).finished["outcome"] == "migrated"


def test_file_that_docker_made_a_directory(image: str, tmp_path: Path, add_email: str) -> None:
    """Where the file to be mounted is missing, Docker makes a directory: that is said."""
    done = run(image, volumes=[f"{tmp_path}/missing.db:/data/app.db", add_email])
    assert (done.code, done.finished["reason"]) == (69, "volume.single_file")
    assert "Docker makes one" in done.finished["error"]


def test_read_only_volume(image: str, used_volume: Volume, add_email: str, tmp_path: Path) -> None:
    """A volume mounted read-only is refused at once; without `:ro` it goes on."""
    before = logical_digest(used_volume.copy_to(tmp_path / "before"))
    done = run(image, volumes=[f"{used_volume.mount}:ro", add_email])
    end = done.finished
    assert (69, "refused", "volume.read_only") == (done.code, end["outcome"], end["reason"])
    assert "`:ro`" in end["hint"]
    assert logical_digest(used_volume.copy_to(tmp_path / "after")) == before
    assert run(image, volumes=[used_volume.mount, add_email]).finished["outcome"] == "migrated"


def test_read_only_volume_with_nothing_pending(
    app_image: str, used_volume: Volume, add_email: str
) -> None:
    """With nothing pending nothing has to be written: the application starts."""
    assert run(app_image, "/app/probe", volumes=[used_volume.mount, add_email]).code == 0
    done = run(app_image, "/app/probe", volumes=[f"{used_volume.mount}:ro", add_email])
    assert (done.code, done.finished["outcome"], done.facts("pid")) == (0, "up_to_date", ["1"])


def test_content_that_arrives_late(
    image: str, used_volume: Volume, add_email: str, tmp_path: Path
) -> None:
    """A database that is not there yet is waited for."""
    used_volume.python("import os; os.rename('/data/app.db', '/data/later')")
    volumes = [used_volume.mount, add_email]
    with started(image, volumes=volumes, env={"MIGRATOR_CREATE": "never"}) as container:
        container.wait_for("volume.waiting")
        used_volume.python("import os; os.rename('/data/later', '/data/app.db')")
        done = container.wait()
    assert (done.code, done.finished["outcome"]) == (0, "migrated")
    assert history(used_volume.copy_to(tmp_path)) == ["001", "002"]


def test_content_that_does_not_arrive(image: str, volume: Volume, add_email: str) -> None:
    """At the end of the wait that is 69, and nothing was made on the volume."""
    options = ["--env=MIGRATOR_CREATE=never", "--env=MIGRATOR_WAIT_TIMEOUT=1"]
    done = run(image, volumes=[volume.mount, add_email], options=options)
    assert (done.code, done.finished["reason"]) == (69, "database.missing")
    assert volume.python("import os; print(os.listdir('/data'))") == "[]"


# --- a volume that is too small -----------------------------------------------------------

FILL = """
import sqlite3, sys
conn = sqlite3.connect('/data/app.db')
conn.execute('CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)')
conn.execute("INSERT INTO users (name) VALUES (hex(zeroblob(300000)))")
conn.commit()
conn.close()
print('ready', flush=True)
sys.stdin.read()
"""
LEFT = """
import os, sqlite3
conn = sqlite3.connect('/data/app.db')
print(conn.execute('SELECT count(*) FROM users').fetchone()[0],
      conn.execute('SELECT count(*) FROM sqlite_schema').fetchone()[0],
      [name for name in os.listdir('/data') if name.endswith('.db') and name != 'app.db'])
"""


@pytest.fixture
def small(image: str, volume: Volume) -> Iterator[Volume]:
    """Return a volume of 1 MiB in memory, with a database that fills more than half of it."""
    docker("volume", "rm", volume.name)
    size = ["--opt=type=tmpfs", "--opt=device=tmpfs", "--opt=o=size=1m,uid=65532"]
    docker("volume", "create", *size, volume.name)
    # The file system is there as long as a container holds it.
    settings = {"entrypoint": PYTHON, "stdin_open": True}
    with started(image, "-c", FILL, volumes=[volume.mount], **settings) as holder:
        holder.wait_for("ready")
        yield volume


def too_small(image: str, volume: Volume, migrations: str) -> Ended:
    """Start on a volume that has no room."""
    options = ["--env=MIGRATOR_MOUNT=ignore"]
    return run(image, volumes=[volume.mount, migrations], options=options)


def test_no_room_for_the_backup(image: str, small: Volume, add_email: str) -> None:
    """A volume too small for the backup is 73, and nothing is left of what was begun."""
    done = too_small(image, small, add_email)
    end = done.finished
    assert (73, "refused", "backup.no_space") == (done.code, end["outcome"], end["reason"])
    assert small.python(LEFT) == "1 1 []"


def test_backups_on_another_volume(image: str, small: Volume, mounted: Mounted) -> None:
    """`--backup-dir` on another volume is the way out that is named."""
    add_tags = mounted({"001_tags.sql": "CREATE TABLE tags (name TEXT);\n"})
    hint = too_small(image, small, add_tags).finished["hint"]
    assert "--backup-dir" in hint
    other = Volume(image)
    with ExitStack() as last:
        last.callback(other.remove)
        other.python("")  # an empty volume takes over the owner of the image's /data
        done = run(
            image,
            "--backup-dir",
            "/backups",
            volumes=[small.mount, add_tags, f"{other.name}:/backups"],
            options=["--env=MIGRATOR_MOUNT=ignore"],
        )
        kept = other.python("import os; print(sum(n.endswith('.db') for n in os.listdir('/data')))")
    assert (done.code, done.finished["outcome"], kept) == (0, "migrated", "1"), done.stderr
