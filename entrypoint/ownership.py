"""
Give the run's user its files, when the container was started as root.

That user may own the directory, and so decides what lies at a path: root must
not be led to somebody else's file. So every directory on the way is opened
without following a link, and an owner is changed only through a descriptor, of
a directory or of a regular file with one name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote

from entrypoint.identities import User
from migrator.backups.directory import Entry, named
from migrator.database.workspace import Layout
from migrator.errors import MigratorError, NoPermissionError
from migrator.files import open_directory, realpath, sidecars

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BESIDE_BACKUPS = (".gitignore", "lost+found")
_MAX_LINKS = 40
_DEPTH = 2


def hand_over(database: Path, backup_dir: Path, user: User, *, given: Path | None = None) -> None:
    """
    Give a user the database, its sidecars, this program's files, and root's directories.

    A file stays as it is if it is missing, is not a regular file with one name,
    lies on a read-only volume or belongs to the user already. Modes never change.

    Args:
        database: The resolved path.
        backup_dir: As configured, not resolved: the owner of each link counts.
        given: The database's path as configured, if it differs.

    Raises:
        NoPermissionError: Root may not change an owner that the user needs
            changed; or the path leads through a symbolic link that is not root's.
    """
    with _opened(given or database, database, user) as directory:
        if directory is not None:
            _give_directory(directory, database.parent, user)
            for path in (database, *sidecars(database)):
                _give_file(directory, path.name, database.parent, user)
            _give_tree(directory, database.name + ".migrator", database.parent, user, _DEPTH)
    _give_backups(database, backup_dir, user)


def _give_backups(database: Path, backup_dir: Path, user: User) -> None:
    """
    Give the backup directory and this database's backups, but not other databases' backups.

    A directory that was named, and has something else in it (`/etc`, `/var/backups`), is
    root's for others too.
    """
    inside = backup_dir / "x"
    with _opened(inside, None, user) as directory:
        if directory is None:
            return
        resolved, names = realpath(backup_dir), os.listdir(directory)
        if resolved == database.parent / "backups" or all(map(_belongs_among_backups, names)):
            _give_directory(directory, resolved, user)
        others = [
            each
            for each in named(database.name, names)
            if (found := _lstat(directory, each.name)) and found.st_uid != user.uid
        ]
        if others:
            for name in _backups_of(Layout(database, resolved), directory, others):
                _give_file(directory, name, resolved, user)


def _belongs_among_backups(name: str) -> bool:
    """Tell whether a name may be found in a directory that is for backups alone."""
    # As in `app.db-000012-20260131T120000Z.db.json`, of any database.
    database = name.removeprefix(".").rpartition("-")[0].rpartition("-")[0]
    return name in _BESIDE_BACKUPS or bool(database and named(database, [name]))


def _backups_of(layout: Layout, directory: int, found: Sequence[Entry]) -> list[str]:
    """
    Return the names in a backup directory that are this database's.

    A finished backup is known by its facts, an unfinished one by its reservation.
    If the database's own id cannot be read, nothing can be known.
    """
    from migrator.backups.catalog import read_facts
    from migrator.backups.catalog import read_id as read_noted
    from migrator.backups.database_id import read as read_id
    from migrator.backups.owner import is_beside, of_this

    pairs = {each.backup for each in found if each.finished}
    read = (read_facts(Path(f"{name}.json"), strict=False, directory=directory) for name in pairs)
    backups = [each for each in read if each is not None]
    try:
        finished = {each.name for each in of_this(layout, backups)}
        own, beside = read_id(layout), is_beside(layout)
    except MigratorError:
        return []

    def is_reserved(entry: Entry) -> bool:
        noted = read_noted(Path(f".{entry.backup}.json.partial"), directory)
        return noted == own if noted is not None else beside

    return [
        each.name
        for each in found
        if (each.backup in finished if each.finished else is_reserved(each))
    ]


def _lstat(directory: int, name: str) -> os.stat_result | None:
    """Look at an entry of a directory; None if it does not exist any more."""
    with contextlib.suppress(OSError):
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    return None


def _give_tree(parent: int, name: str, path: Path, user: User, depth: int) -> None:
    """Give this program's directory with its contents, as deep as it makes directories."""
    try:
        directory = os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError:
        return
    try:
        _give(directory, path / name, user)
        for entry in sorted(os.listdir(directory)):
            found = _lstat(directory, entry) if depth else None
            if found and stat.S_ISDIR(found.st_mode):
                _give_tree(directory, entry, path / name, user, depth - 1)
            else:
                _give_file(directory, entry, path / name, user)
    finally:
        os.close(directory)


