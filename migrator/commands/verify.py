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
    from migrator.engine.parent import Parent
    from migrator.inspect.status import DatabaseStatus


def _verify(parent: Parent, _given: Arguments) -> Answer:
    """
    Check all of them, whatever is pending.

    Raises:
        DamagedError: The database's structure, or a backup.
        LockedError: A run has the database to itself.
        VerificationError: Foreign keys are violated.
        MisfitError: History and files do not fit.
    """
    from migrator.backups.catalog import verify_backup
    from migrator.inspect.checks import check_database

    found = parent.survey()
    _require_readable(parent, found)
    check_database(parent.settings, parent.layout, parent.emit)
    _check_history(parent, found)
    checked = map(verify_backup, finished_backups(parent))
    bad = [trouble for trouble in checked if trouble is not None]
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


def _require_readable(parent: Parent, found: DatabaseStatus) -> None:
    from migrator.inspect.status import missing

    if not found.sight.exists:
        raise missing(parent.layout)
    if found.sight.needs_recovery is not None:
        if found.sight.running:
            raise under_way()
        message = f"The database cannot be read: {found.sight.needs_recovery}."
        raise NotReadyError(message, hint="Start the entrypoint once; it recovers it.")


def _check_history(parent: Parent, found: DatabaseStatus) -> None:
    from migrator.inspect.status import changed, refuse_misfits, warn_of

    problems = [*found.problems, *changed(found)]
    problems = [each for each in problems if each.kind != "out-of-order"]
    warn_of(refuse_misfits(parent.settings, parent.layout, found, problems), parent.emit)
