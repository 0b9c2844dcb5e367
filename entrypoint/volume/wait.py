"""Wait until the volume is there and the run's user can work on it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

from entrypoint import privileges
from entrypoint.identities import Identities, User
from entrypoint.options import ContainerSettings
from entrypoint.volume import checks, mounts
from migrator.database.workspace import Layout
from migrator.model import Emit, Settings
from migrator.wait import Deadline, wait_until_ready


def wait_for_volume(
    settings: ContainerSettings,
    layout: Layout,
    identities: Identities,
    environ: Mapping[str, str],
    deadline: Deadline,
    emit: Emit,
) -> User | None:
    """
    Wait until the run's user can work on the volume, and return that user.

    Returns:
        None for the current user.

    Raises:
        MigratorError: The problem that `checks.inspect` found, at once or at the
            deadline; or that user cannot run Python.
    """
    if identities.run is not None:
        # Before any file is given to that user.
        _require_python(identities.run)
    container = mounts.in_container(environ, mounts.read())

    def look() -> None:
        checks.inspect(
            layout.database,
            layout.backup_dir,
            create=settings.engine.create,
            mount_policy=settings.mount,
            container=container,
            emit=emit,
            unfinished=os.path.lexists(layout.state),
            as_user=lambda: as_run_user(identities, settings.engine, layout),
        )

    wait_until_ready(look, deadline, emit, level="info")
    return identities.run_on(layout.database)


@contextlib.contextmanager
def as_run_user(identities: Identities, settings: Settings, layout: Layout) -> Iterator[None]:
    """Give the run's user its files, and act as that user within."""
    # Asked at each look: the owner is another one when the volume has been mounted.
    user = identities.run_on(layout.database)
    if user is None:
        yield
        return
    _require_python(user)
    # Imported only here: most containers are not started as root.
    from entrypoint import ownership

    # Not the resolved path: the owner of each link on it counts.
    backup_dir = settings.backup_dir or layout.database.parent / "backups"
    ownership.hand_over(layout.database, backup_dir, user, given=settings.database)
    with privileges.acting_as(user):
        yield


def _require_python(user: User) -> None:
    # Imported only here: most containers are not started as root.
    from entrypoint import reachable_python

    reachable_python.require_python(user)
