"""
What can end a run, one class per outcome that an operator treats differently.

::

    MigratorError                 70  a bug, unless a subclass says otherwise
    ├── UsageError                64  a bad option, variable or argument
    ├── DamagedError              65  the database is damaged or no SQLite file
    ├── NotReadyError             69  volume or database not ready in time
    ├── BackupError               73  no backup could be made
    ├── DiskError                 74  the disk failed
    │   └── OutcomeUnknownError   74  the commit's own fsync failed
    ├── LockedError               75  another run holds the lock
    ├── NoPermissionError         77  no permission on the database
    ├── MisfitError               78  migrations and history do not fit
    │   ├── MissingFileError      78  an applied migration has no file (also a ValueError)
    │   └── MissingDownError      78  a migration has no `down` (also a ValueError)
    ├── MigrationFailedError      80  a migration failed
    │   └── LocksLostError        80  a migration has taken SQLite's locks away
    ├── VerificationError         81  the verification failed
    ├── RestoreError              82  the restore failed; a person is needed
    ├── NotExecutableError       126  the application's command cannot be executed
    ├── CommandNotFoundError     127  the application's command does not exist
    └── InterruptedRunError    128+n  ended by signal n
"""

from __future__ import annotations

from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FAILED_OUTCOMES = ("refused", "failed_restored", "restore_failed", "unknown", "bug")
"""What may have become of a run that an error ended."""

ERROR_LENGTH = 500
"""Exception texts are their authors' words and are cut at this many characters."""

REPORT = "Please report it with the log of this run."
"""The hint of what is a bug in this program."""


class MigratorError(Exception):
    """
    The root of everything this program raises on purpose.

    Args:
        message: A whole sentence: what was being done, to which path, what
            happened, with the offending value.
        hint: What to do next, as a sentence, with a command where one helps.
        reason: A stable slug to alert on, listed in docs/logs.md.
        retryable: Whether the same start may succeed later without a change.
        data: Further facts for the log line (`version`, `file`, `line`,
            `statement`, `problems`, `backup`...). JSON values only.
        outcome: What became of the run, one of `FAILED_OUTCOMES`, where more is known of that
            than its kind and `began` say.

    `began` says whether the run had begun to change the database, None until that is known;
    `applied` how many migrations it has applied nevertheless.
    """

    exit_code = 70
    reason = "bug"
    retryable = False
    began: bool | None = None
    applied = 0

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        reason: str | None = None,
        retryable: bool | None = None,
        data: dict[str, Any] | None = None,
        outcome: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if reason is not None:
            self.reason = reason
        if retryable is not None:
            self.retryable = retryable
        self.data = data or {}
        self.outcome = outcome


class UsageError(MigratorError):
    """A bad option, variable or argument."""

    exit_code = 64
    reason = "usage"


class DamagedError(MigratorError):
    """The database, or a backup, is damaged or no SQLite file."""

    exit_code = 65
    reason = "database.damaged"


class NotReadyError(MigratorError):
    """The volume or the database was not ready in time."""

    exit_code = 69
    reason = "database.not_ready"
    retryable = True


class BackupError(MigratorError):
    """No backup could be made."""

    exit_code = 73
    reason = "backup.failed"


class DiskError(MigratorError):
    """The disk failed (EIO, ENOSPC, EDQUOT, EROFS) outside the making of the backup."""

    exit_code = 74
    reason = "disk.failed"


class OutcomeUnknownError(DiskError):
    """The commit's own fsync failed; the next start finds out what the disk holds."""

    reason = "disk.outcome_unknown"
    retryable = True


class LockedError(MigratorError):
    """Another run holds the lock."""

    exit_code = 75
    reason = "lock.timeout"
    retryable = True


class NoPermissionError(MigratorError):
    """No permission on the database or its directory."""

    exit_code = 77
    reason = "database.permission"


class MisfitError(MigratorError):
    """Migrations and history do not fit."""

    exit_code = 78
    reason = "migrations.misfit"


class MissingFileError(MisfitError, ValueError):
    """An applied migration has no file any more, and the command needs it."""

    reason = "history.missing"


class MissingDownError(MisfitError, ValueError):
    """A migration to undo has no `down`."""

    reason = "migrations.no_down"


class MigrationFailedError(MigratorError):
    """A migration failed; the database is as before."""

    exit_code = 80
    reason = "migration.failed"


class LocksLostError(MigrationFailedError):
    """A migration has taken away what SQLite relies on: its locks, its journal, or the file."""


class VerificationError(MigratorError):
    """The new state did not pass the verification; the database is as before."""

    exit_code = 81
    reason = "verify.failed"


class RestoreError(MigratorError):
    """The old state could not be put back; a person is needed."""

    exit_code = 82
    reason = "restore.failed"


class NotExecutableError(MigratorError):
    """The application's command exists and cannot be executed."""

    exit_code = 126
    reason = "command.not_executable"


class CommandNotFoundError(MigratorError):
    """The application's command does not exist."""

    exit_code = 127
    reason = "command.not_found"


class InterruptedRunError(MigratorError):
    """
    A signal ended the run.

    Args:
        signum: The signal's number; the exit code is 128 + signum.

    Attributes:
        interrupt: The KeyboardInterrupt in the process of the caller, None for a real signal.
    """

    reason = "signal"
    retryable = True
    interrupt: KeyboardInterrupt | None = None

    def __init__(self, signum: int, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint, data={"signal": signum})
        self.signum = signum
        self.exit_code = 128 + signum


def describe(error: BaseException) -> str:
    """Return `TypeName: message`, cut, for any exception, also one whose `str` fails."""
    name, text = said(lambda: type(error).__name__), said(lambda: str(error))
    return (f"{name}: {text}" if text else name)[:ERROR_LENGTH]


def said(say: Callable[[], object]) -> str:
    """Return a text that other people's code makes up: it may raise anything instead."""
    try:
        return str.__str__(say())
    except BaseException:  # noqa: BLE001 - even an error within the error must not hide it
        return "(its text cannot be read)"


WITHIN_A_RUN = "lock.within_a_run"
"""The reason of a run that one of its own migrations has started."""


def within_a_run(error: BaseException) -> LockedError | None:
    """Find, behind an exception, the refusal of a run that a migration has started."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        if isinstance(link, LockedError) and link.reason == WITHIN_A_RUN:
            return link
        seen.add(id(link))
        link = link.__cause__ or link.__context__
    return None
