"""`migrator restore`: put a backup back, or forget a restore that was interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrator.commands.kinds import Done, Run, done
from migrator.options import types
from migrator.options.model import Argument, Arguments, Option

if TYPE_CHECKING:
    from migrator.context import Context
    from migrator.engine.expectation import Expectation
    from migrator.engine.parent import Parent


def _restore(parent: Parent, given: Arguments) -> Done:
    from migrator.engine import expectation
    from migrator.run import in_worker

    backup, before, abandon = given["backup"], given["before"], given["abandon"]

    def work(ctx: Context) -> dict[str, Any]:
        from migrator.change.restore import restore

        return restore(ctx, backup, before, abandon=abandon)

    def plan(parent: Parent) -> Expectation:
        if abandon:
            return expectation.Expectation(parent)
        return expectation.restored(parent, backup, before)

    result = in_worker(parent, work, plan)
    if abandon:
        return result, "No restore is unfinished; the database is as it was."
    return done("Restored", result)


COMMAND = Run(
    "restore",
    "restore BACKUP|latest|--before VERSION|--abandon",
    "put a backup back, after a backup of what it replaces",
    "migrator restore latest",
    argument=Argument("backup", "BACKUP", "a backup's name or path, or `latest`", required=False),
    options=(
        Option(
            "--before",
            "before",
            "the newest backup from before VERSION was applied",
            metavar="VERSION",
            parse=types.without_nul,
            allowed="the version of a migration",
        ),
        Option(
            "--abandon",
            "abandon",
            "restore nothing, and forget a restore that was interrupted: the database stays",
            switch=True,
        ),
    ),
    one_of=("backup", "before", "abandon"),
    one_needed=True,
    work=_restore,
    mends=True,
)
