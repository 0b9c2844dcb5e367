"""The files of this program beside a database: their paths, owner and mode."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from migrator.errors import UsageError
from migrator.files import (
    Ownership,
    create_file,
    fsync_directory,
    make_directory,
    realpath,
    remove,
    sidecars,
    temporary_name,
)
from migrator.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.model import Settings


_NAME_MAX = 255
_PATH_MAX = 4096
"""Bytes of a name, and of a path, on Linux (path_resolution(7))."""
_KEPT = ("lock", "state.json", "last_run.json", ".gitignore")


class Layout(Value):
    """The paths that belong to one database; `database` and `backup_dir` are resolved."""

    database: Path
    backup_dir: Path

    @classmethod
    def of(cls, settings: Settings) -> Layout:
        """
        Resolve the paths of `settings`, creating nothing.

        Raises:
            UsageError: The backups would lie in `app.db.migrator/`, where work files are deleted,
                or in the database's place; or no directory can be called so.
        """
        database = realpath(settings.database)
        wanted = settings.backup_dir or database.parent / "backups"
        # A dangling link stays unresolved: creating the directory is then refused, where
        # following the link would make one where it points.
        dangling = os.path.islink(wanted) and not os.path.isdir(wanted)
        resolved = realpath(wanted)
        if settings.backup_dir is not None:
            _refuse_impossible(wanted, resolved, database)
        layout = cls(database, wanted.absolute() if dangling else resolved)
        if _is_within(resolved, layout.home):
            raise _in_our_own(wanted, layout)
        return layout

    @property
    def home(self) -> Path:
        """The directory `app.db.migrator/` beside the database."""
        return self.database.parent / (self.database.name + ".migrator")

    @property
    def lock(self) -> Path:
        """The empty file that the only run holds locked."""
        return self.home / "lock"

    @property
    def state(self) -> Path:
        """The run's note, for the start after a crash."""
        return self.home / "state.json"

    @property
    def last_run(self) -> Path:
        """How the last run ended; `migrator.engine.last_run` writes it."""
        return self.home / "last_run.json"

    @property
    def identity(self) -> Path:
        """The database's id; `migrator.backups.database_id` says why it has a directory."""
        return self.home / "identity" / "id"

    @property
    def started(self) -> Path:
        """Which version of the application was started last (`migrator.database.started`)."""
        return self.home / "application" / "started"

    @property
    def commanded(self) -> Path:
        """What `--migrate-command` left when it ran last (`migrator.database.commanded`)."""
        return self.home / "application" / "commanded.json"

    @property
    def work(self) -> Path:
        """The copy that way B migrates."""
        return self.home / "work.db"

    @property
    def new(self) -> Path:
        """A first install before it is put in place."""
        return self.home / "new.db"

    @property
    def failed(self) -> Path:
        """The directory that keeps the last database that a restore replaced."""
        return self.home / "failed"

    @property
    def temporary(self) -> Path:
        """Where SQLite may put its temporary files."""
        return self.home


def _is_within(directory: Path, home: Path) -> bool:
    """Tell whether a directory, which need not exist, would lie inside another."""
    above = (directory, *directory.parents)
    # By name first: `home` need not exist yet.
    if realpath(home) in above:
        return True
    with suppress(OSError):
        ours = os.stat(home)
        # It may have another name there: of a bind mount, or in another case.
        for path in above:
            with suppress(OSError):
                if os.path.samestat(os.stat(path), ours):
                    return True
    return False


def _in_our_own(wanted: Path, layout: Layout) -> UsageError:
    msg = (
        f"The backup directory {str(wanted)!r} is inside {str(layout.home)!r}, where this program"
        " keeps its work files and deletes what a run has left."
    )
    better = layout.database.parent / "backups"
    hint = (
        "Name another one in `--backup-dir` (MIGRATOR_BACKUP_DIR), such as"
        f" {str(better)!r}, and move its backups there."
    )
    return UsageError(msg, hint=hint)


