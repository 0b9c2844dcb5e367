"""
Histories of other migration tools: recognised by what they look like, named, never touched.

The list of known tools leads to a better message. It is not the condition: a
table with a history's name, a history's columns and rows in it is one, whoever
made it. Too much costs an `--accept foreign`, too little a database that is
migrated twice.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3

from migrator.formats.history import own_format
from migrator.sqlite import quoted
from migrator.value import Value

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
    "kysely_migration": ("Kysely", "max(name)"),
    "d1_migrations": ("Wrangler (D1)", "max(name)"),
    "seaql_migrations": ("SeaORM", "max(version)"),
    "atlas_schema_revisions": ("Atlas", "max(version)"),
    "mikro_orm_migrations": ("MikroORM", "max(name)"),
    "doctrine_migration_versions": ("Doctrine", "max(version)"),
    "migration_versions": ("Doctrine", "max(version)"),
    "shmig_version": ("shmig", "max(version)"),
    "schemaversions": ("DbUp", "max(ScriptName)"),
    "versioninfo": ("FluentMigrator", "max(Version)"),
    "play_evolutions": ("Play", "max(id)"),
    "ragtime_migrations": ("Ragtime", "max(id)"),
    "darwin_migrations": ("darwin", "max(version)"),
    "grdb_migrations": ("GRDB", "max(identifier)"),
    "room_master_table": ("Android Room", None),
    "_sqlite_migrations": ("sqlite-utils", "max(name)"),
}

_LONGEST = 100_000
"""Bytes of a row in another tool's table."""

_STRONG = re.compile(
    r"migrat|yoyo|evolutions?$|change_?sets?|database_?change|sequelize_?meta|umzug|phinx|room_master"
    r"|(?:schema|db|database|sql|table|data)_?"
    r"(?:versions?|history|info|log|changes?|change_?log|revisions?|meta|updates?|upgrades?|patch(?:es)?)"
    r"(?:_?(?:history|log|info|table))?$"
    r"|(?:version|patch|upgrade|revision)_?(?:info|history|log|table)$",
)
"""Words of a table's name that a history has, wherever in it."""

_WEAK = re.compile(
    r"(?:\w+_)?(?:versions?|revisions?|change_?log|patch(?:es)?|upgrades?|updates?|meta|metadata)"
)
"""Names that ordinary tables have as well: a history only where each column is one's."""

_SETTINGS = re.compile(
    r"(?:\w+_)?(?:settings?|config(?:uration)?|meta(?:_?data)?|info|propert(?:y|ies)|options?|kv"
    r"|key_?values?|params?|parameters?|preferences|globals|variables|system|state)"
)
_VERSION_KEY = re.compile(
    r"(?:schema|db|database|migration|data|sql|table|user)[ _.:-]?(?:version|revision|level)"
    r"|(?:last|current)[ _.:-]?(?:migration|schema)\w*|migration|schema",
    re.IGNORECASE,
)
_VERSION_COLUMNS = (
    "schema_version",
    "db_version",
    "database_version",
    "schemaversion",
    "dbversion",
)

_KEYS = frozenset(
    {"version", "versions", "revision", "migration", "migrations", "name", "filename", "file"}
    | {"script", "scriptname", "hash", "checksum", "step", "tag", "patch", "change", "changeset"}
    | {"identifier", "identity", "num", "number", "level", "head", "upgrade", "evolution"}
)
"""What says which migration it was."""

_COLUMNS = _KEYS | frozenset(
    {"id", "applied", "apply", "executed", "execution", "installed", "run", "ran", "done", "at"}
    | {"created", "updated", "timestamp", "tstamp", "time", "date", "on", "batch", "success"}
    | {"dirty", "status", "state", "error", "total", "count", "rank", "order", "orderexecuted"}
    | {"exectype", "md5sum", "description", "comments", "comment", "author", "liquibase", "labels"}
    | {"contexts", "deployment", "revert", "script", "up", "down", "logs", "rolled", "started"}
    | {"finished", "product", "app", "title", "seq", "index", "value", "user", "by", "hostname"}
    | {"module", "package", "kind", "type", "direction", "operation", "duration", "breakpoint"}
    | {"dateexecuted", "appliedon", "applied_at", "migrated", "complete", "last", "problem", "set"}
    | {
        "stmt",
        "operator",
        "partial",
        "hashes",
        "steps",
        "sql",
        "statement",
        "seconds",
        "locked",
        "repository",
    }
)


class ForeignHistory(Value):
    """
    Another tool's history: its name, its table, and the last version that it names.

    `tool` is None where it is not known. `table` is None for a `user_version`, and
    `ours` says that the table is a history of ours, under another name than was given.
    """

    tool: str | None
    table: str | None
    version: str | None
    ours: bool = False


