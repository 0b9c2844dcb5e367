"""
A random long run of containers: several on one volume, ended by `docker kill` at any time.

The cases are those of the processes; the image is built from the checkout.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.containers import engine
from tests.containers.engine import RESTRICTED, USER
from tests.soak.case import ACCEPTED, HUNG, Case, Tally, World
from tests.soak.processes import soak
from tests.support.processes import PACKAGES
from tests.support.proof import Effort, Row

BASE, TAG = "debian:trixie-slim", "sqlite-entrypoint"
_SIGNALS = {"term": "TERM", "parent": "KILL", "worker": "KILL", "group": "KILL"}


class Container:
    """A start as a container; killing its first process ends all of it."""

    def __init__(self, words: Sequence[str], stem: Path) -> None:
        self._name = f"soak-{uuid.uuid4().hex[:12]}"
        self._out, self._err = stem.with_suffix(".out"), stem.with_suffix(".err")
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(
                ["docker", "run", "--rm", f"--name={self._name}", *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def stderr(self) -> str:
        """Return what it has said so far."""
        return self._err.read_text(errors="replace")

    def running(self) -> bool:
        """Tell whether it still runs."""
        return self._process.poll() is None

    def hit(self, how: str) -> None:
        """Kill it, or send SIGTERM; one that is not there yet, or no more, is left alone."""
        command = ["docker", "kill", f"--signal={_SIGNALS[how]}", self._name]
        subprocess.run(command, capture_output=True, check=False)

    def end(self) -> tuple[int, str]:
        """Wait for its end and its removal."""
        try:
            code = self._process.wait(HUNG)
        except subprocess.TimeoutExpired:
            subprocess.run(["docker", "rm", "-f", self._name], capture_output=True, check=False)
            self._process.wait(30)
            msg = f"hung: {self.stderr()[-800:]}"
            raise TimeoutError(msg) from None
        return code, self._out.read_text()


class Engine(World):
    """Containers on a directory that is mounted into each."""

    inline = False

    def __init__(self, directory: Path, image: str) -> None:
        self.volume, self.migrations = directory / "data", directory / "migrations"
        self._logs, self._watched, self._image = directory / "logs", directory / "watch", image
        for each in (self.volume, self.migrations, self._logs, self._watched):
            each.mkdir(parents=True)
        self._watched.chmod(0o777)
        self.watch = "/watch/lock"

    def start(self, command: Sequence[str], number: int) -> Container:
        """Start a command, `echo` playing the application."""
        mounts = (
            f"--volume={self.volume}:/data",
            f"--volume={self.migrations}:/migrations:ro",
            f"--volume={self._watched}:/watch",
        )
        env = (
            "--env=MIGRATOR_WAIT_TIMEOUT=30",
            "--env=MIGRATOR_LOCK_TIMEOUT=60",
            f"--env=MIGRATOR_ACCEPT={ACCEPTED}",
        )
        application = ("/opt/sqlite-entrypoint/bin/python3", "-c", f"print({command[-1]!r})")
        words = application if command[0] == "entrypoint" else command
        return Container(
            (*RESTRICTED, *mounts, *env, self._image, *words), self._logs / f"{number}"
        )

    def adopt(self) -> None:
        """Give the volume to the image's user."""
        for path in (self.volume, *self.volume.rglob("*")):
            os.chown(path, USER, USER)


def play(seed: str, directory: Path, image: str) -> Tally:
    """Play the case of a seed in a directory that is removed afterwards."""
    try:
        world = Engine(directory, image)
        scratch = directory / "scratch"
        scratch.mkdir()
        return Case(seed, world, scratch).play()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def built() -> str:
    """Build the image from the checkout, and return its id."""
    script = Path(engine.__file__).with_name("base-image.sh")
    subprocess.run([script, BASE], check=True, capture_output=True)
    return engine.build(PACKAGES, TAG)


def rows(effort: Effort) -> Iterator[Row]:
    """Play case after case, for as long as there is, on a disk: the image refuses a tmpfs."""
    with tempfile.TemporaryDirectory(prefix="soak-", dir=disk(effort.directory)) as directory:
        effort = replace(effort, directory=Path(directory))
        yield from soak("containers", partial(play, image=built()), effort)


def disk(wanted: Path) -> Path:
    """Return a directory that is on no tmpfs."""
    for path in (wanted, Path(tempfile.gettempdir()), Path("/var/tmp")):
        command = ("stat", "--file-system", "--format=%T", path)
        if subprocess.check_output(command, text=True).strip() != "tmpfs":
            return path
    msg = "every directory for temporary files is on a tmpfs"
    raise OSError(msg)
