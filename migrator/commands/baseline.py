"""`migrator baseline`: note as applied what a database has already; find out how much that is."""

from __future__ import annotations

import contextlib
from functools import partial

from migrator.commands.kinds import JSON, Answer, Done, Look, Run, as_json, done
from migrator.errors import UsageError
from migrator.log.hints import command
from migrator.model import Outcome
from migrator.options.model import Argument, Arguments, Option
from migrator.terminal import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from migrator.context import Context
    from migrator.engine.expectation import Expectation
    from migrator.engine.parent import Parent
    from migrator.model import Script


def _baseline(parent: Parent, given: Arguments) -> Done:
    from migrator.run import in_worker

    version, force = given["version"], given["force"]
    plan = partial(_plan, version=version, force=force)
    return done("Noted", in_worker(parent, partial(baseline, version=version), plan, settled=True))


def _plan(parent: Parent, version: str, *, force: bool) -> Expectation:
    """
    Plan what is noted, under the lock.

    Raises:
        UsageError: The database certainly is not at that version.
    """
    from migrator.engine.expectation import noted
    from migrator.takeover import refuse_misfit

    expected = noted(parent, version)
    if not force and _is_news(parent, version):
        refuse_misfit(parent, version)
    return expected


def _is_news(parent: Parent, version: str) -> bool:
    """Tell whether there is such a migration, and it is not noted yet."""
    found = parent.survey()
    key = parent.source.format.key(version)
    return found.sight.exists and any(entry.key == key for entry in found.pending)


def _propose(parent: Parent, given: Arguments) -> Answer:
    """Say which version has the database's schema, or how the nearest differ; write nothing."""
    from migrator.inspect.status import missing
    from migrator.takeover import compare_schema, fitting

    if given["force"]:
        message = "`--force` of `migrator baseline` needs the VERSION that is to be noted."
        raise UsageError(message, hint="Give it: `migrator baseline VERSION --force`.")
    found = parent.survey()
    if not found.sight.exists:
        raise missing(parent.layout)
    compared = compare_schema(parent, code=True)
    hint = fitting(parent, compared.fits) if compared.fits else None
    if hint is None and compared.nearest:
        line = command(parent.settings, "baseline", compared.nearest[0].version)
        hint = f"If the differences do not matter: `{line}`, or another VERSION in its place."
    facts = {
        "database": str(parent.layout.database),
        "version": compared.fits[-1] if compared.fits else None,
        "fits": list(compared.fits),
        "nearest": [
            {"version": each.version, "differences": list(each.differences), "more": each.more}
            for each in compared.nearest
        ],
        "not_run": compared.unrun and {"file": compared.unrun[0], "why": compared.unrun[1]},
        "applied": len(found.applied),
        "hint": hint,
    }
    return as_json(facts) if given["json"] else _text(facts), 0


def _text(facts: dict[str, Any]) -> str:
    lines = []
    if facts["version"] is None:
        lines.append("The database has the schema of no version.")
        for each in facts["nearest"]:
            more = [f"and {each['more']} more differences"] if each["more"] else []
            lines.append(f"{each['version']} differs:")
            lines += [f"  {clause}" for clause in (*each["differences"], *more)]
    if facts["hint"] is not None:
        lines.append(facts["hint"])
    if facts["not_run"] is not None:
        name = facts["not_run"]["file"]
        whose = f"{name} and what comes after it" if name else "The migrations"
        lines.append(f"{whose} could not be compared: {facts['not_run']['why']}.")
    return "\n".join(map(printable, lines))


_FORCE = Option(
    "--force",
    "force",
    "note VERSION also where the database certainly does not have its schema",
    switch=True,
)

_LOOK = Look("baseline", "say which version has its schema", "migrator baseline", answer=_propose)

COMMAND = Run(
    "baseline [VERSION]",
    "take an existing database over: note all up to VERSION as applied, run nothing;"
    " without VERSION, say which one has its schema",
    "migrator baseline 004",
    argument=Argument(
        "version", "VERSION", "the last version that the database has", required=False
    ),
    options=(_FORCE, JSON),
    elsewhere=("stamp", "fake", "--fake", "mark", "force"),
    work=_baseline,
    one_of=("version", "json"),
    look=_LOOK,
)


def baseline(ctx: Context, version: str) -> Outcome:
    """
    Note all migrations up to a version as applied: the worker's half.

    Args:
        ctx: The run.
        version: The last one that the database has; a name for a registry.

    Raises:
        UsageError: There is no such migration.
    """
    from migrator.exclusive import open_exclusive
    from migrator.prepare import look_for_writing
    from migrator.recovery.after_crash import recover
    from migrator.recovery.run_error import as_run_error
    from migrator.strategy.in_place import RunTransaction

    with as_run_error(ctx):
        recover(ctx)
        found = look_for_writing(ctx)
        applied = {row.key for row in found.applied}
        noted = [each for each in _up_to(ctx, version) if each.entry.key not in applied]
        if not noted:
            return Outcome("up_to_date")
        with contextlib.closing(open_exclusive(ctx)) as live:
            transaction = RunTransaction(ctx, live)
            transaction.begin()
            with live.guard.engine():
                ctx.history.prepare(live.conn)
                for script in noted:
                    ctx.history.record(live.conn, script, None, ctx.run_id)
            transaction.commit()
        return Outcome("migrated", tuple(script.entry.identity for script in noted))


def _up_to(ctx: Context, version: str) -> tuple[Script, ...]:
    scripts = ctx.source.scripts()
    key = ctx.source.format.key(version)
    for at, script in enumerate(scripts):
        if script.entry.key == key:
            return scripts[: at + 1]
    known = ", ".join(script.entry.identity for script in scripts[-10:]) or "none"
    message = f"There is no migration {version!r}."
    raise UsageError(message, hint=f"The last ones are: {known}.", data={"version": version})
