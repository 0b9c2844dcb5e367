"""What the commands that only look have to say: a text for stdout and an exit code."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from migrator.backups import backup
from migrator.backups.catalog import Backup
from migrator.definitions.sources import DirectorySource
from migrator.errors import (
    DamagedError,
    InterruptedRunError,
    LockedError,
    MigratorError,
    MisfitError,
    NotReadyError,
)
from migrator.looking import plan
from migrator.looking.beside import advice, beside_missing, take_over
from migrator.looking.checks import check_database
from migrator.looking.history import History
from migrator.looking.look import look
from migrator.looking.plan import Plan
from migrator.looking.survey import Survey, changed, judge, refuse_missing, way_back
from migrator.looking.texts import refuse_changed, refuse_unfit
from migrator.model import Applied, Problem, Script
from migrator.report.failures import of_system
from migrator.report.hints import command
from migrator.running.host import Host
from migrator.storage import state
from migrator.system.access import denied
from migrator.tables import aligned, size
from migrator.terminal import printable

Answer = tuple[str, int]


def status(host: Host, *, as_json: bool) -> Answer:
    """Say what is applied and what is pending; problems are reported, not raised."""
    found: Survey | None
    try:
        found = survey = host.survey()
        problems = _problems(host, survey)
        up_to_date = survey.up_to_date and survey.sight.exists and not _refused(host, survey)
    except InterruptedRunError:
        raise
    except MigratorError as error:
        found, up_to_date = _database_alone(host), False
        problems = [Problem(error.reason, "", error.message)]
    facts = _status(host, found, problems, up_to_date=up_to_date)
    return (_json(facts) if as_json else _status_text(facts)), 0


def plan_(host: Host, *, as_json: bool) -> Answer:
    """Say what `up` would do, and the space that it needs."""
    found = host.survey()
    judge(host.settings, host.layout, found, host.emit)
    found = replace(found, pending=_during(host, found).pending)
    way = _way(host, found)
    needed = 0
    if found.pending and found.sight.exists:
        needed = backup.space_needed(host.layout, found.sight.bytes, way or "in-place")
    facts = {
        "database": str(host.layout.database),
        "way": way,
        "pending": _pending(found),
        "database_bytes": found.sight.bytes,
        "space_needed_bytes": needed,
        "beside": list(beside_missing(host.layout, found)),
        "hint": take_over(host.settings, found),
    }
    return (_json(facts) if as_json else _plan_text(facts)), 0


def check(host: Host) -> Answer:
    """
    Tell a health check whether the database is up to date.

    Raises:
        LockedError: A run is under way.
        MisfitError: Files and history do not fit.
        NotReadyError: There is no database and none may be created, or it
            cannot be read.
    """
    found = host.survey()
    if found.sight.running:
        raise _under_way()
    if found.sight.needs_recovery is not None and not found.sight.unfinished:
        why = found.sight.needs_recovery
        message = f"The database cannot be read without recovering it: {why}."
        raise NotReadyError(message, hint="The next start of the entrypoint recovers it.")
    if not found.sight.exists:
        refuse_missing(host.settings, host.layout)
        return "There is no database yet.", 1
    judge(host.settings, host.layout, found, host.emit)
    if found.pending:
        _fit(host, found)
    if found.pending or found.unsettled:
        return f"Pending migrations: {len(found.pending)}.", 1
    return "The database is up to date.", 0


def _under_way() -> LockedError:
    message = "A run is under way."
    return LockedError(message, hint="Ask again when it has ended.", reason="run.under_way")


def backups(host: Host, *, as_json: bool) -> Answer:
    """List the backups, newest first."""
    found = _backups(host)
    facts = [_backup(each) for each in found]
    if as_json:
        return _json(facts), 0
    beside = _others(host, len(found))
    if not facts:
        return f"There is no backup in {printable(str(host.layout.backup_dir))}.{beside}", 0
    rows = [
        (each.name, each.created_at, size(each.bytes), each.version or "-", each.reason)
        for each in found
    ]
    return aligned(("BACKUP", "CREATED", "SIZE", "VERSION", "REASON"), rows) + beside, 0


def _others(host: Host, ours: int) -> str:
    """Say how many backups of other databases of this file name lie in the same directory."""
    count = len(backup.readable_backups(host.layout)) - ours
    return f"\n{count} more there are of other databases of this name." if count else ""


def verify_(host: Host) -> Answer:
    """
    Check structure, foreign keys, history and every backup, whatever is pending.

    Raises:
        DamagedError: The database's structure, or a backup.
        LockedError: A run has the database to itself.
        VerificationError: Foreign keys are violated.
        MisfitError: History and files do not fit.
    """
    found = host.survey()
    if not found.sight.exists:
        message = f"There is no database at {str(host.layout.database)!r}."
        hint = "Check `--database` (MIGRATOR_DATABASE) and whether its volume is mounted."
        raise NotReadyError(message, hint=hint, reason="database.missing", retryable=False)
    if found.sight.needs_recovery is not None:
        if found.sight.running:
            raise _under_way()
        message = f"The database cannot be read: {found.sight.needs_recovery}."
        raise NotReadyError(message, hint="Start the entrypoint once; it recovers it.")
    check_database(host.settings, host.layout, host.emit)
    _verify_history(host, found)
    bad = [
        trouble for each in _backups(host) if (trouble := backup.verify_backup(each)) is not None
    ]
    if bad:
        hint = f"Delete it; `{command(host.settings, 'backups')}` lists the others."
        raise DamagedError(" ".join(bad), hint=hint, reason="backup.damaged")
    return "Structure, foreign keys, history and backups are in order.", 0


# --- the parts of `verify` --------------------------------------------------


def _verify_history(host: Host, found: Survey) -> None:
    problems = [*found.problems, *changed(found)]
    problems = [each for each in problems if each.kind != "out-of-order"]
    refused = plan.refuse_misfits(
        problems,
        host.settings.accept,
        something_pending=True,
        newer_hint=lambda: way_back(host.settings, host.layout, found.entries),
    )
    for each in refused:
        host.emit(
            "history.misfit", each.message, level="warning", kind=each.kind, version=each.version
        )


# --- the parts of `status` and `plan` ---------------------------------------


def _database_alone(host: Host) -> Survey | None:
    """Look at the database where the migrations cannot be read; None where it cannot be either."""
    with contextlib.suppress(MigratorError):
        history = History(host.settings.history_table, by_name=host.source.by_name)
        return Survey(look(host.layout, history), (), (), ())
    return None


def _problems(host: Host, found: Survey) -> list[Problem]:
    problems = [*found.problems, *_in_texts(host, found)]
    if found.sight.foreign is not None and found.pending:
        other = found.sight.foreign
        problems.append(Problem("foreign", other.version or "", plan.told_foreign(other)))
    if found.sight.needs_recovery and not found.sight.running:
        message = f"The database needs a recovery: {found.sight.needs_recovery}."
        problems.append(Problem("needs_recovery", "", message))
    if found.sight.unfinished and not found.sight.running:
        message = "A run was interrupted; the next start settles it."
        if found.sight.unfinished.phase in state.RESTORING:
            message = (
                "A restore was interrupted; the next start finishes it, if nobody has written to"
                " the database since, and is refused otherwise."
            )
        problems.append(Problem("interrupted", "", message))
    return problems


def _in_texts(host: Host, found: Survey) -> tuple[Problem, ...]:
    """Return what is wrong with the files' texts: the first that cannot be read, or the changed."""
    try:
        if isinstance(host.source, DirectorySource):
            refuse_unfit(host.layout, found, host.source.scripts())
        return changed(found)
    except MisfitError as error:
        return (Problem(error.reason, str(error.data.get("version", "")), error.message),)


