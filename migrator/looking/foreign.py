"""Histories of other migration tools: recognised, named, never touched."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from migrator.looking.history import quoted

_TOOLS: dict[str, tuple[str, str | None]] = {
    "schema_migrations": ("dbmate, golang-migrate, Rails or Ecto", "max(version)"),
    "goose_db_version": ("goose", "max(version_id)"),
    "alembic_version": ("Alembic", "max(version_num)"),
    "django_migrations": ("Django", "count(*) || ' migrations'"),
    "_sqlx_migrations": ("sqlx", "max(version)"),
    "flyway_schema_history": ("Flyway", "max(version)"),
    "__efmigrationshistory": ("Entity Framework", 'max("MigrationId")'),
    "_yoyo_migration": ("yoyo", "max(migration_id)"),
    "yoyo_migration": ("yoyo", "max(migration_id)"),
    "_prisma_migrations": ("Prisma", "max(migration_name)"),
    "__drizzle_migrations": ("Drizzle", "max(created_at)"),
    "__diesel_schema_migrations": ("Diesel", "max(version)"),
    "refinery_schema_history": ("Refinery", "max(version)"),
    "knex_migrations": ("Knex", "max(name)"),
    "sequelizemeta": ("Sequelize", "max(name)"),
    "databasechangelog": ("Liquibase", "count(*) || ' change sets'"),
    "phinxlog": ("Phinx", "max(version)"),
    "migratehistory": ("peewee-migrate", "max(name)"),
    "aerich": ("Aerich", "max(version)"),
    "gorp_migrations": ("sql-migrate", "max(id)"),
    "tern_schema_version": ("tern", "max(version)"),
    "caribou_version": ("Caribou", "max(version)"),
}


_LONGEST = 100_000
"""Bytes of a row in another tool's table."""


@dataclass(frozen=True, slots=True)
class ForeignHistory:
    """Another tool's history: its name, its table, and how far it says it has come."""

    tool: str
    table: str
    version: str | None


def find(conn: sqlite3.Connection, own_table: str) -> ForeignHistory | None:
    """Return the first other tool's history in the database, None where there is none."""
    rows = conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for name in sorted(str(row[0]) for row in rows):
        tool = _TOOLS.get(name.lower())
        if tool is not None and name.lower() != own_table.lower():
            return ForeignHistory(tool[0], name, _version(conn, name, tool[1]))
    return None


def _version(conn: sqlite3.Connection, table: str, expression: str | None) -> str | None:
    """
    Ask the other table how far it is; a shape that we do not know is no answer.

    Nor is a value that is no version by its size: a generated column makes one
    of a gigabyte from nothing.
    """
    limit = conn.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
    try:
        row = conn.execute(f"SELECT {expression} FROM {quoted(table)}").fetchone()  # noqa: S608
    except sqlite3.DatabaseError:
        return None
    finally:
        conn.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limit)
    return None if row is None or row[0] is None else str(row[0])[:100]
