"""Apply a change before anybody can see it, and verify the result."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from migrator.context import Change, Context, Step
from migrator.log.translate import is_damage
from migrator.session.session import Session
from migrator.verify import constraints, proof


def apply_and_verify(
    ctx: Context, change: Change, session: Session, old: Path | None
) -> tuple[Step, ...]:
    """
    Apply a change and check the new state, committing nothing.

    Args:
        ctx: The run.
        change: What is to be done.
        session: Where it is done.
        old: The backup of the old state, None for a first install.

    Raises:
        MigratorError: It failed, or the new state must not be kept.
    """
    with session.engine():
        known = proof.before(ctx, session.conn, old)
    try:
        steps = change.apply(ctx, session, old)
        renames = (pair for step in steps for pair in step.renames)
        with session.engine():
            proof.verify(ctx, change, session.conn, known, renames)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if not is_damage(error):
            raise
        # The old state could be read: it is the new one that cannot.
        raise constraints.unreadable(ctx, error) from error
    return steps
