"""
Check that this process still holds SQLite's locks on a database that it has open.

POSIX record locks of a process vanish when any descriptor of the file is closed
(fcntl(2)), whoever opened it, and SQLite does not notice. A query for the lock of an
open file description (F_OFD_GETLK) reports the record locks of the same process too, so
it answers without opening or closing anything. The bytes that SQLite locks
are those of os_unix.c and https://sqlite.org/walformat.html#locks.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_PENDING, _RESERVED, _SHARED = 0x40000000, 0x40000001, 0x40000002
_SHARED_LENGTH = 510
_WAL_WRITE, _WAL_ALIVE = 120, 128
"""In the `-shm`: the writer's lock, and the one that says that it is in use."""
_FLOCK = struct.Struct("hhqqi0q")
"""`struct flock` with 64-bit offsets: type, whence, start, length, process."""
_HELD_BY_OTHERS = (errno.EAGAIN, errno.EACCES)
_MOST_DESCRIPTORS = 4096
_LATELY = 0.00005
"""Seconds, fewer than it takes another process to play a journal back."""
_now = time.monotonic

Kind = Literal["lock", "journal", "database"]
Ask = tuple[int, int, int]
"""A descriptor, and the first byte and the number of bytes asked about."""


@dataclass(frozen=True, slots=True)
class Loss:
    """
    What SQLite relies on and has lost without noticing.

    `lock`: its locks, or its descriptor. `journal`: the file at the journal's
    name. `database`: the file at the database's own name.
    """

    kind: Kind
    path: Path


@dataclass(frozen=True, slots=True)
class _File:
    """A file that SQLite has open here: name, descriptor, device and inode."""

    path: Path
    descriptor: int
    identity: tuple[int, int]

    def is_open(self) -> bool:
        """Tell whether the descriptor still is this file's."""
        with contextlib.suppress(OSError):
            return _identity(os.fstat(self.descriptor)) == self.identity
        return False

    def is_in_place(self) -> bool:
        """Tell whether the name still leads to this file."""
        with contextlib.suppress(OSError):
            return os.path.samestat(os.lstat(self.path), os.fstat(self.descriptor))
        return False


