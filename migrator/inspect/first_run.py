"""What to know before a first run: a database beside a missing one, tables without a history."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from migrator.database.workspace import Layout
from migrator.inspect.beside import databases_beside, told_beside
from migrator.log.hints import command, perhaps_there
from migrator.model import Settings
from migrator.plan import foreign_hint
from migrator.terminal import printable

if TYPE_CHECKING:
    from migrator.inspect.status import DatabaseStatus


def beside_missing(layout: Layout, found: DatabaseStatus | None) -> tuple[str, ...]:
    """Return the databases beside one that the next run would create."""
    if found is None or found.sight.exists or not found.pending:
        return ()
    return databases_beside(layout)


def take_over(settings: Settings, found: DatabaseStatus | None) -> str | None:
    """
    Name `baseline` for a database that has tables, and of which nothing is noted as applied.

    The first pending migration is the one to name: of too late a one, what the database
    lacks would never run, and after too early a one the next run says which is there too.
    """
    if found is None or not (found.sight.has_tables and found.pending):
        return None
    foreign = found.sight.foreign
    if foreign is not None and "foreign" not in settings.accept:
        baseline = partial(command, settings, "baseline")
        return foreign_hint(foreign, found.entries, baseline, found.format)
    return f"The database has tables. {perhaps_there(settings, found.pending[0])}"


def advice(beside: Sequence[str], hint: str | None) -> list[str]:
    """Return the lines for people."""
    lines = [f"The database would be created; {told_beside(beside)}."] if beside else []
    return [printable(line) for line in (*lines, *([hint] if hint else []))]
