"""
Find the version whose schema a database has, to take it over.

The parent process asks; a worker builds the schema of each version in memory, and compares. Only
`migrator baseline` without a VERSION runs Python code for that: whoever looks with `status`, or
has a version noted, has been promised that nothing runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from migrator.database import connecting
from migrator.engine.parent import Parent, prepare_worker
from migrator.errors import (
    InterruptedRunError,
    MigrationFailedError,
    MigratorError,
    UsageError,
)
from migrator.formats.opening import open_source
from migrator.inspect.first_run import take_over
from migrator.inspect.schema import read_schema_of
from migrator.inspect.status import DatabaseStatus
from migrator.log.hints import command
from migrator.model import Emit
from migrator.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOST_BYTES = 1 << 20
"""Of migrations that a look runs in memory: `status` is to stay quick."""


class Version(Value):
    """
    A version whose schema is not the database's.

    Args:
        version: VERSION of the commands.
        label: What people call its migration.
        differences: Clauses, the first few.
        more: How many others there are.
        tables: The tables that the database lacks, where the version was asked for.
    """

    version: str
    label: str
    differences: tuple[str, ...] = ()
    more: int = 0
    tables: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """All of the differences as one clause."""
        more = (f"and {self.more} more differences",) if self.more else ()
        return "; ".join((*self.differences, *more))


class Comparison(Value):
    """
    A database beside the schemas of all versions that could be built.

    Args:
        fits: The versions that have exactly its schema, in order.
        nearest: A few that have not, the nearest first.
        asked: The one that was asked for; None where it could not be built.
        unrun: The first migration that could not be run, and why not.
    """

    fits: tuple[str, ...] = ()
    nearest: tuple[Version, ...] = ()
    asked: Version | None = None
    unrun: tuple[str, str] | None = None


def compare_schema(parent: Parent, version: str | None = None, *, code: bool) -> Comparison:
    """
    Compare the database with the schema of each version, writing nothing.

    Args:
        parent: This process.
        version: One that is told of in any case.
        code: Whether migrations that are Python code run for that, in memory.

    Raises:
        MigratorError: The database cannot be read, or a signal came.
    """
    settings, layout = parent.settings, parent.layout
    foreign = parent.survey().sight.foreign
    own = parent.source.format.history(settings.history_table)
    other = foreign.table if foreign is not None else None
    database = read_schema_of(layout.database, {own.table, *own.siblings, other or ""})
    source = open_source(settings, layout.database)
    asked = None if version is None else source.format.key(version)

    def task(_emit: Emit) -> dict[str, Any]:
        import dataclasses

        from migrator.strategy.in_memory import compare_versions

        prepare_worker(layout, settings)
        ctx = parent.context(source, _say_nothing)
        ctx = dataclasses.replace(ctx, settings=replace(settings, row_guard="off"))
        # What the application brings is code too, with which a look runs nothing.
        with connecting.named(settings.connect if code else None):
            return compare_versions(ctx, database, asked, code=code)

    if source.is_code and not code:
        return Comparison(unrun=("", "it is a registry, which is Python code"))
    ending = parent.in_child(task, _say_nothing)
    if ending.error is not None:
        return Comparison(unrun=("", ending.error.message.rstrip(".")))
    if not ending.credible or ending.result is None:
        return Comparison(unrun=("", f"the process that ran them {ending.describe()}"))
    return _read(ending.result)


def _say_nothing(*_: object, **__: object) -> None:
    """Send no event: nothing of this happens to the database."""


def _read(result: dict[str, Any]) -> Comparison:
    """Read what the worker reports."""
    unrun, asked = result.get("unrun"), result.get("asked")
    return Comparison(
        tuple(result["fits"]),
        tuple(map(_version, result["nearest"])),
        None if asked is None else _version(asked),
        None if unrun is None else (unrun["label"], unrun["message"]),
    )


def _version(facts: dict[str, Any]) -> Version:
    return Version(
        facts["version"],
        facts["label"],
        tuple(facts["differences"]),
        facts["more"],
        tuple(facts.get("tables", ())),
    )


# --- what a look says ---------------------------------------------------------------


def advice_for(parent: Parent, found: DatabaseStatus | None) -> str | None:
    """
    Name `migrator baseline` for a database with tables and no history, with the version that fits.

    None for any other database.
    """
    told = take_over(parent.settings, found)
    if told is None or found is None:
        return None
    foreign = found.sight.foreign
    if foreign is not None and "foreign" not in parent.settings.accept:
        return told
    fits = _fits_at_a_glance(parent)
    if fits:
        return f"The database has tables. {fitting(parent, fits)}"
    return f"{told} {how_to_compare(parent)}"


def fitting(parent: Parent, fits: Sequence[str]) -> str:
    """Say how to take over a database whose schema is that of these versions."""
    line = command(parent.settings, "baseline", fits[-1])
    if len(fits) == 1:
        return (
            f"Its schema is that of {fits[0]}: take it over with `{line}`, which notes all up to"
            " it as applied, then start again."
        )
    return (
        f"Its schema is that of {', '.join(fits)}, which differ only in data: take it over with"
        f" `{line}`, or name an earlier one if a later one's data is not there, then start again."
    )


def how_to_compare(parent: Parent) -> str:
    """Name the command that compares."""
    line = command(parent.settings, "baseline")
    return f"`{line}` says how the schema of each version differs from the database's."


def name_the_version(parent: Parent, error: MigrationFailedError) -> None:
    """
    Name the version that the database has, in the hint of a first migration that failed there.

    Args:
        parent: This process.
        error: What ended the run; `otherwise` in its data is the hint without the taking over.
    """
    otherwise = error.data.get("otherwise")
    if not isinstance(otherwise, str):
        return
    # A signal that comes meanwhile ends nothing: the run has failed already.
    with contextlib.suppress(InterruptedRunError):
        if fits := _fits_at_a_glance(parent):
            error.hint = f"The database has tables. {fitting(parent, fits)} Otherwise: {otherwise}"


def _fits_at_a_glance(parent: Parent) -> tuple[str, ...]:
    """Return the versions that fit, where that is known soon and without running code."""
    try:
        entries = parent.source.entries()
        if sum(_size(entry.path) for entry in entries) > _MOST_BYTES:
            return ()
        return compare_schema(parent, code=False).fits
    except InterruptedRunError:
        raise
    except MigratorError:
        return ()


def _size(path: Path | None) -> int:
    try:
        return path.stat().st_size if path is not None else 0
    except OSError:
        return 0


# --- what `migrator baseline VERSION` says --------------------------------------------


def refuse_misfit(parent: Parent, version: str) -> None:
    """
    Refuse a version that the database certainly is not at; warn where it may be.

    Raises:
        UsageError: It is not at that version; the message says how it differs.
    """
    compared = compare_schema(parent, version, code=False)
    asked = compared.asked
    if asked is None or not asked.differences:
        return
    force = command(parent.settings, "baseline", version, "--force")
    message = f"The database does not have the schema of {version}: {asked.told}."
    # A schema that differs is no proof: an application may have made its first tables itself, or
    # an index more. Only another version that fits exactly is, or missing tables; these not
    # beside another tool's history, which is better evidence of what was applied.
    if compared.fits or (asked.tables and parent.survey().sight.foreign is None):
        better = fitting(parent, compared.fits) if compared.fits else how_to_compare(parent)
        hint = f"{better} To note {version} anyway: `{force}`."
        data = {"version": version}
        raise UsageError(message, hint=hint, reason="baseline.misfit", data=data)
    parent.emit(
        "baseline.differs",
        f"{message} It is taken over anyway, so the next migrations may fail.",
        level="warning",
        version=version,
        differences=list(asked.differences),
    )
