"""
Which statements of a script SQLite may be given in one call: the rows of a dump.

`executescript` of `sqlite3` goes from one statement to the next in C, in half of the time that a
call for each takes. SQLite asks the authorizer about each of them all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from migrator.statement import Statement

_MOST = 64
"""Statements of one call."""
_LONGEST = 4096
"""Characters of one of them; SQLite takes a million at least."""

_HEAD = re.compile(
    r'INSERT INTO (?:[a-z_]\w*|"[^"]+")\s*(?:VALUES\s*)?\(', re.ASCII | re.IGNORECASE
)
"""The beginning of a statement that inserts, to behind the name of its table."""


def batches(statements: Iterable[Statement]) -> Iterator[list[Statement]]:
    """
    Yield statements in order, those in one list that follow each other and insert into one table.

    Of these SQLite's first question to the authorizer is the same, and none asks it twice.
    """
    batch: list[Statement] = []
    head = ""
    for statement in statements:
        text = statement.text
        if head and len(batch) < _MOST and len(text) < _LONGEST and text.startswith(head):
            batch.append(statement)
            continue
        if batch:
            yield batch
        batch = [statement]
        found = _HEAD.match(text) if statement.keyword == "INSERT" else None
        head = found[0] if found is not None and len(text) < _LONGEST else ""
    if batch:
        yield batch
