"""
How to find the containers that share the database's volume.

A container does not see another one's processes; the engine on the host can list
them by their volume. So the hint is a command to type there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from entrypoint.volume import mounts
from migrator.errors import MigratorError
from migrator.terminal import quote

_REASONS = frozenset({"database.in_use", "lock.timeout"})
_UNSHARED = frozenset({"container-layer", "tmpfs"})
"""Volumes that no other container shares: the other process is in this one."""


@contextlib.contextmanager
def hint_at_users(database: Path, environ: Mapping[str, str]) -> Iterator[None]:
    """Add to an error raised within how to find the container that it is about."""
    try:
        yield
    except MigratorError as error:
        add_users_hint(error, database, environ)
        raise


def add_users_hint(error: MigratorError, database: Path, environ: Mapping[str, str]) -> None:
    """
    Begin an error's hint with how to find the other containers, if it is about unseen ones.

    Args:
        error: Any error.
        database: The resolved path.
        environ: Tells the kind of container.
    """
    if error.reason not in _REASONS or error.data.get("users"):
        return
    seen = mounts.read()
    if not mounts.in_container(environ, seen):
        return
    volume = mounts.classify(database, seen)
    if volume.kind not in _UNSHARED:
        error.hint = f"{_how_to_find(volume, environ)} {error.hint}"


def _how_to_find(volume: mounts.Volume, environ: Mapping[str, str]) -> str:
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "`kubectl describe pvc` names the Pods that use each volume (`Used By`)."
    # A bind mount shows here where it is mounted, and not its path on the host.
    listing = f"{'podman' if mounts.is_podman(environ) else 'docker'} ps --filter volume="
    if volume.kind == "named" and volume.name:
        command = f"{listing}{quote(volume.name)}"
        return f"`{command}` on the host lists the containers that have this volume."
    point = volume.mount.mount_point
    command = f"{listing}{quote(point)} --format '{{{{.Names}}}} {{{{.Mounts}}}}'"
    return (
        f"`{command}` on the host lists the containers with a mount at {point}; one that mounts"
        " the same directory elsewhere is not listed."
    )
