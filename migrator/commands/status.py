"""`migrator status`: what is applied and what is pending; problems are reported, not raised."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from migrator.columns import aligned, moment
from migrator.commands.kinds import JSON, Answer, Look, as_json
from migrator.errors import InterruptedRunError, MigratorError, MisfitError, NotReadyError
from migrator.model import Applied, Conflict, Entry
from migrator.options import types
from migrator.options.model import Arguments, Option
from migrator.terminal import printable
from migrator.value import as_dict, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from migrator.engine.parent import Parent
    from migrator.inspect.status import DatabaseStatus


def _status(parent: Parent, given: Arguments) -> Answer:
    found: DatabaseStatus | None
    try:
        found = survey = parent.survey()
        problems = _problems(parent, survey)
        refused = {each.kind for each in survey.problems} - set(parent.settings.accept)
        # With nothing pending, a start is refused only where the database is newer.
        up_to_date = survey.up_to_date and survey.sight.exists and "newer" not in refused
    except InterruptedRunError:
        raise
    except MigratorError as error:
        found, up_to_date = _database_alone(parent), False
        problems = [Conflict(error.reason, "", error.message)]
    facts = _facts(parent, found, problems, up_to_date=up_to_date)
    if given["metrics"] is not None:
        _write_metrics(parent, given["metrics"], facts)
    return (as_json(facts) if given["json"] else _text(facts)), 0


def _write_metrics(parent: Parent, path: Path, facts: dict[str, Any]) -> None:
    from migrator.commands import metrics
    from migrator.commands.backups import finished_backups

    backups = None
    with contextlib.suppress(MigratorError):
        backups = finished_backups(parent)
    metrics.write(path, metrics.render(facts, backups), parent.layout)


COMMAND = Look(
    "status [--json] [--metrics FILE]",
    "show what is applied, what is pending, and what the last run did",
    "migrator status --json",
    options=(
        JSON,
        Option(
            "--metrics",
            "metrics",
            "write them to FILE as well, in the form of node_exporter's textfile collector",
            metavar="FILE",
            parse=types.path,
            allowed="a path",
        ),
    ),
    elsewhere=("history", "log", "current", "info", "show", "list", "ls"),
    answer=_status,
)


# --- what is found ----------------------------------------------------------


def _database_alone(parent: Parent) -> DatabaseStatus | None:
    """Look at the database where the migrations cannot be read; None where it cannot be either."""
    from migrator.inspect.database import inspect_database
    from migrator.inspect.status import DatabaseStatus

    with contextlib.suppress(MigratorError):
        table = parent.settings.history_table
        return DatabaseStatus(inspect_database(parent.layout, parent.source, table), (), (), ())
    return None


def _problems(parent: Parent, found: DatabaseStatus) -> list[Conflict]:
    from migrator.database.run_state import RESTORING
    from migrator.plan import told_foreign

    problems = [*_lost(parent, found), *found.problems, *_in_texts(parent, found)]
    if found.sight.foreign is not None and found.pending:
        other = found.sight.foreign
        problems.append(Conflict("foreign", other.version or "", told_foreign(other)))
    if found.sight.needs_recovery and not found.sight.running:
        message = f"The database needs a recovery: {found.sight.needs_recovery}."
        problems.append(Conflict("needs_recovery", "", message))
    if found.sight.unfinished and not found.sight.running:
        message = "A run was interrupted; the next start recovers it."
        if found.sight.unfinished.phase in RESTORING:
            message = (
                "A restore was interrupted; the next start finishes it, if nobody has written to"
                " the database since, and is refused otherwise."
            )
        problems.append(Conflict("interrupted", "", message))
    return problems


def _lost(parent: Parent, found: DatabaseStatus) -> tuple[Conflict, ...]:
    """Return why a start would wait for a database that is missing, or empty where one was."""
    from migrator.inspect.status import refuse_lost

    if found.sight.running or found.sight.unfinished:
        return ()
    try:
        refuse_lost(parent.settings, parent.layout, found)
    except NotReadyError as error:
        return (Conflict(error.reason, "", error.message),)
    return ()


def _in_texts(parent: Parent, found: DatabaseStatus) -> tuple[Conflict, ...]:
    """Return what is wrong with the files' texts: the first that cannot be read, or the changed."""
    from migrator.inspect.status import changed
    from migrator.inspect.texts import refuse_unfit

    try:
        if not parent.source.is_code:
            refuse_unfit(parent.layout, found, parent.source.scripts(found.entries))
        return changed(found)
    except MisfitError as error:
        return (Conflict(error.reason, str(error.data.get("version", "")), error.message),)


