"""What the commands that only look have to say: a text for stdout and an exit code."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from migrator import plan
from migrator.access import denied
from migrator.backups.catalog import Backup, list_backups, readable_backups, verify_backup
from migrator.backups.find import find_backup
from migrator.backups.space import space_needed
from migrator.columns import aligned, size
from migrator.database import run_state
from migrator.engine.parent import Parent
from migrator.errors import (
    DamagedError,
    InterruptedRunError,
    LockedError,
    MigratorError,
    MisfitError,
    NotReadyError,
)
from migrator.inspect.checks import check_database
from migrator.inspect.database import inspect_database
from migrator.inspect.first_run import advice, beside_missing, take_over
from migrator.inspect.status import (
    DatabaseStatus,
    changed,
    refuse_missing,
    refuse_or_warn,
    way_back,
)
from migrator.inspect.texts import refuse_changed, refuse_unfit
from migrator.log.hints import command
from migrator.log.translate import of_system
from migrator.model import Applied, Conflict, Script
from migrator.plan import Plan
from migrator.terminal import printable

Answer = tuple[str, int]


def status(parent: Parent, *, as_json: bool) -> Answer:
    """Say what is applied and what is pending; problems are reported, not raised."""
    found: DatabaseStatus | None
    try:
        found = survey = parent.survey()
        problems = _problems(parent, survey)
        up_to_date = survey.up_to_date and survey.sight.exists and not _refused(parent, survey)
    except InterruptedRunError:
        raise
    except MigratorError as error:
        found, up_to_date = _database_alone(parent), False
        problems = [Conflict(error.reason, "", error.message)]
    facts = _status(parent, found, problems, up_to_date=up_to_date)
    return (_json(facts) if as_json else _status_text(facts)), 0


def plan_(parent: Parent, *, as_json: bool) -> Answer:
    """Say what `up` would do, and the space that it needs."""
    found = parent.survey()
    refuse_or_warn(parent.settings, parent.layout, found, parent.emit)
    found = replace(found, pending=_during(parent, found).pending)
    way = _way(parent, found)
    needed = 0
    if found.pending and found.sight.exists:
        needed = space_needed(parent.layout, found.sight.bytes, way or "in-place")
    facts = {
        "database": str(parent.layout.database),
        "way": way,
        "pending": _pending(found),
        "database_bytes": found.sight.bytes,
        "space_needed_bytes": needed,
        "beside": list(beside_missing(parent.layout, found)),
        "hint": take_over(parent.settings, found),
    }
    return (_json(facts) if as_json else _plan_text(facts)), 0


def check(parent: Parent) -> Answer:
    """
    Tell a health check whether the database is up to date.

    Raises:
        LockedError: A run is under way.
        MisfitError: Files and history do not fit.
        NotReadyError: There is no database and none may be created, or it
            cannot be read.
    """
    found = parent.survey()
    if found.sight.running:
        raise _under_way()
    if found.sight.needs_recovery is not None and not found.sight.unfinished:
        why = found.sight.needs_recovery
        message = f"The database cannot be read without recovering it: {why}."
        raise NotReadyError(message, hint="The next start of the entrypoint recovers it.")
    if not found.sight.exists:
        refuse_missing(parent.settings, parent.layout)
        return "There is no database yet.", 1
    refuse_or_warn(parent.settings, parent.layout, found, parent.emit)
    if found.pending:
        _fit(parent, found)
    if found.pending or found.unsettled:
        return f"Pending migrations: {len(found.pending)}.", 1
    return "The database is up to date.", 0


def _under_way() -> LockedError:
    message = "A run is under way."
    return LockedError(message, hint="Ask again when it has ended.", reason="run.under_way")


def backups(parent: Parent, *, as_json: bool) -> Answer:
    """List the backups, newest first."""
    found = _backups(parent)
    facts = [_backup(each) for each in found]
    if as_json:
        return _json(facts), 0
    beside = _others(parent, len(found))
    if not facts:
        return f"There is no backup in {printable(str(parent.layout.backup_dir))}.{beside}", 0
    rows = [
        (each.name, each.created_at, size(each.bytes), each.version or "-", each.reason)
        for each in found
    ]
    return aligned(("BACKUP", "CREATED", "SIZE", "VERSION", "REASON"), rows) + beside, 0


def _others(parent: Parent, ours: int) -> str:
    """Say how many backups of other databases of this file name lie in the same directory."""
    count = len(readable_backups(parent.layout)) - ours
    return f"\n{count} more there are of other databases of this name." if count else ""


def verify_(parent: Parent) -> Answer:
    """
    Check structure, foreign keys, history and every backup, whatever is pending.

    Raises:
        DamagedError: The database's structure, or a backup.
        LockedError: A run has the database to itself.
        VerificationError: Foreign keys are violated.
        MisfitError: History and files do not fit.
    """
    found = parent.survey()
    if not found.sight.exists:
        message = f"There is no database at {str(parent.layout.database)!r}."
        hint = "Check `--database` (MIGRATOR_DATABASE) and whether its volume is mounted."
        raise NotReadyError(message, hint=hint, reason="database.missing", retryable=False)
    if found.sight.needs_recovery is not None:
        if found.sight.running:
            raise _under_way()
        message = f"The database cannot be read: {found.sight.needs_recovery}."
        raise NotReadyError(message, hint="Start the entrypoint once; it recovers it.")
    check_database(parent.settings, parent.layout, parent.emit)
    _verify_history(parent, found)
    bad = [trouble for each in _backups(parent) if (trouble := verify_backup(each)) is not None]
    if bad:
        hint = f"Delete it; `{command(parent.settings, 'backups')}` lists the others."
        raise DamagedError(" ".join(bad), hint=hint, reason="backup.damaged")
    return "Structure, foreign keys, history and backups are in order.", 0


# --- the parts of `verify` --------------------------------------------------


def _verify_history(parent: Parent, found: DatabaseStatus) -> None:
    problems = [*found.problems, *changed(found)]
    problems = [each for each in problems if each.kind != "out-of-order"]
    refused = plan.refuse_conflicts(
        problems,
        parent.settings.accept,
        something_pending=True,
        newer_hint=lambda: way_back(parent.settings, parent.layout, found.entries),
    )
    for each in refused:
        parent.emit(
            "history.misfit", each.message, level="warning", kind=each.kind, version=each.version
        )


# --- the parts of `status` and `plan` ---------------------------------------


def _database_alone(parent: Parent) -> DatabaseStatus | None:
    """Look at the database where the migrations cannot be read; None where it cannot be either."""
    with contextlib.suppress(MigratorError):
        history = parent.source.format.history(parent.settings.history_table)
        return DatabaseStatus(inspect_database(parent.layout, history), (), (), ())
    return None


def _problems(parent: Parent, found: DatabaseStatus) -> list[Conflict]:
    problems = [*found.problems, *_in_texts(parent, found)]
    if found.sight.foreign is not None and found.pending:
        other = found.sight.foreign
        problems.append(Conflict("foreign", other.version or "", plan.told_foreign(other)))
    if found.sight.needs_recovery and not found.sight.running:
        message = f"The database needs a recovery: {found.sight.needs_recovery}."
        problems.append(Conflict("needs_recovery", "", message))
    if found.sight.unfinished and not found.sight.running:
        message = "A run was interrupted; the next start settles it."
        if found.sight.unfinished.phase in run_state.RESTORING:
            message = (
                "A restore was interrupted; the next start finishes it, if nobody has written to"
                " the database since, and is refused otherwise."
            )
        problems.append(Conflict("interrupted", "", message))
    return problems


def _in_texts(parent: Parent, found: DatabaseStatus) -> tuple[Conflict, ...]:
    """Return what is wrong with the files' texts: the first that cannot be read, or the changed."""
    try:
        if not parent.source.is_code:
            refuse_unfit(parent.layout, found, parent.source.scripts())
        return changed(found)
    except MisfitError as error:
        return (Conflict(error.reason, str(error.data.get("version", "")), error.message),)


