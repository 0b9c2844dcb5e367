"""
Check a database's directory, and the database as a file, on any machine.

What cannot pass ends at once with its own error; what can still pass is a
`NotYetError`, for `wait_until_ready` to repeat. Looking creates and writes
nothing: a place that is looked at stays as it was. Mounts are the
entrypoint's business (`entrypoint.volume.checks`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from migrator import access
from migrator.errors import DamagedError, DiskError, MigratorError, NotReadyError, UsageError
from migrator.files import realpath, sidecars
from migrator.terminal import quote
from migrator.wait import Deadline, NotYetError, wait_until_ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.backups.backup import Backup
    from migrator.database.workspace import Layout
    from migrator.model import Emit, Settings

_GONE = frozenset({errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.ENODEV})
_OTHER_REASONS = ("restore", "manual", "start")
"""Of what made a backup that `latest` does not mean."""
_NAMED = 3
"""How many of what a database has left behind are named."""
_NAME_MAX = 255
"""Bytes of a name on any file system of Linux (path_resolution(7))."""

_DENIED = frozenset({errno.EACCES, errno.EPERM})


def wait_for(
    layout: Layout, settings: Settings, deadline: Deadline, emit: Emit, *, restoring: bool = False
) -> None:
    """
    Wait until the place of the database is one that a run can work in.

    Args:
        layout: The database's paths.
        settings: Whether a missing database is a first install.
        deadline: The budget.
        emit: Gets `volume.waiting` before each pause.
        restoring: Whether a missing database is what is to be mended.

    Raises:
        NotReadyError: It is not, at the end of the budget or for ever.
        DamagedError: Something else is at the database's path.
        NoPermissionError: The database may not be read or written.
    """

    def look() -> None:
        with translated_errors(layout.database.parent):
            check_directory(layout.database.parent)
            if check_file(layout.database):
                access.require_readable(layout.database)
            if not restoring and not os.path.lexists(layout.state):
                check_not_lost(layout.database, layout.backup_dir, settings.create)

    wait_until_ready(look, deadline, emit)


def check_directory(directory: Path) -> None:
    """Wait for a directory that is missing, or whose parent is."""
    try:
        found = os.stat(directory)
    except FileNotFoundError:
        msg = f"The directory {str(directory)!r} does not exist."
        hint = f"Mount a volume there, or make it: `mkdir -p {quote(str(directory))}`."
        raise NotYetError(
            NotReadyError(msg, hint=hint, reason="volume.directory_missing")
        ) from None
    if not stat.S_ISDIR(found.st_mode):
        raise _no_directory(directory)


def refuse_no_directory(directory: Path) -> None:
    """
    Refuse a path that is not a directory; a missing directory is not an error.

    Raises:
        MigratorError: It is not a directory, or cannot be looked at.
    """
    with translated_errors_at_once(directory), contextlib.suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.stat(directory).st_mode):
            raise _no_directory(directory)


def check_file(database: Path) -> bool:
    """
    Refuse anything but a plain file with one name.

    Returns:
        Whether the database exists.
    """
    _refuse_long_name(database)
    try:
        found = os.stat(database)
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode):
        raise no_file(database, found.st_mode)
    refuse_odd_sidecars(database)
    links = found.st_nlink - _own_links(database, found)
    if links > 1:
        msg = (
            f"{str(database)!r} has {links} hard links: SQLite keeps the journal beside one name"
            " only, and a process that opens another one damages the database."
        )
        hint = (
            f"Find the others with `find / -xdev -samefile {quote(str(database))}` and remove them."
        )
        raise NotReadyError(msg, hint=hint, reason="database.hard_links", retryable=False)
    return True


def no_file(database: Path, mode: int) -> DamagedError:
    """Return the error of something else than a file in the database's place."""
    msg = f"{str(database)!r} is {_type(mode)}, where the database file should be."
    if stat.S_ISDIR(mode):
        hint = "Name the file in `--database` (MIGRATOR_DATABASE), not its directory."
        return DamagedError(msg, hint=hint, reason="database.is_directory")
    return DamagedError(msg, hint="Name a regular file.", reason="database.not_a_file")


def _refuse_long_name(database: Path) -> None:
    longest = f"{database.name}.migrator"
    if len(os.fsencode(longest)) > _NAME_MAX:
        msg = (
            f"The name of {str(database)!r} is too long: the names of the files beside it,"
            f" such as '….migrator', would be longer than {_NAME_MAX} bytes."
        )
        hint = "Rename the database."
        raise NotReadyError(msg, hint=hint, reason="volume.unusable", retryable=False)


def refuse_odd_sidecars(database: Path) -> None:
    """
    Refuse a sidecar that is not a plain file: SQLite would wait forever on a pipe.

    Raises:
        NotReadyError: It is a link, a pipe or a directory.
    """
    for path in sidecars(database):
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(os.lstat(path).st_mode):
                from migrator.file_errors import kind_of, unsafe_entry

                raise unsafe_entry(
                    path, kind_of(path), "a file that SQLite keeps beside the database"
                )


def check_not_lost(database: Path, backup_dir: Path, create: str) -> None:
    """Wait where a database that is missing, or has zero bytes, is not a first install."""
    try:
        if os.stat(database).st_size:
            return
        # A valid empty database, unless backups or a `-wal` have another state of it. SQLite
        # deletes that `-wal` with the first access.
        what = "has zero bytes"
    except FileNotFoundError:
        what = "does not exist"
        if create == "never":
            msg = f"{str(database)!r} does not exist, and `--create never` forbids to create it."
            hint = f"{_what_is_there(database)} For a first install leave `--create` at `auto`."
            raise NotYetError(NotReadyError(msg, hint=hint, reason="database.missing")) from None
    found = orphaned_files(database, backup_dir, create)
    if not found:
        return
    msg = (
        f"{str(database)!r} {what}, but {str(found[0])!r} is there: a database was here,"
        " so this is not a first install."
    )
    hint = _bring_back(database, backup_dir, found)
    data = {"found": [str(path) for path in found]}
    raise NotYetError(NotReadyError(msg, hint=hint, reason="database.missing", data=data))


