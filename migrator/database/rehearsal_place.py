"""
The directory of one rehearsal: made, kept from others by a lock, and removed.

It lies in `app.db.migrator/`, or where the operator said. A rehearsal holds no lock of
the database's, so that a start beside it need not wait; its own lock tells the
cleaning of the next run that this directory is in use.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from migrator.files import create_file, make_directory, remove

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.files import Ownership

PREFIX = "rehearsal-"
KEPT = "rehearsed"
"""The directory that keeps the last copy that `--keep` was said for."""
_LOCK_END = ".lock"


@contextlib.contextmanager
def place(directory: Path, ownership: Ownership) -> Iterator[Path]:
    """
    Make the directory of a rehearsal, and remove it with all that is in it.

    What killed rehearsals have left in `directory` is removed first.

    Raises:
        OSError: It cannot be made.
    """
    remove_abandoned(directory)
    name = f"{PREFIX}{os.urandom(6).hex()}"
    made, lock = directory / name, directory / f"{name}{_LOCK_END}"
    descriptor = _locked(lock, ownership.private)
    try:
        make_directory(made, ownership.private)
        yield made
    finally:
        _remove_tree(made)
        remove(lock)
        os.close(descriptor)


def remove_abandoned(directory: Path) -> bool:
    """Remove what killed rehearsals have left in a directory; say whether anything was there."""
    from migrator.process.descriptors import try_flock

    try:
        names = [each for each in os.listdir(directory) if each.startswith(PREFIX)]
    except OSError:
        return False
    found = False
    for name in {each.removesuffix(_LOCK_END) for each in names}:
        lock = directory / f"{name}{_LOCK_END}"
        with contextlib.suppress(OSError):
            descriptor = _open_lock(lock)
            try:
                if descriptor is None or try_flock(descriptor):
                    _remove_tree(directory / name)
                    remove(lock)
                    found = True
            finally:
                if descriptor is not None:
                    os.close(descriptor)
    return found


def _locked(path: Path, ownership: Ownership) -> int:
    """Create a lock file and lock it; start over if a cleanup removed it in between."""
    from migrator.process.descriptors import open_for_itself, try_flock

    while True:
        descriptor = open_for_itself(lambda: create_file(path, ownership))
        with contextlib.suppress(FileNotFoundError):
            if try_flock(descriptor) and os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                return descriptor
        os.close(descriptor)


def _open_lock(path: Path) -> int | None:
    """Open a rehearsal's lock; None if it has no lock file, because its removal was cut off."""
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None


def _remove_tree(directory: Path) -> None:
    """Remove a directory tree without following links, as far as possible."""
    import shutil

    if not os.path.islink(directory):
        shutil.rmtree(directory, ignore_errors=True)


def keep(made: Path, files: dict[str, Path]) -> Path:
    """
    Keep files of a rehearsal beside its directory, in place of those of the last one.

    Args:
        made: The rehearsal's directory.
        files: What is kept, by its name there.

    Returns:
        The directory that has them.

    Raises:
        OSError: They cannot be moved there.
    """
    kept, ready = made.parent / KEPT, made / KEPT
    os.mkdir(ready, 0o700)
    for name, path in files.items():
        os.rename(path, ready / name)
    _remove_tree(kept)
    os.rename(ready, kept)
    return kept
