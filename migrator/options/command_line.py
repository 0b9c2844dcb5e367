"""
The parser of both command lines, driven by tables of options and commands.

`argparse` accepts abbreviations, ends with code 2 and takes the words behind
the first positional for its own; an entrypoint may do none of that to the
command line of an application.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence

from migrator.errors import UsageError
from migrator.options.model import Command, Option, Parsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HELP_FLAGS = ("--help", "-h")
HELP_COMMAND = "help"
VERSION_FLAG = "--version"


class _Scanner:
    """A place in a command line, and what was read up to there."""

    def __init__(
        self,
        argv: Sequence[str],
        options: Iterable[Option],
        program: str,
        commands: Sequence[Command] = (),
    ) -> None:
        self.words = list(argv)
        self.commands = commands
        self.at = 0
        self.options = {option.flag: option for option in options}
        self.program = program
        self.texts: dict[str, str] = {}
        self.help = False
        self.version = False

    def option(self) -> None:
        """Read the option at this place, with its value."""
        word = self.words[self.at]
        self.at += 1
        flag, equals, text = word.partition("=")
        if flag in HELP_FLAGS or flag == VERSION_FLAG:
            self._without_value(flag, equals)
            self.help |= flag in HELP_FLAGS
            self.version |= flag == VERSION_FLAG
            return
        option = self.options.get(flag)
        if option is None:
            raise self._unknown(flag)
        if option.switch:
            self._without_value(flag, equals)
            text = "true" if option.variable else ""
        elif not equals:
            text = self._next(option)
        elif not text:
            raise _missing(option, "has an empty value")
        self.texts.pop(flag, None)
        self.texts[flag] = text

    def _next(self, option: Option) -> str:
        """Read the word after an option; `--` and our own flags are not values."""
        word = self.words[self.at] if self.at < len(self.words) else "--"
        if word == "--" or self._is_flag(word):
            raise _missing(option, "has no value")
        if not word:
            raise _missing(option, "has an empty value")
        self.at += 1
        return word

    def _is_flag(self, word: str) -> bool:
        flag = word.partition("=")[0]
        return flag in self.options or flag in HELP_FLAGS or flag == VERSION_FLAG

    def _without_value(self, flag: str, equals: str) -> None:
        if equals:
            msg = f"{flag} takes no value, and one was given with '='."
            raise UsageError(msg, hint=f"Write {flag} alone.", data={"option": flag})

    def _unknown(self, flag: str) -> UsageError:
        from migrator.options.suggest import closest

        msg = f"{flag!r} is not an option of {self.program}."
        hint = f"`{self.program} --help` lists the options."
        if meant := called_elsewhere(flag, self.commands):
            hint = f"Did you mean `{self.program} {meant}`? {hint}"
        elif meant := closest(flag, [*self._taken(), "--help", VERSION_FLAG]):
            hint = f"Did you mean {meant}? {hint}"
        return UsageError(msg, hint=hint, data={"option": flag})

    def _taken(self) -> list[str]:
        """Return the flags that may be meant: without those of other commands, if one is named."""
        named = [each for each in self.commands if each.name in self.words] or self.commands
        taken = {option.flag for command in named for option in command.options}
        every = {option.flag for command in self.commands for option in command.options}
        return [flag for flag in self.options if flag in taken or flag not in every]

    def values(self) -> dict[str, str]:
        """Return the texts by field."""
        return {self.options[flag].field: text for flag, text in self.texts.items()}


def _missing(option: Option, what: str) -> UsageError:
    msg = f"{option.flag} {what}; expected {option.allows()}."
    hint = f"Write {option.flag} {option.value_name}."
    return UsageError(msg, hint=hint, data={"option": option.flag})


def split_command(argv: Sequence[str], options: Sequence[Option], program: str) -> Parsed:
    """
    Read the options before an application's command line.

    They end at `--`, or at the first word that does not start with `-`; what
    follows is not looked at.

    Args:
        argv: The words after the program's own name.
        options: The table of options.
        program: The program's name, for messages.

    Raises:
        UsageError: An unknown flag, or one without a value.
    """
    scanner = _Scanner(argv, options, program)
    _leading(scanner)
    rest = tuple(scanner.words[scanner.at :])
    values = scanner.values()
    return Parsed(values, flags(values, options), rest, scanner.help, scanner.version)


def _leading(scanner: _Scanner) -> None:
    """Read options up to `--`, which is read as well, or to the first other word."""
    while scanner.at < len(scanner.words) and scanner.words[scanner.at].startswith("-"):
        if scanner.words[scanner.at] == "--":
            scanner.at += 1
            return
        scanner.option()


def flags(values: Mapping[str, str], options: Sequence[Option]) -> tuple[str, ...]:
    """Return flags that were given as they can be typed again, of `options` only."""
    known = {option.field: option.flag for option in options}
    return tuple(
        word for name, text in values.items() if name in known for word in (known[name], text)
    )


def parse_command(
    argv: Sequence[str],
    options: Sequence[Option],
    commands: Sequence[Command],
    program: str,
) -> Parsed:
    """
    Read a command line of the form PROGRAM COMMAND, with options anywhere in it.

    `--` ends the options: all words behind it are arguments. `help`, alone or before a
    command, is the same as `--help`.

    Returns:
        No command where none was given.

    Raises:
        UsageError: An unknown flag or command, a missing or superfluous
            argument, two options that exclude each other.
    """
    own = {option.flag: option for command in commands for option in command.options}
    scanner = _Scanner(argv, [*options, *own.values()], program, commands)
    words = _anywhere(scanner)
    if words[:1] == [HELP_COMMAND]:
        scanner.help = True
        del words[0]
    command = _find(words, commands, program) if words else None
    general = {name: text for name, text in scanner.values().items() if name in _fields(options)}
    given = flags(general, options)
    arguments: Mapping[str, Any] = {}
    if command is not None and not (scanner.help or scanner.version):
        arguments = _arguments(scanner, words, command)
    return Parsed(general, given, (), scanner.help, scanner.version, command, arguments)


def _fields(options: Iterable[Option]) -> set[str]:
    return {option.field for option in options}


def _anywhere(scanner: _Scanner) -> list[str]:
    """Read all options wherever they stand; return the other words."""
    words: list[str] = []
    while scanner.at < len(scanner.words):
        before = scanner.at
        _leading(scanner)
        ended = scanner.at > before and scanner.words[scanner.at - 1] == "--"
        until = len(scanner.words) if ended else scanner.at + 1
        words += scanner.words[scanner.at : until]
        scanner.at = until
    return words


def _find(words: list[str], commands: Sequence[Command], program: str) -> Command:
    names = {command.name: command for command in commands}
    if words[0] in names:
        return names[words[0]]
    from migrator.options.suggest import closest

    meant = called_elsewhere(words[0], commands) or closest(words[0], names)
    msg = f"{words[0]!r} is not a command of {program}."
    hint = f"Did you mean `{program} {meant}`? " if meant else ""
    raise UsageError(msg, hint=f"{hint}The commands are {', '.join(names)}.")


def called_elsewhere(word: str, commands: Iterable[Command]) -> str | None:
    """Return the command that other tools call `word`, or None."""
    return next((command.name for command in commands if word in command.elsewhere), None)


def _arguments(scanner: _Scanner, words: list[str], command: Command) -> dict[str, Any]:
    """Join a command's positional argument and its own options, all of them present."""
    arguments: dict[str, Any] = {
        option.field: False if option.switch else None for option in command.options
    }
    arguments.update(_own_options(scanner, command))
    arguments.update(_positional(words[1:], command, scanner.program))
    _check_exclusive(arguments, command, scanner.program)
    return arguments


