"""`migrator baseline`: note as applied what a database has already, running nothing."""

from __future__ import annotations

import contextlib
from functools import partial

from migrator.commands.kinds import Done, Run, done
from migrator.errors import UsageError
from migrator.model import Outcome
from migrator.options.model import Argument, Arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.context import Context
    from migrator.engine.parent import Parent
    from migrator.model import Script


def _baseline(parent: Parent, given: Arguments) -> Done:
    from migrator.engine.expectation import noted
    from migrator.run import in_worker

    version = given["version"]
    work, plan = partial(baseline, version=version), partial(noted, version=version)
    return done("Noted", in_worker(parent, work, plan, settled=True))


COMMAND = Run(
    "baseline VERSION",
    "take an existing database over: note all up to VERSION as applied, run nothing",
    "migrator baseline 004",
    argument=Argument("version", "VERSION", "the last version that the database has"),
    elsewhere=("stamp", "fake", "--fake", "mark", "force"),
    work=_baseline,
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
    from migrator.recovery.phases import enter, uninterrupted
    from migrator.recovery.rollback import as_run_error
    from migrator.strategy.in_place import begin, commit

    with as_run_error(ctx):
        recover(ctx)
        found = look_for_writing(ctx)
        applied = {row.key for row in found.applied}
        noted = [each for each in _up_to(ctx, version) if each.entry.key not in applied]
        if not noted:
            return Outcome("up_to_date")
        with contextlib.closing(open_exclusive(ctx)) as live:
            begin(ctx, live.guard)
            with live.guard.engine():
                ctx.history.prepare(live.conn)
                for script in noted:
                    ctx.history.record(live.conn, script, None, ctx.run_id)
            enter(ctx, "commit")
            with uninterrupted():
                commit(ctx, live.guard)
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
