"""
Creating, replacing and removing files so that neither a crash nor a link does harm.

Nothing here follows a symbolic link: the paths are resolved ones, directories
are walked one by one without following, and files are opened with
`O_NOFOLLOW`, so that whoever owns the volume cannot lead a program that runs
as root elsewhere. Every name is made durable by an fsync of its directory.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from pathlib import Path

from migrator.errors import NotReadyError
from migrator.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_WALK = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_OWNERSHIP = (errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
"""How file systems without owners (vfat, some network ones) and a missing CAP_CHOWN answer."""
_NO_DIRECTORY_FSYNC = (
    errno.EACCES,
    errno.EBADF,
    errno.EINVAL,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EPERM,
)
FULL = (errno.ENOSPC, errno.EDQUOT)
A_LITTLE = 1 << 16
"""Bytes without which SQLite cannot even open a database in WAL mode."""
ENOUGH = 1 << 20
"""Bytes with which an application can open its database and write to it."""
_SIDECARS = ("-wal", "-shm", "-journal")


class Ownership(Value):
    """Whose a file that we create shall be, and how wide its mode may become."""

    uid: int
    gid: int
    file_mode: int
    dir_mode: int

    @property
    def private(self) -> Ownership:
        """The same owner, with everybody else shut out: for our own directory."""
        return replace(self, file_mode=0o600, dir_mode=0o700)


def realpath(path: Path) -> Path:
    """
    Resolve every symbolic link of `path`, whether it exists or not.

    Raises:
        NotReadyError: What was a link is another thing a moment later.
    """
    try:
        return Path(os.path.realpath(path))
    except OSError as error:
        message = f"{str(path)!r} changed while it was looked at: {error.strerror}."
        hint = "Find out what else renames or removes it, then start again."
        reason = "volume.unusable"
        raise NotReadyError(message, hint=hint, reason=reason, retryable=False) from error


def sidecars(database: Path) -> tuple[Path, Path, Path]:
    """Name the files that SQLite keeps beside any database."""
    wal, shm, journal = (database.with_name(database.name + end) for end in _SIDECARS)
    return wal, shm, journal


@contextmanager
def _about(path: Path, to: Path | None = None) -> Iterator[None]:
    """Make an `OSError` name the whole path (or both), not a part of it."""
    try:
        yield
    except OSError as error:
        if not (isinstance(error.filename, str) and os.path.isabs(error.filename)):
            error.filename = str(path)
            if to is not None:
                error.filename2 = str(to)
        raise


@contextmanager
def open_directory(path: Path) -> Iterator[int]:
    """
    Open a directory for use as `dir_fd`, following no symbolic link on the way.

    Raises:
        OSError: `ENOTDIR` where a part of the path is a link or no directory;
            it names the path as far as that part.
    """
    here = Path("/")
    descriptor = os.open(here, _WALK)
    try:
        for part in path.absolute().parts[1:]:
            here /= part
            with _about(here):
                below = os.open(part, _WALK, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def fsync_directory(path: Path) -> None:
    """
    Make the names in a directory durable.

    File systems that cannot do that, and directories that may be written but
    not read, are passed over, as SQLite does.

    Raises:
        OSError: The disk failed.
    """
    try:
        with _about(path), open_directory(path) as parent:
            descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_FSYNC:
            raise


def make_directory(path: Path, ownership: Ownership) -> bool:
    """
    Create one directory, durably, unless it is there; say whether it was created.

    Raises:
        NotReadyError: Something else, or a symbolic link, is in its place.
        OSError: It cannot be created.
    """
    with _about(path), open_directory(path.parent) as parent:
        created = _mkdir(path.name, parent)
        try:
            descriptor = os.open(path.name, _WALK, dir_fd=parent)
        except NotADirectoryError:
            from migrator.file_errors import kind_of, unsafe_entry

            raise unsafe_entry(path, kind_of(path)) from None
        os.close(descriptor)
        if created:
            _own_directory(path.name, parent, ownership)
    if created:
        fsync_directory(path.parent)
    return created


def _mkdir(name: str, parent: int) -> bool:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return False
    return True


def _own_directory(name: str, parent: int, ownership: Ownership) -> None:
    # O_PATH descriptors take no fchown, so the new directory is opened once more.
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=parent)
    try:
        _own(descriptor, ownership, ownership.dir_mode)
    finally:
        os.close(descriptor)


def open_regular(path: Path, directory: int | None = None) -> int:
    """
    Open a regular file for reading; never follow a link or wait for a pipe.

    `directory` is a descriptor that the path is relative to.

    Raises:
        OSError: It cannot be opened, is a symbolic link (`ELOOP`) or no regular file (`EINVAL`).
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        from migrator.file_errors import kind_of

        raise OSError(errno.EINVAL, f"it is {kind_of(path)}", str(path))
    return descriptor


