"""The recipes of docs/rehearse.md: a rehearsal on a backup file, and as a service."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import uuid
from pathlib import Path

import pytest
import yaml

from tests.containers.conftest import CHECKOUT
from tests.containers.engine import Volume, docker
from tests.support.files import make_database, write_migrations
from tests.support.machine import tool

PAGE = (CHECKOUT / "docs" / "rehearse.md").read_text(encoding="utf-8")
SCHEMA = "CREATE TABLE made (id INTEGER PRIMARY KEY); INSERT INTO made VALUES (1), (2);"
MORE = {"001_more.sql": "CREATE TABLE more (id);\nDELETE FROM made WHERE id = 2;"}


def blocks(kind: str) -> list[str]:
    """Return the blocks of code of a kind on the page."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory with migrations that any user can read."""
    tmp_path.chmod(0o755)
    write_migrations(tmp_path / "migrations", MORE)
    return tmp_path


def test_on_a_backup_file(image: str, place: Path) -> None:
    """The command of the page, without the volume: the page comes out, nothing is written."""
    (command,) = [each for each in blocks("sh") if "docker run" in each]
    (place / "backups").mkdir()
    make_database(place / "backups" / "BACKUP.db", SCHEMA)
    command = re.sub(r"^  sqlite-entrypoint ", f"  {image} ", command, flags=re.MULTILINE)
    before = os.listdir(place / "backups")
    done = subprocess.run(
        ["sh", "-c", command], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = (place / "rehearsal.html").read_text(encoding="utf-8")
    assert report.startswith("<!DOCTYPE html>")
    assert "1 migration would be applied to BACKUP.db." in report
    assert "001_more.sql: 1 row of made, as it says" in report
    assert os.listdir(place / "backups") == before


def compose(place: Path, image: str, project: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Compose with the page's service, under this image and on a volume of the test's."""
    (text,) = blocks("yaml")
    document = yaml.safe_load(text)
    document["services"]["rehearse"]["image"] = image
    document["volumes"]["data"] = {"external": True, "name": project}
    (place / "compose.yml").write_text(yaml.safe_dump({"version": "3.8", **document}))
    return subprocess.run(
        [tool("docker-compose"), "-p", f"test{uuid.uuid4().hex[:8]}", *words],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_as_a_service(image: str, place: Path, mode: str) -> None:
    """The page's service, as the page runs it, on a volume that is mounted read-only."""
    (command,) = re.findall(r"`docker compose (run [^`]*rehearse) > rehearsal.html`", PAGE)
    volume = Volume(image)
    try:
        volume.execute(f"PRAGMA journal_mode = {mode}; {SCHEMA}")
        done = compose(place, image, volume.name, *shlex.split(command))
        assert done.returncode == 0, done.stderr
        assert "1 migration would be applied to app.db." in done.stdout
        listed = volume.python("import os; print(sorted(os.listdir('/data')))")
        assert listed == "['app.db']"
    finally:
        docker("volume", "rm", volume.name)