def _refused(host: Host, found: Survey) -> bool:
    """Tell whether a start with nothing pending is refused: the database is newer."""
    kinds = {problem.kind for problem in found.problems}
    return "newer" in kinds - set(host.settings.accept)


def _backups(host: Host) -> list[Backup]:
    """
    List the finished backups.

    Raises:
        MigratorError: Their directory cannot be read.
    """
    try:
        return backup.list_backups(host.layout)
    except PermissionError as error:
        raise denied(host.layout.backup_dir, "may not be looked at") from error
    except OSError as error:
        raise of_system(error, "while the backups were listed") from error


def _status(
    host: Host, found: Survey | None, problems: list[Problem], *, up_to_date: bool
) -> dict[str, Any]:
    return {
        "database": str(host.layout.database),
        "exists": found.sight.exists if found is not None else os.path.exists(host.layout.database),
        "up_to_date": up_to_date,
        "running": _running(found),
        "applied": [] if found is None else [_row(row) for row in _known(host, found)],
        "pending": [] if found is None else _pending(_during(host, found)),
        "problems": [
            {"kind": each.kind, "version": each.version, "message": each.message}
            for each in problems
        ],
        "beside": list(beside_missing(host.layout, found)),
        "hint": take_over(host.settings, found),
    }


def _known(host: Host, found: Survey) -> tuple[Applied, ...]:
    """Return the history; while a run has the database to itself, as its backup has it."""
    if found.sight.history is not None or found.sight.unfinished is None:
        return found.applied
    with contextlib.suppress(MigratorError):
        return backup.find(host.layout, found.sight.unfinished.backup or "").applied
    return ()


def _during(host: Host, found: Survey) -> Plan:
    done = {row.identity for row in _known(host, found)}
    return Plan(tuple(entry for entry in found.pending if entry.identity not in done))


def _running(found: Survey | None) -> dict[str, str] | None:
    if found is None or not found.sight.running:
        return None
    noted = found.sight.unfinished
    if noted is None:
        return {"run_id": "", "phase": "prepare", "since": ""}
    return {"run_id": noted.run_id, "phase": noted.phase, "since": noted.since}


def _row(row: Applied) -> dict[str, str | None]:
    return {"version": row.version, "name": row.name, "applied_at": row.applied_at}


def _pending(found: Survey | Plan) -> list[dict[str, str | None]]:
    return [
        {"version": entry.version, "name": entry.name, "file": entry.file}
        for entry in found.pending
    ]


def _way(host: Host, found: Survey) -> str | None:
    """Return the way that the pending migrations need; of a registry only its run knows."""
    if not found.pending or found.left_alone:
        return None
    scripts = _fit(host, found)
    if scripts is None:
        return host.registry_way({entry.key for entry in found.pending})
    return "in-place" if all(script.transactional for script in scripts) else "copy"


def _fit(host: Host, found: Survey) -> list[Script] | None:
    """Return the pending files, refused as `up` refuses them; of a registry only its run knows."""
    if not isinstance(host.source, DirectorySource):
        return None
    scripts = host.source.scripts()
    refuse_changed(host.settings, host.layout, host.emit, found, scripts)
    return refuse_unfit(host.layout, found, scripts)


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


LOOKS: dict[str, Callable[[Host, dict[str, Any]], Answer]] = {
    "status": lambda host, given: status(host, as_json=bool(given.get("json"))),
    "plan": lambda host, given: plan_(host, as_json=bool(given.get("json"))),
    "check": lambda host, _given: check(host),
    "backups": lambda host, given: backups(host, as_json=bool(given.get("json"))),
    "verify": lambda host, _given: verify_(host),
}