def _what_is_there(database: Path) -> str:
    """Suggest what a person may have meant, from what is in the directory."""
    from migrator.database.workspace import Layout
    from migrator.inspect.beside import databases_beside, told_beside

    # By their names alone: this may be an application's own process.
    beside = databases_beside(Layout(database, database.parent), open_them=False)
    if beside:
        told = told_beside(beside)
        return f"{told[0].upper()}{told[1:]}."
    with contextlib.suppress(OSError):
        if not os.listdir(database.parent):
            return "Its directory is empty: is the left side of `-v` right, or the volume's name?"
    return "Check that the right volume is mounted."


def orphaned_files(database: Path, backup_dir: Path, create: str = "auto") -> tuple[Path, ...]:
    """
    Return what a database leaves behind: `-wal`, `-journal` and its finished backups.

    Raises:
        MigratorError: Whose the backups are cannot be read.
    """
    wal, journal = (Path(f"{database}{suffix}") for suffix in ("-wal", "-journal"))
    emptied = os.path.lexists(database)
    if emptied:
        # Nothing that is as empty, nor a `-journal`: a first transaction that was cut off
        # leaves one beside zero bytes.
        left = [wal] if os.path.lexists(wal) and os.stat(wal).st_size else []
    else:
        left = [path for path in (wal, journal) if os.path.lexists(path)]
    # `new` says that backups which match by their path alone are another database's.
    backups = _backups_left(database, backup_dir, certain=create == "new")
    return (*left, *(each.path for each in backups if each.bytes or not emptied))


def _backups_left(database: Path, backup_dir: Path, *, certain: bool) -> list[Backup]:
    """Return the finished backups that are, or by their path may be, a lost database's."""
    from migrator.backups import owner
    from migrator.backups.catalog import read_backups
    from migrator.database.workspace import Layout

    layout = Layout(database, realpath(backup_dir))
    try:
        backups = owner.of_this(layout, read_backups(layout, strict=True))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    if certain:
        backups = [each for each in backups if owner.is_certain(layout, each)]
    return list(reversed(backups))


def _bring_back(database: Path, backup_dir: Path, found: tuple[Path, ...]) -> str:
    """Say how to get a missing database back, or past what it seems to have left behind."""
    how = _how_to_restore(database, backup_dir) if found[-1].suffix == ".db" else ""
    if found and not orphaned_files(database, backup_dir, "new"):
        # Never to be moved: another database may be in use whose backups they are.
        return (
            f"Bring the database back{how}. Or, if this is another database than the one of those"
            " backups, which has the same path, say so once: `migrator up --create new`."
        )
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    named = ", ".join(repr(str(path)) for path in found[:_NAMED])
    return f"Bring the database back{how}, or move {named}{more} away to begin anew."


def _how_to_restore(database: Path, backup_dir: Path) -> str:
    from migrator.backups.find import newest_backup
    from migrator.database.workspace import Layout

    layout, which = Layout(database, realpath(backup_dir)), "latest"
    try:
        if (
            newest_backup(layout) is None
            and (other := newest_backup(layout, _OTHER_REASONS)) is not None
        ):
            which = quote(other.name)
    except UsageError as error:
        return f" ({error.hint.rstrip('.')})"
    return f" (`migrator backups`, `migrator restore {which}`)"


def _type(mode: int) -> str:
    kinds = (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((name for test, name in kinds if test(mode)), "no regular file")


def _own_links(database: Path, found: os.stat_result) -> int:
    """Count the names in our own directory: a first install that was cut off leaves one."""
    if found.st_nlink == 1:
        return 0
    ours = f"{database}.migrator"
    with contextlib.suppress(OSError), os.scandir(ours) as entries:
        return sum(entry.inode() == found.st_ino for entry in entries)
    return 0


def _no_directory(directory: Path) -> NotReadyError:
    msg = f"{str(directory)!r} is not a directory, or one of its parents is not."
    hint = "Check `--database` (MIGRATOR_DATABASE)."
    return NotReadyError(msg, hint=hint, reason="volume.no_directory", retryable=False)


@contextlib.contextmanager
def translated_errors(directory: Path) -> Iterator[None]:
    """Translate what the system says of a place that cannot be looked at."""
    try:
        yield
    except NotADirectoryError as error:
        raise _no_directory(directory) from error
    except OSError as error:
        raise _failure(directory, error) from error


@contextlib.contextmanager
def translated_errors_at_once(directory: Path) -> Iterator[None]:
    """Translate as `explained` does, where nothing is waited for."""
    try:
        with translated_errors(directory):
            yield
    except NotYetError as error:
        raise error.cause from error.__cause__


def _failure(directory: Path, error: OSError) -> MigratorError:
    path = str(error.filename or directory)
    text = f"{path!r} cannot be accessed: {error.strerror}."
    if error.errno in _DENIED:
        return NotYetError(access.denied(Path(path), "may not be accessed"))
    if error.errno in _GONE:
        hint = "The volume's server does not answer, or the mount is stale: mount it again."
        return NotYetError(NotReadyError(text, hint=hint, reason="volume.stale"))
    if error.errno == errno.EIO:
        return DiskError(text, hint="Check the volume and its disk.")
    hint = "Check the path that was given (`--database`, `--backup-dir`), and its volume."
    return NotReadyError(text, hint=hint, reason="volume.unusable", retryable=False)
