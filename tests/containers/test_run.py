"""`docker run`: the image on volumes of every kind, as any user, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.containers.engine import PYTHON, USER, Volume, docker, run, started
from tests.support.digest import logical_digest
from tests.support.files import history, rows, tables

Mounted = Callable[[Mapping[str, str]], str]


def test_existing_data_is_upgraded(
    image: str, used_volume: Volume, add_email: str, tmp_path: Path
) -> None:
    """A one-off run migrates a volume's database; a plain sqlite3 outside reads the new rows."""
    done = run(image, volumes=[used_volume.mount, add_email])
    path = used_volume.copy_to(tmp_path)
    assert (done.code, done.finished["outcome"]) == (0, "migrated")
    assert rows(path, "SELECT name, email FROM users WHERE id = 2") == [
        ("Grace", "grace@example.org")
    ]
    assert history(path) == ["001", "002"]


def test_any_user(image: str, volume: Volume, create_users: str, tmp_path: Path) -> None:
    """A user without an entry in /etc/passwd can run it, and owns what it makes."""
    volume.python("import os; open('/data/kept', 'w'); os.chmod('/data', 0o777)", user=0)
    done = run(image, volumes=[volume.mount, create_users], options=["--user=12345:23456"])
    owner = volume.python("import os; s = os.stat('/data/app.db'); print(s.st_uid, s.st_gid)")
    assert (done.code, done.finished["outcome"], owner) == (0, "created", "12345 23456")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "volume.not_mounted"),
        (("--volume=/data",), "volume.not_mounted"),
        (("--tmpfs=/data",), "volume.not_mounted"),
    ],
    ids=["no volume", "an anonymous volume", "tmpfs"],
)
def test_no_volume_that_lasts(
    image: str, create_users: str, options: tuple[str, ...], reason: str
) -> None:
    """A first install where the data would go with the container is refused at once."""
    done = run(image, volumes=[create_users], options=options)
    end = done.finished
    assert (69, "refused", reason) == (done.code, end["outcome"], end["reason"])
    assert "docker run -v" in end["hint"]


def test_single_file_mount(image: str, used_volume: Volume, add_email: str, tmp_path: Path) -> None:
    """A mount of the database alone, its journal elsewhere, is refused and left as it is."""
    path = used_volume.copy_to(tmp_path)
    before = logical_digest(path)
    done = run(image, volumes=[f"{path}:/data/app.db", add_email])
    assert (done.code, done.finished["outcome"]) == (69, "refused")
    assert logical_digest(path) == before


def test_read_only_volume(image: str, used_volume: Volume, add_email: str) -> None:
    """A volume mounted read-only is refused at once."""
    done = run(image, volumes=[f"{used_volume.mount}:ro", add_email])
    assert (done.code, done.finished["outcome"]) == (69, "refused")


def test_volume_that_arrives_late(
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


def test_no_room_for_the_backup(image: str, tmp_path: Path, add_email: str, volume: Volume) -> None:
    """A volume too small for the backup is refused before anything is written."""
    docker("volume", "rm", volume.name)
    size = ["--opt=type=tmpfs", "--opt=device=tmpfs", "--opt=o=size=1m,uid=65532"]
    docker("volume", "create", *size, volume.name)
    fill = """
import sqlite3, sys
conn = sqlite3.connect('/data/app.db')
conn.execute('CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)')
conn.execute("INSERT INTO users (name) VALUES (hex(zeroblob(300000)))")
conn.commit()
print('ready', flush=True)
sys.stdin.read()
"""
    # The file system is there as long as a container holds it.
    with started(
        image,
        "-c",
        fill,
        volumes=[volume.mount],
        entrypoint=PYTHON,
        stdin_open=True,
    ) as holder:
        holder.wait_for("ready")
        done = run(
            image,
            volumes=[volume.mount, add_email],
            options=["--env=MIGRATOR_MOUNT=ignore", "--env=MIGRATOR_IN_USE=allow"],
        )
        left = volume.python(
            "import sqlite3\nconn = sqlite3.connect('/data/app.db')\n"
            "print(conn.execute('SELECT count(*) FROM users').fetchone()[0],"
            " conn.execute('SELECT count(*) FROM sqlite_schema').fetchone()[0])"
        )
    assert (done.code, done.finished["reason"]) == (73, "backup.no_space")
    assert left == "1 1"


def test_files_of_another_user(image: str, volume: Volume, add_email: str) -> None:
    """Files that belong to another user are 77, with both users and both ways out."""
    volume.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)", user=0)
    volume.python("import os; os.chmod('/data', 0o755); os.chown('/data', 1000, 1000)", user=0)
    volume.python("import os; os.chown('/data/app.db', 1000, 1000)", user=0)
    done = run(image, volumes=[volume.mount, add_email])
    end = done.finished
    text = end["error"] + end["hint"]
    assert (done.code, end["outcome"]) == (77, "refused")
    for part in ("1000", str(USER), "--user 1000:1000", "PUID"):
        assert part in text, (part, text)


def test_failing_migration(
    app_image: str, used_volume: Volume, mounted: Mounted, tmp_path: Path
) -> None:
    """A failing migration is 80: the database is as before, and the app was never started."""
    before = logical_digest(used_volume.copy_to(tmp_path / "before"))
    broken = mounted(
        {
            "001_tags.sql": "CREATE TABLE tags (name TEXT);\n",
            "002_broken.sql": "DELETE FROM users;\nINSERT INTO nowhere VALUES (1);\n",
        }
    )
    done = run(app_image, "/app/probe", volumes=[used_volume.mount, broken])
    path = used_volume.copy_to(tmp_path / "after")
    assert (done.code, done.finished["outcome"]) == (80, "failed_restored")
    assert (done.stdout, "app.exec" in done.names) == ("", False)
    assert logical_digest(path) == before


