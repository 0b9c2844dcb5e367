"""The container engine by its command line, and runs of the image with what they left behind."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import shlex
import subprocess
import tarfile
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

from testcontainers.core.container import DockerContainer

from tests.support import logs
from tests.support.logs import Event

RESTRICTED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none")
"""What the strictest operator runs a container with."""

RUN_TIMEOUT = float(os.environ.get("SQLITE_ENTRYPOINT_RUN_TIMEOUT") or 120)
"""Seconds that a container may take to its end; an emulated one takes many times as long."""

PYTHON = "/opt/sqlite-entrypoint/bin/python3"
USER = 65532

PATIENCE = 30
"""
Seconds between SIGTERM and SIGKILL: Docker's own 10 are not enough where everything waits.

A run that does not answer is still killed, and its code is 137.
"""


def docker(*args: str | Path, stdin: str | None = None, timeout: float = 300) -> str:
    """Run a command of the engine that has to succeed, and return its output."""
    done = subprocess.run(
        ["docker", *map(str, args)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, (args, done.stdout, done.stderr)
    return done.stdout.strip()


@contextmanager
def one_builder() -> Iterator[None]:
    """
    Let nobody else on this machine build meanwhile.

    Of two builds of one image at once, the classic builder fails one with "layer does not exist".
    """
    path = Path(tempfile.gettempdir()) / f"sqlite-entrypoint-build-{os.getuid()}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(directory: Path, tag: str, *options: str) -> str:
    """
    Build an image from a directory, with the classic builder, and return its id.

    The tag is for Dockerfiles and compose files that name it. Somebody else on this machine may
    give it to another image while the tests run; the id stays this one's.
    """
    env = {**os.environ, "DOCKER_BUILDKIT": "0"}
    command = ["docker", "build", "--quiet", "--tag", tag, *options, str(directory)]
    with one_builder():
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout.split()[-1]


def build_with_buildkit(directory: Path, tag: str, *options: str) -> str:
    """Build an image from a directory, with BuildKit, and return its id."""
    env = {**os.environ, "DOCKER_BUILDKIT": "1"}
    command = [_buildkit_client(), "build", "--quiet", "--tag", tag, *options, str(directory)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout.split()[-1]


def _buildkit_client() -> str:
    """Return Docker's client if it has the plugin buildx, else Debian's, which needs none."""
    plugin = subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False)
    return "docker" if plugin.returncode == 0 else "/usr/bin/docker"


@dataclass(frozen=True)
class Ended:
    """What a container left behind when it had ended."""

    code: int
    stdout: str
    stderr: str
    events: list[Event] = field(default_factory=list)
    app_stderr: str = ""

    @property
    def finished(self) -> Event:
        """The one `run.finished`."""
        return logs.finished(self.events)

    @property
    def names(self) -> list[str]:
        """The names of the events in their order."""
        return [event["event"] for event in self.events]

    def facts(self, kind: str) -> list[str]:
        """Return what the probe said of one kind (`pid`, `user`, `env`, `signal`)."""
        lines = (line.partition(" ") for line in self.stdout.splitlines())
        return [value for first, _, value in lines if first == kind]


def ended(code: int, stdout: str, stderr: str) -> Ended:
    """Return the end of a container whose every line of log is as the schema has it."""
    events, rest = logs.split(stderr)
    return Ended(code, stdout, stderr, events, rest)


def run(
    image: str,
    *command: str,
    volumes: Sequence[str] = (),
    options: Sequence[str] = (),
    stdin: str | None = None,
    timeout: float = RUN_TIMEOUT,
) -> Ended:
    """Run a container to its end, under all restrictions, and return what it left behind."""
    mounts = [f"--volume={volume}" for volume in volumes]
    words = ["docker", "run", "--rm", *RESTRICTED, *mounts, *options, image, *command]
    done = subprocess.run(
        words, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
    )
    return ended(done.returncode, done.stdout, done.stderr)


def options_printed(text: str, command: str = "docker run") -> list[list[str]]:
    """Return the options of the commands `docker run OPTIONS …` that a text has in backticks."""
    return [shlex.split(found) for found in re.findall(rf"`{command} ([^`…]+)(?: …)?`", text)]


class Volume:
    """A named volume and what is on it, seen from outside."""

    def __init__(self, image: str) -> None:
        self.name = f"sqlite-entrypoint-{uuid.uuid4().hex[:12]}"
        self._image = image
        docker("volume", "create", self.name)

    @property
    def mount(self) -> str:
        """How it is mounted where the image has its database."""
        return f"{self.name}:/data"

    def python(self, code: str, user: int = USER) -> str:
        """Run Python on the volume, to arrange it."""
        options = (
            "--interactive",
            f"--user={user}:{user}",
            f"--volume={self.mount}",
            f"--entrypoint={PYTHON}",
        )
        return docker("run", "--rm", "--network=none", *options, self._image, "-", stdin=code)

    def execute(self, script: str, user: int = USER, name: str = "app.db") -> None:
        """Run SQL in the database, made if need be."""
        self.python(
            "import sqlite3\n"
            f"conn = sqlite3.connect('/data/{name}', isolation_level=None)\n"
            f"conn.executescript({script!r})\nconn.close()\n",
            user,
        )

    def copy_to(self, directory: Path) -> Path:
        """Copy what is on the volume to this machine and return the database's path."""
        container = docker("create", f"--volume={self.mount}", self._image)
        try:
            command = ["docker", "cp", f"{container}:/data", "-"]
            packed = subprocess.run(command, capture_output=True, check=True).stdout
        finally:
            docker("rm", "--force", "--volumes", container)
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            if hasattr(tarfile, "data_filter"):
                archive.extractall(directory, filter="data")
            else:  # Python 3.11.2, which Debian 12 has, knows no filters yet.
                archive.extractall(directory)  # noqa: S202 - written by the test itself
        return directory / "data" / "app.db"

    def remove(self) -> None:
        """Remove the volume and every container that still holds it."""
        held = docker("ps", "--all", "--quiet", "--filter", f"volume={self.name}").split()
        if held:
            docker("rm", "--force", "--volumes", *held)
        docker("volume", "rm", "--force", self.name)


