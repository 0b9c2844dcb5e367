"""Kubernetes' termination message: what `kubectl describe pod` shows of a run that failed."""

from __future__ import annotations

import os

from migrator.errors import MigratorError

PATH = "/dev/termination-log"
_LIMIT = 4096
"""Bytes that the kubelet keeps."""


def leave_message(error: MigratorError, path: str = PATH) -> None:
    """Write error and hint where Kubernetes looks for them, if it has made the file."""
    whole = f"{error.message}\n{error.hint}".strip().encode(errors="backslashreplace")
    text = whole[:_LIMIT].decode(errors="ignore").encode()
    try:
        number = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(number, text)
    except OSError:
        return
    finally:
        os.close(number)
