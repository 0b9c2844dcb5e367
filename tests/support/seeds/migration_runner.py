"""
Migration runner for numbered Python files.

The other of the two in-house frameworks that this project grows out of: a
directory of `001_name.py` with up(conn) and down(conn).
"""

import importlib.util
import sqlite3
from pathlib import Path
from typing import Any, Dict, List, Tuple


class MigrationRunner:
    """Applies numbered migration files in order."""

    def __init__(self, db_path: str, migrations_dir: str = "migrations"):
        self.db_path = db_path
        self.migrations_dir = Path(migrations_dir)
        self._ensure_migrations_table()

    def _get_connection(self) -> sqlite3.Connection:
        conn = sqlite3.connect(self.db_path)
        conn.row_factory = sqlite3.Row
        return conn

    def _ensure_migrations_table(self):
        conn = self._get_connection()
        try:
            conn.execute(
                """
                CREATE TABLE IF NOT EXISTS migrations (
                    version TEXT PRIMARY KEY,
                    name TEXT NOT NULL,
                    applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
                )
                """
            )
            conn.commit()
        finally:
            conn.close()

    def get_applied_versions(self) -> List[str]:
        conn = self._get_connection()
        try:
            rows = conn.execute("SELECT version FROM migrations ORDER BY version").fetchall()
            return [row["version"] for row in rows]
        finally:
            conn.close()

    def get_available_migrations(self) -> List[Tuple[str, str, Path]]:
        migrations = []
        for path in sorted(self.migrations_dir.glob("*.py")):
            if path.name.startswith("__"):
                continue
            version, _, name = path.stem.partition("_")
            if version.isdigit():
                migrations.append((version, name, path))
        return migrations

    def get_pending_migrations(self) -> List[Tuple[str, str, Path]]:
        applied = set(self.get_applied_versions())
        return [m for m in self.get_available_migrations() if m[0] not in applied]

    def _load_migration(self, path: Path):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def run_pending_migrations(self, verbose: bool = True) -> int:
        pending = self.get_pending_migrations()
        if not pending:
            if verbose:
                print("No pending migrations")
            return 0
        count = 0
        for version, name, path in pending:
            if verbose:
                print(f"Applying {version}: {name}")
            conn = self._get_connection()
            try:
                module = self._load_migration(path)
                module.up(conn)
                conn.execute(
                    "INSERT INTO migrations (version, name) VALUES (?, ?)", (version, name)
                )
                conn.commit()
                count += 1
            except Exception as e:
                conn.rollback()
                if verbose:
                    print(f"Failed {version}: {e}")
                raise
            finally:
                conn.close()
        return count

    def rollback_last(self, verbose: bool = True) -> bool:
        applied = self.get_applied_versions()
        if not applied:
            if verbose:
                print("Nothing to roll back")
            return False
        last = applied[-1]
        for version, name, path in self.get_available_migrations():
            if version != last:
                continue
            module = self._load_migration(path)
            if not hasattr(module, "down"):
                raise ValueError(f"Migration {version} has no down()")
            conn = self._get_connection()
            try:
                module.down(conn)
                conn.execute("DELETE FROM migrations WHERE version = ?", (version,))
                conn.commit()
            except Exception:
                conn.rollback()
                raise
            finally:
                conn.close()
            if verbose:
                print(f"Rolled back {version}: {name}")
            return True
        raise ValueError(f"Migration file of {last} not found")

    def get_status(self) -> Dict[str, Any]:
        available = self.get_available_migrations()
        applied = self.get_applied_versions()
        pending = self.get_pending_migrations()
        return {
            "total_available": len(available),
            "total_applied": len(applied),
            "total_pending": len(pending),
            "applied_versions": applied,
            "pending_versions": [version for version, _, _ in pending],
        }
