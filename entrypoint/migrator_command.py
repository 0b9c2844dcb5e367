"""
The command `migrator`, given to the entrypoint: executed at once, with nothing prepared.

It works while a start is refused. What is the container's own is no matter to it, save
whose files it makes: as root it becomes the user of the runs first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from entrypoint import options, privileges, reachable_python, termination_log
from entrypoint.identities import Identities, owner_of
from entrypoint.volume.users import point_out
from migrator import cli
from migrator.commands.table import parse
from migrator.errors import MigratorError, UsageError
from migrator.files import realpath
from migrator.options.model import Parsed
from migrator.options.table import ENGINE_OPTIONS, option_value

_DATABASE = next(each for each in ENGINE_OPTIONS if each.field == "database")


def run(parsed: Parsed, environ: Mapping[str, str]) -> int:
    """
    Be `migrator` with the entrypoint's flags, then the user's own, which decide.

    Raises:
        UsageError: Who is to run it is said in a wrong way, and this process is root.
        NoPermissionError: Root may not become that user here, or that user not run Python.
    """
    words = [*options.engine_flags(parsed), *parsed.rest[1:]]
    if privileges.is_root():
        _become_user(parsed, words, environ)

    def on_failure(error: MigratorError) -> None:
        # A wrong setting has been said already.
        with contextlib.suppress(MigratorError):
            database = _database(words, environ)
            if database is not None:
                point_out(error, lambda: database, environ)
        termination_log.leave_message(error)

    return cli.main(words, on_failure=on_failure)


def _become_user(parsed: Parsed, words: Sequence[str], environ: Mapping[str, str]) -> None:
    """
    Become the user that the runs are done as, unless the command only prints.

    With `keep` that is the database's owner; where no database is given, as `new`
    needs none, the command stays who started it.
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
    """Tell whether `migrator` prints its help or version, or what is wrong in its words."""
    try:
        read = parse(words)
    except UsageError:
        return True
    return read.help or read.version or read.command is None


def _database(words: Sequence[str], environ: Mapping[str, str]) -> Path | None:
    """Return the resolved path of the given database; None if none or no path was given."""
    try:
        given: Path | None = option_value(_DATABASE, parse(words).values, environ)
    except UsageError:
        return None
    return realpath(given) if given is not None else None
