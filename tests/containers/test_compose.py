"""compose.example.yml as it is, run by docker-compose."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.conftest import BUILD, CHECKOUT
from tests.support.machine import tool
from tests.support.waiting import until

BROKEN = "CREATE TABLE half (x);\nINSERT INTO nowhere VALUES (1);\n"


class Project:
    """A compose project of its own, on a copy of the checkout's files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.name = f"test{uuid.uuid4().hex[:8]}"

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run docker-compose, under a port that the machine gives."""
        return subprocess.run(
            [tool("docker-compose"), "-p", self.name, "-f", "compose.example.yml", *words],
            cwd=self.directory,
            env={**os.environ, "BASE": BUILD, "PORT": "0", "DOCKER_BUILDKIT": "0"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def one_off(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the application's service with another command."""
        return self.run("run", "--rm", "-T", "app", *words)

    def healthy(self, service: str) -> bool | None:
        """Tell whether the service serves its pages."""
        code = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8000/health').read())"
        return self.run("exec", "-T", service, "python3", "-c", code).returncode == 0 or None


@pytest.fixture
def project(image: str, tmp_path: Path) -> Iterator[Project]:
    """Return a project whose application's image is built, removed with its volume in the end."""
    directory = tmp_path / "project"
    directory.mkdir()
    for name in ("compose.example.yml", ".dockerignore"):
        shutil.copy(CHECKOUT / name, directory)
    for name in ("examples", "migrations"):
        shutil.copytree(CHECKOUT / name, directory / name)
    (directory / "migrations").chmod(0o755)
    project = Project(directory)
    built = project.run("build", "app")
    assert built.returncode == 0, built.stdout + built.stderr
    yield project
    project.run("--profile", "one-off", "down", "--volumes", "--remove-orphans")


def test_way_out_while_a_start_is_refused(project: Project) -> None:
    """`run --rm app migrator restore latest` works where a start ends with 80, and undoes it."""
    assert project.one_off("true").returncode == 0
    (project.directory / "migrations/010_broken.sql").write_text(BROKEN)
    assert project.run("build", "app").returncode == 0
    refused = project.one_off("true")
    status = project.one_off("migrator", "status", "--json")
    restored = project.one_off("migrator", "restore", "latest")
    assert (refused.returncode, restored.returncode) == (80, 0), (refused.stderr, restored.stderr)
    assert [each["version"] for each in json.loads(status.stdout)["pending"]] == ["010"]
    assert '"outcome": "migrated"' in restored.stderr or '"identical": true' in restored.stderr


def test_service_that_runs_before(project: Project) -> None:
    """The application of the second profile starts once the migration service has succeeded."""
    up = project.run("--profile", "one-off", "up", "--detach", "plain")
    until(lambda: project.healthy("plain"), "it does not answer", 60)
    ended = project.run("--profile", "one-off", "ps", "--all")
    assert up.returncode == 0, up.stderr
    assert "Exit 0" in ended.stdout


def test_service_that_fails(project: Project) -> None:
    """Where the migration service fails, the application is not started."""
    (project.directory / "migrations/010_broken.sql").write_text(BROKEN)
    up = project.run("--profile", "one-off", "up", "--detach", "plain")
    ended = project.run("--profile", "one-off", "ps", "--all")
    assert up.returncode != 0
    assert "Exit 80" in ended.stdout
    assert "_plain_" not in project.run("--profile", "one-off", "ps", "--quiet", "plain").stdout


def test_entrypoint_in_the_image(project: Project) -> None:
    """The first service migrates by itself, serves, and is healthy by `migrator check`."""
    assert project.run("up", "--detach", "app").returncode == 0
    until(lambda: project.healthy("app"), "it does not answer", 60)
    words = ("/opt/sqlite-entrypoint/bin/migrator", "check", "--database", "/data/app.db")
    check = project.run("exec", "-T", "app", *words, "--migrations", "/app/migrations")
    assert check.returncode == 0, check.stderr
