"""
Console lines for people: the time, what happened, and details on lines below.

A run begins with a line that names the program and the database, and ends with what became
of it. A failure is told once, where it happens, with its statement; the end has the exit
code, and last what to do. Everything else is in the JSON lines.
"""

from __future__ import annotations

from migrator.terminal import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_BELOW = ("statement", "backup", "traceback", "log_error", "hint")
"""Fields that stand below the line, in this order."""
_IN_LINES = frozenset(("statement", "traceback"))
"""Those whose texts keep their line breaks."""
_WORDS = {"warning": ("Warning: ", "\x1b[33m"), "error": ("Error: ", "\x1b[1;31m")}
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
_SHORTEST = 0.05
"""Seconds: below that a time says nothing."""


class Console:
    """
    Render events as lines for people.

    Args:
        colors: Whether ANSI's colours are used: dim for the time, yellow and red for the level.
    """

    def __init__(self, *, colors: bool) -> None:
        self._colors = colors
        self._told = ""

    def render(self, event: Mapping[str, Any]) -> str:
        """Return the lines for one event, whose values are plain."""
        name, level = event["event"], event["level"]
        message = str(event["message"])
        below = {key: str(event[key]) for key in _BELOW if event.get(key)}
        if name == "run.started":
            message = (
                f"{message.rstrip('.')} on {event['database']}." if event["database"] else message
            )
        elif name == "run.finished":
            message = self._end(event, message)
            if self._told:
                below = {key: text for key, text in below.items() if key in ("backup", "hint")}
        elif name.endswith(".finished"):
            message = _timed(message, event)
        if level == "error" and name != "run.finished":
            self._told = str(event["message"])
        word, color = _WORDS.get(level, ("", ""))
        time = event["timestamp"][:19].replace("T", " ") + "Z"
        if name != "run.started":
            time = time[11:19]
        line = f"{self._in(_DIM, time)}  {self._in(color, word + printable(message, chr(9)))}"
        return line + "".join(_block(key, text) for key, text in below.items())

    def _end(self, event: Mapping[str, Any], message: str) -> str:
        """Say how a run ended: of a failure that was told already, only what came of it."""
        if "reason" not in event:
            return _timed(message, event)
        what = f"exit code {event['exit_code']} ({event['outcome']}, {event['reason']})"
        if message == self._told:
            return f"Ended with {what}."
        self._told = ""
        return f"{message} Ended with {what}."

    def _in(self, color: str, text: str) -> str:
        return f"{color}{text}{_PLAIN}" if self._colors and color else text


def _timed(message: str, event: Mapping[str, Any]) -> str:
    """Add how long it took, unless the sentence says so or it is nothing."""
    seconds = event.get("seconds")
    if not isinstance(seconds, float) or seconds < _SHORTEST or message.endswith(" s."):
        return message
    return f"{message.removesuffix('.')} ({seconds:.1f} s)."


def _block(key: str, text: str) -> str:
    """Put a text below the line unchanged: people copy the commands of a hint from there."""
    shown = printable(text.rstrip(), "\n\t" if key in _IN_LINES else "\t")
    if key == "hint":
        return f"\n  Hint: {shown}"
    return f"\n    {key}:\n" + "\n".join(f"      {line}" for line in shown.split("\n"))
