"""The `--help` texts of both programs, from their tables."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from migrator.options.model import Command, Option

_WIDTH = 88
_COLUMN = 32
_LONGEST = 100
"""Columns of a line of usage, which is copied and better left whole."""

STANDARD = (
    ("-h, --help", "show this text and exit"),
    ("--version", "show the version and exit"),
)


def command_help(command: Command, program: str) -> str:
    """Return the `--help` text of a program's command."""
    rows = option_rows(command.options)
    if command.argument:
        rows = [(command.argument.metavar, command.argument.help), *rows]
    summary = command.summary[0].upper() + command.summary[1:] + "."
    return _text(
        f"{program} {command.usage} [OPTIONS]",
        summary,
        ("Arguments", rows),
        examples=(command.example,),
        end=f"`{program} --help` lists the options that every command takes.",
    )


def program_help(
    usage: str,
    about: str,
    options: Sequence[Option],
    *,
    examples: Sequence[str],
    end: str,
    commands: Sequence[Command] = (),
) -> str:
    """
    Return the `--help` text of a program.

    Args:
        usage: The line after "Usage:".
        about: What the program does.
        options: Its table of options.
        examples: Command lines to copy.
        end: What else there is to say.
        commands: Its commands.
    """
    listed = [(command.usage, command.summary) for command in commands]
    where = "Options, before or after the command" if commands else "Options"
    rows = [*option_rows(options), *STANDARD]
    return _text(usage, about, ("Commands", listed), (where, rows), examples=examples, end=end)


def option_rows(options: Iterable[Option]) -> list[tuple[str, str]]:
    """Return each option as its flag with its value, and what there is to say of it."""
    return [(_flag(option), _about(option)) for option in options]


def _flag(option: Option) -> str:
    return f"{option.flag} {option.value_name}".rstrip()


def _about(option: Option) -> str:
    if option.variable is None:
        return option.help
    return f"{option.help} [{option.source}; default: {default_text(option)}]"


def default_text(option: Option) -> str:
    """Say an option's default for people, in plain text."""
    if option.default_text:
        return option.default_text.replace("`", "")
    return f"{option.default:g}" if isinstance(option.default, float) else str(option.default)


def _text(
    usage: str,
    about: str,
    *sections: tuple[str, Sequence[tuple[str, str]]],
    examples: Sequence[str],
    end: str,
) -> str:
    whole = textwrap.fill(
        f"Usage: {usage}", _LONGEST, subsequent_indent="       ", break_on_hyphens=False
    )
    parts = [whole, textwrap.fill(about, _WIDTH)]
    parts += [f"{title}:\n{_table(rows)}" for title, rows in sections if rows]
    title = "Example" if len(examples) == 1 else "Examples"
    parts.append(f"{title}:\n" + "\n".join(f"  {example}" for example in examples))
    parts.append(textwrap.fill(end, _WIDTH))
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(_row(name, about) for name, about in rows)


def _row(name: str, about: str) -> str:
    """Put a name into the first column and its text into the second, below it if too long."""
    filled = textwrap.fill(
        about,
        _WIDTH,
        initial_indent=" " * _COLUMN,
        subsequent_indent=" " * _COLUMN,
        break_on_hyphens=False,
    )
    first = f"  {name}"
    if len(first) < _COLUMN - 1:
        return first + filled[len(first) :]
    return f"{first}\n{filled}"
