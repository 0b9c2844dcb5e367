"""Kubernetes' termination message: `kubectl describe pod` shows it for a failed run."""

from __future__ import annotations

import os

from migrator.errors import MigratorError
from migrator.terminal import printable

PATH = "/dev/termination-log"
_LIMIT = 4096
"""Bytes that the kubelet keeps."""


def leave_message(error: MigratorError, path: str = PATH) -> None:
    """Write error and hint where Kubernetes reads them, if the file exists."""
    # A long error is cut before its hint: the hint has the command to type next.
    hint = _cut(f"\n{printable(error.hint)}", _LIMIT // 2)
    text = (_cut(printable(error.message), _LIMIT - len(hint)) + hint).strip()
    how = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        number = os.open(path, how)
    except OSError:
        return
    try:
        os.write(number, text)
        # Only now: who reads meanwhile finds the message, and not an empty file.
        os.ftruncate(number, len(text))
    except OSError:
        return
    finally:
        os.close(number)


def _cut(text: str, limit: int) -> bytes:
    """Return a text cut to at most so many bytes, between two characters."""
    return text.encode(errors="backslashreplace")[:limit].decode(errors="ignore").encode()
