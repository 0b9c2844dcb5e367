"""Databases that another tool has migrated, and tables that only happen to be called like ours."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.support.digest import logical_digest
from tests.support.files import (
    history,
    listing,
    make_database,
    rows,
    tables,
    write_migrations,
)
from tests.support.processes import Result, run_entrypoint, run_migrator

DBMATE = """
    CREATE TABLE IF NOT EXISTS "schema_migrations" (version varchar(128) primary key);
    INSERT INTO schema_migrations VALUES ('001'), ('002');
    """
GOLANG_MIGRATE = """
    CREATE TABLE schema_migrations (version uint64, dirty bool);
    CREATE UNIQUE INDEX version_unique ON schema_migrations (version);
    INSERT INTO schema_migrations VALUES (2, 0);
    """
RAILS = """
    CREATE TABLE "schema_migrations" ("version" varchar NOT NULL PRIMARY KEY);
    CREATE TABLE "ar_internal_metadata" ("key" varchar NOT NULL PRIMARY KEY, "value" varchar,
        "created_at" datetime(6) NOT NULL, "updated_at" datetime(6) NOT NULL);
    INSERT INTO schema_migrations VALUES ('20240101120000'), ('20240315093000');
    """
GOOSE = """
    CREATE TABLE goose_db_version (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        version_id INTEGER NOT NULL,
        is_applied INTEGER NOT NULL,
        tstamp TIMESTAMP DEFAULT (datetime('now'))
    );
    INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, 1), (1, 1), (2, 1);
    """
ALEMBIC = """
    CREATE TABLE alembic_version (
        version_num VARCHAR(32) NOT NULL,
        CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
    );
    INSERT INTO alembic_version VALUES ('ae1027a6acf');
    """
DJANGO = """
    CREATE TABLE "django_migrations" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT,
        "app" varchar(255) NOT NULL, "name" varchar(255) NOT NULL, "applied" datetime NOT NULL);
    INSERT INTO django_migrations (app, name, applied) VALUES
        ('auth', '0001_initial', '2024-01-01 00:00:00'),
        ('shop', '0001_initial', '2024-01-01 00:00:01'),
        ('shop', '0002_price', '2024-02-01 00:00:00');
    """
SQLX = """
    CREATE TABLE _sqlx_migrations (
        version BIGINT PRIMARY KEY,
        description TEXT NOT NULL,
        installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
        success BOOLEAN NOT NULL,
        checksum BLOB NOT NULL,
        execution_time BIGINT NOT NULL
    );
    INSERT INTO _sqlx_migrations VALUES
        (1, 'users', '2024-01-01', 1, x'00', 100), (2, 'notes', '2024-01-02', 1, x'01', 100);
    """
FLYWAY = """
    CREATE TABLE "flyway_schema_history" (
        "installed_rank" INT NOT NULL PRIMARY KEY,
        "version" VARCHAR(50),
        "description" VARCHAR(200) NOT NULL,
        "type" VARCHAR(20) NOT NULL,
        "script" VARCHAR(1000) NOT NULL,
        "checksum" INT,
        "installed_by" VARCHAR(100) NOT NULL,
        "installed_on" TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f','now')),
        "execution_time" INT NOT NULL,
        "success" BOOLEAN NOT NULL
    );
    CREATE INDEX "flyway_schema_history_s_idx" ON "flyway_schema_history" ("success");
    INSERT INTO flyway_schema_history
        (installed_rank, version, description, type, script, checksum, installed_by,
         execution_time, success)
        VALUES (1, '1', 'users', 'SQL', 'V1__users.sql', 12345, '', 3, 1),
               (2, '2', 'notes', 'SQL', 'V2__notes.sql', 54321, '', 3, 1);
    """
EF = """
    CREATE TABLE IF NOT EXISTS "__EFMigrationsHistory" (
        "MigrationId" TEXT NOT NULL CONSTRAINT "PK___EFMigrationsHistory" PRIMARY KEY,
        "ProductVersion" TEXT NOT NULL
    );
    INSERT INTO "__EFMigrationsHistory" VALUES ('20240101120000_Initial', '8.0.1');
    """
YOYO = """
    CREATE TABLE "_yoyo_log" ( "id" VARCHAR(36), "migration_hash" VARCHAR(64),
        "migration_id" VARCHAR(255), "operation" VARCHAR(10), "username" VARCHAR(255),
        "hostname" VARCHAR(255), "comment" VARCHAR(255), "created_at_utc" TIMESTAMP,
        PRIMARY KEY ("id"));
    CREATE TABLE "_yoyo_migration" ( "migration_hash" VARCHAR(64), "migration_id" VARCHAR(255),
        "applied_at_utc" TIMESTAMP, PRIMARY KEY ("migration_hash"));
    CREATE TABLE "_yoyo_version" ("version" INT NOT NULL PRIMARY KEY, "installed_at_utc" TIMESTAMP);
    INSERT INTO "_yoyo_migration" VALUES ('abc', '0001.users', '2024-01-01');
    """

TOOLS = {
    "dbmate": (DBMATE, "dbmate", "002"),
    "golang-migrate": (GOLANG_MIGRATE, "golang-migrate", "2"),
    "rails": (RAILS, "Rails", "20240315093000"),
    "goose": (GOOSE, "goose", "2"),
    "alembic": (ALEMBIC, "Alembic", "ae1027a6acf"),
    "django": (DJANGO, "Django", "3 migrations"),
    "sqlx": (SQLX, "sqlx", "2"),
    "flyway": (FLYWAY, "Flyway", "2"),
    "ef": (EF, "Entity Framework", "20240101120000_Initial"),
    "yoyo": (YOYO, "yoyo", "0001.users"),
}

LARAVEL = """
    CREATE TABLE "migrations" ("id" integer primary key autoincrement not null,
        "migration" varchar not null, "batch" integer not null);
    INSERT INTO migrations (migration, batch) VALUES
        ('0001_01_01_000000_create_users_table', 1), ('0001_01_01_000001_create_cache_table', 1);
    """
TYPEORM = """
    CREATE TABLE "migrations" ("id" integer PRIMARY KEY AUTOINCREMENT NOT NULL,
        "timestamp" bigint NOT NULL, "name" varchar NOT NULL);
    INSERT INTO migrations (timestamp, name) VALUES (1700000000000, 'CreateUsers1700000000000');
    """
VIEW = """
    CREATE TABLE moves (id INTEGER PRIMARY KEY, version TEXT, name TEXT, applied_at TEXT);
    CREATE VIEW migrations AS SELECT version, name, applied_at FROM moves;
    """
BIRDS = """
    CREATE TABLE migrations (version TEXT PRIMARY KEY, name TEXT NOT NULL, applied_at TIMESTAMP,
        species TEXT NOT NULL);
    """
NO_KEY = "CREATE TABLE migrations (version TEXT, name TEXT, applied_at TIMESTAMP);"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return migrations of which the other tool has applied the first two in its own way."""
    return write_migrations(
        tmp_path / "migrations",
        {
            "001_users.sql": "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);",
            "002_notes.sql": "CREATE TABLE notes (id INTEGER PRIMARY KEY);",
            "003_tags.sql": "CREATE TABLE tags (id INTEGER PRIMARY KEY);",
        },
    )