def find(conn: sqlite3.Connection, own_table: str) -> ForeignHistory | None:
    """Return the first other history in a database without ours, or None."""
    rows = conn.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%'"
        " ESCAPE '\\' AND sql NOT LIKE 'CREATE VIRTUAL%'"
    ).fetchall()
    names = sorted(str(row[0]) for row in rows)
    others = [name for name in names if name.lower() != own_table.lower()]
    for name in others:
        ours = own_format(conn, name)
        if ours is not None and _has_rows(conn, name):
            version = _version(conn, name, f"max({ours.identity})")
            return ForeignHistory(None, name, version, ours=True)
    for name in others:
        tool = _TOOLS.get(name.lower())
        if tool is not None:
            return ForeignHistory(tool[0], name, _version(conn, name, tool[1]))
    for name in others:
        found = _by_shape(conn, name) or _in_settings(conn, name)
        if found is not None:
            return found
    noted = conn.execute("PRAGMA user_version").fetchone()[0] if names else 0
    return ForeignHistory(None, None, str(noted)) if noted else None


def has_tables(conn: sqlite3.Connection) -> bool:
    """Tell whether there is any table but SQLite's own."""
    query = (
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%'"
        " ESCAPE '\\' LIMIT 1"
    )
    return conn.execute(query).fetchone() is not None


def _by_shape(conn: sqlite3.Connection, table: str) -> ForeignHistory | None:
    """Return a table as a history where its name, its columns and its rows look like one."""
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", table).lower().strip("_")
    strong = _STRONG.search(plain) is not None
    if not (strong or _WEAK.fullmatch(plain)):
        return None
    columns = _columns(conn, table)
    words = {column: _words(column) for column in columns}
    keys = [column for column in columns if not _KEYS.isdisjoint(words[column])]
    if any(not _DONE.isdisjoint(each) for each in words.values()):
        keys += [column for column in columns if column.lower() == "id"]
    strange = [column for column in columns if not _is_a_historys(words[column])]
    if not (keys or (strong and len(columns) <= _FEW)) or not _has_rows(conn, table):
        return None
    if len(strange) * 3 > len(columns) or (strange and not strong):
        return None
    best = min(keys or columns, key=lambda each: _rank(words[each]))
    return ForeignHistory(None, table, _version(conn, table, f"max({quoted(best)})"))


_FEW = 3
_DONE = frozenset({"applied", "executed", "installed", "ran", "migrated"})
_BEST = ("version", "revision", "migration", "identifier", "name", "filename", "file", "script")


def _rank(words: frozenset[str]) -> int:
    return next((at for at, word in enumerate(_BEST) if word in words), len(_BEST))


def _is_a_historys(words: frozenset[str]) -> bool:
    """Tell whether a history may have such a column; of the ids only its own."""
    if "id" in words and len(words) > 1:
        return not (words - {"id"}).isdisjoint(_COLUMNS)
    return not words.isdisjoint(_COLUMNS)


def _in_settings(conn: sqlite3.Connection, table: str) -> ForeignHistory | None:
    """Return what a table of settings says of the schema's version."""
    columns = _columns(conn, table)
    for column in columns:
        if column.lower() in _VERSION_COLUMNS:
            version = _version(conn, table, f"max({quoted(column)})")
            if version is not None and version != "0":
                return ForeignHistory(None, table, version)
    if not _SETTINGS.fullmatch(table.lower().strip("_")) or not 2 <= len(columns) <= _FEW + 2:
        return None
    with contextlib.suppress(sqlite3.DatabaseError, UnicodeDecodeError):
        found = conn.execute(
            f"SELECT * FROM {quoted(table)} LIMIT 1000"  # noqa: S608 - quoted
        ).fetchall()
        for row in found:
            for at, each in enumerate(row[:-1]):
                if isinstance(each, str) and _VERSION_KEY.fullmatch(each):
                    return ForeignHistory(None, table, str(row[at + 1])[:100])
    return None


def _columns(conn: sqlite3.Connection, table: str) -> list[str]:
    with contextlib.suppress(sqlite3.DatabaseError):
        rows = conn.execute(f"PRAGMA table_info({quoted(table)})").fetchall()
        return [str(row[1]) for row in rows]
    return []


def _words(column: str) -> frozenset[str]:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column).lower()
    return frozenset(re.findall(r"[a-z0-9]+", apart))


def _has_rows(conn: sqlite3.Connection, table: str) -> bool:
    with contextlib.suppress(sqlite3.DatabaseError):
        query = f"SELECT 1 FROM {quoted(table)} LIMIT 1"  # noqa: S608 - quoted
        return conn.execute(query).fetchone() is not None
    return False


def _version(conn: sqlite3.Connection, table: str, expression: str | None) -> str | None:
    """
    Read the last version of another tool's table; None for a shape that we do not know.

    Nor is a value that is no version by its size: a generated column makes one
    of a gigabyte from nothing.
    """
    if expression is None:
        return None
    limit = conn.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
    try:
        row = conn.execute(f"SELECT {expression} FROM {quoted(table)}").fetchone()  # noqa: S608
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        return None
    finally:
        conn.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limit)
    return None if row is None or row[0] is None else str(row[0])[:100]
