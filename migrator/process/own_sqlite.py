"""Check that `sqlite3` is Python's own module, on which the guarded connection is built."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

from migrator.errors import MisfitError


def require_own_sqlite(bound: ModuleType | None = None) -> None:
    """
    Refuse a process in which another module has replaced `sqlite3`.

    Args:
        bound: What a module of this program has imported as `sqlite3`.

    Raises:
        MisfitError: It was `sys.modules["sqlite3"] = pysqlite3`, or the like.
    """
    for found in filter(None, (bound, sys.modules.get("sqlite3"))):
        if getattr(found, "Connection", None) is not _own_connection():
            raise _replaced(str(getattr(found, "__name__", found)))


def _own_connection() -> object:
    try:
        return import_module("_sqlite3").Connection
    except ImportError:
        return None


def _replaced(name: str) -> MisfitError:
    message = f"{name!r} has replaced Python's own `sqlite3` in this process."
    hint = (
        "Have the application `import pysqlite3 as sqlite3` instead of setting"
        ' `sys.modules["sqlite3"]`, or migrate in a process of its own, before the application'
        " starts: `migrator up`."
    )
    if "pysqlite3" not in name:
        hint = hint.replace("`import pysqlite3 as sqlite3`", f"import {name!r} under its own name")
    return MisfitError(message, hint=hint, reason="sqlite.replaced", data={"module": name})
