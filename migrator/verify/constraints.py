"""
Check the structure of a new state, and the rows that its own constraints forbid.

SQLite lets a migration write such a row only with `ignore_check_constraints`, or if the
migration wrote the constraint into `sqlite_schema`. Rows that were there before, by the
run's backup, do not block it.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from migrator.context import Context
from migrator.database import connecting
from migrator.database.integrity_check import Structural, examine
from migrator.database.uri import database_uri
from migrator.errors import VerificationError
from migrator.sqlite import fold
from migrator.verify import checks

_ROW = re.compile(r"(.+?) in (.*)", re.DOTALL)

Renames = tuple[tuple[str, str], ...]


def structure(
    ctx: Context, conn: sqlite3.Connection, backup: Path | None, renames: Renames
) -> None:
    """
    Check the structure of the new state.

    Args:
        ctx: The run.
        conn: The connection on which it is visible.
        backup: The old state, None for a first install.
        renames: Old and new name of each renamed table.

    Raises:
        VerificationError: There is new damage, or a new row against a constraint.
    """
    check = pragma(ctx)
    found = examine(conn, level(ctx))
    if found.incomplete is not None:
        message = f"SQLite could not finish {check}: {found.incomplete}."
        ctx.emit("verify.finished", message, level="warning", check=check, error=found.incomplete)
    if not found.rows and not found.problems:
        return
    old = _old(ctx, backup)
    _refuse_rows(ctx, conn, found, old, renames)
    # Damage that the old state has too is not the run's doing: it is a warning, below.
    damage = [line for line in found.problems if line not in old.problems]
    if damage:
        text = "; ".join(damage)[:500]
        hint = f"Mend the migration; {ctx.undone}."
        raise failed(ctx, check, text, "verify.structure", hint)
    if found.problems:
        text = "; ".join(found.problems)[:500]
        message = f"{check} found what was there before this run already: {text}."
        ctx.emit("verify.finished", message, level="warning", check=check, error=text)


def level(ctx: Context) -> str:
    """Return how much to check: everything, if a migration may have misled SQLite itself."""
    return "full" if ctx.progress.suspect else ctx.settings.verify


def pragma(ctx: Context) -> str:
    """Return the pragma that checks the structure."""
    return "integrity_check" if level(ctx) == "full" else "quick_check"


def unreadable(ctx: Context, error: Exception) -> VerificationError:
    """Return the error for a new state that SQLite calls damaged before its check does."""
    hint = f"Mend the migration; {ctx.undone}."
    return failed(ctx, pragma(ctx), f"{error}.", "verify.structure", hint)


def failed(ctx: Context, check: str, text: str, reason: str, hint: str) -> VerificationError:
    """Log that a check failed, and return the error."""
    ctx.emit(
        "verify.failed",
        f"The new state failed {check}: {text}",
        level="error",
        check=check,
        error=text,
    )
    message = f"The new state did not pass {check}: {text}"
    return VerificationError(
        message, hint=hint, reason=reason, data={"check": check, "error": text}
    )


def _old(ctx: Context, backup: Path | None) -> Structural:
    """Return the result of the same check for the old state."""
    if backup is None:
        return Structural()
    # Not `mode=ro`: SQLite evaluates CHECK constraints only on a writable connection.
    with contextlib.closing(sqlite3.connect(database_uri(backup), uri=True)) as conn:
        connecting.prepare(conn)
        return examine(conn, level(ctx))


def _refuse_rows(
    ctx: Context, conn: sqlite3.Connection, found: Structural, old: Structural, renames: Renames
) -> None:
    """Refuse new rows against a constraint; warn about the old ones."""
    if not found.rows:
        return
    check = pragma(ctx)
    names = checks.tables(conn, ("table",))
    known: Counter[tuple[str, str]] = Counter()
    for (what, table), count in _per_table(
        old.rows, [*names, *(was for was, _ in renames)]
    ).items():
        known[what, _current(table, renames)] += count
    now = _per_table(found.rows, names)
    more = {each: count - known[each] for each, count in now.items() if count > known[each]}
    if more:
        text = "; ".join(
            f"{what}: {count} more rows of {table!r}" for (what, table), count in more.items()
        )[:500]
        hint = (
            "The migration has left rows that their table's own constraints forbid: mend the rows,"
            " or do without `ignore_check_constraints` and `writable_schema`."
        )
        raise failed(ctx, check, f"{text}.", "verify.constraints", hint)
    text = "; ".join(found.rows)[:500]
    message = f"There are rows that their table's own constraints forbid: {text}."
    ctx.emit("verify.finished", message, level="warning", check=check, error=text)


def _per_table(rows: Mapping[str, int], names: list[str]) -> Counter[tuple[str, str]]:
    """Count by message and folded table name, without the names of columns."""
    known = sorted((fold(name) for name in names), key=len, reverse=True)
    found: Counter[tuple[str, str]] = Counter()
    for line, count in rows.items():
        match = _ROW.fullmatch(line)
        what, place = (match[1], fold(match[2])) if match is not None else (line, "")
        table = next(
            (name for name in known if place == name or place.startswith(f"{name}.")), place
        )
        found[what, table] += count
    return found


def _current(table: str, renames: Renames) -> str:
    """Return the folded name that a table has after all renames."""
    for was, now in renames:
        if fold(was) == table:
            table = fold(now)
    return table
