"""All groups of cases, by the name of their row in the table."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

from tests.corpus import databases, entries, histories, notes, scripts
from tests.corpus.case import Case

ENDLESS = "bits flipped"
MANY = 4000
"""How many cases of a group without an end are all of it."""

GROUPS: dict[str, Callable[[str], Iterator[Case]]] = {
    "header fields": databases.header_cases,
    "types of pages": databases.page_cases,
    "cut ends": databases.cut_cases,
    ENDLESS: databases.flip_cases,
    "schemas": databases.schema_cases,
    "strangers": databases.stranger_cases,
    "journals": databases.journal_cases,
    "migrations": scripts.script_cases,
    "histories": histories.history_cases,
    "state.json": notes.state_cases,
    "backups": notes.backup_cases,
    "links, pipes, devices": entries.entry_cases,
    "links that pass for backups": entries.linked_backup_cases,
}
"""Each group: from a seed to its cases."""


def cases(group: str, seed: str) -> list[Case]:
    """Return a group's cases in an order that the seed decides."""
    found = list(itertools.islice(GROUPS[group](seed), MANY))
    random.Random(f"{seed} {group}").shuffle(found)  # noqa: S311 - nothing secret
    return found
