"""`migrator down`: undo the last migrations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrator.commands.kinds import Done, Run, done
from migrator.options import types
from migrator.options.model import Arguments, Option

if TYPE_CHECKING:
    from migrator.context import Context
    from migrator.engine.parent import Parent


def _down(parent: Parent, given: Arguments) -> Done:
    from migrator.engine.expectation import undone
    from migrator.run import in_worker

    to, steps = given["to"], given["steps"]

    def work(ctx: Context) -> dict[str, Any]:
        from migrator.down import down

        return down(ctx, to, steps)

    result = in_worker(parent, work, lambda parent: undone(parent, to, steps), settled=True)
    return done("Undone", result)


COMMAND = Run(
    "down",
    "down [--to VERSION | --steps N]",
    "undo the last migration, or several",
    "migrator down --to 004",
    options=(
        Option(
            "--to",
            "to",
            "undo what came after VERSION, which stays applied",
            metavar="VERSION",
            parse=types.without_nul,
            allowed="the version of an applied migration",
        ),
        Option(
            "--steps",
            "steps",
            "undo the last N",
            metavar="N",
            parse=types.positive,
            allowed="a whole number, 1 or more",
        ),
    ),
    one_of=("to", "steps"),
    work=_down,
)
