"""`migrator baseline`: note as applied what a database has already, running nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrator.commands.kinds import Done, Run, done
from migrator.options.model import Argument, Arguments

if TYPE_CHECKING:
    from migrator.context import Context
    from migrator.engine.parent import Parent


def _baseline(parent: Parent, given: Arguments) -> Done:
    from migrator.engine.expectation import noted
    from migrator.run import in_worker

    version = given["version"]

    def work(ctx: Context) -> dict[str, Any]:
        from migrator.baseline import baseline

        return baseline(ctx, version)

    result = in_worker(parent, work, lambda parent: noted(parent, version), settled=True)
    return done("Noted", result)


COMMAND = Run(
    "baseline",
    "baseline VERSION",
    "take an existing database over: note all up to VERSION as applied, run nothing",
    "migrator baseline 004",
    argument=Argument("version", "VERSION", "the last version that the database has"),
    work=_baseline,
)
