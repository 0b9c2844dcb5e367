"""The values that the engine's modules hand to one another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from migrator.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from migrator.statement import Statement
else:
    Protocol = object


class Emit(Protocol):
    """Where the events of a run go: the log, or the pipe to the parent process."""

    def __call__(self, event: str, message: str, *, level: str = "info", **fields: Any) -> None:
        """Send one event; `fields` are JSON values."""


class Settings(Value):
    """
    The engine's settings, from flags, variables and defaults.

    `given` holds the options that came as flags, as they were given
    (`("--database", "/data/app.db")`), so that a printed command works where
    it is read. Times are in seconds.
    """

    database: Path
    migrations: str = "migrations"
    format: str = "auto"
    migrate_command: tuple[str, ...] = ()
    pending_command: tuple[str, ...] = ()
    app_version: str | None = None
    connect: Path | None = None
    backup_dir: Path | None = None
    backup_keep: int = 5
    create: str = "auto"
    wait_timeout: float = 60.0
    lock_timeout: float = 600.0
    in_use: str = "wait"
    accept: frozenset[str] = frozenset()
    history_table: str = "migrations"
    row_guard: str = "on"
    verify: str = "quick"
    rehearse: bool = False
    log_level: str = "info"
    given: tuple[str, ...] = ()


class Section(Value):
    """The `up` or the `down` half of an `.sql` file."""

    statements: tuple[Statement, ...]
    transactional: bool = True


class Entry(Value):
    """
    A migration as its name tells it, before its text has been read.

    `key` is what identifies it: the version's parts as numbers for files
    (`(1,)` for `001`), the name for a registry's. `path` is None for a
    migration registered in code; `shown` is what people call a file whose name
    alone says too little (`up.sql`).
    """

    key: Any
    version: str
    name: str
    path: Path | None = None
    shown: str | None = None
    many: bool = False
    """Whether its file has other migrations as well."""

    @property
    def identity(self) -> str:
        """What VERSION of the commands means: the version, or a registered migration's name."""
        return self.name if self.key == self.name else self.version

    @property
    def file(self) -> str | None:
        """The file's name for people, None for a migration registered in code."""
        if self.shown is not None:
            return self.shown
        return self.path.name if self.path is not None else None

    @property
    def label(self) -> str:
        """What people call it: its file, or its name where one file registers many."""
        if self.path is None:
            return self.name
        named = self.key == self.name and self.name not in (self.path.name, self.path.stem)
        return f"{self.identity} ({self.file})" if self.many or named else str(self.file)


class Script(Value):
    """
    A migration whose text has been read and parsed, ready to run once loaded.

    `up` and `down` are None until a `.py` file has been imported; `.sql` files
    carry sections instead.
    """

    entry: Entry
    checksum: str | None = None
    checksums: frozenset[str] = frozenset()
    """Further ones that a tool takes for the same text: with other line ends."""
    description: str | None = None
    transactional: bool = True
    down_transactional: bool = True
    has_down: bool = False
    requires: tuple[str, ...] = ()
    allow_row_loss: frozenset[str] = frozenset()
    sql_up: Section | None = None
    sql_down: Section | None = None
    down_file: str | None = None
    """What people call the file that undoes it, where that is a file of its own."""
    mark: Statement | None = None
    """A comment that looks like the mark of another tool's section; what is below it would run."""
    up: Callable[..., Any] | None = None
    down: Callable[..., Any] | None = None
    check_before: Callable[..., Any] | None = None
    check_after: Callable[..., Any] | None = None
    wants_cursor: bool = False
    """Whether `up` takes a cursor (a registry's `up_func`) instead of a connection."""
    no_transaction: str = ""
    """What to write so that it runs in no transaction, where that is not what ours say."""
    wants_path: bool = False
    """Whether `up` takes a file (`WorkFile`) that it opens itself: on a copy only."""
    unfit: Exception | None = None
    """Why it cannot be applied here, which is told where it is pending."""

    @property
    def is_code(self) -> bool:
        """Whether it is Python that its author wrote, not SQL alone."""
        return self.sql_up is None

    def with_sql(self, up: Section, down: Section | None, losses: frozenset[str]) -> Script:
        """Return the migration with its statements; `losses` are the tables that may lose rows."""
        return replace(
            self,
            transactional=up.transactional,
            down_transactional=down is None or down.transactional,
            has_down=down is not None,
            allow_row_loss=losses,
            sql_up=up,
            sql_down=down,
        )


def way_of(scripts: Iterable[Script], *, undoes: bool = False) -> str:
    """Return `in-place` where all of them can run in one transaction, else `copy`."""
    together = (each.down_transactional if undoes else each.transactional for each in scripts)
    return "in-place" if all(together) else "copy"


class Applied(Value):
    """One row of the history."""

    key: Any
    version: str | None
    name: str
    applied_at: str | None = None
    checksum: str | None = None
    run_id: str | None = None

    @property
    def identity(self) -> str:
        """What VERSION of the commands means: the version, or a registered migration's name."""
        return self.name if self.key == self.name else str(self.version)


class Outcome(Value):
    """
    How a run ended: as its worker claims, as it was recovered, and as it is reported.

    Args:
        kind: Of a run that did what it was told, what `run.finished` calls it: `migrated`,
            `created`, `up_to_date`... Of one that was recovered: `committed`, `discarded`,
            `restored`, `postponed` (a signal left no time), or `nothing` where none was
            interrupted. After lost locks: `as_before`, or whose pages are there now.
        changed: The migrations that it applied, undid or noted, or the backup that it was
            about, as people call them.
        backup: The path of the backup that it made.
        file: Device and inode of the database that it created.
        method: How a run was undone: by a `rollback`, `discarded`, or by its `backup`.
        identical: Whether the database then equals the backup; None if that was not compared.
        unsettled: What is true instead of "the database is as before", for people.
        hint: What to do next.
    """

    kind: str
    changed: tuple[str, ...] = ()
    backup: str | None = None
    file: tuple[int, ...] | None = None
    method: str | None = None
    identical: bool | None = None
    unsettled: str | None = None
    hint: str | None = None

    @property
    def applied(self) -> int:
        """How many migrations it applied, undid or noted."""
        return 0 if self.kind == "backed_up" else len(self.changed)


class Conflict(Value):
    """One misfit between files and history: `newer`, `missing`, `changed`, `out-of-order`..."""

    kind: str
    version: str
    message: str
