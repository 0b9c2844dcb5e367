"""
Copy the database's file as a file, while the run has it alone.

Then, after a checkpoint, the file is the database. The kernel copies it, or shares its
blocks where the file system can; two threads follow: one compares the copy with the
original and makes its checksum, the other has it written to the disk. Nothing is opened
but the copy, so that SQLite keeps its locks.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from migrator.database.pages import content_size, read_header
from migrator.database.writeback import Writeback
from migrator.files import create_file, remove_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Self

    from migrator.files import Ownership

_STEP = 4 << 20
"""Bytes that the kernel copies in one call: a signal ends it between two of them."""
_PIECE = 1 << 17
"""Bytes that are compared at a time: they stay in the processor's cache."""
_VERSIONS = 18
_DELETE = b"\x01\x01"
"""The two bytes of the header that say that the journal mode is not WAL."""


class UnreadableError(Exception):
    """The original cannot be read; `cause` is what the system says."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(cause)
        self.cause = cause


class UnequalError(Exception):
    """The copy is not what it was copied from."""


@dataclass(slots=True)
class CopiedFile:
    """A copy; its checksum is known once it is proven."""

    size: int
    sha256: str = ""


@contextlib.contextmanager
def copied_file(
    source: int,
    target: Path,
    ownership: Ownership,
    progress: Callable[[int, int], object] | None = None,
) -> Iterator[CopiedFile]:
    """
    Copy a database's file into a new one, in journal mode DELETE; compared and fsynced at the end.

    Within, the copy is complete and can be read, while it is still being compared and written
    to the disk.

    Args:
        source: A descriptor of a file that is not being written to.
        target: A new name.
        ownership: The copy's owner and mode.
        progress: Called with bytes done and bytes in all; what it raises ends the copy.

    Raises:
        UnreadableError: The original cannot be read.
        UnequalError: The copy does not equal it.
        OSError: The copy cannot be created, written, read or made durable; it is removed.
    """
    number = create_file(target, ownership)
    try:
        copy = CopiedFile(content_size(source))
        mended = read_header(source) is not None
        proof, durable = _Proof(source, number, mended=mended), Writeback(number)
        with _Follower(proof) as compared, _Follower(durable) as written:
            for done in _copy(source, number, copy.size, mended=mended):
                compared.reach(done)
                written.reach(done, durable.interval)
                if progress is not None:
                    progress(done, copy.size)
            compared.end()
            written.end()
            yield copy
        copy.sha256 = proof.checksum()
    except BaseException:
        remove_database(target)
        raise
    finally:
        os.close(number)


def _copy(source: int, target: int, size: int, *, mended: bool) -> Iterator[int]:
    """Copy so many bytes, and yield how many are copied after each step, the header mended."""
    done = 0
    while done < size:
        end = min(size, done + _STEP)
        while done < end:
            done += _copy_some(source, target, done, end - done)
        if mended and end <= _STEP:
            os.pwrite(target, _DELETE, _VERSIONS)
        yield done


def _copy_some(source: int, target: int, offset: int, length: int) -> int:
    """Have the kernel copy; where it cannot, do it by hand, which tells whose fault that is."""
    with contextlib.suppress(OSError, AttributeError):  # some systems do not have the call
        if done := os.copy_file_range(source, target, length, offset, offset):
            return done
    try:
        data = os.pread(source, min(length, 8 * _PIECE), offset)
    except OSError as error:
        raise UnreadableError(error) from error
    if not data:
        raise UnequalError
    return os.pwrite(target, data, offset)


# --- what follows the copying --------------------------------------------------------


class _Work(Protocol):
    """What is done with a copy while it grows."""

    def reach(self, done: int) -> None:
        """Do it with the first so many bytes."""

    def finish(self) -> None:
        """Do what is left when the copy is complete."""


class _Follower(threading.Thread):
    """Work on a copy, in a thread beside the copying; what it raises ends the `with`."""

    def __init__(self, work: _Work) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._news = threading.Condition()
        self._copied = self._followed = 0
        self._complete = self._stopped = self._later = False
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except RuntimeError:  # where no process may have another thread
            self._later = True
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._news:
            self._stopped = kind is not None
            self._complete = True
            self._news.notify_all()
        if self._later:
            self.run()
        else:
            self.join()
        if self._error is not None and kind is None:
            raise self._error

    def run(self) -> None:
        """Follow the copying until it is complete, or has failed."""
        try:
            while (end := self._next()) is not None:
                self._work.reach(end)
                self._followed = end
            if not self._stopped:
                self._work.finish()
        except BaseException as error:  # noqa: BLE001 - for the thread that copies
            self._error = error
        finally:
            with self._news:
                self._complete = True
                self._news.notify_all()

    def _next(self) -> int | None:
        """Wait until more is copied, and return how far to go; None at the end."""
        with self._news:
            self._news.notify_all()
            self._news.wait_for(lambda: self._copied > self._followed or self._complete)
            if self._stopped or self._copied == self._followed:
                return None
            # In steps: a copy that fails does not wait until all of it is looked at.
            return min(self._copied, self._followed + _STEP)

    def reach(self, copied: int, lead: int | None = None) -> None:
        """
        Say how much is copied, and wait where the copying is too far ahead.

        Raises:
            OSError: The work failed, so that there is no use in copying the rest.
        """
        with self._news:
            self._copied = copied
            self._news.notify_all()
            if lead is not None and not self._later:
                self._news.wait_for(lambda: copied - self._followed <= lead or self._error)
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """Say that the copy is complete."""
        with self._news:
            self._complete = True
            self._news.notify_all()


class _Proof:
    """Compare a copy with its original, byte by byte, and make its checksum."""

    def __init__(self, source: int, copy: int, *, mended: bool) -> None:
        import hashlib

        self._digest = hashlib.sha256()
        self._numbers = source, copy
        self._mended = mended
        self._pieces = bytearray(_PIECE), bytearray(_PIECE)
        self._done = 0

    def reach(self, done: int) -> None:
        """Go on up to so many bytes."""
        while self._done < done:
            length = min(_PIECE, done - self._done)
            if length < _PIECE:
                self._pieces = bytearray(length), bytearray(length)
            self._compare(length)
            self._done += length

    def _compare(self, length: int) -> None:
        original, copy = self._pieces
        try:
            read = os.preadv(self._numbers[0], [original], self._done)
        except OSError as error:
            raise UnreadableError(error) from error
        if self._mended and self._done == 0:
            original[_VERSIONS : _VERSIONS + len(_DELETE)] = _DELETE
        if read != length or os.preadv(self._numbers[1], [copy], self._done) != length:
            raise UnequalError
        if original != copy:
            raise UnequalError
        self._digest.update(copy)

    def finish(self) -> None:
        """Do nothing: the last byte was the last."""

    def checksum(self) -> str:
        """Return the SHA-256 of the copy as hexadecimal digits."""
        return self._digest.hexdigest()
