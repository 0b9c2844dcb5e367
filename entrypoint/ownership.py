"""
Giving the application's user its files, when the container was started as root.

The directory belongs to the user whose files these are, so that user decides
what lies at a path; root must not be led to a file of somebody else. Every
directory on the way is therefore opened without following a link, and an
owner is changed only through a descriptor, of a directory or of a regular
file with one name.
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
_MOST_LINKS = 40
_DEPTH = 2


def hand_over(database: Path, backup_dir: Path, user: User, *, given: Path | None = None) -> None:
    """
    Give a user the database, its sidecars, what is ours, and its directory if root owns it.

    What is missing, is no regular file with one name, lies on a read-only
    volume or belongs to the user already is left alone. Modes never change.

    Args:
        database: The resolved path.
        backup_dir: As configured, not resolved: who made the links on the way counts.
        given: The database's path as configured, where it differs.

    Raises:
        NoPermissionError: Root may not change an owner here and the user could
            not use the file otherwise; or the way leads through a symbolic link
            that is not root's.
    """
    with _opened(given or database, database, user) as directory:
        if directory is not None:
            _give_directory(directory, database.parent, user)
            for path in (database, *sidecars(database)):
                _give_file(directory, path.name, database.parent, user)
            _give_tree(directory, database.name + ".migrator", database.parent, user, _DEPTH)
    _give_backups(database, backup_dir, user)


def _give_backups(database: Path, backup_dir: Path, user: User) -> None:
    """Give what is ours in the backup directory; other databases' backups stay whose they are."""
    inside = backup_dir / "x"
    with _opened(inside, None, user) as directory:
        if directory is None:
            return
        resolved = realpath(backup_dir)
        _give_directory(directory, resolved, user)
        strange = [
            each
            for each in named(database.name, os.listdir(directory))
            if _owner(directory, each.name) not in (None, user.uid)
        ]
        if strange:
            for name in _ours(Layout(database, resolved), directory, strange):
                _give_file(directory, name, resolved, user)


def _ours(layout: Layout, directory: int, found: Sequence[Entry]) -> list[str]:
    """
    Return those of the names in a backup directory that are this database's.

    Of a finished backup its facts say so, of one that is being made its reservation;
    nothing is given where nobody can tell, as where the database's own id is unreadable.
    """
    from migrator.backups.catalog import read_facts
    from migrator.backups.catalog import read_id as read_noted
    from migrator.backups.database_id import read as read_id
    from migrator.backups.owner import is_beside, of_this

    pairs = {each.backup for each in found if each.finished}
    read = (read_facts(Path(f"{name}.json"), strict=False, directory=directory) for name in pairs)
    backups = [each for each in read if each is not None]
    try:
        ours = {each.name for each in of_this(layout, backups)}
        own, beside = read_id(layout), is_beside(layout)
    except MigratorError:
        return []

    def is_begun_by_us(entry: Entry) -> bool:
        noted = read_noted(Path(f".{entry.backup}.json.partial"), directory)
        return noted == own if noted is not None else beside

    return [
        each.name
        for each in found
        if (each.backup in ours if each.finished else is_begun_by_us(each))
    ]


def _owner(directory: int, name: str) -> int | None:
    """Return a file's owner; None if the file is gone."""
    with contextlib.suppress(OSError):
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_uid
    return None


def _give_tree(parent: int, name: str, path: Path, user: User, depth: int) -> None:
    """Give a directory of ours with all that lies in it, as deep as we make directories."""
    try:
        directory = os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError:
        return
    try:
        _give(directory, path / name, user)
        for entry in sorted(os.listdir(directory)):
            if depth and _is_directory(directory, entry):
                _give_tree(directory, entry, path / name, user, depth - 1)
            else:
                _give_file(directory, entry, path / name, user)
    finally:
        os.close(directory)


def _is_directory(parent: int, name: str) -> bool:
    with contextlib.suppress(OSError):
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        return stat.S_ISDIR(found.st_mode)
    return False