def foreign(volume: Path, ddl: str) -> Path:
    """Make a database as the other tool has left it."""
    schema = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);"
    return make_database(
        volume / "app.db", f"{ddl}{schema} CREATE TABLE notes (id INTEGER PRIMARY KEY);"
    )


def start(database: Path, files: Path, *more: str) -> Result:
    """Run the entrypoint with an application that says that it runs."""
    return run_entrypoint("--database", database, "--migrations", files, *more, "--", "echo", "app")


@pytest.mark.parametrize("tool", TOOLS)
def test_another_tools_history_is_refused_and_can_be_taken_over(volume, files, tool):
    """78 names tool, version and a baseline command, which then works; its table stays as it is."""
    ddl, name, version = TOOLS[tool]
    database = foreign(volume, ddl)
    before, seen = listing(volume), logical_digest(database)
    theirs = {each: rows(database, f'SELECT * FROM "{each}"') for each in tables(database)}
    result = start(database, files)
    assert (78, "history.foreign", "refused") == (
        result.code,
        result.finished["reason"],
        result.finished["outcome"],
    )
    assert name in result.finished["error"]
    assert version in result.finished["error"]
    assert before == listing(volume)
    assert seen == logical_digest(database)
    words = shlex.split(result.finished["hint"].split("`")[1])
    assert ["migrator", "baseline"] == words[:2]
    known = "002" if version in ("002", "2") else "VERSION"
    assert known == words[2]
    assert 0 == run_migrator("baseline", "002", *words[3:]).code
    again = start(database, files)
    assert (0, "app\n") == (again.code, again.stdout)
    assert ["003"] == [event["version"] for event in again.named("migration.finished")]
    assert ["001", "002", "003"] == history(database)
    assert theirs == {each: rows(database, f'SELECT * FROM "{each}"') for each in theirs}


