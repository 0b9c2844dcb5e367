"""
Every option of the engine, in one table.

Parsing, the messages about bad values, `--help` and the reference page come
from this table. The environment is read here and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from migrator.errors import UsageError
from migrator.model import Settings
from migrator.options import types
from migrator.options.command_line import flags, readable_values
from migrator.options.environment import Ignored
from migrator.options.environment import check_variables as _check_variables
from migrator.options.model import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ENGINE_OPTIONS: tuple[Option, ...] = (
    Option(
        "--database",
        "database",
        "the database: a file path, sqlite:/abs or sqlite:////abs; sqlite:///x means different "
        "files to different tools and is refused",
        metavar="PATH",
        variable="MIGRATOR_DATABASE",
        default_text="none",
        parse=types.database,
        allowed="a file path, sqlite:/absolute/path or sqlite:////absolute/path",
    ),
    Option(
        "--migrations",
        "migrations",
        "a directory, or a registry FILE.py[:FACTORY]",
        metavar="SOURCE",
        variable="MIGRATOR_MIGRATIONS",
        default="migrations",
        parse=types.without_nul,
        allowed="a directory, or a registry FILE.py[:FACTORY]",
    ),
    Option(
        "--format",
        "format",
        "whose migrations these are; auto: by the database's history, else by marks that only one"
        " tool's files have, else ours (native)",
        metavar="NAME",
        variable="MIGRATOR_FORMAT",
        default="auto",
        choices=types.FORMATS,
    ),
    Option(
        "--migrate-command",
        "migrate_command",
        "another tool's command that migrates, run on a work copy, in place of --migrations;"
        " {database} stands for the copy's path, {url} for sqlite:/// and the path",
        metavar="COMMAND",
        variable="MIGRATOR_MIGRATE_COMMAND",
        default=(),
        default_text="none",
        parse=types.words,
        allowed="a command and its arguments, quoted as for a shell",
    ),
    Option(
        "--pending-command",
        "pending_command",
        "says by its exit code whether that command has something to do: 0 no, 1 or more yes",
        metavar="COMMAND",
        variable="MIGRATOR_PENDING_COMMAND",
        default=(),
        default_text="none",
        parse=types.words,
        allowed="a command and its arguments, quoted as for a shell",
    ),
    Option(
        "--app-version",
        "app_version",
        "the application's version: before the first start of each one `--migrate backup` makes a "
        "backup, and of a database that a newer one has used it is not started",
        metavar="TEXT",
        variable="MIGRATOR_APP_VERSION",
        default_text="none",
        parse=types.app_version,
        allowed="a version such as 1.33.0",
    ),
    Option(
        "--connect",
        "connect",
        "connect(conn) of that file registers what the database needs of the application: "
        "functions, collations, tokenizers, extensions",
        metavar="FILE.py",
        variable="MIGRATOR_CONNECT",
        default_text="none",
        parse=types.path,
        allowed="a Python file",
    ),
    Option(
        "--backup-dir",
        "backup_dir",
        "where the backups are kept",
        metavar="DIR",
        variable="MIGRATOR_BACKUP_DIR",
        default_text="`backups` beside the database",
        parse=types.path,
        allowed="a directory",
    ),
    Option(
        "--backup-keep",
        "backup_keep",
        "finished backups to keep; 0: the run's own is deleted once the new state is verified",
        metavar="N",
        variable="MIGRATOR_BACKUP_KEEP",
        default=5,
        parse=types.count,
        allowed="a whole number, 0 or more",
    ),
    Option(
        "--create",
        "create",
        "whether a missing database is a first install; `new`, to be said once: also where backups"
        " lie that only by their path may be its own",
        variable="MIGRATOR_CREATE",
        default="auto",
        choices=("auto", "never", "new"),
    ),
    Option(
        "--wait-timeout",
        "wait_timeout",
        "seconds for volume, database and its exclusive use together, the time spent on the "
        "lock aside; 0: look once",
        metavar="S",
        variable="MIGRATOR_WAIT_TIMEOUT",
        default=60.0,
        parse=types.seconds,
        allowed="seconds as a decimal number without a unit, 0 or more",
    ),
    Option(
        "--lock-timeout",
        "lock_timeout",
        "seconds for another run to finish",
        metavar="S",
        variable="MIGRATOR_LOCK_TIMEOUT",
        default=600.0,
        parse=types.seconds,
        allowed="seconds as a decimal number without a unit, 0 or more",
    ),
    Option(
        "--in-use",
        "in_use",
        "pending migrations while another process has the database open: wait for exclusive "
        "use, or run beside readers in one write transaction (Litestream)",
        variable="MIGRATOR_IN_USE",
        default="wait",
        choices=("wait", "allow"),
    ),
    Option(
        "--accept",
        "accept",
        "misfits between files and history to warn about instead of refusing: changed, "
        "missing, newer, out-of-order, foreign (what looks like the history of another tool)",
        metavar="KIND[,KIND...]",
        variable="MIGRATOR_ACCEPT",
        default=frozenset(),
        default_text="none",
        parse=types.accepted,
        allowed=f"one or more of {', '.join(types.ACCEPTED)}, with commas between them",
    ),
    Option(
        "--history-table",
        "history_table",
        "the table that says which migrations were applied",
        metavar="NAME",
        variable="MIGRATOR_HISTORY_TABLE",
        default="migrations",
        parse=types.table_name,
        allowed="letters, digits, _ and $, not beginning with a digit or sqlite_",
    ),
    Option(
        "--row-guard",
        "row_guard",
        "on: refuse rows lost that the migration did not say it would lose; strict: refuse any "
        "loss without allow_row_loss",
        variable="MIGRATOR_ROW_GUARD",
        default="on",
        choices=("on", "strict", "off"),
    ),
    Option(
        "--verify",
        "verify",
        "structural check before the commit",
        variable="MIGRATOR_VERIFY",
        default="quick",
        choices=("quick", "full"),
    ),
    Option(
        "--rehearse",
        "rehearse",
        "rehearse what is pending on a copy first, and run only what the rehearsal let through",
        variable="MIGRATOR_REHEARSE",
        default=False,
        default_text="false",
        parse=types.truth,
        allowed="true or false",
        switch=True,
    ),
    Option(
        "--log-format",
        "log_format",
        "one JSON object a line, or lines for people",
        variable="MIGRATOR_LOG_FORMAT",
        default_text="json unless stderr is a terminal",
        choices=("json", "console"),
    ),
    Option(
        "--log-level",
        "log_level",
        "the least level that is logged: debug, info, warning or error",
        metavar="LEVEL",
        variable="MIGRATOR_LOG_LEVEL",
        default="info",
        parse=types.level,
        allowed="debug, info, warning or error",
    ),
)

# The engine knows nothing of containers but these names: it leaves them alone
# without a warning, whatever their value.
CONTAINER_VARIABLES = ("MIGRATOR_MIGRATE", "MIGRATOR_MOUNT", "MIGRATOR_RUN_AS")

KNOWN_VARIABLES = frozenset(
    {*CONTAINER_VARIABLES, *(option.variable for option in ENGINE_OPTIONS if option.variable)}
)


def read_environment() -> dict[str, str]:
    """Return the environment; every other function is handed it."""
    return dict(os.environ)


def stderr_is_terminal() -> bool:
    """Tell whether a person may be watching stderr."""
    try:
        return os.isatty(2)
    except OSError:  # pragma: no cover - os.isatty answers False for a closed descriptor
        return False


def wants_colors(environ: Mapping[str, str], *, terminal: bool) -> bool:
    """Tell whether console lines may be coloured (no-color.org; a dumb terminal shows codes)."""
    return terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def check_variables(environ: Mapping[str, str]) -> tuple[Ignored, ...]:
    """
    Look for variables that were meant for either of the two programs.

    Returns:
        Unknown `MIGRATOR_...` variables, to warn about (`settings.ignored`).

    Raises:
        UsageError: A variable that is set is one slip away from one of ours.
    """
    return _check_variables(environ, KNOWN_VARIABLES)


def option_value(option: Option, texts: Mapping[str, str], environ: Mapping[str, str]) -> Any:
    """
    Find the value of one option: the flag's, else the variable's, else the default.

    A flag beats its variable, which is then not even looked at; an empty
    variable counts as not set (compose and Helm write them).

    Raises:
        UsageError: The text that decides is not a valid value of this option.
    """
    if option.field in texts:
        return option.read(texts[option.field], option.flag)
    variable = option.variable or ""
    text = environ.get(variable, "")
    return option.read(text, variable) if text else option.default


def read_given(name: str, value: Any) -> Any:
    """
    Read a value that code gives as its flag would be: what is allowed there is allowed here.

    Args:
        name: The field; one that no option has is left to who takes it.
        value: The value, or the text that its flag takes.

    Raises:
        UsageError: It is not a valid value of this option.
    """
    option = next((each for each in ENGINE_OPTIONS if each.field == name), None)
    if option is None or value is None or (option.default is not None and value == option.default):
        return value
    if isinstance(value, list | tuple) and not value:
        return option.default
    return option.read(_as_text(value), name)


def _as_text(value: Any) -> str:
    """Return what a value is on a command line."""
    if isinstance(value, set | frozenset | list | tuple):
        return ",".join(map(str, value))
    if isinstance(value, float):
        return f"{min(value, types.LONGEST):f}"
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def engine_settings(texts: Mapping[str, str], environ: Mapping[str, str]) -> Settings:
    """
    Join flags, variables and defaults.

    Args:
        texts: What the flags were given, by field (`Parsed.values`).
        environ: The environment.

    Raises:
        UsageError: A bad value, or no database.
    """
    found = {option.field: option_value(option, texts, environ) for option in ENGINE_OPTIONS}
    if found["database"] is None:
        raise _no_database()
    # The log was opened before anything else was read: `log_choice`.
    del found["log_format"]
    return Settings(**found, given=flags(texts, ENGINE_OPTIONS))


def migrations_source(texts: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """
    Find where the migrations are, for `new`, which needs no database.

    Raises:
        UsageError: The text that decides is not a valid value, of this option or another; or a
            command migrates, and nobody would read a file of ours.
    """
    found = {option.field: option_value(option, texts, environ) for option in ENGINE_OPTIONS}
    if found["migrate_command"]:
        msg = f"The migrations are those of a command ({found['migrate_command'][0]})."
        hint = "Make the new one with the tool that the command belongs to."
        raise UsageError(msg, hint=hint, data={"option": "--migrate-command"})
    source: str = found["migrations"]
    return source


def log_choice(texts: Mapping[str, str], environ: Mapping[str, str]) -> tuple[str, str]:
    """
    Find format and level of the log when the settings may be wrong.

    Returns:
        Format and level; the default stands in for a value that is bad.
    """
    chosen = {}
    for option in ENGINE_OPTIONS[-2:]:
        try:
            chosen[option.field] = option_value(option, texts, environ)
        except UsageError:
            chosen[option.field] = option.default
    default = "console" if stderr_is_terminal() else "json"
    return chosen["log_format"] or default, chosen["log_level"]


def log_settings(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[str, str]:
    """Find format and level of the log of `migrator` for a message about wrong arguments."""
    return log_choice(readable_values(argv, ENGINE_OPTIONS, anywhere=True), environ)


def _no_database() -> UsageError:
    msg = "No database is given: neither --database nor MIGRATOR_DATABASE is set."
    hint = "Say where it is, with --database /data/app.db or MIGRATOR_DATABASE=/data/app.db."
    return UsageError(msg, hint=hint, data={"option": "--database"})
