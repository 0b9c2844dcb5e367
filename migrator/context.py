"""What the steps of one run share."""

from __future__ import annotations

from dataclasses import dataclass, field

from migrator.database.lock import RunLock
from migrator.database.sqlite_locks import SqliteLocks
from migrator.database.workspace import Layout
from migrator.formats.format import History
from migrator.formats.source import Source
from migrator.model import Applied, Emit, Script, Settings
from migrator.parsing import header_pragmas
from migrator.process.state import ProcessStates
from migrator.wait import Deadline


@dataclass(slots=True)
class Progress:
    """
    How far a run has come: all that moves in it.

    Args:
        phase: The phase that it is in.
        began: Whether the first migration, `down` or restore has begun.
        suspect: Whether a migration may have misled SQLite's own checks.
        locks: SQLite's on the live database, while other people's code can take them away.
        counter: What the database's header counted before the run; None where that tells
            nothing.
    """

    phase: str = ""
    began: bool = False
    suspect: bool = False
    locks: SqliteLocks | None = None
    counter: int | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """
    One run on one database.

    `inline` says that it happens in its caller's process (the Python API):
    there the database's file is never opened but by SQLite, because closing
    any other descriptor of it would drop the locks of the caller's own
    connections.
    """

    settings: Settings
    layout: Layout
    source: Source
    emit: Emit
    run_id: str
    deadline: Deadline
    inline: bool = False
    lock: RunLock | None = None
    progress: Progress = field(default_factory=Progress)
    process_states: ProcessStates = field(init=False)

    def __post_init__(self) -> None:
        """Note whose process this is."""
        object.__setattr__(self, "process_states", ProcessStates(worker=not self.inline))

    @property
    def history(self) -> History:
        """The table in which it is noted what is applied; whose it is, a look decides."""
        return self.source.format.history(self.settings.history_table)

    @property
    def lock_is_lost(self) -> bool:
        """Whether somebody has removed the run's lock: our directory may be another run's now."""
        return self.lock is not None and self.lock.lost

    @property
    def undone(self) -> str:
        """What is known of the database once a failed run is undone, as a clause for people."""
        if self.inline or self.settings.in_use != "wait":
            return "what this run had done is undone"
        return "the database is as it was before this run"

    def require_lock(self) -> None:
        """
        Make sure that no other run can have begun beside this one.

        Raises:
            LockedError: The lock was removed.
        """
        if self.lock is not None:
            self.lock.require()


@dataclass(frozen=True, slots=True)
class Batch:
    """
    The migrations of one run, loaded, in the order in which they run.

    `applied` is the history before it; `down` undoes instead of applying; `creates` says that
    there is no database yet.
    """

    scripts: tuple[Script, ...]
    applied: tuple[Applied, ...]
    down: bool = False
    creates: bool = False

    @property
    def transactional(self) -> bool:
        """Whether all of them can run in one transaction."""
        return all(
            script.down_transactional if self.down else script.transactional
            for script in self.scripts
        )

    @property
    def header(self) -> dict[str, str]:
        """What the first file sets before the first table, as SQLite takes it there only."""
        return header_pragmas.leading(self.scripts)

    @property
    def needs(self) -> str:
        """The way that it needs: `in-place`, or `copy` where one transaction is impossible."""
        return "in-place" if self.transactional else "copy"

    @property
    def way(self) -> str:
        """The way that it takes to be atomic: the one that it needs, or `create`."""
        return "create" if self.creates else self.needs
