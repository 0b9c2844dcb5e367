"""
Write and read the lines in which a worker reports.

A migration can reach the pipe, so its lines are read like any input from outside. Each
line has a mark that only this worker's engine knows. The mark separates other lines and
proves nothing: the database decides.
"""

from __future__ import annotations

import json
import os
from typing import Any

from migrator import errors
from migrator.errors import InterruptedRunError, MigratorError
from migrator.model import Outcome

LONGEST = 16 << 20
"""Bytes kept of a line; no report is longer."""

_AS_JSON = json.JSONEncoder(default=repr).encode
_LEVELS = ("debug", "info", "warning", "error")
_PARENTS = ("run.", "app.")
"""Events that only the parent process sends."""
_TAKEN = frozenset({"event", "message", "level"})


def new_mark() -> bytes:
    """Return a mark that no other worker has."""
    return os.urandom(8).hex().encode() + b" "


def spell(mark: bytes, what: dict[str, Any]) -> bytes:
    """Return a report's line, with a line end before it for anything left in the pipe."""
    return b"\n" + mark + _AS_JSON(what).encode() + b"\n"


def read(line: bytes) -> dict[str, Any] | None:
    """
    Read a line behind its mark.

    Returns:
        An event (`event`, `message`, `level`, `fields`), or how the task ended: `result`,
        `error` (a `MigratorError`) or `crash`; None if it is not a report.
    """
    try:
        what = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(what, dict):
        return None
    if "event" in what:
        return what if _is_event(what) else None
    if isinstance(what.get("result"), dict) or isinstance(what.get("crash"), str):
        return what
    error = _load(what.get("error"))
    return None if error is None else {"error": error}


def _is_event(what: dict[str, Any]) -> bool:
    event, fields = what["event"], what.get("fields")
    if not isinstance(event, str) or not isinstance(fields, dict):
        return False
    if event == "phase" and not isinstance(fields.get("phase"), str):
        return False
    return (
        isinstance(what.get("message"), str)
        and what.get("level") in _LEVELS
        and not event.startswith(_PARENTS)
        and not _TAKEN & fields.keys()
    )


def read_outcome(claim: dict[str, Any]) -> Outcome | None:
    """Return the outcome in a worker's result, or None."""
    fields = {name: claim[name] for name in Outcome._fields if name in claim}
    changed, file = fields.get("changed", []), fields.get("file")
    texts = [fields.get(name) for name in ("backup", "method", "unsettled", "hint")]
    fits = (
        isinstance(fields.get("kind"), str)
        and isinstance(changed, list)
        and all(isinstance(each, str) for each in changed)
        and (file is None or (isinstance(file, list) and all(isinstance(n, int) for n in file)))
        and all(isinstance(each, str | None) for each in texts)
        and isinstance(fields.get("identical"), bool | None)
    )
    if not fits:
        return None
    lists = {"changed": tuple(changed), "file": None if file is None else tuple(file)}
    return Outcome(**{**fields, **lists})


def dump(error: MigratorError) -> dict[str, Any]:
    """Turn an error into JSON values; an unknown subclass becomes its nearest known class."""
    names = (kind.__name__ for kind in type(error).__mro__)
    return {
        "type": next(name for name in names if _kind(name) is not None),
        "message": error.message,
        "hint": error.hint,
        "reason": error.reason,
        "retryable": error.retryable,
        "data": error.data,
        "outcome": error.outcome,
        "began": error.began,
    }


def _load(what: Any) -> MigratorError | None:
    """Turn JSON values into the error that they describe; None if they do not."""
    if not isinstance(what, dict):
        return None
    kind, data, retryable = _kind(what.get("type")), what.get("data"), what.get("retryable")
    texts = [what.get(name) for name in ("message", "hint", "reason")]
    message, hint, reason = (text if isinstance(text, str) else None for text in texts)
    if kind is None or message is None or hint is None or reason is None:
        return None
    if not isinstance(retryable, bool) or not isinstance(data, dict):
        return None
    outcome, began = what.get("outcome"), what.get("began")
    if outcome not in (None, *errors.FAILED_OUTCOMES) or not isinstance(began, bool | None):
        return None
    error = kind(message, hint=hint, reason=reason, retryable=retryable, data=data, outcome=outcome)
    error.began = began
    return error


def _kind(name: Any) -> type[MigratorError] | None:
    """Return the error class of that name; only the parent reports a signal."""
    found = getattr(errors, name, None) if isinstance(name, str) else None
    if not isinstance(found, type) or not issubclass(found, MigratorError):
        return None
    return None if issubclass(found, InterruptedRunError) else found