def _refused(parent: Parent, found: DatabaseStatus) -> bool:
    """Tell whether a start with nothing pending is refused: the database is newer."""
    kinds = {problem.kind for problem in found.problems}
    return "newer" in kinds - set(parent.settings.accept)


def _backups(parent: Parent) -> list[Backup]:
    """
    List the finished backups.

    Raises:
        MigratorError: Their directory cannot be read.
    """
    try:
        return list_backups(parent.layout)
    except PermissionError as error:
        raise denied(parent.layout.backup_dir, "may not be looked at") from error
    except OSError as error:
        raise of_system(error, "while the backups were listed") from error


def _status(
    parent: Parent, found: DatabaseStatus | None, problems: list[Conflict], *, up_to_date: bool
) -> dict[str, Any]:
    return {
        "database": str(parent.layout.database),
        "exists": found.sight.exists
        if found is not None
        else os.path.exists(parent.layout.database),
        "up_to_date": up_to_date,
        "running": _running(found),
        "applied": [] if found is None else [_row(row) for row in _known(parent, found)],
        "pending": [] if found is None else _pending(_during(parent, found)),
        "problems": [
            {"kind": each.kind, "version": each.version, "message": each.message}
            for each in problems
        ],
        "beside": list(beside_missing(parent.layout, found)),
        "hint": take_over(parent.settings, found),
    }