def _give_directory(directory: int, path: Path, user: User) -> None:
    """Give a directory that root owns, except `/` and one like /tmp."""
    found = os.fstat(directory)
    like_tmp = found.st_mode & stat.S_ISVTX and found.st_mode & stat.S_IWOTH
    if found.st_uid == 0 and path != Path("/") and not like_tmp:
        _give(directory, path, user)


def _give_file(parent: int, name: str, path: Path, user: User) -> None:
    """Give a regular file with one name."""
    # Before the open: opening a device or a pipe can have effects, and NFS can
    # refuse root an open that is not needed.
    found = _lstat(parent, name)
    if found is None or found.st_uid == user.uid:
        return
    try:
        file = os.open(name, _FILE, dir_fd=parent)
    except OSError:
        return
    try:
        found = os.fstat(file)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            _give(file, path / name, user)
    finally:
        os.close(file)


def _give(descriptor: int, path: Path, user: User) -> None:
    found = os.fstat(descriptor)
    if found.st_uid == user.uid:
        return
    try:
        os.fchown(descriptor, user.uid, user.gid)
    except OSError as error:
        if error.errno == errno.EROFS or _reaches(found, user):
            return
        raise _refused(path, found, user, error) from error


def _reaches(found: os.stat_result, user: User) -> bool:
    """Tell whether the mode lets this user use it without owning it."""
    bits = found.st_mode >> 3 if found.st_gid == user.gid else found.st_mode
    needed = 0o7 if stat.S_ISDIR(found.st_mode) else 0o6
    return bits & needed == needed


def _refused(path: Path, found: os.stat_result, user: User, error: OSError) -> NoPermissionError:
    owner = User(found.st_uid, found.st_gid)
    msg = f"{str(path)!r} belongs to {owner} and could not be given to {user}: {error.strerror}."
    hint = (
        "Start the container with `docker run --cap-add CHOWN …` (compose: `cap_add: [CHOWN]`),"
        f" or run `chown {user} {quote(str(path))}` outside of it, or start it as that owner:"
        f" `docker run --user {owner} …`."
    )
    return NoPermissionError(msg, hint=hint)


@contextlib.contextmanager
def _opened(given: Path, expected: Path | None, user: User) -> Iterator[int | None]:
    """
    Open the directory of a path, None if there is no such directory.

    Args:
        given: The path as configured.
        expected: The path that it has to resolve to; None for any.
    """
    directory = None
    with contextlib.suppress(OSError):
        resolved, foreign_link = _follow(given)
        if foreign_link is not None:
            _refuse_foreign_link(resolved, foreign_link, user)
        elif expected is None or resolved == expected:
            directory = _walk(resolved.parent)
    try:
        yield directory
    finally:
        if directory is not None:
            os.close(directory)


def _walk(path: Path) -> int:
    """Open a directory without following a link."""
    with open_directory(path) as passage:
        return os.open(".", _DIRECTORY, dir_fd=passage)


def _refuse_foreign_link(resolved: Path, link: Path, user: User) -> None:
    """Refuse to give a file behind a link that root does not own, unless the user owns the file."""
    found = os.stat(resolved)
    if found.st_uid == user.uid:
        return
    msg = (
        f"{str(resolved)!r} belongs to {found.st_uid}:{found.st_gid} and is reached through the"
        f" symbolic link {str(link)!r}, which is not root's: its owner is not changed to {user}."
    )
    hint = f"Give the path of the file itself, or run `chown {user} {quote(str(resolved))}`."
    raise NoPermissionError(msg, hint=hint)


def _follow(given: Path) -> tuple[Path, Path | None]:
    """
    Resolve a path, link by link.

    Returns:
        The resolved path, and the first symbolic link on the way that is not root's.
    """
    todo = _parts(os.path.join(os.getcwd(), given))
    here, foreign_link, links = Path("/"), None, 0
    while todo:
        step = here.parent if todo[-1] == ".." else here / todo[-1]
        todo.pop()
        owner = _link_owner(step)
        if owner is None:
            here = step
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(given))
        foreign_link = foreign_link or (step if owner != 0 else None)
        target = os.readlink(step)
        here = Path("/") if target.startswith("/") else here
        todo += _parts(target)
    return here, foreign_link


def _parts(path: str) -> list[str]:
    """Return the parts of a path, last part first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _link_owner(path: Path) -> int | None:
    """Return the owner of a symbolic link, None for anything else."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_uid if stat.S_ISLNK(found.st_mode) else None
