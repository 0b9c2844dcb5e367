"""
What the Python API does under faults: in its caller's process, with no worker.

Only existing databases: the API leaves one that does not exist alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.scenes import Scene

_UP = ("inline", "up", "allow")
_UP_ALONE = ("inline", "up", "wait")
_AGAIN = ("inline", "again", "allow")
_DOWN = ("inline", "down", "allow")
_TO_THE_SAME = ("migrator", "down", "--to", "002")
"""What a `rollback_last` that was interrupted ends in: called again it would take back another."""

_SCENES = (
    ("up in-place delete clean", "in place", _UP),
    ("up in-place delete hot", "in place", _UP),
    ("up in-place wal clean", "in place", _UP),
    ("up in-place wal hot", "in place", _UP),
    ("up in-place delete hot failing", "in place, failing", _UP),
    ("up in-place wal clean failing", "in place, failing", _UP),
    ("up copy delete clean", "on a copy", _UP_ALONE),
    ("up copy wal hot failing", "on a copy", _UP_ALONE),
    ("up in-place delete clean", "again", _AGAIN),
    ("up in-place wal hot", "again", _AGAIN),
    ("up in-place wal clean failing", "again", _AGAIN),
    ("down in-place delete clean", "down", _DOWN),
    ("down in-place wal hot failing", "down", _DOWN),
)


def inline_scenes(scenes: Mapping[str, Scene]) -> Iterator[Scene]:
    """Yield scenes of the commands as the API runs them."""
    for name, group, command in _SCENES:
        yield replace(
            scenes[name],
            name=f"inline {'again ' if command is _AGAIN else ''}{name}",
            group=f"Python API, {group}",
            command=command,
            after=_TO_THE_SAME if command is _DOWN else None,
        )