def _known(parent: Parent, found: DatabaseStatus) -> tuple[Applied, ...]:
    """Return the history; while a run has the database to itself, as its backup has it."""
    if found.sight.history is not None or found.sight.unfinished is None:
        return found.applied
    from migrator.backups.find import find_backup

    with contextlib.suppress(MigratorError):
        return find_backup(parent.layout, found.sight.unfinished.backup or "").applied
    return ()


def _is_known(parent: Parent, found: DatabaseStatus) -> bool:
    """Tell whether the history is known: it was read, does not exist, or a backup has it."""
    sight = found.sight
    return not sight.exists or sight.history is not None or bool(_known(parent, found))


def still_pending(parent: Parent, found: DatabaseStatus) -> tuple[Entry, ...]:
    """Return what is pending, also while a run has the database to itself."""
    done = {row.identity for row in _known(parent, found)}
    return tuple(entry for entry in found.pending if entry.identity not in done)


# --- what is said of it -----------------------------------------------------


def _facts(
    parent: Parent, found: DatabaseStatus | None, problems: list[Conflict], *, up_to_date: bool
) -> dict[str, Any]:
    from migrator.engine import last_run
    from migrator.inspect.first_run import beside_missing
    from migrator.log.hints import complete
    from migrator.takeover import advice_for

    database = parent.layout.database
    run = last_run.read(parent.layout)
    if run is not None and run.hint is not None:
        # The commands in it are typed where this is read, not where it was written.
        run = replace(run, hint=complete(run.hint, parent.settings))
    return {
        "database": str(database),
        "exists": os.path.exists(database) if found is None else found.sight.exists,
        "up_to_date": up_to_date,
        "format": None if found is None else found.format,
        "running": _running(found),
        "last_run": None if run is None else as_dict(run),
        "history_read": found is not None and _is_known(parent, found),
        "applied": [] if found is None else [_row(row) for row in _known(parent, found)],
        "pending": [] if found is None else pending_facts(still_pending(parent, found)),
        "problems": [
            {"kind": each.kind, "version": each.version, "message": each.message}
            for each in problems
        ],
        "beside": list(beside_missing(parent.layout, found)),
        "hint": advice_for(parent, found),
    }


def _running(found: DatabaseStatus | None) -> dict[str, str] | None:
    if found is None or not found.sight.running:
        return None
    noted = found.sight.unfinished
    if noted is None:
        return {"run_id": "", "phase": "prepare", "since": ""}
    return {"run_id": noted.run_id, "phase": noted.phase, "since": noted.since}


def _row(row: Applied) -> dict[str, str | None]:
    return {"version": row.version, "name": row.name, "applied_at": row.applied_at}


def pending_facts(entries: Sequence[Entry]) -> list[dict[str, str | None]]:
    """Return pending migrations as JSON has them."""
    return [{"version": each.version, "name": each.name, "file": each.file} for each in entries]


def _text(facts: dict[str, Any]) -> str:
    from migrator.inspect.first_run import advice

    exists = "" if facts["exists"] else " (does not exist)"
    lines = [f"Database: {printable(facts['database'])}{exists}"]
    if facts["running"] is not None:
        running = facts["running"]
        lines.append(printable(f"A run is under way: {running['run_id']}, {running['phase']}."))
    rows = [
        (row["version"] or "", row["name"], moment(row["applied_at"] or ""))
        for row in facts["applied"]
    ]
    state = "pending" if facts["history_read"] else "unknown"
    rows += [(row["version"], row["name"], state) for row in facts["pending"]]
    if rows:
        lines += ["", aligned(("VERSION", "NAME", "APPLIED"), rows)]
    counts = f"{len(facts['applied'])} applied, {len(facts['pending'])} pending."
    lines += ["", counts if facts["history_read"] else "What is applied could not be read."]
    lines += _last_run(facts["last_run"])
    lines += advice(facts["beside"], facts["hint"])
    told = dict.fromkeys(each["message"] for each in facts["problems"])
    lines += [printable(f"Problem: {message}") for message in told]
    return "\n".join(lines)


def _last_run(run: dict[str, Any] | None) -> list[str]:
    """Say what the last run did; of one that failed why, and what to do."""
    if run is None:
        return []
    head = f"Last run: {run['command']}, {moment(run['finished_at'])} UTC: {run['outcome']}"
    if run["exit_code"] == 0:
        return [printable(f"{head}.")]
    why = f"{head}, exit code {run['exit_code']} ({run['reason']}). {run['error']}"
    return [printable(line) for line in (why, f"Hint: {run['hint']}") if line != "Hint: "]
