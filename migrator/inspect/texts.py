"""What the texts of pending migrations say against a run: nothing of theirs is executed for it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence

from migrator import plan
from migrator.database.workspace import Layout
from migrator.errors import NotReadyError
from migrator.formats.source import Source
from migrator.inspect.database import NeedsRecoveryError, reading
from migrator.inspect.status import DatabaseStatus, refuse_misfits, warn_of
from migrator.log.translate import of_sqlite
from migrator.model import Emit, Script, Settings
from migrator.parsing import header_pragmas
from migrator.parsing.down_markers import refuse_marks
from migrator.parsing.sql_transactions import refuse_unpaired


def fitting(
    settings: Settings, layout: Layout, emit: Emit, source: Source, found: DatabaseStatus
) -> list[Script]:
    """
    Read all files, and return those that are pending, unless they or the applied ones refuse a run.

    Raises:
        MisfitError: A file cannot be parsed, has been changed, or cannot be applied as it is.
    """
    scripts = source.scripts(found.entries)
    refuse_changed(settings, layout, emit, found, scripts)
    return refuse_unfit(layout, found, scripts)


def refuse_changed(
    settings: Settings, layout: Layout, emit: Emit, found: DatabaseStatus, scripts: Sequence[Script]
) -> None:
    """
    Refuse applied files whose text has been changed, or warn, as told.

    Raises:
        MisfitError: One of them, or another misfit that is known.
    """
    problems = plan.changed(scripts, found.applied)
    refuse_misfits(settings, layout, found, (*found.problems, *problems))
    warn_of(problems, emit)


def refuse_unfit(layout: Layout, found: DatabaseStatus, scripts: Sequence[Script]) -> list[Script]:
    """
    Return the pending scripts, unless one cannot be applied to this database as written.

    Args:
        layout: Where the database lies.
        found: What is applied, and what pending.
        scripts: All migrations, in order.

    Raises:
        MisfitError: Something required is missing, or a statement would be ignored, would
            end the run's transaction, or is not meant to be run on the way up.
    """
    from migrator.parsing.scripts import check_requires

    check_requires(scripts, {row.key for row in found.applied})
    pending = {entry.key for entry in found.pending}
    chosen = [script for script in scripts if script.entry.key in pending]
    for script in chosen:
        if script.unfit is not None:
            raise script.unfit
    refuse_marks(chosen)
    refuse_unpaired(chosen)
    if header_pragmas.has_settings(chosen) and found.sight.needs_recovery is None:
        header_pragmas.refuse_ignored(chosen, _settings(layout, found, chosen))
    return chosen


def _settings(layout: Layout, found: DatabaseStatus, scripts: Sequence[Script]) -> dict[str, str]:
    """Return what the database's header has; an empty one's is made by the first files."""
    if not found.sight.bytes:
        with contextlib.closing(sqlite3.connect(":memory:")) as conn:
            return {**_read(conn), **header_pragmas.leading(scripts)}
    path = layout.database
    try:
        with reading(path) as conn:
            return _read(conn)
    except NeedsRecoveryError as error:
        message = f"The database {str(path)!r} cannot be read: {error}."
        raise NotReadyError(message, hint="Start the entrypoint once; it recovers it.") from error
    except sqlite3.Error as error:
        raise of_sqlite(error, path, "while its settings were read", writing=False) from error


def _read(conn: sqlite3.Connection) -> dict[str, str]:
    return {
        name: str(conn.execute(f"PRAGMA {name}").fetchone()[0]) for name in header_pragmas.NAMES
    }
