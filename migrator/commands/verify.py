"""`migrator verify`: check structure, foreign keys, history and every backup."""

from __future__ import annotations

from migrator.commands.backups import finished_backups
from migrator.commands.check import under_way
from migrator.commands.kinds import Answer, Look
from migrator.errors import DamagedError, NotReadyError
from migrator.log.hints import command
from migrator.options.model import Arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from migrator.engine.parent import Parent
    from migrator.inspect.status import DatabaseStatus
    from migrator.model import Emit


def _verify(parent: Parent, _given: Arguments) -> Answer:
    """
    Check all of them, pending or not.

    Raises:
        DamagedError: The database's structure, or a backup.
        LockedError: A run has the database to itself.
        VerificationError: Foreign keys are violated.
        MisfitError: History and files do not fit.
    """
    found = parent.survey()
    _require_readable(parent, found)
    connect = parent.settings.connect
    if connect is None:
        _check_database(parent, parent.emit)
        _check_history(parent, found)
        bad = _damaged_backups(parent)
    else:
        bad = _connected(parent, found, connect)
    if bad:
        hint = f"Delete it; `{command(parent.settings, 'backups')}` lists the others."
        raise DamagedError(" ".join(bad), hint=hint, reason="backup.damaged")
    return "Structure, foreign keys, history and backups are in order.", 0


COMMAND = Look(
    "verify",
    "check structure, foreign keys, history and every backup",
    "migrator verify",
    elsewhere=("validate",),
    answer=_verify,
)


def _check_database(parent: Parent, emit: Emit) -> None:
    from migrator.inspect.checks import check_database

    check_database(parent.settings, parent.layout, emit)


def _damaged_backups(parent: Parent) -> list[str]:
    """Say of each damaged backup what is wrong."""
    from migrator.backups.catalog import verify_backup
    from migrator.backups.find import describe_undescribed

    checked = map(verify_backup, finished_backups(parent))
    told = describe_undescribed(parent.layout)
    return [*(trouble for trouble in checked if trouble is not None), *told]


def _connected(parent: Parent, found: DatabaseStatus, path: Path) -> list[str]:
    """Do the same with what the application brings to its database: code, and so in a child."""
    from migrator.engine.parent import prepare_worker

    def checked(emit: Emit) -> dict[str, Any]:
        from migrator.database import connecting

        prepare_worker(parent.layout, parent.settings)
        with connecting.named(path):
            _check_database(parent, emit)
            return {"bad": _damaged_backups(parent)}

    answer = parent.ask(checked, path)
    _check_history(parent, found)
    return [str(each) for each in answer.get("bad", ())]


def _require_readable(parent: Parent, found: DatabaseStatus) -> None:
    from migrator.inspect.status import missing, refuse_lost

    if not found.sight.exists:
        raise missing(parent.layout)
    if not (found.sight.running or found.sight.unfinished):
        refuse_lost(parent.settings, parent.layout, found)
    if found.sight.needs_recovery is not None:
        if found.sight.running:
            raise under_way()
        message = f"The database cannot be read: {found.sight.needs_recovery}."
        raise NotReadyError(message, hint="Start the entrypoint once; it recovers it.")


def _check_history(parent: Parent, found: DatabaseStatus) -> None:
    from migrator.inspect.status import changed, refuse_misfits, warn_of

    problems = [*found.problems, *changed(found)]
    warn_of(refuse_misfits(parent.settings, parent.layout, found, problems), parent.emit)
