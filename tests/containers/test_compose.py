"""compose.example.yml as it is, run by docker-compose."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.containers.conftest import BUILD, CHECKOUT
from tests.containers.engine import docker, one_builder
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
        builds = "build" in words or "--build" in words
        with one_builder() if builds else nullcontext():
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

    def build_and_start(self) -> int:
        """Build the image with the migrations as they are now, and return how a start ends."""
        built = self.run("build", "app")
        assert built.returncode == 0, built.stdout + built.stderr
        return self.one_off("python3", "-c", "").returncode

    def healthy(self, service: str) -> bool | None:
        """Tell whether the service serves its pages."""
        code = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8000/health').read())"
        return self.run("exec", "-T", service, "python3", "-c", code).returncode == 0 or None


@pytest.fixture
def project(image: str, tmp_path: Path) -> Iterator[Project]:
    """Return a project, removed with its volume in the end."""
    directory = tmp_path / "project"
    directory.mkdir()
    shutil.copy(CHECKOUT / ".dockerignore", directory)
    for name in ("examples", "migrations"):
        shutil.copytree(CHECKOUT / name, directory / name)
    (directory / "migrations").chmod(0o755)
    project = Project(directory)
    compose = (CHECKOUT / "compose.example.yml").read_text()
    ours = compose.replace("image: library\n", f"image: {project.name}\n")  # two at once build it
    (directory / "compose.example.yml").write_text(ours)
    yield project
    project.run("--profile", "one-off", "down", "--volumes", "--remove-orphans")
    docker("image", "rm", "--force", project.name)


def test_way_out_while_a_start_is_refused(project: Project) -> None:
    """Of a rolled-back image a start is refused; `run --rm app migrator restore latest` works."""
    newest = project.directory / "migrations/009_compact.sql"
    text = newest.read_text()
    newest.unlink()
    assert project.build_and_start() == 0
    newest.write_text(text)
    assert project.build_and_start() == 0
    newest.unlink()
    assert project.build_and_start() == 78
    restored = project.one_off("migrator", "restore", "latest")
    status = json.loads(project.one_off("migrator", "status", "--json").stdout)
    assert restored.returncode == 0, restored.stderr
    assert (8, [], []) == (len(status["applied"]), status["pending"], status["problems"])
    assert project.one_off("python3", "-c", "").returncode == 0


def test_service_that_runs_before(project: Project) -> None:
    """The application of the second profile starts once the migration service has succeeded."""
    assert project.run("build", "app").returncode == 0
    up = project.run("--profile", "one-off", "up", "--detach", "plain")
    until(lambda: project.healthy("plain"), "it does not answer", 60)
    ended = project.run("--profile", "one-off", "ps", "--all")
    assert up.returncode == 0, up.stderr
    assert "Exit 0" in ended.stdout


def test_service_that_fails(project: Project) -> None:
    """Where the migration service fails, the application is not started."""
    assert project.run("build", "app").returncode == 0
    (project.directory / "migrations/010_broken.sql").write_text(BROKEN)
    up = project.run("--profile", "one-off", "up", "--detach", "plain")
    ended = project.run("--profile", "one-off", "ps", "--all")
    assert up.returncode != 0
    assert "Exit 80" in ended.stdout
    assert "_plain_" not in project.run("--profile", "one-off", "ps", "--quiet", "plain").stdout


def test_entrypoint_in_the_image(project: Project) -> None:
    """The first service migrates by itself, serves, and is healthy by `migrator check`."""
    assert project.run("up", "--build", "--detach", "app").returncode == 0
    until(lambda: project.healthy("app"), "it does not answer", 60)
    words = ("/opt/sqlite-entrypoint/bin/migrator", "check", "--database", "/data/app.db")
    check = project.run("exec", "-T", "app", *words, "--migrations", "/app/migrations")
    assert check.returncode == 0, check.stderr
