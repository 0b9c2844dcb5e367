"""
What a container adds to a hint: where its commands are typed, and that the previous image starts.

The engine knows nothing of containers, and a container not the name of its service: so the
commands stay as they are, and how they begin is said once, after them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from entrypoint.volume import mounts
from migrator.errors import MigrationFailedError, MigratorError, VerificationError
from migrator.log.outcome import outcome_of

_COMMAND = "`migrator "
_KUBERNETES = "as `args` of one with this image and volume, in a Pod of its own"
_PODMAN = "after `podman run --rm`, its volumes and its image"
_DOCKER = "`docker compose run --rm SERVICE migrator …`"


def add_place(error: MigratorError, environ: Mapping[str, str]) -> None:
    """
    End an error's hint with how its `migrator` commands begin in this container, if it has any.

    Args:
        error: Any error.
        environ: Tells the kind of container.
    """
    if _COMMAND in error.hint and mounts.in_container(environ, mounts.read()):
        error.hint = f"{error.hint} In the container: {_beginning(environ)}."


def add_previous_image(error: MigratorError, database: str | os.PathLike[str] | None) -> None:
    """
    Add to a failed migration's hint that the previous image still starts.

    After a first install nothing of it is left that an image could start on.
    """
    failed = isinstance(error, MigrationFailedError | VerificationError)
    if failed and outcome_of(error) == "failed_restored" and database and os.path.exists(database):
        error.hint = f"{error.hint} The previous image starts as it is."


def _beginning(environ: Mapping[str, str]) -> str:
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return _KUBERNETES
    return _PODMAN if mounts.is_podman(environ) else _DOCKER
