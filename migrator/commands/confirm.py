"""A question on a terminal, before what a person may have typed by mistake."""

from __future__ import annotations

import contextlib
import os
import sys

from migrator.errors import UsageError
from migrator.options.model import Arguments, Option
from migrator.terminal import printable

YES = Option("--yes", "yes", "do not ask first, as is done on a terminal only", switch=True)


def asks(given: Arguments) -> bool:
    """Tell whether a person at a terminal can read the question and answer it."""
    return not given["yes"] and os.isatty(0) and os.isatty(2)


def confirm(question: str) -> None:
    """
    Ask, and go on only with a yes.

    A signal ends the command meanwhile as at any other time: nothing has begun.

    Raises:
        UsageError: The answer was another one, or none.
    """
    answer = ""
    try:
        _say(printable(f"{question} [y/N] "))
        with contextlib.suppress(UnicodeDecodeError):
            answer = sys.stdin.readline()
    finally:
        # What comes next, a signal's last line as well, begins on a line of its own.
        if not answer.endswith("\n"):
            _say("\n")
    if answer.strip().lower() in ("y", "yes"):
        return
    message = "It was not confirmed, so nothing was done."
    hint = "Answer `y`, or give `--yes`, which is not asked."
    raise UsageError(message, hint=hint, reason="usage.not_confirmed")


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
