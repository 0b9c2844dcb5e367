"""Commands in messages, spelled so that they work where they are read."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence

from migrator.errors import DamagedError, MigratorError
from migrator.model import Entry, Settings

_NEEDED = (
    "--database",
    "--migrations",
    "--format",
    "--connect",
    "--backup-dir",
    "--history-table",
)
_COMMAND = r"`(migrator [^`]+)`"
_OPTION = r"`--(?P<name>[a-z-]+)(?: (?P<value>[^` ]+))?`(?: \(MIGRATOR_[^)]*\))?"


def command(settings: Settings, *words: str) -> str:
    """
    Return a `migrator` command line for this database.

    What came as a flag is repeated; what came from the environment is there
    for the command as well. In a container the same words follow
    `docker compose run --rm SERVICE` or `docker run … IMAGE`, because the
    entrypoint executes `migrator` at once.
    """
    import shlex

    return shlex.join(("migrator", *words, *_repeated(settings.given)))


@contextlib.contextmanager
def spelled_out(settings: Settings) -> Iterator[None]:
    """
    Complete the commands in the hint of what is raised within.

    Where an error comes up the flags are often not known (`migrator backups`).
    """
    try:
        yield
    except MigratorError as error:
        error.hint = complete(error.hint, settings)
        raise


def complete(hint: str, settings: Settings) -> str:
    """Add this database's flags to the commands in a text that lack them."""
    import shlex

    flags = shlex.join(_repeated(settings.given))

    def completed(found: re.Match[str]) -> str:
        if not flags or any(f" {flag} " in found[1] for flag in _NEEDED):
            return found[0]
        return f"`{found[1]} {flags}`"

    return re.sub(_COMMAND, completed, hint)


def damaged(settings: Settings, problems: Sequence[str]) -> DamagedError:
    """Return the error of what a structural check has found."""
    message = f"The database is damaged: {'; '.join(problems)[:500]}."
    return DamagedError(
        message, hint=f"`{command(settings, 'backups')}` lists what can be restored."
    )


def perhaps_there(settings: Settings, entry: Entry) -> str:
    """Say how to take over a database that may already have what a migration creates."""
    line = command(settings, "baseline", entry.identity)
    return (
        "Nothing is noted as applied here. If the database already has what"
        f" {entry.label} creates, take it over: `{line}` notes everything up to it as applied"
        " (name a later one if it has more), then start again."
    )


@contextlib.contextmanager
def in_python(settings: Settings) -> Iterator[None]:
    """Complete the commands as `spelled_out` does, and say options as the Python API has them."""
    with spelled_out(settings):
        try:
            yield
        except MigratorError as error:
            error.hint = re.sub(_OPTION, _as_argument, error.hint)
            error.message = re.sub(_OPTION, _as_argument, error.message)
            error.args = (error.message,)
            raise


def _as_argument(found: re.Match[str]) -> str:
    name, value = found["name"].replace("-", "_"), found["value"]
    name = {"database": "db_path", "migrations": "migrations_dir"}.get(name, name)
    return f"`{name}`" if value is None else f'`{name}="{value}"`'


def _repeated(given: tuple[str, ...]) -> tuple[str, ...]:
    pairs = zip(given[::2], given[1::2], strict=True)
    return tuple(word for pair in pairs if pair[0] in _NEEDED for word in pair)
