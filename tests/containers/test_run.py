"""The three ways to run the image, and what a migration finds in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.containers.engine import Volume, run, started
from tests.support.files import history, rows

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


def test_in_the_image_of_the_application(
    app_image: str, used_volume: Volume, add_email: str, tmp_path: Path
) -> None:
    """As an image's ENTRYPOINT it migrates and becomes the application, whose exit code it is."""
    done = run(app_image, "/app/probe", "exit", "7", volumes=[used_volume.mount, add_email])
    again = run(app_image, "/app/probe", "exit", "8", volumes=[used_volume.mount, add_email])
    assert (done.code, done.finished["outcome"], done.facts("pid")) == (7, "migrated", ["1"])
    assert (again.code, again.finished["outcome"], again.facts("pid")) == (8, "up_to_date", ["1"])
    assert history(used_volume.copy_to(tmp_path)) == ["001", "002"]


READ = """
import sqlite3
print(sqlite3.connect('/data/app.db').execute('SELECT email FROM users').fetchall())
"""


def test_before_the_container_of_the_application(
    image: str, used_volume: Volume, add_email: str
) -> None:
    """Without a command it prepares and ends with 0; an application of any image starts then."""
    with started(image, volumes=[used_volume.mount, add_email]) as init:
        done = init.wait()
    assert (done.code, done.finished["outcome"]) == (0, "migrated")
    assert "app.exec" not in done.names
    assert "grace@example.org" in used_volume.python(READ)


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
