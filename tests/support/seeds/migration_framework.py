"""
Database migration framework of a chat bot.

One of the two in-house frameworks that this project grows out of, with its own
classes and the bot's own migrations in one file, as such files are found.
"""

import logging
import os
import sqlite3
from dataclasses import dataclass
from typing import Callable, List

logger = logging.getLogger(__name__)


@dataclass
class Migration:
    """Represents a single database migration."""

    name: str
    version: str
    description: str
    up_func: Callable[[sqlite3.Cursor], None]


class MigrationRunner:
    """Runs migrations and remembers their names."""

    def __init__(self, db_path: str):
        self.db_path = db_path
        self.migrations: List[Migration] = []

    def add_migration(self, migration: Migration):
        """Add a migration to the runner."""
        self.migrations.append(migration)

    def _create_migrations_table(self, cursor):
        cursor.execute(
            """
            CREATE TABLE IF NOT EXISTS migrations (
                id INTEGER PRIMARY KEY AUTOINCREMENT,
                migration_name TEXT UNIQUE NOT NULL,
                applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
                version TEXT DEFAULT '1.0.0',
                description TEXT
            )
            """
        )

    def _is_migration_applied(self, cursor, name: str) -> bool:
        cursor.execute("SELECT COUNT(*) FROM migrations WHERE migration_name = ?", (name,))
        return cursor.fetchone()[0] > 0

    def _record_migration(self, cursor, migration: Migration):
        cursor.execute(
            "INSERT INTO migrations (migration_name, version, description) VALUES (?, ?, ?)",
            (migration.name, migration.version, migration.description),
        )

    def run_migrations(self) -> bool:
        """Run all pending migrations."""
        if not os.path.exists(self.db_path):
            logger.info("Database does not exist yet; the application creates its schema")
            return True
        try:
            conn = sqlite3.connect(self.db_path)
            cursor = conn.cursor()
            self._create_migrations_table(cursor)
            for migration in self.migrations:
                if self._is_migration_applied(cursor, migration.name):
                    continue
                logger.info(f"Applying migration {migration.name}")
                migration.up_func(cursor)
                self._record_migration(cursor, migration)
                conn.commit()
            conn.close()
            return True
        except Exception as e:
            logger.error(f"Migration failed: {e}")
            return False

    def get_applied_migrations(self) -> List[str]:
        """Names of what has been applied, oldest first."""
        conn = sqlite3.connect(self.db_path)
        try:
            cursor = conn.cursor()
            cursor.execute("SELECT migration_name FROM migrations ORDER BY id")
            return [row[0] for row in cursor.fetchall()]
        finally:
            conn.close()


def _column_exists(cursor, table: str, column: str) -> bool:
    cursor.execute(f"PRAGMA table_info({table})")
    return any(row[1] == column for row in cursor.fetchall())


def add_points_column(cursor: sqlite3.Cursor):
    if not _column_exists(cursor, "users", "points"):
        cursor.execute("ALTER TABLE users ADD COLUMN points INTEGER DEFAULT 0")


def create_settings_table(cursor: sqlite3.Cursor):
    cursor.execute(
        """
        CREATE TABLE IF NOT EXISTS guild_settings (
            guild_id TEXT PRIMARY KEY,
            prefix TEXT DEFAULT '!',
            welcome TEXT
        )
        """
    )


def index_messages_by_user(cursor: sqlite3.Cursor):
    cursor.execute("CREATE INDEX IF NOT EXISTS idx_messages_user ON messages(user_id)")


def create_migration_runner(db_path: str) -> MigrationRunner:
    """Create a migration runner with all migrations registered."""
    runner = MigrationRunner(db_path)
    runner.add_migration(
        Migration("add_points_column", "1.1.0", "Points for users", add_points_column)
    )
    runner.add_migration(
        Migration("create_settings_table", "1.2.0", "Settings per guild", create_settings_table)
    )
    runner.add_migration(
        Migration("index_messages_by_user", "1.2.0", "Index on messages", index_messages_by_user)
    )
    return runner