def test_status_says_of_it_what_the_refusal_says(volume, files):
    """A version that is not among the migrations stands for one of them, and the hint says so."""
    database = foreign(volume, ALEMBIC)
    hint = start(database, files).finished["hint"]
    assert "in the place of VERSION (here are 001 to 003)" in hint
    options = ("--database", database, "--migrations", files)
    assert hint == json.loads(run_migrator("status", "--json", *options).stdout)["hint"]


def test_nothing_is_refused_with_nothing_pending(volume, tmp_path):
    """Without a migration of ours another tool's database is none of our business."""
    database = foreign(volume, DBMATE)
    before = listing(volume)
    result = start(database, write_migrations(tmp_path / "empty", {}))
    assert (0, "app\n", "up_to_date") == (result.code, result.stdout, result.finished["outcome"])
    assert before == listing(volume)


def test_nothing_is_refused_beside_our_own_history(volume, files):
    """Once it has been taken over, the other table may stay, and may even go on growing."""
    database = foreign(volume, ALEMBIC)
    options = ("--database", database, "--migrations", files)
    assert 0 == run_migrator("baseline", "002", *options).code
    make_database(database, "UPDATE alembic_version SET version_num = 'bf1027a6acf'")
    assert 0 == start(database, files).code
    write_migrations(files, {"004_more.sql": "CREATE TABLE more (id INTEGER);"})
    assert 0 == start(database, files).code
    assert ["001", "002", "003", "004"] == history(database)


def test_status_reports_another_tools_history(volume, files):
    """`status` says it as a problem and exits 0; `check` and `plan` have the code."""
    database = foreign(volume, GOOSE)
    before = listing(volume)
    options = ("--database", database, "--migrations", files)
    status = run_migrator("status", *options)
    assert 0 == status.code
    assert "goose" in status.stdout
    assert (78, 78) == (run_migrator("check", *options).code, run_migrator("plan", *options).code)
    assert before == listing(volume)


def test_a_foreign_history_of_an_unknown_shape_is_named_all_the_same(volume, files):
    """Where the version cannot be read, the tool is named alone."""
    database = foreign(volume, "CREATE TABLE alembic_version (something TEXT);")
    result = start(database, files)
    assert 78 == result.code
    assert "Alembic" in result.finished["error"]
    assert "None" not in result.finished["error"]


