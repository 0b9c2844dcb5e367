"""What the steps of one run share, and what they ask of the change that it makes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from migrator.database.lock import RunLock
from migrator.database.sqlite_locks import SqliteLocks
from migrator.database.workspace import Layout
from migrator.errors import MigratorError
from migrator.formats.format import History
from migrator.formats.source import Source
from migrator.model import Applied, Emit, Script, Settings
from migrator.process.state import ProcessStates
from migrator.session.recording import RecordingConnection
from migrator.session.session import Session
from migrator.wait import Deadline


@dataclass(slots=True)
class Progress:
    """
    How far a run has come: the only part of its context that changes.

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
    connections. `observer` is told of each migration where the run is a rehearsal.
    """

    settings: Settings
    layout: Layout
    source: Source
    emit: Emit
    run_id: str
    deadline: Deadline
    inline: bool = False
    lock: RunLock | None = None
    observer: Observer | None = None
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
        """Whether the run's lock was removed: our directory may belong to another run now."""
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
class Step:
    """
    What one migration did.

    Args:
        identity: What the history knows it by.
        seconds: How long it took.
        rows_removed: How many rows went, as it had said, per table.
        renames: Old and new name of each table that it renamed, in order.
    """

    identity: str
    seconds: float
    rows_removed: Mapping[str, int]
    renames: tuple[tuple[str, str], ...]


class Observer(Protocol):
    """Who measures what each migration does, from within the worker."""

    def begin(self, ctx: Context, session: Session, old: Path | None) -> None:
        """Begin before the first migration; `old` holds the state of before the run."""

    def started(self, script: Script, session: Session) -> None:
        """Look at the state that a migration finds."""

    def lend(self, conn: RecordingConnection) -> AbstractContextManager[object]:
        """Within, a migration has the connection."""

    def finished(self, script: Script, session: Session, step: Step) -> None:
        """Look at what a migration has made of it; in place, nothing is committed yet."""

    def failed(self, script: Script, session: Session, error: MigratorError) -> None:
        """Look at what a migration has made that is about to be undone."""

    def committed(self) -> None:
        """Look at the files while the database is still held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(ABC):
    """
    What a run does to a database, whichever way makes it atomic.

    Args:
        applied: The history before it.
        undoes: Whether it takes rows out of the history, instead of adding some.
        creates: Whether there is no database yet.
    """

    applied: tuple[Applied, ...]
    undoes: bool = False
    creates: bool = False

    @property
    def reason(self) -> str:
        """What the run and its backup are for."""
        return "down" if self.undoes else "up"

    @property
    def way(self) -> str:
        """The way that it takes to be atomic: the one that it needs, or `create`."""
        return "create" if self.creates else self.needs

    @property
    @abstractmethod
    def needs(self) -> str:
        """The way that it needs: `in-place`, or `copy` where one transaction is impossible."""

    @property
    @abstractmethod
    def header(self) -> Mapping[str, str]:
        """What it sets before the first table, as SQLite takes it there only."""

    @property
    @abstractmethod
    def rows(self) -> tuple[str, ...]:
        """Its rows in the history, spelled as there: recovery looks for them."""

    @abstractmethod
    def apply(self, ctx: Context, session: Session, old: Path | None) -> tuple[Step, ...]:
        """
        Do it, and commit nothing.

        `old` is the backup, None for a first install.
        """

    def ended(self, ctx: Context) -> None:  # noqa: B027 - most have nothing left to do
        """Do what remains once the new state is committed and the database is released."""

    @abstractmethod
    def expected(self) -> Counter[object]:
        """Return what the history is to hold afterwards, by what identifies its rows."""