class SqliteLocks:
    """
    The locks, the journal and the database's file that a run relies on.

    Make it while SQLite holds them (`note`); `look` tells whether it still does.

    Attributes:
        loss: The first loss that was found.
    """

    def __init__(
        self,
        database: _File,
        sidecar: _File | None,
        ask: Ask,
        in_transaction: Callable[[], bool],
        *,
        wal: bool,
        forking: bool,
    ) -> None:
        self.loss: Loss | None = None
        self._looked = -_LATELY
        self._in_transaction = in_transaction
        self._database = database
        self._sidecar = sidecar
        self._wal = wal
        self._pid = os.getpid()
        self._ask = ask
        self._query = _query(ask)
        # Some kernels and sandboxes do not answer F_OFD_GETLK: then a child asks, or nobody can.
        self._forking = forking and not self._is_visible()
        self._blind = not self._forking and not self._is_visible()
        self._shared = ask[0] != database.descriptor and _has_shared(database.identity)
        self._nonce = self._header()[12:16]

    @classmethod
    def note(
        cls,
        path: Path,
        in_transaction: Callable[[], bool],
        *,
        alone: bool,
        ignore: Collection[int] = (),
        forking: bool = False,
    ) -> SqliteLocks | None:
        """
        Note what SQLite holds now, in a write transaction or alone.

        Args:
            path: The database.
            in_transaction: Whether SQLite's transaction is open: at its end, also after an
                error, SQLite itself gives the locks back, unless it is alone.
            alone: Whether SQLite has it to itself (`locking_mode=EXCLUSIVE`).
            ignore: Descriptors of it that are not SQLite's.
            forking: Whether a child may look, if the kernel does not answer this
                process's query about itself.

        Returns:
            None if SQLite's descriptor cannot be found.
        """
        database = _find(path, ignore)
        if database is None:
            return None
        # In WAL mode beside others the lock that counts is the writer's, in the `-shm`.
        wal = _find(path.with_name(f"{path.name}-wal"))
        journal = None if wal else _find(path.with_name(f"{path.name}-journal"))
        shm = _find(path.with_name(f"{path.name}-shm")) if wal and not alone else None
        if alone:
            ask = (database.descriptor, _SHARED, _SHARED_LENGTH)
        elif shm is not None:
            ask = (shm.descriptor, _WAL_WRITE, 1)
        else:
            ask = (database.descriptor, _RESERVED, 1)
        sidecar = wal or journal
        return cls(database, sidecar, ask, in_transaction, wal=wal is not None, forking=forking)

    def forget_journal(self) -> None:
        """Stop checking the journal's file: SQLite itself closes and replaces it now."""
        self._sidecar = None

    # --- looking ------------------------------------------------------------

    def _has_ended(self) -> bool:
        """Tell whether SQLite has given its lock back; alone it keeps the lock until it closes."""
        return self._ask[1] != _SHARED and not self._in_transaction()

    @property
    def gone(self) -> bool:
        """Whether SQLite must not write any more; it can still roll back without its journal."""
        return self.loss is not None and self.loss.kind != "journal"

    def held(self) -> bool:
        """Tell within two microseconds whether the locks are there."""
        self._looked = _now()
        if self.loss is None and not self._seems_held():
            self.loss = Loss("lock", self._database.path)
        return not self.gone

    def held_lately(self) -> bool:
        """
        Tell the same as it was at most `_LATELY` ago; called for each statement.

        No other process has taken the lock, played the journal back and written by then, and
        a statement itself may take longer.
        """
        if _now() - self._looked < _LATELY:
            return self.loss is None or not self.gone
        return self.held()

    def _seems_held(self) -> bool:
        if self._has_ended():
            return True
        if self._forking:
            # A child for each statement is too slow; but a reader that got in removes the journal.
            in_place = self._sidecar is None or self._sidecar.is_in_place()
            return in_place or self._is_locked(decisive=True)
        return self._blind or self._is_visible()

    def look(self, *, decisive: bool = False) -> Loss | None:
        """
        Check everything: descriptor, locks, and the files at their names.

        Args:
            decisive: Whether the run publishes next: only then is a child forked, if
                there is no other way to know.
        """
        if self.loss is None and not self._has_ended():
            self.loss = self._look(decisive=decisive)
        return self.loss

    def _look(self, *, decisive: bool) -> Loss | None:
        path = self._database.path
        # In this order: without the descriptor, or the locks, anything else may be another's doing.
        if not self._database.is_open() or not self._is_locked(decisive=decisive):
            return Loss("lock", path)
        if not self._database.is_in_place():
            return Loss("database", path)
        if self._sidecar is not None:
            if not self._sidecar.is_open():
                return Loss("lock", path)
            if not self._sidecar.is_in_place():
                # With the locks lost, another process removes the journal: report the locks.
                held = self._is_locked(decisive=True)
                return Loss("journal", self._sidecar.path) if held else Loss("lock", path)
        return None

    def _is_locked(self, *, decisive: bool) -> bool:
        if self._forking:
            return not decisive or _seen_from_outside(self._ask) is not False
        if not self._blind and not self._is_visible():
            return False
        return not self._shared or _has_shared(self._database.identity)

    def _is_visible(self) -> bool:
        """Ask the kernel whether this process holds the lock."""
        try:
            answer = fcntl.fcntl(self._ask[0], fcntl.F_OFD_GETLK, self._query)
        except (OSError, AttributeError):
            return False
        found = _FLOCK.unpack(answer)
        return bool(found[0] == fcntl.F_WRLCK and found[4] == self._pid)

    # --- getting them back --------------------------------------------------

    def regain(self) -> bool:
        """
        Take the locks again that SQLite believes it holds, if its rollback can then do no harm.

        For the process of the API's caller, which cannot be killed. With the locks, nobody
        else writes; and whoever has written played back and removed the journal before.

        Returns:
            Whether SQLite may roll back now; otherwise it must never write again.
        """
        if self.loss is None or self.loss.kind != "lock" or not self._database.is_open():
            return False
        if self._sidecar is not None and not self._sidecar.is_open():
            return False
        try:
            for number, kind, start, length in self._wanted():
                fcntl.lockf(number, kind | fcntl.LOCK_NB, length, start)
        except OSError as error:
            if error.errno in _HELD_BY_OTHERS:
                return False
            raise
        if not self._is_harmless():
            return False
        self.loss = None
        return True

    def _wanted(self) -> Iterator[tuple[int, int, int, int]]:
        number = self._database.descriptor
        if self._ask[1] == _SHARED or (not self._wal and any(self._header()[:8])):
            # Exclusive from the start, or since SQLite wrote pages into the database.
            yield number, fcntl.LOCK_EX, _PENDING, 2 + _SHARED_LENGTH
            return
        yield number, fcntl.LOCK_SH, _SHARED, _SHARED_LENGTH
        if self._ask[0] != number:
            yield self._ask[0], fcntl.LOCK_SH, _WAL_ALIVE, 1
        yield self._ask[0], fcntl.LOCK_EX, self._ask[1], self._ask[2]

    def _is_harmless(self) -> bool:
        """Tell whether a rollback would write nothing, or only pages untouched since."""
        if not self._database.is_in_place():
            return False
        if self._sidecar is None:
            path = self._database.path
            return not os.path.lexists(path.with_name(f"{path.name}-journal"))
        if self._wal:
            return self._sidecar.is_in_place()
        if not os.path.lexists(self._sidecar.path):
            # A reader has played it back and removed it: it must not be played back again.
            os.ftruncate(self._sidecar.descriptor, 0)
            return True
        # The nonce is new in each journal (https://sqlite.org/fileformat2.html, 3): by it another
        # process's journal under the same name is recognised.
        header = self._header()
        ours = header[12:16] == self._nonce or not any(header[:8])
        return self._sidecar.is_in_place() and ours

    def _header(self) -> bytes:
        """Return the journal's beginning; its first bytes are zero until it is needed."""
        if self._sidecar is None or self._wal:
            return b""
        with contextlib.suppress(OSError):
            return os.pread(self._sidecar.descriptor, 28, 0)
        return b""


