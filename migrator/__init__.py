"""
Safe migrations for SQLite: backed up, in one transaction, verified, or as before.

    >>> from migrator import MigrationRunner
    >>> MigrationRunner("app.db", "migrations").run_pending_migrations()
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from migrator.api import Migration, MigrationRunner

__all__ = ["Migration", "MigrationRunner"]


def __getattr__(name: str) -> Any:
    """Import the API when it is asked for: the two commands, which start containers, never do."""
    if name in __all__:
        from migrator.process.own_sqlite import require_own_sqlite

        require_own_sqlite()
        from migrator import api

        return getattr(api, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
