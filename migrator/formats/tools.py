"""The tools whose migrations are run as they are, each imported when it may be the one."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.formats.tool import Tool

TOOLS = {
    "dbmate": ("migrator.formats.dbmate", "Dbmate", "schema_migrations"),
    "goose": ("migrator.formats.goose", "Goose", "goose_db_version"),
    "golang-migrate": ("migrator.formats.golang_migrate", "GolangMigrate", "schema_migrations"),
    "sqlx": ("migrator.formats.sqlx", "Sqlx", "_sqlx_migrations"),
    "diesel": ("migrator.formats.diesel", "Diesel", "__diesel_schema_migrations"),
    "refinery": ("migrator.formats.refinery", "Refinery", "refinery_schema_history"),
    "fastmigrate": ("migrator.formats.fastmigrate", "Fastmigrate", "_meta"),
    "sqlite-utils": ("migrator.formats.sqlite_utils", "SqliteUtils", "_sqlite_migrations"),
    "yoyo": ("migrator.formats.yoyo", "Yoyo", "_yoyo_migration"),
    "flyway": ("migrator.formats.flyway", "Flyway", "flyway_schema_history"),
    "drizzle": ("migrator.formats.drizzle", "Drizzle", "__drizzle_migrations"),
    "prisma": ("migrator.formats.prisma", "Prisma", "_prisma_migrations"),
    "d1": ("migrator.formats.d1", "D1", "d1_migrations"),
}
"""Module, class and history's table of each value of `--format` but `auto` and `native`."""


def tool(name: str, path: Path, database: Path) -> Tool:
    """Return the migrations at a path as those of a tool."""
    module, kind, _ = TOOLS[name]
    found: Tool = getattr(import_module(module), kind)(path, database)
    return found
