"""Kubernetes' termination message: what `kubectl describe pod` shows of a run that failed."""

from __future__ import annotations

import os

from migrator.errors import MigratorError
from migrator.terminal import printable

PATH = "/dev/termination-log"
_LIMIT = 4096
"""Bytes that the kubelet keeps."""


def leave_message(error: MigratorError, path: str = PATH) -> None:
    """Write error and hint where Kubernetes looks for them, if it has made the file."""
    # Of a long error the hint, which has the command that leads on, is kept.
    hint = _cut(f"\n{printable(error.hint)}", _LIMIT // 2)
    text = (_cut(printable(error.message), _LIMIT - len(hint)) + hint).strip()
    how = os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        number = os.open(path, how)
    except OSError:
        return
    try:
        os.write(number, text)
    except OSError:
        return
    finally:
        os.close(number)


def _cut(text: str, limit: int) -> bytes:
    """Return the beginning of a text in at most so many bytes, whole characters of it."""
    return text.encode(errors="backslashreplace")[:limit].decode(errors="ignore").encode()