def test_a_registry_is_refused_beside_another_tools_history_too(volume, tmp_path):
    """The rule is about the database, not about where our migrations come from."""
    database = foreign(volume, FLYWAY)
    file = tmp_path / "registry.py"
    file.write_text(
        "from migrator import Migration, MigrationRunner\n"
        "def create_migration_runner(db_path):\n"
        "    runner = MigrationRunner(db_path)\n"
        "    for name in ('users', 'tags'):\n"
        "        runner.add_migration(Migration(name, '1', '', lambda c, name=name:\n"
        "            c.execute(f'CREATE TABLE {name} (id)')))\n"
        "    return runner\n"
    )
    result = start(database, file)
    assert (78, "history.foreign") == (result.code, result.finished["reason"])
    assert "Flyway" in result.finished["error"]
    options = ("--database", database, "--migrations", file)
    assert 0 == run_migrator("baseline", "users", *options).code
    assert 0 == start(database, file).code
    assert "tags" in tables(database)


@pytest.mark.parametrize(
    ("ddl", "theirs"),
    [(LARAVEL, True), (TYPEORM, True), (VIEW, False), (BIRDS, False), (NO_KEY, False)],
    ids=["laravel", "typeorm", "view", "birds", "k"],
)
def test_a_table_of_that_name_that_is_not_ours_is_never_touched(volume, files, ddl, theirs):
    """78 names `--history-table`, which then works; a history in it still has to be taken over."""
    database = make_database(volume / "app.db", ddl)
    before, own = listing(volume), rows(database, "SELECT * FROM migrations")
    shape = rows(database, "SELECT sql FROM sqlite_schema WHERE name = 'migrations'")
    result = start(database, files)
    assert (78, "history.not_ours") == (result.code, result.finished["reason"])
    assert "--history-table" in result.finished["hint"]
    assert "MIGRATOR_HISTORY_TABLE" in result.finished["hint"]
    assert before == listing(volume)
    again = start(database, files, "--history-table", "schema_history")
    if theirs:
        assert (78, "history.foreign", "") == (
            again.code,
            again.finished["reason"],
            again.stdout,
        )
        assert before == listing(volume)
        words = shlex.split(again.finished["hint"].split("`")[1])
        assert 0 == run_migrator(*words[1:2], "001", *words[3:]).code
        again = start(database, files, "--history-table", "schema_history")
    assert (0, "app\n") == (again.code, again.stdout)
    assert ["001", "002", "003"] == history(database, "schema_history")
    assert own == rows(database, "SELECT * FROM migrations")
    assert shape == rows(database, "SELECT sql FROM sqlite_schema WHERE name = 'migrations'")
    quiet = run_entrypoint(
        "--database",
        database,
        "--migrations",
        files,
        env={"MIGRATOR_HISTORY_TABLE": "schema_history"},
    )
    assert "up_to_date" == quiet.finished["outcome"]


@pytest.mark.parametrize("command", ["status", "plan", "check", "verify", "up", "down"])
def test_every_command_leaves_an_applications_table_alone(volume, files, command):
    """No command writes to it, makes our directory or claims that something is applied."""
    database = make_database(volume / "app.db", LARAVEL)
    seen = logical_digest(database)
    result = run_migrator(command, "--database", database, "--migrations", files)
    assert (0 if command == "status" else 78) == result.code
    assert "migrations" in (result.stdout + result.stderr)
    assert seen == logical_digest(database)


APPLICATIONS = {
    "a tool that is not on the list": "CREATE TABLE acme_schema_changelog (step INTEGER PRIMARY KEY,"
    " done_at TEXT); INSERT INTO acme_schema_changelog VALUES (2, 'x');",
    "user_version": "PRAGMA user_version = 2;",
    "a setting": "CREATE TABLE settings (key TEXT, value TEXT);"
    " INSERT INTO settings VALUES ('schema_version', '2');",
    "kysely": "CREATE TABLE kysely_migration (name varchar(255) primary key, timestamp text);"
    " INSERT INTO kysely_migration VALUES ('002_notes', '2024');",
}