def _refuse_impossible(wanted: Path, resolved: Path, database: Path) -> None:
    """Refuse a backup directory that would stand in a file's way, or can have no such name."""
    if taken := {database, *sidecars(database)}.intersection((resolved, *resolved.parents)):
        why = f"is, or lies in, {str(taken.pop())!r}, which is the database's"
    elif any(len(os.fsencode(name)) > _NAME_MAX for name in resolved.parts):
        why = f"has a name of more than {_NAME_MAX} bytes"
    elif len(os.fsencode(resolved)) > _PATH_MAX - _NAME_MAX:
        why = f"is a path of more than {_PATH_MAX - _NAME_MAX} bytes"
    else:
        return
    shown, better = str(wanted)[:_NAME_MAX], database.parent / "backups"
    msg = f"The backup directory {shown!r} {why}."
    hint = f"Name another one in `--backup-dir` (MIGRATOR_BACKUP_DIR), such as {str(better)!r}."
    raise UsageError(msg, hint=hint)


def like_database(layout: Layout) -> Ownership:
    """
    Return owner, group and mode for this program's files: the database's, or less.

    If the database does not exist yet, its directory is the model, and the modes are at
    most what SQLite itself would create (0644 less the umask).

    Raises:
        OSError: Neither the database nor its directory can be looked at.
    """
    try:
        found, ceiling = layout.database.stat(), 0o666
        if _has_acl(layout.database):
            # With an ACL the group bits are its mask, not the group's rights.
            ceiling = 0o606
    except FileNotFoundError:
        found, ceiling = layout.database.parent.stat(), 0o644 & ~_umask()
    mode = found.st_mode & ceiling
    if os.geteuid() != 0 or mode & 0o600 == 0:
        mode |= 0o600
    searchable = (mode & 0o444) >> 2
    return Ownership(found.st_uid, found.st_gid, mode, mode | searchable)


def _has_acl(path: Path) -> bool:
    if not hasattr(os, "getxattr"):
        return False
    with suppress(OSError):
        return bool(os.getxattr(path, "system.posix_acl_access"))
    return False


def _umask() -> int:
    """Read the umask, without changing it if the kernel shows it."""
    with suppress(OSError), Path("/proc/self/status").open(encoding="ascii") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def make_home(layout: Layout, ownership: Ownership | None = None) -> None:
    """
    Create `app.db.migrator/` unless it exists.

    An existing one is used as it is, whatever its mode.

    Raises:
        NotReadyError: Something else, or a symbolic link, is in its place.
        OSError: It cannot be created.
    """
    owner = (ownership or like_database(layout)).private
    make_directory(layout.home, owner)
    _ignore(layout.home, owner)


def make_backup_dir(layout: Layout, ownership: Ownership | None = None) -> None:
    """
    Create the backup directory and its missing parents, unless it exists.

    Only an empty or new directory gets a `.gitignore`: the operator may have named one
    that other programs use too.

    Raises:
        NotReadyError: Something else, or a dangling link, is in its place.
        OSError: It cannot be created.
    """
    owner = ownership or like_database(layout)
    missing = [layout.backup_dir]
    while not os.path.lexists(missing[-1].parent):
        missing.append(missing[-1].parent)
    for directory in reversed(missing):
        make_directory(directory, owner)
    if not os.listdir(layout.backup_dir):
        _ignore(layout.backup_dir, owner)


def _ignore(directory: Path, ownership: Ownership) -> None:
    """Have Git ignore the directory; a failure to do so fails no run."""
    path = directory / ".gitignore"
    if os.path.lexists(path):
        return
    # A full disk is found, and reported as such, by a later step.
    with suppress(OSError):
        descriptor = create_file(path, ownership)
        try:
            os.write(descriptor, b"*\n")
        finally:
            os.close(descriptor)


def clean_home(layout: Layout) -> None:
    """
    Delete what an interrupted run left in `app.db.migrator/`; only under the lock.

    The lock, the notes and the directories (of failed databases, of the id...) stay. The deletion
    is made durable: once the note is durably gone, the next start does not look again.
    """
    try:
        with os.scandir(layout.home) as found:
            names = [e.name for e in found if not e.is_dir(follow_symlinks=False)]
    except OSError:
        return
    from migrator.database import rehearsal_place

    ours = (name for name in names if name not in _KEPT)
    # A rehearsal may be under way, without the lock; its own says so.
    names = [name for name in ours if not name.startswith(rehearsal_place.PREFIX)]
    removed = [remove(layout.home / name) for name in names]
    removed.append(rehearsal_place.remove_abandoned(layout.home))
    # A power cut can leave the id under both of its names.
    for unfinished in map(temporary_name, (layout.identity, layout.started, layout.commanded)):
        if remove(unfinished):
            with suppress(OSError):
                fsync_directory(unfinished.parent)
    if any(removed):
        with suppress(OSError):
            fsync_directory(layout.home)
