"""`migrator down`: undo the last migrations."""

from __future__ import annotations

from functools import partial

from migrator.commands.kinds import Done, Run, done
from migrator.options import types
from migrator.options.model import Arguments, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.engine.parent import Parent


def _down(parent: Parent, given: Arguments) -> Done:
    from migrator.down import down
    from migrator.engine.expectation import undone
    from migrator.run import in_worker

    to, steps = given["to"], given["steps"]
    work, plan = partial(down, to=to, steps=steps), partial(undone, to=to, steps=steps)
    return done("Undone", in_worker(parent, work, plan, settled=True))


COMMAND = Run(
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
    elsewhere=("rollback", "revert", "undo", "downgrade"),
    work=_down,
)