class Started:
    """A container under way."""

    def __init__(self, container: str) -> None:
        self.id = container

    def output(self) -> tuple[str, str]:
        """Return what has come out of stdout and stderr so far."""
        command = ["docker", "logs", self.id]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout, done.stderr

    def wait_for(self, text: str, timeout: float = 60) -> None:
        """Wait until the text stands in a line of one of the streams, and return at once then."""
        follow = ["docker", "logs", "--follow", self.id]
        with subprocess.Popen(follow, stdout=PIPE, stderr=STDOUT, text=True) as reader:
            timer = threading.Timer(timeout, reader.kill)
            timer.start()
            try:
                assert reader.stdout is not None
                found = any(text in line for line in reader.stdout)
            finally:
                timer.cancel()
                reader.kill()
        assert found, (text, *self.output())

    def running(self) -> bool:
        """Tell whether it is under way."""
        return docker("inspect", "--format={{.State.Running}}", self.id) == "true"

    def stop(self) -> float:
        """Do what `docker stop` does, and return the seconds; a kill in the end would be 137."""
        began = time.monotonic()
        docker("stop", f"--time={PATIENCE}", self.id)
        return time.monotonic() - began

    def kill(self, signal: str = "KILL") -> None:
        """Send a signal; a container that has ended by itself is no mistake."""
        command = ["docker", "kill", f"--signal={signal}", self.id]
        subprocess.run(command, capture_output=True, check=False)

    def wait(self, timeout: float = 120) -> Ended:
        """Wait for the end."""
        code = int(docker("wait", self.id, timeout=timeout))
        return ended(code, *self.output())

    def killed(self) -> None:
        """Wait for the end of a container whose last line may be cut off."""
        docker("wait", self.id)


@contextmanager
def started(
    image: str,
    *command: str,
    volumes: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    **settings: Any,
) -> Iterator[Started]:
    """Start a container under the same restrictions and remove it in the end."""
    container = DockerContainer(image).with_command(list(command)).with_envs(**(env or {}))
    for volume in volumes:
        source, target, *mode = volume.split(":")
        container.with_volume_mapping(source, target, *(mode or ("rw",)))
    container.with_kwargs(
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        network_mode="none",
        **settings,
    )
    with container:
        yield Started(container.get_wrapped_container().id)


def inspect(image: str) -> dict[str, object]:
    """Return what the engine knows of an image."""
    (found,) = json.loads(docker("image", "inspect", image))
    return dict(found)
