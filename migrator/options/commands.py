"""The commands of `migrator`, in one table, and the reading of its command line."""

from __future__ import annotations

from collections.abc import Sequence

from migrator.options import command_line, types
from migrator.options.model import Argument, Command, Option, Parsed
from migrator.options.table import ENGINE_OPTIONS

PROGRAM = "migrator"

_JSON = Option("--json", "json", "print JSON instead of a table", switch=True)

COMMANDS: tuple[Command, ...] = (
    Command("up", "up", "run what is pending", "migrator up --database app.db"),
    Command(
        "status",
        "status [--json]",
        "show what is applied and what is pending",
        "migrator status --json",
        options=(_JSON,),
    ),
    Command(
        "plan",
        "plan [--json]",
        "show what `up` would do, and the space that it needs",
        "migrator plan",
        options=(_JSON,),
    ),
    Command(
        "check",
        "check",
        "exit 0 when up to date, 1 when migrations are pending (for health checks)",
        "migrator check",
    ),
    Command(
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
    ),
    Command(
        "new",
        "new NAME [--sql]",
        "make the file of a new migration and print its path",
        "migrator new add_email --sql",
        argument=Argument("name", "NAME", "what the migration does, in words"),
        options=(Option("--sql", "sql", "an .sql file instead of a .py file", switch=True),),
    ),
    Command(
        "baseline",
        "baseline VERSION",
        "take an existing database over: note all up to VERSION as applied, run nothing",
        "migrator baseline 004",
        argument=Argument("version", "VERSION", "the last version that the database has"),
    ),
    Command(
        "backups",
        "backups [--json]",
        "list the backups, newest first",
        "migrator backups",
        options=(_JSON,),
    ),
    Command(
        "restore",
        "restore BACKUP|latest|--before VERSION|--abandon",
        "put a backup back, after a backup of what it replaces",
        "migrator restore latest",
        argument=Argument(
            "backup", "BACKUP", "a backup's name or path, or `latest`", required=False
        ),
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
    ),
    Command(
        "verify",
        "verify",
        "check structure, foreign keys, history and every backup",
        "migrator verify",
    ),
)


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
