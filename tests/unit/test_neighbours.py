"""How others on the volume are found: said only where they cannot be seen, for where it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from entrypoint.neighbours import point_out, pointed_out
from migrator.errors import LockedError, MigratorError, NotReadyError

HINT = "Stop it."


def in_use(**data: Any) -> NotReadyError:
    """Return the error of a database that somebody has open."""
    return NotReadyError("It is in use.", hint=HINT, reason="database.in_use", data=data)


def hint_of(error: MigratorError, place: Path, **environ: str) -> str:
    """Return an error's hint once the way to the others has been put before it."""
    point_out(error, lambda: place / "app.db", environ)
    return error.hint


def test_in_kubernetes(tmp_path: Path) -> None:
    """In a Pod the command is kubectl's."""
    hint = hint_of(in_use(), tmp_path, KUBERNETES_SERVICE_HOST="10.0.0.1")
    assert hint.startswith("`kubectl describe pvc` ")
    assert hint.endswith(HINT)


@pytest.mark.parametrize("error", [in_use(), LockedError("Held.", hint=HINT)], ids=["use", "lock"])
def test_in_podman(error: MigratorError, tmp_path: Path) -> None:
    """In a container of podman's the command is podman's."""
    hint = hint_of(error, tmp_path, container="podman")
    assert hint.startswith("`podman ps --filter volume=/")
    assert hint.endswith(HINT)


def test_others_that_are_seen(tmp_path: Path) -> None:
    """Where the processes are named already, nothing is added."""
    users = [{"pid": 7, "command": "app"}]
    assert hint_of(in_use(users=users), tmp_path, container="podman") == HINT


def test_other_errors(tmp_path: Path) -> None:
    """To an error that is about nobody else nothing is added."""
    assert hint_of(MigratorError("A bug.", hint=HINT), tmp_path, container="podman") == HINT


def test_raised_within(tmp_path: Path) -> None:
    """What is raised within is completed on its way out."""
    with (
        pytest.raises(NotReadyError) as caught,
        pointed_out(tmp_path / "app.db", {"container": "podman"}),
    ):
        raise in_use()
    assert caught.value.hint.startswith("`podman ps ")
