"""`migrator check`: tell a health check whether the database is up to date."""

from __future__ import annotations

from migrator.commands.kinds import Answer, Look
from migrator.commands.plan import fitting_scripts
from migrator.errors import LockedError, NotReadyError
from migrator.options.model import Arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.engine.parent import Parent


def _check(parent: Parent, _given: Arguments) -> Answer:
    """
    Look for anything that is pending or refused.

    Raises:
        LockedError: A run is under way.
        MisfitError: Files and history do not fit.
        NotReadyError: The database does not exist and may not be created, was lost, or
            cannot be read.
    """
    from migrator.inspect.status import refuse_lost, refuse_missing, refuse_or_warn

    found = parent.survey()
    if found.sight.running:
        raise under_way()
    if not found.sight.unfinished:
        refuse_lost(parent.settings, parent.layout, found)
    if found.sight.needs_recovery is not None and not found.sight.unfinished:
        why = found.sight.needs_recovery
        message = f"The database cannot be read without recovering it: {why}."
        raise NotReadyError(message, hint="The next start of the entrypoint recovers it.")
    if not found.sight.exists:
        refuse_missing(parent.settings, parent.layout)
        return "There is no database yet.", 1
    refuse_or_warn(parent.settings, parent.layout, found, parent.emit)
    fitting_scripts(parent, found)
    if found.pending or found.unsettled:
        return f"Pending migrations: {len(found.pending)}.", 1
    return "The database is up to date.", 0


COMMAND = Look(
    "check",
    "exit 0 when up to date, 1 when migrations are pending (for health checks)",
    "migrator check",
    answer=_check,
)


def under_way() -> LockedError:
    """Return the error of a look that has to wait for the end of a run."""
    message = "A run is under way."
    return LockedError(message, hint="Ask again when it has ended.", reason="run.under_way")
