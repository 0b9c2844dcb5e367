"""`migrator plan`: what `up` would do, and the space that it needs."""

from __future__ import annotations

from collections.abc import Sequence

from migrator.columns import aligned, size
from migrator.commands.kinds import JSON, Answer, Look, as_json
from migrator.commands.status import pending_facts, still_pending
from migrator.options.model import Arguments, Option
from migrator.terminal import printable
from migrator.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from migrator.engine.parent import Parent
    from migrator.inspect.status import DatabaseStatus
    from migrator.model import Script


def _plan(parent: Parent, given: Arguments) -> Answer:
    from migrator.backups.space import space_needed
    from migrator.inspect import outlook
    from migrator.inspect.first_run import beside_missing
    from migrator.inspect.status import refuse_or_warn
    from migrator.takeover import advice_for

    found = parent.survey()
    refuse_or_warn(parent.settings, parent.layout, found, parent.emit)
    found = replace(found, pending=still_pending(parent, found))
    scripts = fitting_scripts(parent, found)
    way = None
    if found.pending and not found.left_alone:
        way = parent.way(found.pending, scripts)
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
        **outlook.space(parent.layout, found.sight.bytes, scripts),
        "in_use": outlook.is_in_use(parent.layout.database),
        "beside": list(beside_missing(parent.layout, found)),
        "hint": advice_for(parent, found),
    }
    if given["sql"]:
        facts["statements"] = outlook.statements(scripts, found.pending)
    return (as_json(facts) if given["json"] else _text(facts)), 0


COMMAND = Look(
    "plan [--sql] [--json]",
    "show what `up` would do, and the space that it needs",
    "migrator plan",
    options=(
        Option("--sql", "sql", "show the statements of the pending SQL as well", switch=True),
        JSON,
    ),
    elsewhere=("--dry-run", "--dryrun", "--pretend", "--plan", "pending", "preview"),
    answer=_plan,
)


def fitting_scripts(parent: Parent, found: DatabaseStatus) -> list[Script] | None:
    """
    Return the pending files, refused as `up` refuses them; of a registry only its run knows.

    With nothing pending no text is compared, as in `up`.

    Raises:
        MisfitError: One cannot be applied to this database, or an applied one was changed.
    """
    if parent.source.is_code:
        return None
    if not found.pending:
        return []
    from migrator.inspect.texts import fitting

    return fitting(parent.settings, parent.layout, parent.emit, parent.source, found)


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
            *_space(facts),
            f"Backups: {printable(facts['backup_dir'])}.",
            *([_IN_USE[facts["in_use"]]] if facts["in_use"] else []),
            *advice(facts["beside"], facts["hint"]),
            *_statements(facts.get("statements", [])),
        )
    )


_IN_USE = {True: "The database is open in another process: `up` waits until it is closed."}


def _space(facts: dict[str, Any]) -> list[str]:
    """Say what is needed and what is free; a rebuild takes more than the plan can know."""
    there = facts["space_free_bytes"]
    known = "" if there is None else f"; free: {size(there)}"
    lines = [f"Free space needed: {size(facts['space_needed_bytes'])}{known}."]
    if facts["space_rewrite_bytes"]:
        lines.append(
            "A table that is rebuilt takes its size again in the file and in the journal: up to"
            f" {size(facts['space_rewrite_bytes'])} more."
        )
    return lines


def _statements(pending: Sequence[dict[str, Any]]) -> list[str]:
    lines = []
    for each in pending:
        lines += ["", f"-- {printable(str(each['file'] or each['version']))}"]
        if each["sql"] is None:
            lines.append("-- (code: `migrator rehearse` shows its statements)")
        lines += [f"{printable(text, chr(10) + chr(9)).rstrip(';')};" for text in each["sql"] or ()]
    return lines
