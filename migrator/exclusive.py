"""
The live database, held alone: by SQLite's lock against applications.

Two locks, two jobs: the run's own lock keeps other runs away, also while
there is no database; this one keeps out everybody who uses SQLite.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from migrator.context import Context
from migrator.database.raw_file import LiveFile, who_has_open
from migrator.database.uri import database_uri
from migrator.errors import NotReadyError
from migrator.files import remove, sidecars
from migrator.log.translate import is_busy, of_sqlite
from migrator.process import audit_hook
from migrator.session.guard import Guard, open_guard
from migrator.wait import NotYetError, wait_until_ready

T = TypeVar("T")

_MOST_NAMED = 5


@dataclass(slots=True)
class ExclusiveDatabase:
    """
    The live database under this run's lock.

    `raw` is a descriptor of its file that was opened before SQLite opened it
    and is closed after; None where the file may not be opened but by SQLite
    (the Python API), or where others may write (`--in-use allow`). `alone`
    says that nobody else can have it open.
    """

    path: Path
    guard: Guard
    raw: LiveFile | None
    alone: bool

    @property
    def conn(self) -> sqlite3.Connection:
        """The guarded connection."""
        return self.guard.conn

    def close(self) -> None:
        """Give the database back, in the order that keeps SQLite's locks until then."""
        self.guard.close()
        if self.raw is not None:
            self.raw.close()

    def same_as(self, backup: Path) -> bool | None:
        """Tell whether the database's pages equal a backup's; None if they cannot be compared."""
        return None if self.raw is None else self.raw.same_as(backup)

    def whole_file(self) -> LiveFile | None:
        """
        Return the database's file if all of the database is in it, and it may be read.

        It was opened a moment before SQLite opened what stood at that path then.
        """
        if self.raw is None or not self.raw.is_in_place():
            return None
        wal = sidecars(self.path)[0]
        with contextlib.suppress(FileNotFoundError):
            if wal.stat().st_size and not self.checkpoint():
                return None
        return self.raw

    def journal_mode(self) -> str:
        """Return the journal mode in force."""
        with self.guard.engine():
            return str(self.conn.execute("PRAGMA journal_mode").fetchone()[0]).lower()

    def set_journal_mode(self, mode: str) -> None:
        """
        Set the journal mode and look at the answer: the pragma does not raise when it fails.

        Raises:
            NotReadyError: SQLite kept the old mode.
        """
        self.guard.forget_journal()
        with self.guard.engine():
            answer = self.conn.execute(f"PRAGMA journal_mode = {mode}").fetchone()[0]
        if str(answer).lower() != mode.lower():
            message = (
                f"The journal mode of {str(self.path)!r} could not be set to {mode!r};"
                f" it is still {answer!r}."
            )
            hint = "Stop whatever uses the database; the next start sets it."
            raise NotReadyError(message, hint=hint, reason="database.in_use")

    def checkpoint(self) -> bool:
        """
        Move what is committed in the `-wal` into the database's file, and empty it.

        Returns:
            Whether it is empty; beside others a reader may prevent that.
        """
        with self.guard.engine():
            busy = self.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        return not busy


def open_exclusive(
    ctx: Context,
    hint: str = "",
    *,
    alone: bool = False,
    header: Mapping[str, str] | None = None,
) -> ExclusiveDatabase:
    """
    Open the database for this run, waiting within its budget until that is possible.

    Alone, unless `--in-use allow` was said: then beside others, with no lock yet.

    Args:
        ctx: The run.
        hint: What to do where somebody uses it, if `--in-use allow` is no way out.
        alone: Whether it is needed alone, whatever `--in-use` says.
        header: What a database of zero bytes is to have in its header.

    Raises:
        NotReadyError: Somebody else still used it at the end of the budget.
        DamagedError: It is no SQLite database.
    """
    waits = ctx.settings.in_use == "wait"
    hint = hint or (_HINT if waits else STOP_IT)
    alone = alone or waits
    return _waiting(ctx, lambda: _open_once(ctx, hint, header, alone=alone), hint)


def open_to_recover(ctx: Context) -> sqlite3.Connection:
    """
    Open the database for writing like any other program would, which recovers it.

    Raises:
        NotReadyError: Somebody else still had it locked at the end of the budget.
    """
    return _waiting(ctx, lambda: _open_plain_once(ctx.layout.database), STOP_IT)