def _give_directory(directory: int, path: Path, user: User) -> None:
    """Give a directory that root owns, but neither the root directory nor one like /tmp."""
    found = os.fstat(directory)
    everybodys = found.st_mode & stat.S_ISVTX and found.st_mode & stat.S_IWOTH
    if found.st_uid == 0 and path != Path("/") and not everybodys:
        _give(directory, path, user)


def _give_file(parent: int, name: str, path: Path, user: User) -> None:
    """Give one file, if it is a regular one with one name."""
    try:
        # Looked at first: opening a device or a pipe can have effects, and an
        # open that is not needed can be refused (NFS without root).
        if os.stat(name, dir_fd=parent, follow_symlinks=False).st_uid == user.uid:
            return
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
    """Tell whether the mode lets somebody who is not the owner use it."""
    bits = found.st_mode >> 3 if found.st_gid == user.gid else found.st_mode
    needed = 0o7 if stat.S_ISDIR(found.st_mode) else 0o6
    return bits & needed == needed


def _refused(path: Path, found: os.stat_result, user: User, error: OSError) -> NoPermissionError:
    owner = User(found.st_uid, found.st_gid)
    msg = f"{str(path)!r} belongs to {owner} and could not be given to {user}: {error.strerror}."
    hint = (
        "Start the container with `docker run --cap-add CHOWN …` (compose: `cap_add: [CHOWN]`),"
        f" or run `chown {user} {quote(str(path))}` where they lie, or start it as their owner:"
        f" `docker run --user {owner} …`."
    )
    return NoPermissionError(msg, hint=hint)


@contextlib.contextmanager
def _opened(given: Path, expected: Path | None, user: User) -> Iterator[int | None]:
    """
    Open the directory that a path's last part lies in, None where there is none.

    Args:
        given: The path as configured.
        expected: Where it is known to lead, if it is.
    """
    directory = None
    with contextlib.suppress(OSError):
        resolved, strange = _follow(given)
        if strange is not None:
            _refuse_strange(resolved, strange, user)
        elif expected is None or resolved == expected:
            directory = _walk(resolved.parent)
    try:
        yield directory
    finally:
        if directory is not None:
            os.close(directory)


def _walk(path: Path) -> int:
    """Open a directory for reading, following no link on the way."""
    with open_directory(path) as passage:
        return os.open(".", _DIRECTORY, dir_fd=passage)


def _refuse_strange(resolved: Path, link: Path, user: User) -> None:
    """Refuse to give away what a link that is not root's leads to, unless it is the user's."""
    found = os.stat(resolved)
    if found.st_uid == user.uid:
        return
    msg = (
        f"{str(resolved)!r} belongs to {found.st_uid}:{found.st_gid} and is reached through the"
        f" symbolic link {str(link)!r}, which is not root's: its owner is not changed to {user}."
    )
    hint = f"Name the file itself, or run `chown {user} {quote(str(resolved))}` where it lies."
    raise NoPermissionError(msg, hint=hint)


def _follow(given: Path) -> tuple[Path, Path | None]:
    """
    Resolve a path by hand.

    Returns:
        The resolved path, and the first symbolic link on the way that is not root's.
    """
    todo = _parts(os.path.join(os.getcwd(), given))
    here, strange, links = Path("/"), None, 0
    while todo:
        step = here.parent if todo[-1] == ".." else here / todo[-1]
        todo.pop()
        owner = _link_owner(step)
        if owner is None:
            here = step
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(given))
        strange = strange or (step if owner != 0 else None)
        target = os.readlink(step)
        here = Path("/") if target.startswith("/") else here
        todo += _parts(target)
    return here, strange


def _parts(path: str) -> list[str]:
    """Return the parts of a path, the first one last."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _link_owner(path: Path) -> int | None:
    """Return whose a symbolic link is, None for what is none or does not exist."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_uid if stat.S_ISLNK(found.st_mode) else None
