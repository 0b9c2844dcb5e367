"""
How the containers are found that share the database's volume.

Processes of another container cannot be seen from within this one; the engine
outside can list them by the volume. What is said of that is a command to type there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from shlex import quote

from entrypoint.volume import mounts
from migrator.errors import MigratorError

_ABOUT_OTHERS = frozenset({"database.in_use", "lock.timeout"})
_UNSHARED = frozenset({"container-layer", "tmpfs"})
"""Where no volume leads to another container: whoever is in the way is in this one."""
_PODMAN_FILE = "/run/.containerenv"


@contextlib.contextmanager
def pointed_out(database: Path, environ: Mapping[str, str]) -> Iterator[None]:
    """Complete what is raised within: where an unseen other is in the way, say how it is found."""
    try:
        yield
    except MigratorError as error:
        point_out(error, lambda: database, environ)
        raise


def point_out(
    error: MigratorError, database: Callable[[], Path], environ: Mapping[str, str]
) -> None:
    """
    Put before an error's hint how the others are found, where it is about others unseen.

    Args:
        error: Any.
        database: Returns the resolved path; called only where it matters.
        environ: Tells what kind of container this is.
    """
    if error.reason not in _ABOUT_OTHERS or error.data.get("users"):
        return
    seen = mounts.read()
    if not mounts.in_container(environ, seen):
        return
    volume = mounts.classify(database(), seen)
    if volume.kind not in _UNSHARED:
        error.hint = f"{_how_to_find(volume, environ)} {error.hint}"


def _how_to_find(volume: mounts.Volume, environ: Mapping[str, str]) -> str:
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "`kubectl describe pvc` names the Pods that use each volume (`Used By`)."
    podman = environ.get("container") == "podman" or os.path.exists(_PODMAN_FILE)
    # A bind mount's path on the host is not to be seen here; where it is mounted is.
    listing = f"{'podman' if podman else 'docker'} ps --filter volume="
    if volume.kind == "named" and volume.name:
        command = f"{listing}{quote(volume.name)}"
        return f"`{command}`, typed on the host, lists the containers that have this volume."
    point = volume.mount.mount_point
    command = f"{listing}{quote(point)} --format '{{{{.Names}}}} {{{{.Mounts}}}}'"
    return (
        f"`{command}`, typed on the host, lists the containers that have something mounted at"
        f" {point}; one that has the same directory at another place is not among them."
    )