def with_recovered(ctx: Context, work: Callable[[sqlite3.Connection], T]) -> T:
    """
    Open the database as `open_to_recover` does, and do something short with it.

    Where somebody is in the way of that, it is done again from the start, within the budget.

    Raises:
        NotReadyError: Somebody still was at the end of the budget.
    """

    def once() -> T:
        with contextlib.closing(_open_plain_once(ctx.layout.database)) as conn:
            return work(conn)

    return _waiting(ctx, once, STOP_IT)


def set_journal_mode(conn: sqlite3.Connection, path: Path, mode: str) -> None:
    """
    Set the journal mode and look at the answer: the pragma does not raise when it fails.

    Raises:
        NotYetError: SQLite kept the old mode, since somebody else uses the database.
    """
    answer = str(conn.execute(f"PRAGMA journal_mode = {mode}").fetchone()[0]).lower()
    if answer != mode.lower():
        doing = f" and keeps its journal mode {answer!r} instead of {mode!r}"
        raise in_use(path, STOP_IT, doing)


def _open_plain_once(path: Path) -> sqlite3.Connection:
    conn = sqlite3.connect(database_uri(path), uri=True, timeout=0.2, isolation_level=None)
    try:
        conn.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        conn.close()
        raise
    return conn


def _open_once(
    ctx: Context, hint: str, header: Mapping[str, str] | None, *, alone: bool
) -> ExclusiveDatabase:
    path = ctx.layout.database
    raw = None
    if alone and not ctx.inline:
        with audit_hook.allowed():
            raw = LiveFile.open(path)
    try:
        _require_unopened(raw, hint)
        # SQLite keeps one directory for temporary files in the whole process.
        temporary = None if ctx.inline else ctx.layout.temporary
        guard = open_guard(path, exclusive=alone, temporary=temporary, header=header)
    except BaseException:
        if raw is not None:
            raw.close()
        raise
    live = ExclusiveDatabase(path, guard, raw, alone)
    try:
        if alone:
            live.checkpoint()
            # A killed process has left it. Alone, SQLite keeps the index in its own memory
            # (https://sqlite.org/wal.html#use_of_wal_without_shared_memory), so nobody has it open.
            remove(path.with_name(f"{path.name}-shm"))
    except BaseException:
        live.close()
        raise
    return live


def _require_unopened(raw: LiveFile | None, hint: str) -> None:
    """Raise where another process has the file open, idle as it may be."""
    if raw is not None and raw.lease_free() is False:
        raise in_use(raw.path, hint)


def _waiting(ctx: Context, attempt: Callable[[], T], hint: str) -> T:
    def once() -> T:
        try:
            return attempt()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if is_busy(error):
                raise in_use(ctx.layout.database, hint, inline=ctx.inline) from error
            raise of_sqlite(error, ctx.layout.database, "when it was opened") from error

    ready = "The database is free."
    return wait_until_ready(once, ctx.deadline, ctx.emit, ready=ready, level=None)


def in_use(path: Path, hint: str, doing: str = "", *, inline: bool = False) -> NotYetError:
    """
    Return the error for a database in use, with who uses it if that is visible.

    Args:
        path: The database.
        hint: What to do, where this is a process of our own.
        doing: What was being done, as in " at the commit".
        inline: Whether it is the application's, with connections of its own.
    """
    users = who_has_open(path)
    if users:
        named = ", ".join(f"process {pid} ({name})" for pid, name in users[:_MOST_NAMED])
        who = f"{named} has it open"
    else:
        who = (
            "it is locked, or open in a process that cannot be seen from here"
            " (another container, or another user's)"
        )
        if inline:
            who = (
                "another connection of this process has a transaction open (with"
                f' `in_use="wait"` an idle one is enough in WAL mode), or {who}'
            )
    if inline:
        hint = "End what holds it, or allow more time with `wait_timeout`."
    cause = NotReadyError(
        f"The database {str(path)!r} is in use{doing}: {who}.",
        hint=hint,
        reason="database.in_use",
        data={"users": [{"pid": pid, "command": name} for pid, name in users[:_MOST_NAMED]]},
    )
    return NotYetError(cause)


_HINT = (
    "Stop it before the upgrade (docker compose stop; in Kubernetes `strategy: Recreate`),"
    " allow more time with `--wait-timeout`,"
    " or migrate beside readers with `--in-use allow` (MIGRATOR_IN_USE=allow)."
)
STOP_IT = (
    "Stop it first (docker compose stop; in Kubernetes scale it to 0), or allow more time with"
    " `--wait-timeout`."
)
"""What to do where the database is needed alone, whatever `--in-use` says."""
