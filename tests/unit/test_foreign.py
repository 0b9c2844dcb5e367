"""Which databases look as if another tool had migrated them, and which tables are ordinary."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from migrator.formats import foreign
from tests.support.files import BY_VERSION

BY_NAME = (
    "CREATE TABLE migrations (id INTEGER PRIMARY KEY AUTOINCREMENT, migration_name TEXT UNIQUE"
    " NOT NULL, applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, version TEXT DEFAULT '1.0.0',"
    " description TEXT);"
)

HISTORIES = {
    "kysely": "kysely_migration(name varchar(255) primary key, timestamp varchar(255))",
    "d1": "d1_migrations(id INTEGER PRIMARY KEY, name TEXT UNIQUE, applied_at TIMESTAMP)",
    "seaorm": "seaql_migrations(version varchar PRIMARY KEY, applied_at bigint)",
    "atlas": "atlas_schema_revisions(version text, description text, type int, applied int,"
    " total int, executed_at datetime, execution_time bigint, error text, error_stmt text,"
    " hash text, partial_hashes json, operator_version text)",
    "mikro-orm": "mikro_orm_migrations(id integer, name text, executed_at datetime)",
    "knex": "knex_migrations(id integer, name varchar, batch integer, migration_time datetime)",
    "objection": "my_knex_migrations(id integer, name varchar, batch int, migration_time datetime)",
    "umzug": "SequelizeMeta(name VARCHAR(255))",
    "typeorm": "migrations(id integer, timestamp bigint, name varchar)",
    "typeorm, renamed": "typeorm_migrations(id integer, timestamp bigint, name varchar)",
    "laravel": "migrations(id integer, migration varchar, batch integer)",
    "phinx": "phinxlog(version bigint, migration_name varchar, start_time, end_time, breakpoint)",
    "phinx, renamed": "app_migrations(version bigint, migration_name text, start_time, end_time)",
    "doctrine": "doctrine_migration_versions(version, executed_at, execution_time)",
    "symfony": "migration_versions(version varchar, executed_at datetime)",
    "mybatis": "CHANGELOG(ID NUMERIC, APPLIED_AT VARCHAR(25), DESCRIPTION VARCHAR(255))",
    "liquibase": "DATABASECHANGELOG(ID, AUTHOR, FILENAME, DATEEXECUTED, ORDEREXECUTED, EXECTYPE)",
    "rambler": "migrations(migration varchar(255))",
    "shmig": "shmig_version(version INTEGER, migrated_at TIMESTAMP)",
    "tern": "schema_version(version int4)",
    "dbup": "SchemaVersions(SchemaVersionID INTEGER, ScriptName TEXT, Applied DATETIME)",
    "fluentmigrator": "VersionInfo(Version INTEGER, AppliedOn DATETIME, Description TEXT)",
    "diesel": "__diesel_schema_migrations(version VARCHAR(50), run_on TIMESTAMP)",
    "refinery": "refinery_schema_history(version INT4, name, applied_on, checksum)",
    "yoyo log": "_yoyo_log(id, migration_hash, migration_id, operation, created_at_utc)",
    "south": "south_migrationhistory(id integer, app_name, migration, applied datetime)",
    "prisma": "_prisma_migrations(id, checksum, finished_at, migration_name, logs, rolled_back_at,"
    " started_at, applied_steps_count)",
    "drizzle": "__drizzle_migrations(id INTEGER, hash text, created_at numeric)",
    "aerich": "aerich(id INTEGER, version VARCHAR, app VARCHAR, content JSON)",
    "peewee": "migratehistory(id INTEGER, name VARCHAR, migrated_at DATETIME)",
    "piccolo": "migration(id INTEGER, name VARCHAR, app_name VARCHAR, ran_on TIMESTAMP)",
    "room": "room_master_table(id INTEGER PRIMARY KEY, identity_hash TEXT)",
    "sqlite-utils": "_sqlite_migrations(migration_set TEXT, name TEXT, applied_at TEXT)",
    "fastmigrate": "_meta(id INTEGER PRIMARY KEY, version INTEGER)",
    "ecto": "schema_migrations(version INTEGER, inserted_at TEXT)",
    "ragtime": "ragtime_migrations(id varchar(255), created_at varchar(32))",
    "migratus": "schema_migrations(id BIGINT, applied TIMESTAMP, description VARCHAR)",
    "play": "play_evolutions(id int, hash, applied_at, apply_script, revert_script, state,"
    " last_problem)",
    "grdb": "grdb_migrations(identifier TEXT)",
    "evolve": "changelog(id INTEGER, type, version, description, name, checksum, installed_by,"
    " installed_on, success)",
    "darwin": "darwin_migrations(id, version, description, checksum, applied_at, execution_time)",
    "sequel": "schema_info(version integer)",
    "sequel, timestamps": "schema_migrations(filename varchar(255))",
    "sqlalchemy-migrate": "migrate_version(repository_id, repository_path, version INTEGER)",
    "db_version": "db_version(version INTEGER)",
    "version": "version(version INTEGER)",
    "patches": "db_patches(patch TEXT, applied_at TEXT)",
    "a made-up one": "acme_schema_changelog(step INTEGER, done_at TEXT)",
    "camel case": "DbMigrationHistory(MigrationId TEXT, AppliedAt TEXT)",
    "bun": "bun_migrations(id INTEGER, name VARCHAR, group_id INTEGER, migrated_at TIMESTAMP)",
    "xorm": "migrations(id TEXT, description TEXT)",
    "gormigrate": "migrations(id VARCHAR(255))",
    "a column": "app_state(schema_version INTEGER)",
}
"""A history of each tool, with a row."""

VALUES = {
    "settings": ("settings(key TEXT PRIMARY KEY, value TEXT)", "'schema_version', '7'"),
    "config": ("config(name TEXT, value)", "'db_version', 7"),
    "meta": ("meta(key TEXT, value TEXT)", "'schemaVersion', '7'"),
    "app_info": ("app_info(id INTEGER, key TEXT, value TEXT)", "1, 'database_version', '7'"),
}

ORDINARY = {
    "versions of documents": "versions(id INTEGER, document_id INTEGER, body TEXT, created_at TEXT)",
    "birds": "bird_migrations(id INTEGER, species TEXT, route TEXT, distance REAL, season TEXT)",
    "a wiki's revisions": "revision(id INTEGER, page_id INTEGER, text TEXT, author TEXT, at TEXT)",
    "a chat": "chat_history(id INTEGER, room TEXT, name TEXT, message TEXT, created_at TEXT)",
    "orders": "orders(id INTEGER, number TEXT, created_at TEXT)",
    "files": "files(id INTEGER, name TEXT, hash TEXT, created_at TEXT)",
    "settings": "settings(key TEXT, value TEXT)",
    "facts": "meta(key TEXT, value TEXT)",
    "users": "users(id INTEGER, name TEXT)",
    "login history": "login_history(id INTEGER, user TEXT, at TEXT)",
    "metadata of songs": "song_metadata(song_id INTEGER, artist TEXT, album TEXT)",
    "price history": "price_history(id INTEGER, price INTEGER, at TEXT)",
    "updates": "updates(id INTEGER, headline TEXT, body TEXT)",
}
"""Tables that only have a word, or some columns, of a history."""


@pytest.fixture
def conn():
    """Return an empty database."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        yield conn


