"""
The command `migrator`, given to the entrypoint: it runs at once, without a start.

So it works while a start is refused. Of the container's options only the user
matters: as root it becomes the run's user, so that its files belong to that user.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from entrypoint import options, privileges, reachable_python, termination_log
from entrypoint.identities import Identities, owner_of
from entrypoint.place import add_place
from entrypoint.volume.users import add_users_hint
from migrator import cli
from migrator.commands.table import parse
from migrator.errors import MigratorError, UsageError
from migrator.files import realpath
from migrator.options.model import Parsed
from migrator.options.table import ENGINE_OPTIONS, option_value

_DATABASE = next(each for each in ENGINE_OPTIONS if each.field == "database")


def run(parsed: Parsed, environ: Mapping[str, str]) -> int:
    """
    Run `migrator` with the entrypoint's flags and then the command's own, which win.

    Raises:
        UsageError: The user to run as is not a number, and this process is root.
        NoPermissionError: Root may not become that user here, or that user cannot run Python.
    """
    words = [*options.engine_flags(parsed), *parsed.rest[1:]]
    if privileges.is_root():
        _become_user(parsed, words, environ)

    def on_failure(error: MigratorError) -> None:
        # A wrong setting is the error itself: it has been reported.
        with contextlib.suppress(MigratorError):
            database = _database(words, environ)
            if database is not None:
                add_users_hint(error, database, environ)
        add_place(error, environ)
        termination_log.leave_message(error)

    return cli.main(words, on_failure=on_failure)


def _become_user(parsed: Parsed, words: Sequence[str], environ: Mapping[str, str]) -> None:
    """
    Become the run's user, unless the command only prints.

    If that is the database's owner, a command without a database, such as `new`,
    stays root.
    """
    if _only_prints(words):
        return
    identities = Identities.resolve(options.read_run_as(parsed.values, environ), root=True)
    user = identities.run
    if identities.run_as_owner:
        database = _database(words, environ)
        user = owner_of(database) if database is not None else None
    if user is not None:
        reachable_python.require_python(user)
        privileges.drop(user)


def _only_prints(words: Sequence[str]) -> bool:
    """Tell whether `migrator` only prints: its help, its version, or a mistake in its words."""
    try:
        read = parse(words)
    except UsageError:
        return True
    return read.help or read.version or read.command is None


def _database(words: Sequence[str], environ: Mapping[str, str]) -> Path | None:
    """Return the resolved path of the database; None without a valid one."""
    try:
        given: Path | None = option_value(_DATABASE, parse(words).values, environ)
    except UsageError:
        return None
    return realpath(given) if given is not None else None
