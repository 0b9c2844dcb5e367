"""
Safe migrations for SQLite: backed up, in one transaction, verified, or as before.

    >>> from migrator import MigrationRunner
    >>> MigrationRunner("app.db", "migrations").run_pending_migrations()
"""

from migrator.api import Migration, MigrationRunner

__all__ = ["Migration", "MigrationRunner"]
