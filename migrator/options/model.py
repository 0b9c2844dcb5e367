"""What an option and a command of either program is; the tables of them drive everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from migrator.errors import UsageError
from migrator.options.types import BadValueError, one_of
from migrator.value import EMPTY, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias


class Option(Value):
    """
    One setting: parsing, `--help` and the reference page all come from it.

    Args:
        flag: The flag, with its dashes.
        field: The name of the value in the program.
        help: What it means, for people.
        metavar: What stands for the value in `--help`; choices need none.
        variable: The environment variable, None for options of one command.
        also: What is read when the variable is not set, for people.
        default: The value when neither flag nor variable is given.
        default_text: The default for people, where `default` does not say it.
        choices: The texts that are allowed, where it is one of a few.
        parse: From text to value; raises `BadValueError`.
        allowed: What is allowed, as it completes "expected ...".
        switch: Whether it takes no value.
    """

    flag: str
    field: str
    help: str
    metavar: str = ""
    variable: str | None = None
    also: str = ""
    default: Any = None
    default_text: str = ""
    choices: tuple[str, ...] = ()
    parse: Callable[[str], Any] | None = None
    allowed: str = ""
    switch: bool = False

    @property
    def source(self) -> str:
        """The variable for people, with its fallback: `MIGRATOR_RUN_AS, else PUID`."""
        return f"{self.variable}, else {self.also}" if self.also else str(self.variable)

    @property
    def value_name(self) -> str:
        """The placeholder of the value in `--help`: `PATH`, `auto|never`."""
        return self.metavar or "|".join(self.choices)

    def read(self, text: str, named: str) -> Any:
        """
        Turn the text of a flag or a variable into the value.

        Args:
            text: The text; no option takes an empty one.
            named: The flag or the variable that it came from, for the message.

        Raises:
            UsageError: The text is not a valid value of this option.
        """
        if not text:
            raise self._bad(text, named, BadValueError("which is empty"))
        try:
            if self.choices and self.parse is None:
                return one_of(text, self.choices)
            return self.parse(text) if self.parse else text
        except BadValueError as error:
            raise self._bad(text, named, error) from error

    def _bad(self, text: str, named: str, error: BadValueError) -> UsageError:
        problem = f", {error.problem}" if error.problem else ""
        msg = f"{named} is {_short(text)}{problem}; expected {self.allows()}."
        hint = error.hint or f"Give {named} as {self.allows()}, or leave it out."
        return UsageError(msg, hint=hint, data={"option": named})

    def allows(self) -> str:
        """Say what is allowed."""
        return self.allowed or " or ".join([", ".join(self.choices[:-1]), self.choices[-1]])


Arguments: TypeAlias = "Mapping[str, Any]"
"""What a command was given, by field: its options and its positional argument."""


class Argument(Value):
    """The positional argument of a command."""

    field: str
    metavar: str
    help: str
    required: bool = True


class Command(Value):
    """
    One command of `migrator`.

    Args:
        usage: Its name with its arguments, as in the contract.
        summary: What it does, in one line.
        example: A command line to copy.
        argument: Its positional argument.
        options: Its own options.
        one_of: Fields of which at most one may be given.
        one_needed: Whether one of them must be given.
        elsewhere: What other tools call it, commands and flags: the hint names this one.
    """

    usage: str
    summary: str
    example: str
    argument: Argument | None = None
    options: tuple[Option, ...] = ()
    one_of: tuple[str, ...] = ()
    one_needed: bool = False
    elsewhere: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The word that is typed."""
        return self.usage.partition(" ")[0]


class Parsed(Value):
    """
    A command line, read but not yet judged by value.

    `values` are the texts of the flags by field, `given` the same as they can
    be typed again, the last of each only. `rest` is the application's command
    line. `command` and `arguments` are the migrator's.
    """

    values: Mapping[str, str]
    given: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()
    help: bool = False
    version: bool = False
    command: Command | None = None
    arguments: Arguments = EMPTY


def _short(text: str) -> str:
    """Quote a text, cut where it is too long for a sentence."""
    return repr(text if len(text) <= 200 else text[:200] + "...")