def _known(parent: Parent, found: DatabaseStatus) -> tuple[Applied, ...]:
    """Return the history; while a run has the database to itself, as its backup has it."""
    if found.sight.history is not None or found.sight.unfinished is None:
        return found.applied
    with contextlib.suppress(MigratorError):
        return find_backup(parent.layout, found.sight.unfinished.backup or "").applied
    return ()


def _during(parent: Parent, found: DatabaseStatus) -> Plan:
    done = {row.identity for row in _known(parent, found)}
    return Plan(tuple(entry for entry in found.pending if entry.identity not in done))


def _running(found: DatabaseStatus | None) -> dict[str, str] | None:
    if found is None or not found.sight.running:
        return None
    noted = found.sight.unfinished
    if noted is None:
        return {"run_id": "", "phase": "prepare", "since": ""}
    return {"run_id": noted.run_id, "phase": noted.phase, "since": noted.since}


def _row(row: Applied) -> dict[str, str | None]:
    return {"version": row.version, "name": row.name, "applied_at": row.applied_at}


def _pending(found: DatabaseStatus | Plan) -> list[dict[str, str | None]]:
    return [
        {"version": entry.version, "name": entry.name, "file": entry.file}
        for entry in found.pending
    ]


def _way(parent: Parent, found: DatabaseStatus) -> str | None:
    """Return the way that the pending migrations need; of a registry only its run knows."""
    if not found.pending or found.left_alone:
        return None
    scripts = _fit(parent, found)
    if scripts is None:
        return parent.registry_way({entry.key for entry in found.pending})
    return "in-place" if all(script.transactional for script in scripts) else "copy"


def _fit(parent: Parent, found: DatabaseStatus) -> list[Script] | None:
    """Return the pending files, refused as `up` refuses them; of a registry only its run knows."""
    if parent.source.is_code:
        return None
    scripts = parent.source.scripts()
    refuse_changed(parent.settings, parent.layout, parent.emit, found, scripts)
    return refuse_unfit(parent.layout, found, scripts)


def _backup(each: Backup) -> dict[str, Any]:
    return {
        "name": each.name,
        "path": str(each.path),
        "created_at": each.created_at,
        "bytes": each.bytes,
        "sha256": each.sha256,
        "version": each.version,
        "reason": each.reason,
        "app_version": each.app_version,
        "id": each.id,
    }


def _status_text(facts: dict[str, Any]) -> str:
    exists = "" if facts["exists"] else " (does not exist)"
    lines = [f"Database: {printable(facts['database'])}{exists}"]
    if facts["running"] is not None:
        running = facts["running"]
        lines.append(printable(f"A run is under way: {running['run_id']}, {running['phase']}."))
    rows = [
        (row["version"] or "", row["name"], row["applied_at"] or "") for row in facts["applied"]
    ]
    rows += [(row["version"], row["name"], "pending") for row in facts["pending"]]
    if rows:
        lines += ["", aligned(("VERSION", "NAME", "APPLIED"), rows)]
    lines += ["", f"{len(facts['applied'])} applied, {len(facts['pending'])} pending."]
    lines += advice(facts["beside"], facts["hint"])
    lines += [printable(f"Problem: {each['message']}") for each in facts["problems"]]
    return "\n".join(lines)


def _plan_text(facts: dict[str, Any]) -> str:
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


def _json(facts: Any) -> str:
    return json.dumps(facts, indent=2)


LOOKS: dict[str, Callable[[Parent, dict[str, Any]], Answer]] = {
    "status": lambda parent, given: status(parent, as_json=bool(given.get("json"))),
    "plan": lambda parent, given: plan_(parent, as_json=bool(given.get("json"))),
    "check": lambda parent, _given: check(parent),
    "backups": lambda parent, given: backups(parent, as_json=bool(given.get("json"))),
    "verify": lambda parent, _given: verify_(parent),
}
