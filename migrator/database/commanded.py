"""
What `--migrate-command` left when it ran last: for which version, and with which schema.

It only spares a run. Where it cannot be read or written, the command runs once more, on a
copy, and changes nothing.
"""

from __future__ import annotations

import contextlib
import os

from migrator.database.workspace import make_home
from migrator.files import make_directory, open_regular, write_atomic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.database.workspace import Layout
    from migrator.files import Ownership

_LARGEST = 1 << 16


def read(layout: Layout) -> tuple[str | None, str] | None:
    """Return version and schema, None where nothing is known."""
    with contextlib.suppress(OSError):
        descriptor = open_regular(layout.commanded)
        try:
            return _parse(os.read(descriptor, _LARGEST))
        finally:
            os.close(descriptor)
    return None


def _parse(data: bytes) -> tuple[str | None, str] | None:
    import json

    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    version, schema = found.get("app_version"), found.get("schema")
    if isinstance(schema, str) and (version is None or isinstance(version, str)):
        return version, schema
    return None


def write(layout: Layout, version: str | None, schema: str, ownership: Ownership) -> None:
    """
    Note what the command has left, durably; only under the lock.

    Raises:
        OSError: It cannot be written.
    """
    import json

    owner = ownership.private
    make_home(layout, ownership)
    make_directory(layout.commanded.parent, owner)
    text = json.dumps({"app_version": version, "schema": schema}, sort_keys=True)
    write_atomic(layout.commanded, text.encode() + b"\n", owner)
