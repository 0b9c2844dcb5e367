"""Verify a new state before it is committed or published, and read it back afterwards."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from migrator.context import Change, Context
from migrator.database import connecting
from migrator.errors import MisfitError
from migrator.session.recording import RecordingConnection
from migrator.sqlite import fold
from migrator.verify import checks, constraints
from migrator.verify.constraints import failed


@dataclass(frozen=True, slots=True)
class Baseline:
    """
    The violations of foreign keys before a run: they are reported, and do not block it.

    Args:
        orphans: The violations, per table and parent.
        astray: Table and parent of each foreign key whose parent does not exist.
        backup: The database as it was, None for a first install.
    """

    orphans: Mapping[tuple[str, str], int] = field(default_factory=dict)
    astray: frozenset[tuple[str, str]] = frozenset()
    backup: Path | None = None


def before(ctx: Context, conn: sqlite3.Connection, backup: Path | None) -> Baseline:
    """Check the foreign keys before the run; `backup` holds the rest of the old state, if any."""
    if backup is None:
        return Baseline()
    found = checks.foreign_keys(conn).orphans
    if found:
        tables = ", ".join(f"{table} to {parent}: {n}" for (table, parent), n in found.items())
        ctx.emit(
            "verify.finished",
            f"Foreign keys were violated before this run already ({tables}); that does not block.",
            level="warning",
            check="foreign_key_check",
            violations=sum(found.values()),
        )
    return Baseline(found, frozenset(checks.without_parent(conn)), backup)


def verify(
    ctx: Context,
    change: Change,
    conn: sqlite3.Connection,
    known: Baseline,
    renames: Iterable[tuple[str, str]] = (),
) -> None:
    """
    Check the new state: foreign keys, structure, history.

    Args:
        ctx: The run.
        change: What it has done.
        conn: The connection on which it is visible.
        known: What `before` had found.
        renames: Old and new name of each renamed table.

    Raises:
        VerificationError: The new state must not be kept.
    """
    if isinstance(conn, RecordingConnection) and conn.registrations:
        # Whoever opens the database next does not have the functions that migrations registered.
        conn.registrations.take_back(conn, everything=True)
        connecting.prepare(conn)
    moves = tuple(renames)
    check = f"foreign_key_check, {constraints.pragma(ctx)}, history"
    ctx.emit("verify.started", "The new state is being verified.", check=check)
    _foreign_keys(ctx, conn, known, moves)
    constraints.structure(ctx, conn, known.backup, moves)
    _history(ctx, change, conn)
    ctx.emit("verify.finished", "The new state passed its verification.", check=check)


def read_back(ctx: Context, change: Change, conn: sqlite3.Connection) -> None:
    """
    Read the history again after the commit.

    Raises:
        VerificationError: It does not have the run's rows.
    """
    _history(ctx, change, conn)


def _foreign_keys(
    ctx: Context,
    conn: sqlite3.Connection,
    known: Baseline,
    renames: tuple[tuple[str, str], ...],
) -> None:
    _taken_along(ctx, conn, known, renames)
    found = checks.foreign_keys(conn)
    for table, why in found.unchecked.items():
        message = f"SQLite cannot check the foreign keys of {table!r} here: {why}."
        ctx.emit("verify.finished", message, level="warning", check="foreign_key_check", error=why)
    # Only what is new: an application that lives with old orphans must be able to upgrade.
    new = checks.new_orphans(known.orphans, found.orphans, renames)
    if not new:
        return
    tables = "; ".join(
        f"{count} more rows of {table} refer to a row of {parent} that does not exist"
        for (table, parent), count in new.items()
    )
    hint = (
        "Foreign keys are off during the run, so that rebuilding a table does not empty its"
        " children; mend the migration so that every reference holds at its end."
    )
    raise failed(ctx, "foreign_key_check", f"{tables}.", "verify.foreign_keys", hint)


def _taken_along(
    ctx: Context, conn: sqlite3.Connection, known: Baseline, renames: tuple[tuple[str, str], ...]
) -> None:
    """Refuse references that a rename has redirected to a table that was dropped."""
    # `ALTER TABLE t RENAME TO t_old` also changes the `REFERENCES t` of other tables
    # (https://sqlite.org/lang_altertable.html), which then do not refer to the new `t`.
    # While those tables are empty, `foreign_key_check` finds no row.
    there = {fold(name) for name in checks.tables(conn, ("table",))}
    old = {(fold(table), fold(parent)) for table, parent in known.astray}
    found = [
        (table, parent, was)
        for table, parent in sorted(checks.without_parent(conn))
        if (was := _origin(parent, renames)) != fold(parent)
        and was in there
        and (_origin(table, renames), fold(parent)) not in old
    ]
    if not found:
        return
    text = "; ".join(
        f"{table} refers to {parent}, which is gone: it was the name of {was} for a while,"
        " and the renaming has changed the reference along"
        for table, parent, was in found
    )
    hint = (
        "Build the new table under another name, drop the old one, and rename the new one last:"
        " then references stay as they are."
    )
    raise failed(ctx, "foreign_key_check", f"{text}.", "verify.foreign_keys", hint)


def _origin(name: str, renames: tuple[tuple[str, str], ...]) -> str:
    """Return the folded name that a table had before all renames."""
    was = fold(name)
    for old, new in reversed(renames):
        if was == fold(new):
            was = fold(old)
    return was


def _history(ctx: Context, change: Change, conn: sqlite3.Connection) -> None:
    """Compare the history with the rows that it must have after the run."""
    try:
        found: Counter[object] = Counter(ctx.history.keys(conn))
    except MisfitError:  # a migration has given the table another shape
        found = Counter([None])
    if found == change.expected():
        return
    text = "The history does not hold exactly the migrations that were applied."
    hint = "No migration may write to the history's table."
    raise failed(ctx, "history", text, "verify.history", hint)