def made(conn: sqlite3.Connection, table: str, *, row: bool = True) -> None:
    """Make a table, with a row whose values all are `0002_cents`."""
    conn.execute(f"CREATE TABLE {table}")
    name = table.partition("(")[0]
    if row:
        width = len(conn.execute(f"PRAGMA table_info({name})").fetchall())
        values = ", ".join(["2"] * width)
        conn.execute(f"INSERT INTO {name} VALUES ({values})")


@pytest.mark.parametrize("tool", HISTORIES)
def test_what_looks_like_a_history_is_one(conn, tool):
    """A history's name, a history's columns, and rows: whoever made it, and listed or not."""
    conn.execute("CREATE TABLE items (id INTEGER PRIMARY KEY)")
    made(conn, HISTORIES[tool])
    found = foreign.find(conn, "schema_history")
    assert found is not None
    assert HISTORIES[tool].partition("(")[0] == found.table
    assert not found.ours


@pytest.mark.parametrize("tool", VALUES)
def test_a_version_among_settings_is_a_history(conn, tool):
    """Applications that migrate themselves note their schema's version with their settings."""
    table, values = VALUES[tool]
    conn.execute(f"CREATE TABLE {table}")
    assert foreign.find(conn, "migrations") is None
    conn.execute(f"INSERT INTO {table.partition('(')[0]} VALUES ({values})")
    found = foreign.find(conn, "migrations")
    assert found is not None
    assert "7" == found.version


@pytest.mark.parametrize("kind", ORDINARY)
def test_an_ordinary_table_is_none(conn, kind):
    """Documents have versions, birds migrate, and chats have histories."""
    made(conn, ORDINARY[kind])
    assert foreign.find(conn, "migrations") is None


def test_a_history_without_rows_says_nothing(conn):
    """Nothing was applied by it."""
    made(conn, HISTORIES["laravel"], row=False)
    assert foreign.find(conn, "schema_history") is None


def test_a_user_version_is_a_history(conn):
    """Of a database with tables: applications and libraries count their migrations there."""
    conn.execute("PRAGMA user_version = 3")
    assert foreign.find(conn, "migrations") is None
    conn.execute("CREATE TABLE items (id INTEGER PRIMARY KEY)")
    found = foreign.find(conn, "migrations")
    assert found is not None
    assert (None, "3") == (found.table, found.version)


@pytest.mark.parametrize(
    ("ddl", "row", "version"),
    [(BY_VERSION, "(version, name) VALUES ('002', 'x')", "002"),
     (BY_NAME, "(migration_name) VALUES ('add_x')", "add_x")],
    ids=["by version", "by name"],
)  # fmt: skip
def test_a_history_of_ours_under_another_name_is_found(conn, ddl, row, version):
    """Of both kinds, as soon as it has a row."""
    conn.execute(ddl)
    assert foreign.find(conn, "schema_history") is None
    conn.execute(f"INSERT INTO migrations {row}")
    found = foreign.find(conn, "schema_history")
    assert found is not None
    assert (True, "migrations", version) == (found.ours, found.table, found.version)
    assert foreign.find(conn, "Migrations") is None
