"""compose.example.yml as it is, run by Docker Compose 2 and by docker-compose 1.29."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import textwrap
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.containers.conftest import CHECKOUT
from tests.containers.engine import docker, one_builder
from tests.support.machine import tool
from tests.support.waiting import until

BROKEN = "CREATE TABLE half (x);\nINSERT INTO nowhere VALUES (1);\n"


class Project:
    """A compose project of its own, on a copy of the checkout's files."""

    def __init__(self, program: str | Path, base: str, directory: Path) -> None:
        self.directory = directory
        self.migrations = directory / "migrations"
        self.name = f"test{uuid.uuid4().hex[:8]}"
        self._program = program
        self._env = {"BASE": base, "PORT": "0", "PLAIN_PORT": "0", "DOCKER_BUILDKIT": "0"}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the program, under ports that the machine gives."""
        with one_builder() if "--build" in words else nullcontext():
            return subprocess.run(
                [self._program, "-p", self.name, "-f", "compose.example.yml", *words],
                cwd=self.directory,
                env={**os.environ, **self._env},
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )

    def up(self, service: str) -> subprocess.CompletedProcess[str]:
        """Start a service as the file's header says."""
        return self.run("--profile", "one-off", "up", "--build", "--detach", service)

    def one_off(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the application's service with another command."""
        return self.run("run", "--rm", "-T", "app", *words)

    def container(self, service: str) -> dict[str, Any]:
        """Return what the engine knows of the service's container, or nothing where there is none."""
        found = self.run("--profile", "one-off", "ps", "--all", "--quiet", service).stdout.split()
        return dict(json.loads(docker("inspect", found[0]))[0]) if found else {}

    def state(self, service: str) -> dict[str, Any]:
        """Return how the service's container is."""
        return dict(self.container(service).get("State", {}))

    def log_of_a_loop(self, service: str) -> str:
        """Wait until the service has been restarted more than once, and return its log for people."""
        restarts = "RestartCount"
        until(lambda: self.container(service)[restarts] >= 2, "no restart", 90)
        command = ["docker", "logs", self.container(service)["Id"]]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stderr

    def health(self, service: str) -> dict[str, object] | None:
        """Return what the application answers, or None where it does not yet."""
        port = self.run("--profile", "one-off", "port", service, "8000").stdout.strip()
        try:
            with urllib.request.urlopen(f"http://{port}/health", timeout=5) as response:
                answer: dict[str, object] = json.load(response)
        except (OSError, ValueError):
            return None
        return answer

    def serves(self, service: str) -> None:
        """Wait until the application answers from outside."""
        until(lambda: self.health(service), "it does not answer", 90)

    def applied(self) -> int:
        """Return how many migrations the database has."""
        status = self.one_off("migrator", "status", "--json")
        assert status.returncode == 0, status.stderr
        return len(json.loads(status.stdout)["applied"])


@pytest.fixture(params=["1.29", "2"])
def program(request: pytest.FixtureRequest, tools: Path) -> str | Path:
    """Return each generation of the program."""
    return tools / "docker-compose" if request.param == "2" else tool("docker-compose")


@pytest.fixture
def project(
    program: str | Path, image: str, library_base: str, tmp_path: Path
) -> Iterator[Project]:
    """Return a project, removed with its volume in the end."""
    directory = tmp_path / "project"
    directory.mkdir()
    shutil.copy(CHECKOUT / ".dockerignore", directory)
    for name in ("examples", "migrations"):
        shutil.copytree(CHECKOUT / name, directory / name)
    project = Project(program, library_base, directory)
    project.migrations.chmod(0o755)
    compose = (CHECKOUT / "compose.example.yml").read_text()
    ours = compose.replace("image: library\n", f"image: {project.name}\n")  # two at once build it
    # The check itself is the file's; only the first one is not waited for as long.
    assert "interval: 10s\n" in ours
    ours = ours.replace("interval: 10s\n", "interval: 1s\n")
    (directory / "compose.example.yml").write_text(ours)
    yield project
    project.run("--profile", "one-off", "down", "--volumes", "--remove-orphans")
    docker("image", "rm", "--force", project.name)


def test_way_out_of_a_refused_start(project: Project) -> None:
    """
    The older image on a newer database is refused and restarted, again and again.

    Meanwhile `status` answers, the command that the log names works word by word, and then the
    application comes up by itself.
    """
    newest = project.migrations / "009_compact.sql"
    text = newest.read_text()
    newest.unlink()
    assert project.up("app").returncode == 0
    project.serves("app")
    newest.write_text(text)
    assert project.up("app").returncode == 0
    project.serves("app")
    assert project.applied() == 9
    newest.unlink()
    project.up("app")
    shown = project.log_of_a_loop("app")
    assert {("78", "history.newer")} == ends(shown)
    assert "In the container: `docker compose run --rm SERVICE migrator …`." in shown
    assert project.applied() == 9

    command = re.findall(r"^  Hint: .*`(migrator restore [^`]+)`", shown, re.MULTILINE)[-1]
    restored = project.one_off(*shlex.split(command))
    assert restored.returncode == 0, restored.stderr
    project.serves("app")
    assert project.applied() == 8


@pytest.mark.parametrize("program", ["2"], indirect=True)
def test_restore_latest_while_a_migration_fails(project: Project) -> None:
    """Of an image whose migration fails, `restore latest` leads to the state before the last run."""
    newest = project.migrations / "009_compact.sql"
    text = newest.read_text()
    newest.unlink()
    assert project.up("app").returncode == 0
    project.serves("app")
    newest.write_text(text)
    (project.migrations / "010_broken.sql").write_text(BROKEN)
    project.up("app")
    assert {("80", "migration.failed")} == ends(project.log_of_a_loop("app"))
    restored = project.one_off("migrator", "restore", "latest")
    assert restored.returncode == 0, restored.stderr
    assert project.applied() == 8
    (project.migrations / "010_broken.sql").unlink()
    assert project.up("app").returncode == 0
    project.serves("app")
    assert project.applied() == 9


def test_both_ways_at_once(project: Project) -> None:
    """The whole file comes up on one volume: ports differ, and one of the two migrates."""
    up = project.run("--profile", "one-off", "up", "--build", "--detach")
    assert up.returncode == 0, up.stderr
    project.serves("app")
    project.serves("plain")
    assert project.state("migrate")["ExitCode"] == 0
    assert project.applied() == 9
    until(lambda: health(project) != "starting", "no check", 90)
    assert health(project) == "healthy"


def test_service_that_runs_before(project: Project) -> None:
    """The one-off runs at each `up`, and the application is not started where it fails."""
    assert project.up("plain").returncode == 0
    project.serves("plain")
    assert project.run("--profile", "one-off", "stop").returncode == 0
    (project.migrations / "010_broken.sql").write_text(BROKEN)
    up = project.up("plain")
    assert up.returncode != 0
    assert project.state("migrate")["ExitCode"] == 80
    assert not project.state("plain").get("Running", False)
    (project.migrations / "010_broken.sql").unlink()
    assert project.up("plain").returncode == 0
    project.serves("plain")


def ends(shown: str) -> set[tuple[str, str]]:
    """Return the codes and reasons with which the runs of a log for people have ended."""
    return set(re.findall(r"exit code (\d+) \(\w+, ([\w.]+)\)", shown))


def health(project: Project) -> str:
    """Return what the engine makes of the file's healthcheck."""
    return str(project.state("app")["Health"]["Status"])


def test_the_pages_examples(tools: Path, tmp_path: Path) -> None:
    """What docs/compose.md shows can be laid over the file: Compose knows every key and value."""
    page = (CHECKOUT / "docs/compose.md").read_text()
    shown = re.findall(r"^ *```yaml\n(.*?)^ *```$", page, re.MULTILINE | re.DOTALL)
    assert len(shown) == 4
    for number, text in enumerate(shown):
        part = tmp_path / f"{number}.yml"
        part.write_text(textwrap.dedent(text))
        files = ["-f", CHECKOUT / "compose.example.yml", "-f", part]
        command = [tools / "docker-compose", *files, "config", "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
