"""The commands in one table, and the reading of the command line of `migrator`."""

from __future__ import annotations

from collections.abc import Sequence

from migrator.commands import (
    backup,
    backups,
    baseline,
    check,
    completion,
    down,
    new,
    plan,
    rehearse,
    restore,
    status,
    up,
    verify,
)
from migrator.commands.kinds import PROGRAM, Look, Make, Run
from migrator.options import command_line
from migrator.options.model import Command, Parsed
from migrator.options.table import ENGINE_OPTIONS

COMMANDS: tuple[Look | Run | Make, ...] = (
    up.COMMAND,
    status.COMMAND,
    plan.COMMAND,
    rehearse.COMMAND,
    check.COMMAND,
    down.COMMAND,
    new.COMMAND,
    baseline.COMMAND,
    backup.COMMAND,
    backups.COMMAND,
    restore.COMMAND,
    verify.COMMAND,
    completion.command_for(lambda: COMMANDS),
)
BY_NAME = {command.name: command for command in COMMANDS}


def parse(argv: Sequence[str]) -> Parsed:
    """
    Read the command line of `migrator`.

    Returns:
        `command` and `arguments` are set unless `help` or `version` was asked
        for (`command` may be set then). `arguments` has every option and
        positional argument of the command: None or False where not given.

    Raises:
        UsageError: The command line is wrong.
    """
    return command_line.parse_command(argv, ENGINE_OPTIONS, COMMANDS, PROGRAM)


def help_text(command: Command | None = None) -> str:
    """Return the text of `migrator COMMAND --help`, or of `migrator --help`."""
    from migrator.options import usage

    if command is not None:
        return usage.command_help(command, PROGRAM)
    return usage.program_help(
        f"{PROGRAM} [OPTIONS] COMMAND [ARGUMENTS]",
        "Brings a SQLite database up to date, or puts it back: backed up, in one transaction, "
        "verified, and as before when anything fails.",
        ENGINE_OPTIONS,
        examples=("migrator status --database app.db", "migrator up --database app.db"),
        end=f"`{PROGRAM} COMMAND --help` shows an example of each command. A flag beats its "
        "variable, and an empty variable counts as not set. Results go to stdout, logs to stderr.",
        commands=COMMANDS,
    )


def all_help() -> list[tuple[str, str]]:
    """Return each command line that prints help, with what it prints."""
    texts = [(f"{PROGRAM} {each.name} --help", help_text(each)) for each in COMMANDS]
    return [(f"{PROGRAM} --help", help_text()), *texts]