@pytest.mark.parametrize("kind", APPLICATIONS)
def test_nothing_is_applied_twice_to_what_somebody_else_has_migrated(volume, files, kind):
    """78 in every command, nothing written; the `baseline` of the hint takes it over as typed."""
    database = foreign(volume, APPLICATIONS[kind])
    before = listing(volume)
    options = ("--database", database, "--migrations", files)
    result = start(database, files)
    assert (78, "history.foreign", "") == (result.code, result.finished["reason"], result.stdout)
    assert [78, 78] == [run_migrator(each, *options).code for each in ("plan", "check")]
    status = json.loads(run_migrator("status", "--json", *options).stdout)
    assert ["foreign"] == [each["kind"] for each in status["problems"]]
    assert before == listing(volume)
    words = shlex.split(result.finished["hint"].split("`")[1])
    assert ["migrator", "baseline", "002"] == words[:3]
    assert 0 == run_migrator(*words[1:]).code
    again = start(database, files)
    assert (0, "app\n") == (again.code, again.stdout)
    assert ["003"] == [event["version"] for event in again.named("migration.finished")]


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_accepted_it_is_a_warning(volume, tmp_path, how):
    """`--accept foreign`, by flag or variable, goes on and says so, once in a run."""
    files = write_migrations(tmp_path / "migrations", {"001_tags.sql": "CREATE TABLE tags (id);"})
    database = make_database(volume / "app.db", "PRAGMA user_version = 7; CREATE TABLE items (id);")
    refused = start(database, files)
    assert 78 == refused.code
    assert "`--accept foreign` (MIGRATOR_ACCEPT=foreign)" in refused.finished["hint"]
    words = ("--accept", "foreign") if how == "flag" else ()
    env = {"MIGRATOR_ACCEPT": "foreign"} if how == "variable" else {}
    result = run_entrypoint("--database", database, "--migrations", files, *words, env=env)
    assert 0 == result.code, result.stderr
    assert [("foreign", "warning", "7")] == [
        (event["kind"], event["level"], event["version"])
        for event in result.named("history.misfit")
    ]
    assert ["001"] == history(database)
    assert [(7,)] == rows(database, "PRAGMA user_version")


@pytest.mark.parametrize(
    ("ddl", "kind"),
    [
        (
            "CREATE TABLE alembic_version (version_num); INSERT INTO alembic_version VALUES (NULL)",
            "foreign",
        ),
        (
            "CREATE TABLE schema_migrations (version); INSERT INTO schema_migrations VALUES ('')",
            "foreign",
        ),
        (
            (
                "CREATE TABLE migrations (version TEXT PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT);"
                "INSERT INTO migrations VALUES ('', 'nameless', '')"
            ),
            "missing",
        ),
    ],
)
def test_a_misfit_without_a_version_has_none_in_the_log(tmp_path, ddl, kind):
    """Null, as the schema of the lines has it, and no sentence with a gap."""
    database = make_database(tmp_path / "app.db", f"CREATE TABLE notes (n); {ddl}")
    files = write_migrations(tmp_path / "migrations", {"001_x.sql": "CREATE TABLE made (x);"})
    given = ("--database", database, "--migrations", files)
    done = run_migrator("up", *given, "--accept", kind)
    assert done.code == 0, done.stderr
    event = done.one("history.misfit")
    assert (event["kind"], event["version"]) == (kind, None)
    assert "  " not in event["message"]
    assert "made" in tables(database)


def test_another_history_table_does_not_begin_anew(volume, tmp_path):
    """A history of ours under another name: 78 names it, and set as told nothing is pending."""
    files = write_migrations(
        tmp_path / "migrations", {"001_price.sql": "UPDATE items SET price = price * 100;"}
    )
    database = make_database(
        volume / "app.db", "CREATE TABLE items (price); INSERT INTO items VALUES (12);"
    )
    assert 0 == start(database, files).code
    before = logical_digest(database)
    result = start(database, files, "--history-table", "schema_history")
    assert (78, "") == (result.code, result.stdout)
    assert before == logical_digest(database)
    assert [(1200,)] == rows(database, "SELECT price FROM items")
    words = shlex.split(result.finished["hint"].split("`")[1])
    assert ["--history-table", "migrations"] == words
    again = start(database, files, *words)
    assert (0, "up_to_date") == (again.code, again.finished["outcome"])
