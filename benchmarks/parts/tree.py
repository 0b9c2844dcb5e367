"""The image's tree on this machine: unpacked once for each image, and mounted where it belongs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.race import succeed

TREE = "opt/sqlite-entrypoint"


@dataclass(frozen=True)
class Tree:
    """
    An unpacked tree.

    Args:
        within: What a program of it has to be run inside of.
    """

    within: Sequence[str]

    def program(self, name: str) -> str:
        """Return a program's path."""
        return f"/{TREE}/bin/{name}"


def image_id(name: str) -> str:
    """
    Return an image's id.

    Raises:
        LookupError: There is no engine, it does not answer, or the image was not built.
    """
    if shutil.which("docker") is None:
        msg = "needs docker"
        raise LookupError(msg)
    command = ["docker", "image", "inspect", "--format", "{{.Id}}", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        msg = "docker does not answer"
        raise LookupError(msg) from None
    if done.returncode:
        msg = f"needs the image: docker build -t {name} ."
        raise LookupError(msg)
    return done.stdout.strip()


def tree(bench: Bench) -> Tree | str:
    """Return the tree of the image, or why there is none."""
    try:
        image = image_id(bench.image)
    except LookupError as error:
        return str(error)
    directory = bench.cache / f"tree-{image.removeprefix('sha256:')[:16]}"
    if not directory.exists():
        _unpack(bench.image, directory)
    # Below a tmpfs that only these processes see; whoever is not root maps itself to it.
    mount = f'mkdir -p "$0" && mount --bind "{directory / TREE}" "$0" && exec "$@"'
    script = f"mount -t tmpfs none /opt && {mount}"
    within = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, f"/{TREE}"]
    if subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
        return "needs the right to mount in a namespace of its own"
    return Tree(within)


def _unpack(image: str, directory: Path) -> None:
    container = succeed(["docker", "create", image]).strip()
    part = directory.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        script = 'docker export "$1" | tar --extract --directory "$2" --no-same-owner "$3"'
        succeed(["sh", "-c", script, "sh", container, str(part), TREE])
    finally:
        succeed(["docker", "rm", "--volumes", container])
    part.rename(directory)
