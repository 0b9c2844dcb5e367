"""`migrator down`: undo the last migrations."""

from __future__ import annotations

from functools import partial

from migrator.commands.confirm import YES, asks, confirm
from migrator.commands.kinds import Done, Run, done
from migrator.errors import LockedError
from migrator.options import types
from migrator.options.model import Arguments, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.engine.expectation import Expectation
    from migrator.engine.parent import Parent


def _down(parent: Parent, given: Arguments) -> Done:
    from migrator.down import down
    from migrator.run import in_worker

    to, steps = given["to"], given["steps"]
    plan = partial(_plan, to=to, steps=steps, confirmed=_confirmed(parent, given))
    work = partial(down, to=to, steps=steps)
    return done("Undone", in_worker(parent, work, plan, settled=True))


def _confirmed(parent: Parent, given: Arguments) -> tuple[str, ...] | None:
    """Return what a person agreed to undo; None if nobody was asked."""
    from migrator.engine.expectation import undone

    if not asks(given):
        return None
    names = undone(parent, given["to"], given["steps"]).changed
    if names:
        confirm(
            f"Undo {', '.join(names)} on {parent.layout.database}? The data that goes with it"
            " is then only in a backup."
        )
    return names


def _plan(
    parent: Parent, to: str | None, steps: int | None, confirmed: tuple[str, ...] | None
) -> Expectation:
    """
    Plan what is undone, under the lock.

    Raises:
        LockedError: Another run has changed it since a person agreed to it.
    """
    from migrator.engine.expectation import undone

    expected = undone(parent, to, steps)
    if confirmed is not None and expected.changed != confirmed:
        message = "Another run has changed what is applied since you were asked."
        hint = "Look at it with `migrator status`, and give the command again."
        raise LockedError(message, hint=hint, reason="lock.changed_meanwhile")
    return expected


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
        YES,
    ),
    one_of=("to", "steps"),
    elsewhere=("rollback", "revert", "undo", "downgrade"),
    work=_down,
)
