"""The container's options, joined to the engine's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from entrypoint.identities import RunAs, User, primary_group
from migrator.errors import UsageError
from migrator.model import Settings
from migrator.options.command_line import flags, readable_values, split_command
from migrator.options.environment import Ignored
from migrator.options.model import Option, Parsed
from migrator.options.table import (
    ENGINE_OPTIONS,
    check_variables,
    engine_settings,
    log_choice,
    option_value,
)
from migrator.options.types import BadValueError
from migrator.value import Value

PROGRAM = "entrypoint"

_NUMBER = r"[0-9]{1,10}"
_MAX_ID = 2**32 - 2
"""The kernel's greatest user and group number: 2**32 - 1 means "leave it as it is"."""


class ContainerSettings(Value):
    """
    The entrypoint's settings: flags, then variables, then defaults.

    `run_as` is None when nobody asked for another user. `command` is the
    application's command line, empty for an initContainer. `ignored` are
    variables to warn about.
    """

    engine: Settings
    migrate: str = "run"
    mount: str = "warn"
    run_as: RunAs | None = None
    command: tuple[str, ...] = ()
    ignored: tuple[Ignored, ...] = ()


def _run_as(text: str) -> RunAs:
    """Read `keep`, `UID` or `UID:GID`."""
    if text == "keep":
        return RunAs(None, keep=True)
    user, colon, group = text.partition(":")
    uid = _number(user)
    return RunAs(User(uid, _number(group) if colon else primary_group(uid)))


def _number(text: str) -> int:
    """Read the number of a user or a group."""
    if not re.fullmatch(_NUMBER, text):
        msg = "which is not a number"
        raise BadValueError(
            msg,
            "Names are not looked up, since each image gives them other numbers: "
            "`id -u NAME` and `id -g NAME` print the numbers.",
        )
    if int(text) > _MAX_ID:
        msg = f"and {text} is greater than {_MAX_ID}"
        raise BadValueError(msg)
    return int(text)


MIGRATE = Option(
    "--migrate",
    "migrate",
    "run: run what is pending; wait: write nothing, wait until another run has brought the "
    "database up to date, then exec, else 69; skip: exec at once, touching nothing, with a "
    "warning; backup: for an application that migrates itself: a verified backup before the first "
    "start of each version, then exec, without migrations of ours",
    variable="MIGRATOR_MIGRATE",
    default="run",
    choices=("run", "wait", "skip", "backup"),
)
MOUNT = Option(
    "--mount",
    "mount",
    "what to do when, in a container, the database's directory is not on a volume that lasts: "
    "the container's own layer, tmpfs, an anonymous volume. A file system on which locks do not "
    "work is refused with any of them",
    variable="MIGRATOR_MOUNT",
    default="warn",
    choices=("require", "warn", "ignore"),
)
RUN_AS = Option(
    "--run-as",
    "run_as",
    "started as root: drop to it before the database is touched, and for the app (GID: else the "
    "user's group in /etc/passwd, else the same number); keep: the application starts as root "
    "(s6, gosu), the run itself is done as PUID:PGID, else as the database's owner",
    metavar="UID[:GID]|keep",
    variable="MIGRATOR_RUN_AS",
    also="PUID and PGID",
    default_text="as started",
    parse=_run_as,
    allowed="UID, UID:GID (numbers) or keep",
)
_PUID = Option(
    "",
    "puid",
    "the user's number",
    variable="PUID",
    parse=_number,
    allowed="the number of a user",
)
_PGID = Option(
    "",
    "pgid",
    "the group's number",
    variable="PGID",
    parse=_number,
    allowed="the number of a group",
)


_AFTER = {"connect": (MIGRATE,), "create": (MOUNT,), "verify": (RUN_AS,)}

OPTIONS: tuple[Option, ...] = tuple(
    each for option in ENGINE_OPTIONS for each in (option, *_AFTER.get(option.field, ()))
)
"""All options, in the order of the documented table."""


def parse_arguments(argv: Sequence[str]) -> Parsed:
    """
    Read the entrypoint's own options; `rest` is the application's command line.

    Raises:
        UsageError: An unknown flag, or one without a value.
    """
    return split_command(argv, OPTIONS, PROGRAM)


def read_run_as(texts: Mapping[str, str], environ: Mapping[str, str]) -> RunAs | None:
    """
    Read the user to run as: `--run-as`, its variable, else `PUID` and `PGID`.

    Raises:
        UsageError: The one that counts is not a number, or `PGID` is set without `PUID`.
    """
    asked: RunAs | None = option_value(RUN_AS, texts, environ)
    # Many images set PUID and PGID for their own purposes: both count only without
    # `--run-as`, or with `keep`.
    if asked is not None and not asked.keep:
        return asked
    uid: int | None = option_value(_PUID, {}, environ)
    gid: int | None = option_value(_PGID, {}, environ)
    if uid is None and gid is None:
        return asked
    if uid is None:
        raise _group_alone(environ["PGID"])
    user = User(uid, primary_group(uid) if gid is None else gid)
    return RunAs(user, keep=asked is not None)


def _group_alone(text: str) -> UsageError:
    msg = f"PGID is {text!r} and PUID is not set: a group alone is not a user to run as."
    hint = "Set PUID as well, or unset PGID."
    return UsageError(msg, hint=hint, data={"option": "PGID"})


def container_settings(parsed: Parsed, environ: Mapping[str, str]) -> ContainerSettings:
    """
    Join flags, variables and defaults.

    Args:
        parsed: The parsed command line.
        environ: The environment.

    Raises:
        UsageError: A bad value, no database, or a misspelled variable.
    """
    ignored = check_variables(environ)
    return ContainerSettings(
        engine=engine_settings(parsed.values, environ),
        migrate=option_value(MIGRATE, parsed.values, environ),
        mount=option_value(MOUNT, parsed.values, environ),
        run_as=read_run_as(parsed.values, environ),
        command=parsed.rest,
        ignored=ignored,
    )


def engine_flags(parsed: Parsed) -> tuple[str, ...]:
    """Return the flags that `migrator` takes too, to pass them on."""
    return flags(parsed.values, ENGINE_OPTIONS)


def log_settings(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[str, str]:
    """Return format and level of the log, even if other settings are wrong."""
    return log_choice(readable_values(argv, OPTIONS, anywhere=False), environ)


def information(parsed: Parsed) -> str:
    """Return what `--help` or `--version` prints."""
    from migrator._version import __version__

    return help_text() if parsed.help else f"{PROGRAM} {__version__}"


def help_text() -> str:
    """Return the text of `entrypoint --help`."""
    from migrator.options.usage import program_help

    return program_help(
        "entrypoint [OPTIONS] [--] [COMMAND [ARG...]]",
        "Waits for the volume, backs the SQLite database up, runs the pending migrations, "
        "verifies the result, puts the old database back if anything fails, and then becomes "
        "COMMAND. Without COMMAND it exits 0 when the database is ready (an initContainer).",
        OPTIONS,
        examples=(
            "entrypoint --database /data/app.db --migrations /migrations -- ./server --port 80",
            "entrypoint --database a.db -- entrypoint --database b.db --migrations b -- app",
            "entrypoint migrator restore latest",
        ),
        end="A flag beats its variable, and an empty variable counts as not set. "
        "`migrator --help` shows the commands for status, backups and restore.",
    )
