"""The kinds of commands, and what several of them say."""

from __future__ import annotations

from collections.abc import Callable

from migrator.options.model import Arguments, Command, Option
from migrator.terminal import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.engine.parent import Parent
    from migrator.errors import MigratorError
    from migrator.model import Outcome

PROGRAM = "migrator"

Answer = tuple[str, int]
"""A text for stdout and an exit code."""

Done = tuple["Outcome | MigratorError", str]
"""What came of a run, and the sentence for stdout: of a failure too, where it has one."""

JSON = Option("--json", "json", "print JSON instead of a table", switch=True)


class Look(Command, kw_only=True):
    """A command that only looks at the database."""

    answer: Callable[[Parent, Arguments], Answer]


class Run(Command, kw_only=True):
    """
    A command that changes the database.

    Args:
        work: Does it.
        mends: Whether the database may be missing before it.
        look: What it is without its argument, where it only looks then.
    """

    work: Callable[[Parent, Arguments], Done]
    mends: bool = False
    look: Look | None = None


class Make(Command, kw_only=True):
    """
    A command that needs no database.

    Args:
        make: Gets where the migrations are, and returns a text for stdout.
    """

    make: Callable[[str, Arguments], str]


def as_given(command: Look | Run | Make, given: Arguments) -> Look | Run | Make:
    """Return a command, or the one that it is without its argument."""
    if isinstance(command, Run) and command.look is not None and command.argument is not None:
        return command.look if given[command.argument.field] is None else command
    return command


def done(verb: str, outcome: Outcome) -> tuple[Outcome, str]:
    """Return a run's outcome with the sentence for it: `Applied: 001, 002.`."""
    if outcome.kind == "no_database":
        return outcome, "There is no database yet; it is left to the application."
    if not outcome.changed:
        return outcome, "Nothing to do."
    return outcome, printable(f"{verb}: {', '.join(outcome.changed)}.")


def as_json(facts: object) -> str:
    """Return facts as the text of `--json`."""
    import json

    return json.dumps(facts, indent=2)