def _own_options(scanner: _Scanner, command: Command) -> dict[str, Any]:
    """Read the options of a command; those of other commands are refused."""
    found: dict[str, Any] = {}
    for flag, text in scanner.texts.items():
        if scanner.options[flag].variable is not None:
            continue
        # Commands may share a flag, each with words of its own about it.
        option = next((each for each in command.options if each.flag == flag), None)
        if option is None:
            msg = f"{flag} is not an option of `{scanner.program} {command.name}`."
            hint = f"Its usage is `{scanner.program} {command.usage}`."
            raise UsageError(msg, hint=hint, data={"option": flag})
        found[option.field] = True if option.switch else option.read(text, flag)
    return found


def _positional(words: list[str], command: Command, program: str) -> dict[str, str | None]:
    """Read a command's positional argument: one at most."""
    most = 1 if command.argument else 0
    usage = f"Its usage is `{program} {command.usage}`; for example `{command.example}`."
    if len(words) > most:
        msg = f"`{program} {command.name}` was given {words[most]!r}, an argument too many."
        raise UsageError(msg, hint=usage)
    if command.argument is None:
        return {}
    if words and (not words[0] or "\0" in words[0]):
        msg = f"{command.argument.metavar} of `{program} {command.name}` is {words[0]!r}."
        raise UsageError(msg, hint=usage)
    if not words and command.argument.required:
        msg = f"`{program} {command.name}` needs {command.argument.metavar}, and none was given."
        raise UsageError(msg, hint=usage)
    return {command.argument.field: words[0] if words else None}


def _check_exclusive(arguments: Mapping[str, Any], command: Command, program: str) -> None:
    given = [name for name in command.one_of if arguments[name] not in (None, False)]
    usage = f"Its usage is `{program} {command.usage}`; for example `{command.example}`."
    if len(given) > 1:
        msg = f"`{program} {command.name}` takes {_both(command, given)}, not both."
        raise UsageError(msg, hint=usage)
    if command.one_needed and not given:
        msg = f"`{program} {command.name}` needs {_both(command, command.one_of)}."
        raise UsageError(msg, hint=usage)


def _both(command: Command, names: Iterable[str]) -> str:
    shown = {option.field: option.flag for option in command.options}
    if command.argument:
        shown[command.argument.field] = command.argument.metavar
    return " or ".join(shown[name] for name in names)


def readable_values(
    argv: Sequence[str], options: Sequence[Option], *, anywhere: bool
) -> dict[str, str]:
    """
    Read what can be read of a command line that has a mistake in it.

    So that the message about the mistake is logged in the format that was
    asked for.

    Args:
        argv: The words after the program's own name.
        options: The table of options.
        anywhere: Whether options may stand behind other words.
    """
    scanner = _Scanner(argv, options, "")
    while scanner.at < len(scanner.words):
        word = scanner.words[scanner.at]
        if word == "--" or not (anywhere or word.startswith("-")):
            break
        if not word.startswith("-"):
            scanner.at += 1
            continue
        # Each try moves on by one word at least, the mistaken one included.
        with contextlib.suppress(UsageError):
            scanner.option()
    return scanner.values()
