"""How others on the volume are found: said only where they cannot be seen, for where it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from entrypoint.volume import mounts
from entrypoint.volume.users import add_users_hint, hint_at_users
from migrator.errors import LockedError, MigratorError, NotReadyError

HINT = "Stop it."
LAYER = "20 1 0:20 / / rw - overlay overlay rw\n"
BIND = LAYER + "30 20 8:1 /srv/app /data rw - ext4 /dev/sda1 rw\n"
TMPFS = LAYER + "30 20 0:30 / /data rw - tmpfs tmpfs rw\n"


@pytest.fixture(autouse=True)
def bind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a directory of the host mounted at /data."""
    monkeypatch.setattr(mounts, "read", lambda: mounts.parse(BIND))


def in_use(**data: Any) -> NotReadyError:
    """Return the error of a database that somebody has open."""
    return NotReadyError("It is in use.", hint=HINT, reason="database.in_use", data=data)


def hint_of(error: MigratorError, **environ: str) -> str:
    """Return an error's hint once the way to the others has been put before it."""
    add_users_hint(error, Path("/data/app.db"), environ)
    return error.hint


def test_in_kubernetes() -> None:
    """In a Pod the command is kubectl's."""
    hint = hint_of(in_use(), KUBERNETES_SERVICE_HOST="10.0.0.1")
    assert hint.startswith("`kubectl describe pvc` ")
    assert hint.endswith(HINT)


@pytest.mark.parametrize("error", [in_use(), LockedError("Held.", hint=HINT)], ids=["use", "lock"])
def test_in_podman(error: MigratorError) -> None:
    """In a container of podman's the command is podman's."""
    hint = hint_of(error, container="podman")
    assert hint.startswith("`podman ps --filter volume=/data ")
    assert hint.endswith(HINT)


@pytest.mark.parametrize("environ", [{"container": "docker"}, {"KUBERNETES_SERVICE_HOST": "x"}])
@pytest.mark.parametrize("found", [LAYER, TMPFS], ids=["layer", "tmpfs"])
def test_on_no_volume(monkeypatch: pytest.MonkeyPatch, found: str, environ: dict[str, str]) -> None:
    """What lies on no volume is shared with no container that could be listed: nothing is added."""
    monkeypatch.setattr(mounts, "read", lambda: mounts.parse(found))
    assert hint_of(in_use(), **environ) == HINT


def test_others_that_are_seen() -> None:
    """Where the processes are named already, nothing is added."""
    users = [{"pid": 7, "command": "app"}]
    assert hint_of(in_use(users=users), container="podman") == HINT


def test_other_errors() -> None:
    """To an error that is about nobody else nothing is added."""
    assert hint_of(MigratorError("A bug.", hint=HINT), container="podman") == HINT


def test_raised_within() -> None:
    """What is raised within is completed on its way out."""
    with (
        pytest.raises(NotReadyError) as caught,
        hint_at_users(Path("/data/app.db"), {"container": "podman"}),
    ):
        raise in_use()
    assert caught.value.hint.startswith("`podman ps ")
