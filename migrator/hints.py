"""Commands in messages, spelled so that they work where they are read."""

from __future__ import annotations

import shlex

from migrator.model import Settings

_NEEDED = ("--database", "--migrations", "--backup-dir", "--history-table")


def command(settings: Settings, *words: str) -> str:
    """
    Return a `migrator` command line for this database.

    What came as a flag is repeated; what came from the environment is there
    for the command as well. In a container the same words follow
    `docker compose run --rm SERVICE` or `docker run … IMAGE`, because the
    entrypoint executes `migrator` at once.
    """
    return shlex.join(("migrator", *words, *_repeated(settings.given)))


def _repeated(given: tuple[str, ...]) -> tuple[str, ...]:
    pairs = zip(given[::2], given[1::2], strict=True)
    return tuple(word for pair in pairs if pair[0] in _NEEDED for word in pair)