def create_file(path: Path, ownership: Ownership) -> int:
    """
    Create a file that did not exist, and give it its owner and mode.

    Returns:
        A descriptor open for reading and writing, closed by exec.

    Raises:
        FileExistsError: Something has that name already.
        OSError: It cannot be created.
    """
    with _about(path), open_directory(path.parent) as parent:
        descriptor = os.open(path.name, _CREATE, 0o600, dir_fd=parent)
    try:
        with _about(path):
            _own(descriptor, ownership, ownership.file_mode)
    except BaseException:
        os.close(descriptor)
        remove(path)
        raise
    return descriptor


def _own(descriptor: int, ownership: Ownership, mode: int) -> None:
    """Give what was just created its group, its mode and, as root, its owner."""
    found = os.fstat(descriptor)
    # The group comes before the mode that lets it in.
    if found.st_gid != ownership.gid:
        with _tolerated():
            os.fchown(descriptor, -1, ownership.gid)
        if os.fstat(descriptor).st_gid != ownership.gid:
            # Our own group stays, and must not get more than everybody has.
            mode &= ~0o070 | (mode & 0o007) << 3
    with _tolerated():
        os.fchmod(descriptor, mode)
    # The owner comes last: without CAP_FOWNER only the owner may change the mode.
    if os.geteuid() == 0 and found.st_uid != ownership.uid:
        with _tolerated():
            os.fchown(descriptor, ownership.uid, -1)


@contextmanager
def _tolerated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_OWNERSHIP:
            raise


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte, however few the kernel takes at a time."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def write_atomic(path: Path, data: bytes, ownership: Ownership) -> None:
    """
    Replace a file so that after any crash it is the whole old or the whole new one.

    Raises:
        OSError: It cannot be written; what was there before is untouched.
    """
    temporary = temporary_name(path)
    remove(temporary)
    descriptor = create_file(temporary, ownership)
    try:
        try:
            with _about(temporary):
                write_all(descriptor, data)
                # Before the rename, or a power cut could leave the new name without content.
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        rename(temporary, path)
    except BaseException:
        remove(temporary)
        raise
    # A rename is durable only with its directory.
    fsync_directory(path.parent)


def temporary_name(path: Path) -> Path:
    """Return what a file is called until `write_atomic` gives it its name."""
    return path.with_name(f".{path.name}.tmp")


def rename(old: Path, new: Path) -> None:
    """
    Rename within one directory, following no link on the way to it.

    Raises:
        OSError: It cannot be renamed; both paths are named.
    """
    with _about(old, new), open_directory(old.parent) as parent:
        os.rename(old.name, new.name, src_dir_fd=parent, dst_dir_fd=parent)


def unlink(path: Path) -> None:
    """
    Unlink a file, following no link on the way to it.

    Raises:
        OSError: It is not there, or cannot be unlinked.
    """
    with _about(path), open_directory(path.parent) as parent:
        os.unlink(path.name, dir_fd=parent)


def remove(path: Path) -> bool:
    """Unlink a file if possible, and tell whether it was unlinked."""
    try:
        unlink(path)
    except OSError:
        return False
    return True


def remove_database(path: Path) -> None:
    """Unlink a database of ours with its sidecars, these first."""
    for sidecar in sidecars(path):
        remove(sidecar)
    remove(path)


def has_space(directory: Path, size: int) -> bool:
    """
    Tell whether so many bytes can be written to a directory, by trying, since a quota is invisible.

    Nothing is left of it: the file has no name. Where that cannot be tried, it counts as
    enough.
    """
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
        finally:
            os.close(descriptor)
    except OSError as error:
        return error.errno not in FULL
    return True
