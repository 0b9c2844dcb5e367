"""
Standard descriptors that are closed when the program starts (`2>&-`).

The next file that is opened takes the lowest free number. Without this, what
is meant for stderr could land in a file of ours, or in the database.
"""

from __future__ import annotations

import fcntl
import os
import sys


def fill_standard() -> None:
    """
    Open /dev/null on those of the descriptors 0 to 2 that are closed.

    It closes by itself at exec: the application finds them as they were.
    """
    for number in (0, 1, 2):
        try:
            fcntl.fcntl(number, fcntl.F_GETFD)
        except OSError:
            _fill(number)
    # Python has none for a descriptor that was closed when it started.
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for good
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for good


def _fill(number: int) -> None:
    opened = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    if opened != number:
        os.dup2(opened, number, inheritable=False)
        os.close(opened)