# --- files and descriptors ---------------------------------------------------------


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _find(path: Path, ignore: Collection[int] = ()) -> _File | None:
    """Find SQLite's descriptor of a file among those of this process."""
    try:
        identity = _identity(os.lstat(path))
    except OSError:
        return None
    found = [number for number in _descriptors(identity) if number not in ignore]
    # Of several descriptors take the one that holds the lock, else the newest.
    locked = [number for number in found if "lock:" in _about(number)]
    number = max(locked or found, default=None)
    return _File(path, number, identity) if number is not None else None


def _descriptors(identity: tuple[int, int]) -> Iterator[int]:
    try:
        numbers = sorted(map(int, os.listdir("/proc/self/fd")))
    except OSError:
        # Without /proc, ask each number.
        numbers = list(range(_MOST_DESCRIPTORS))
    for number in numbers:
        with contextlib.suppress(OSError):
            if _identity(os.fstat(number)) == identity:
                yield number


def _about(number: int) -> str:
    """Return the kernel's information on a descriptor, including its locks (proc(5))."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/self/fdinfo/{number}").read_text(errors="replace")
    return ""


def _has_shared(identity: tuple[int, int]) -> bool:
    """Tell whether this process has SQLite's shared lock on a database."""
    # Other processes may hold it too, so a query for the lock need not name this one. The
    # kernel lists with each descriptor the locks that were taken through it.
    return any(
        line.startswith("lock:") and line.split()[-2] == str(_SHARED)
        for number in _descriptors(identity)
        for line in _about(number).splitlines()
    )


def _query(ask: Ask) -> bytes:
    return _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, ask[1], ask[2], 0)


def _seen_from_outside(ask: Ask) -> bool | None:
    """
    Have a child, which inherits no record lock, look whether its parent has one.

    Returns:
        None if that cannot be known.
    """
    with warnings.catch_warnings():
        # A migration may have left threads; the child only asks the kernel.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 2
        try:
            found = _FLOCK.unpack(fcntl.fcntl(ask[0], fcntl.F_GETLK, _query(ask)))
            code = 0 if found[0] != fcntl.F_UNLCK and found[4] == os.getppid() else 1
        finally:
            os._exit(code)
    try:
        _, status = os.waitpid(child, 0)
    except ChildProcessError:  # a migration ignores SIGCHLD: the kernel has reaped the child
        return None
    return {0: True, 1: False}.get(os.waitstatus_to_exitcode(status))
