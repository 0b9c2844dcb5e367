"""End a process that a migration forked and that returned from the migration."""

from __future__ import annotations

import os
import sys

from migrator.change.effect import CheckFailedError


def end_if_forked(pid: int, error: BaseException | None) -> None:
    """
    End this process if it is a fork of the run's process.

    It must not go on with the run: neither undo it nor tidy up after it.
    """
    if os.getpid() == pid:
        return
    if isinstance(error, CheckFailedError):
        error = error.__cause__
    if error is not None and not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
    code = error.code if isinstance(error, SystemExit) else error is not None
    os._exit(code if isinstance(code, int) else 1)
