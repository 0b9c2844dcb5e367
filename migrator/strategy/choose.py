"""Which strategy a change needs: one transaction in place, or a copy where that is impossible."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from migrator.backups.backup import Backup
from migrator.context import Change, Context
from migrator.exclusive import STOP_IT, ExclusiveDatabase
from migrator.session.session import Session


class Strategy(Protocol):
    """What makes a run on an existing database atomic."""

    def hold(self) -> None:
        """Keep others from writing before the backup is made."""

    def session(self, saved: Backup) -> AbstractContextManager[Session]:
        """Within, the change is applied, and nothing of it is visible to others."""

    def commit(self) -> None:
        """Take the one step that counts, all or nothing."""

    def read_back(self) -> None:
        """
        Look at the database once more, before it is released.

        Raises:
            VerificationError: It does not hold what was committed.
        """


def strategy_of(
    ctx: Context, change: Change
) -> tuple[Callable[[Context, ExclusiveDatabase, Change], Strategy], str]:
    """
    Return the strategy, and what to do if the database is in use (empty: the usual hint).

    Raises:
        NotReadyError: It needs the database alone, and `--in-use allow` was said.
    """
    if change.needs == "in-place":
        from migrator.strategy.in_place import InPlace

        return InPlace, ""
    from migrator.strategy.on_copy import OnCopy, refuse_beside_others

    refuse_beside_others(ctx)
    return OnCopy, STOP_IT
