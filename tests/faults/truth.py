"""Which ends a fault allows: beyond what the database says, what its kind can lead to."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from migrator.files import FULL
from tests.faults.launching import Done
from tests.faults.shim import Fault

_ANY_REASON = ("unable to open database file", "attempt to write a readonly database")
"""
What SQLite says, whatever the errno was, where it cannot make a file or roll back.

Python is not told the errno: the code is that of a permission, 77, or in a
migration 80. Where a run that has begun meets a disk that stays full, trying tells.
"""

CODES = {
    errno.ENOSPC: frozenset({73, 74}),
    errno.EDQUOT: frozenset({73, 74}),
    errno.EIO: frozenset({73, 74}),
    errno.EACCES: frozenset({69, 73, 74, 77}),
}
"""What a run that fails by an errno may end with: in the making of the backup 73."""


def wrong_code(fault: Fault, done: Done, *, fails: bool, restores: bool) -> Iterator[str]:
    """
    Yield what is wrong with the code of a run that met an error.

    Args:
        fault: What it met.
        done: How it ended; one that ended well has survived the error.
        fails: Whether its migrations fail, which may come before the error.
        restores: Whether it is a `restore`, whose own failure is 82.
    """
    allowed = CODES.get(fault.error)
    if allowed is None:
        return
    found_out = fault.action == "error-on" and fault.error in FULL and "migration." in done.stderr
    if not found_out and any(words in done.stderr for words in _ANY_REASON):
        allowed |= {77, 80}
    allowed |= {0} | ({80} if fails else set()) | ({82} if restores else set())
    if done.code not in allowed:
        yield f"exit code {done.code} after {errno.errorcode[fault.error]}"


def early_unknown(fault: Fault, log: str, *, restored: bool | None) -> Iterator[str]:
    """
    Yield what is wrong with an unknown outcome: the disk must have failed at the commit.

    Of a `restore` it is only said behind that: `restored` is whether the new state is there.
    """
    if not fault.error:
        yield f"the outcome is unknown after {fault.action}"
    # A commit begins when the new state has been verified.
    if restored is not None:
        if not restored:
            yield "a restore is called committed that is not"
    elif '"event": "verify.finished"' not in log:
        yield "the outcome is unknown before the commit"
