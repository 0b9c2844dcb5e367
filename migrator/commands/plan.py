"""`migrator plan`: what `up` would do, and the space that it needs."""

from __future__ import annotations

from migrator.columns import aligned, size
from migrator.commands.kinds import JSON, Answer, Look, as_json
from migrator.commands.status import pending_facts, still_pending
from migrator.options.model import Arguments
from migrator.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from migrator.engine.parent import Parent
    from migrator.inspect.status import DatabaseStatus
    from migrator.model import Script


def _plan(parent: Parent, given: Arguments) -> Answer:
    from migrator.backups.space import space_needed
    from migrator.inspect.first_run import beside_missing
    from migrator.inspect.status import refuse_or_warn
    from migrator.takeover import advice_for

    found = parent.survey()
    refuse_or_warn(parent.settings, parent.layout, found, parent.emit)
    found = replace(found, pending=still_pending(parent, found))
    way = _way(parent, found)
    needed = 0
    if found.pending and found.sight.exists:
        needed = space_needed(parent.layout, found.sight.bytes, way or "in-place")
    facts = {
        "database": str(parent.layout.database),
        "way": way,
        "format": found.format,
        "pending": pending_facts(found.pending),
        "database_bytes": found.sight.bytes,
        "space_needed_bytes": needed,
        "beside": list(beside_missing(parent.layout, found)),
        "hint": advice_for(parent, found),
    }
    return (as_json(facts) if given["json"] else _text(facts)), 0


COMMAND = Look(
    "plan [--json]",
    "show what `up` would do, and the space that it needs",
    "migrator plan",
    options=(JSON,),
    elsewhere=("--dry-run", "--dryrun", "--pretend", "--plan", "pending", "preview"),
    answer=_plan,
)


def _way(parent: Parent, found: DatabaseStatus) -> str | None:
    """Return the way that the pending migrations need; of a registry only its run knows."""
    if not found.pending or found.left_alone:
        return None
    if parent.source.is_command:
        return "copy"
    scripts = fitting_scripts(parent, found)
    if scripts is None:
        return parent.registry_way({entry.key for entry in found.pending})
    return "in-place" if all(script.transactional for script in scripts) else "copy"


def fitting_scripts(parent: Parent, found: DatabaseStatus) -> list[Script] | None:
    """
    Return the pending files, refused as `up` refuses them; of a registry only its run knows.

    Raises:
        MisfitError: One cannot be applied to this database, or an applied one was changed.
    """
    if parent.source.is_code:
        return None
    from migrator.inspect.texts import refuse_changed, refuse_unfit

    scripts = parent.source.scripts(found.entries)
    refuse_changed(parent.settings, parent.layout, parent.emit, found, scripts)
    return refuse_unfit(parent.layout, found, scripts)


def _text(facts: dict[str, Any]) -> str:
    from migrator.inspect.first_run import advice

    if not facts["pending"]:
        return "Nothing is pending."
    rows = [(row["version"], row["name"], row["file"] or "") for row in facts["pending"]]
    ways = {
        "in-place": "in place, in one transaction",
        "copy": "on a copy, published at the end",
        None: "by the application, which creates its own schema",
    }
    return "\n".join(
        (
            aligned(("VERSION", "NAME", "FILE"), rows),
            "",
            f"Way: {ways[facts['way']]}.",
            f"Database: {size(facts['database_bytes'])}.",
            f"Free space needed: {size(facts['space_needed_bytes'])}.",
            *advice(facts["beside"], facts["hint"]),
        )
    )