def test_restarts_do_not_grow_the_volume(
    app_image: str, used_volume: Volume, mounted: Mounted, tmp_path: Path
) -> None:
    """Under a restart policy a failing migration makes one backup, however often it starts."""
    broken = mounted({"001_broken.sql": "INSERT INTO nowhere VALUES (1);\n"})
    for _ in range(3):
        assert run(app_image, "/app/probe", volumes=[used_volume.mount, broken]).code == 80
    path = used_volume.copy_to(tmp_path)
    assert len(list((path.parent / "backups").glob("*.db"))) == 1


SLEEPING = """
import time

def up(conn):
    conn.execute("CREATE TABLE tags (name TEXT)")
    print("asleep", flush=True)
    time.sleep(600)
"""


def test_stopped_during_a_migration(
    app_image: str, used_volume: Volume, mounted: Mounted, tmp_path: Path
) -> None:
    """`docker stop` ends a run with 143 before Docker's patience does, and nothing has changed."""
    mount = mounted({"001_sleep.py": SLEEPING})
    with started(app_image, "/app/probe", volumes=[used_volume.mount, mount]) as container:
        container.wait_for("asleep")
        docker("stop", "--time=60", container.id)
        done = container.wait()
    path = used_volume.copy_to(tmp_path)
    assert (done.code, done.finished["outcome"]) == (143, "failed_restored")
    assert ({"users"}, []) == (tables(path) - {"migrations"}, done.facts("pid"))


SLOW = """
import time

def up(conn):
    conn.execute("CREATE TABLE tags_{n} (name TEXT)")
    conn.execute("UPDATE users SET name = name || '{n}'")
    time.sleep(0.1)
"""


@pytest.mark.slow
def test_killed_at_any_time(
    app_image: str, used_volume: Volume, mounted: Mounted, tmp_path: Path
) -> None:
    """After `docker kill` the database is the old or the new one, and the next start goes on."""
    files = {f"{n:03}_slow.py": SLOW.format(n=n) for n in range(1, 6)}
    mount = mounted(files)
    for number, event in enumerate(("run.started", "lock.acquired", "plan.ready", "migration.")):
        with started(app_image, "/app/probe", volumes=[used_volume.mount, mount]) as container:
            container.wait_for(event)
            container.kill()
            container.killed()
        path = used_volume.copy_to(tmp_path / str(number))
        names = [name for (name,) in rows(path, "SELECT name FROM users ORDER BY id")]
        assert names in (["Ada", "Grace", "Edsger"], ["Ada12345", "Grace12345", "Edsger12345"])
    done = run(app_image, "/app/probe", volumes=[used_volume.mount, mount])
    path = used_volume.copy_to(tmp_path / "end")
    assert (done.code, done.facts("pid")) == (0, ["1"])
    assert rows(path, "SELECT name FROM users WHERE id = 1") == [("Ada12345",)]


@pytest.mark.slow
def test_ten_at_once(app_image: str, used_volume: Volume, add_email: str, tmp_path: Path) -> None:
    """Of ten containers on one volume one migrates, and all of them start their application."""

    def start(_number: int) -> tuple[int, int, list[str]]:
        volumes = [used_volume.mount, add_email]
        done = run(app_image, "/app/probe", volumes=volumes, timeout=300)
        return done.code, done.finished["applied"], done.facts("pid")

    with ThreadPoolExecutor(10) as threads:
        ends = list(threads.map(start, range(10)))
    assert [(0, ["1"])] * 10 == [(code, pid) for code, _, pid in ends]
    assert sum(applied for _, applied, _ in ends) == 2
    assert history(used_volume.copy_to(tmp_path)) == ["001", "002"]


def test_old_container_still_writing(image: str, used_volume: Volume, add_email: str) -> None:
    """A database that another container has open is waited for, then 69, saying so."""
    hold = """
import sqlite3, time
conn = sqlite3.connect('/data/app.db')
conn.execute('BEGIN IMMEDIATE')
print('ready', flush=True)
time.sleep(600)
"""
    with started(image, "-c", hold, volumes=[used_volume.mount], entrypoint=PYTHON) as old:
        old.wait_for("ready")
        done = run(
            image,
            volumes=[used_volume.mount, add_email],
            options=["--env=MIGRATOR_WAIT_TIMEOUT=1"],
        )
    assert (done.code, done.finished["reason"]) == (69, "database.in_use")


def test_index_and_vacuum_without_tmp(
    image: str, used_volume: Volume, mounted: Mounted, tmp_path: Path
) -> None:
    """Sorting more than SQLite's cache holds, and VACUUM, work without a writable /tmp."""
    mount = mounted(
        {
            "001_many.sql": """
                CREATE TABLE many (x TEXT);
                WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
                INSERT INTO many SELECT hex(randomblob(100)) FROM n;
                CREATE INDEX many_x ON many (x);
                """,
            "002_vacuum.sql": "-- migrate:up transaction:false\nVACUUM;\n",
        }
    )
    done = run(image, volumes=[used_volume.mount, mount])
    assert (done.code, done.finished["applied"]) == (0, 2), done.stderr
    assert rows(used_volume.copy_to(tmp_path), "SELECT count(*) FROM many") == [(60000,)]


def test_module_left_out(image: str, used_volume: Volume, mounted: Mounted) -> None:
    """A migration that imports what the tree does without is refused, saying which and why."""
    mount = mounted({"001_tls.py": "import ssl\n\ndef up(conn):\n    pass\n"})
    done = run(image, volumes=[used_volume.mount, mount])
    assert (done.code, done.finished["outcome"]) == (78, "refused")
    assert "'ssl' was left out" in done.finished["error"]
