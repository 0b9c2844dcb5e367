"""Rows that a migration loses without having said so end the run, on both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.digest import logical_digest
from tests.support.files import history, make_database, rows, tables, write_migrations
from tests.support.processes import Result, run_entrypoint, run_migrator

SHRINK = """
    CREATE TABLE slim (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    INSERT INTO slim SELECT id, name FROM users WHERE id < 3;
    DROP TABLE users;
    ALTER TABLE slim RENAME TO users;
    """
KEEP = SHRINK.replace(" WHERE id < 3", "")
BOTH = pytest.mark.parametrize("way", ["in-place", "copy"])


@pytest.fixture
def shop(volume: Path) -> Path:
    """Return a database with three users and what hangs on them, without foreign keys."""
    return make_database(
        volume / "app.db",
        """
        CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
        CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INTEGER, total INTEGER);
        CREATE UNIQUE INDEX by_name ON users (name);
        INSERT INTO users (name) VALUES ('Ada'), ('Grace'), ('Edsger');
        INSERT INTO orders (user_id, total) VALUES (1, 10), (1, 20), (2, 30), (3, 40);
        """,
    )


def run(database: Path, sql: str, *more: str, way: str = "in-place", **files: str) -> Result:
    """Apply one `.sql` migration called `001_step.sql`, and others by their names."""
    head = "-- migrate:up transaction:false\n" if way == "copy" else "-- migrate:up\n"
    directory = database.parent.parent / "migrations"
    write_migrations(directory, {"001_step.sql": sql, **files})
    path = directory / "001_step.sql"
    path.write_text(head + path.read_text())
    return run_entrypoint(
        "--database", database, "--migrations", directory, *more, "--", "echo", "app"
    )


def refused(result: Result, database: Path, digest: str, **expected: Any) -> None:
    """Say that the run was undone, naming the migration, table and counts."""
    assert (81, "rows.lost", "failed_restored") == (
        result.code,
        result.finished["reason"],
        result.finished["outcome"],
    ), result.stderr
    text = result.finished["error"]
    for each in (expected["table"], str(expected["before"]), str(expected["after"])):
        assert each in text, text
    assert expected.get("file", "001_step.sql") in text
    assert result.finished["hint"]
    failed = result.one("migration.failed")
    assert ("001", "step") == (failed["version"], failed["name"])
    assert "app\n" != result.stdout
    assert digest == logical_digest(database)
    assert "migrations" not in tables(database)


@BOTH
def test_a_rebuild_that_comes_back_smaller_is_refused(shop, way):
    """The copy that left a row out is named with both counts, and everything is undone."""
    before = logical_digest(shop)
    result = run(shop, SHRINK, way=way)
    refused(result, shop, before, table="users", before=3, after=2)


@BOTH
def test_a_rebuild_that_keeps_its_rows_passes(shop, way):
    """Dropping a table whose rows live on under its name is no loss."""
    result = run(shop, KEEP, way=way)
    assert 0 == result.code, result.stderr
    assert [(3,)] == rows(shop, "SELECT count(*) FROM users")
    assert {} == result.one("migration.finished")["rows_removed"]


@BOTH
def test_insert_or_replace_is_refused(shop, way):
    """A row that another one took the place of was not said to go."""
    before = logical_digest(shop)
    result = run(shop, "INSERT OR REPLACE INTO users (id, name) VALUES (1, 'Grace');", way=way)
    refused(result, shop, before, table="users", before=3, after=2)


@BOTH
def test_what_a_trigger_deletes_is_refused(shop, way):
    """A `DELETE` that is a trigger's is not the migration's own."""
    make_database(
        shop,
        "CREATE TRIGGER forget AFTER DELETE ON users BEGIN"
        " DELETE FROM orders WHERE user_id = old.id; END;",
    )
    before = logical_digest(shop)
    result = run(shop, "DELETE FROM users WHERE id = 1;", way=way)
    refused(result, shop, before, table="orders", before=4, after=2)


def test_what_a_cascade_deletes_is_refused(shop):
    """With foreign keys switched on, a migration that deletes parents says nothing of children."""
    make_database(
        shop,
        "CREATE TABLE notes (id INTEGER PRIMARY KEY,"
        " user_id INTEGER REFERENCES users(id) ON DELETE CASCADE);"
        " INSERT INTO notes (user_id) VALUES (1), (2);",
    )
    before = logical_digest(shop)
    sql = "PRAGMA foreign_keys = ON;\nDELETE FROM users WHERE id = 1;"
    result = run(shop, sql, way="copy")
    refused(result, shop, before, table="notes", before=2, after=1)


@BOTH
def test_a_said_delete_passes_and_is_logged(shop, way):
    """A `DELETE` of the migration's own is its word, and its count is in the log."""
    result = run(shop, "DELETE FROM orders WHERE total < 25;", way=way)
    assert 0 == result.code, result.stderr
    assert {"orders": 2} == result.one("migration.finished")["rows_removed"]
    assert [(2,)] == rows(shop, "SELECT count(*) FROM orders")


@BOTH
def test_a_dropped_table_passes_and_is_logged(shop, way):
    """A table that is dropped for good was said to go, with all its rows."""
    result = run(shop, "DROP TABLE orders;", way=way)
    assert 0 == result.code, result.stderr
    assert {"orders": 4} == result.one("migration.finished")["rows_removed"]
    assert "orders" not in tables(shop)


@BOTH
def test_a_renamed_table_is_followed(shop, way):
    """A loss is found under the new name too, and a rename alone is none."""
    result = run(shop, "ALTER TABLE orders RENAME TO sales;", way=way)
    assert 0 == result.code, result.stderr
    assert {} == result.one("migration.finished")["rows_removed"]
    make_database(shop, "DROP TABLE migrations; ALTER TABLE sales RENAME TO orders")
    before = logical_digest(shop)
    result = run(
        shop,
        """
        ALTER TABLE orders RENAME TO old;
        CREATE TABLE sales AS SELECT * FROM old WHERE total > 25;
        DROP TABLE old;
        ALTER TABLE users RENAME TO people;
        CREATE TABLE slim AS SELECT * FROM people LIMIT 1;
        DROP TABLE people;
        ALTER TABLE slim RENAME TO people;
        """,
        way=way,
    )
    refused(result, shop, before, table="people", before=3, after=1)


@BOTH
@pytest.mark.parametrize("kind", [".sql", ".py", "registry"])
def test_rows_may_go_when_it_was_said_beforehand(shop, tmp_path, way, kind):
    """`allow_row_loss` in each kind of source lets the same rebuild pass, and logs the loss."""
    outside = way == "copy"
    statements = [each.strip() for each in SHRINK.split(";") if each.strip()]
    name = "001_step"
    if kind == ".sql":
        result = run(shop, f"-- migrate:allow-row-loss orders, users\n{SHRINK}", way=way)
    elif kind == ".py":
        directory = write_migrations(
            tmp_path / "m",
            {
                f"{name}.py": f"allow_row_loss = ('users',)\ntransactional = {not outside}\n"
                f"def up(conn):\n    for each in {statements!r}:\n        conn.execute(each)\n"
            },
        )
        result = run_entrypoint("--database", shop, "--migrations", directory)
    else:
        file = tmp_path / "registry.py"
        file.write_text(
            "from migrator import Migration, MigrationRunner\n"
            f"def up(cursor):\n    for each in {statements!r}:\n        cursor.execute(each)\n"
            "def create_migration_runner(db_path):\n"
            "    runner = MigrationRunner(db_path)\n"
            f"    runner.add_migration(Migration('step', '1', '', up, transactional={not outside},"
            " allow_row_loss=('users',)))\n"
            "    return runner\n"
        )
        result = run_entrypoint("--database", shop, "--migrations", file)
    assert 0 == result.code, result.stderr
    assert {"users": 1} == result.one("migration.finished")["rows_removed"]
    assert way == result.one("plan.ready")["way"]
    assert [(2,)] == rows(shop, "SELECT count(*) FROM users")


@pytest.mark.parametrize(
    ("sql", "table", "counts"),
    [
        ("DELETE FROM orders WHERE total < 25;", "orders", (4, 2)),
        ("DROP TABLE orders;", "orders", (4, 4)),
        (SHRINK, "users", (3, 2)),
    ],
)
def test_strict_demands_that_every_loss_is_said_beforehand(shop, sql, table, counts):
    """Neither a `DELETE` nor a `DROP` is enough then; `allow_row_loss` is."""
    before = logical_digest(shop)
    refused(
        run(shop, sql, "--row-guard", "strict"),
        shop,
        before,
        table=table,
        before=counts[0],
        after=counts[1],
    )
    allowed = f"-- migrate:allow-row-loss {table}\n{sql}"
    assert 0 == run(shop, allowed, "--row-guard", "strict").code
    assert ["001"] == history(shop)


def test_off_counts_nothing(shop):
    """`--row-guard off` lets anything pass, and does not claim to have counted."""
    result = run(shop, SHRINK, "--row-guard", "off", "--log-level", "debug")
    assert 0 == result.code
    assert [] == result.named("rows.counted")
    assert {} == result.one("migration.finished")["rows_removed"]
    assert [(2,)] == rows(shop, "SELECT count(*) FROM users")


def test_counting_says_how_long_it_took(shop):
    """The scan that it costs is in the log."""
    result = run(shop, KEEP, "--log-level", "debug")
    assert result.one("rows.counted")["seconds"] <= result.finished["seconds"]


def test_a_loss_is_the_fault_of_the_migration_that_made_it(shop):
    """Counts are taken from one migration to the next, and the run is undone as a whole."""
    before = logical_digest(shop)
    result = run(
        shop,
        "INSERT INTO users (name) VALUES ('Alan'), ('Kurt');",
        **{"002_shrink.sql": "REPLACE INTO users (id, name) VALUES (1, 'Kurt');"},
    )
    assert 81 == result.code
    assert "002_shrink.sql" in result.finished["error"]
    assert "left 4 of the 5 rows" in result.finished["error"]
    assert before == logical_digest(shop)


def test_rows_that_went_and_came_again_are_no_loss(shop):
    """What counts is what a migration leaves, not what it did on the way."""
    result = run(
        shop,
        "REPLACE INTO users (id, name) VALUES (1, 'Grace');"
        " INSERT INTO users (name) VALUES ('Ada');",
    )
    assert 0 == result.code, result.stderr


def test_an_explained_delete_says_nothing(shop):
    """SQLite asks about `EXPLAIN DELETE` as about a real one; it is not the migration's word."""
    before = logical_digest(shop)
    sql = "EXPLAIN DELETE FROM users;\nREPLACE INTO users (id, name) VALUES (1, 'Grace');"
    refused(run(shop, sql), shop, before, table="users", before=3, after=2)


def test_a_delete_on_one_table_says_nothing_about_another(shop):
    """Each table has to be named itself."""
    before = logical_digest(shop)
    sql = "DELETE FROM orders WHERE id = 1;\nREPLACE INTO users (id, name) VALUES (1, 'Grace');"
    refused(run(shop, sql), shop, before, table="users", before=3, after=2)


FTS = """
    CREATE TABLE msg (id INTEGER PRIMARY KEY, body TEXT);
    CREATE VIRTUAL TABLE msg_fts USING fts5(body);
    CREATE TRIGGER msg_ai AFTER INSERT ON msg BEGIN
        INSERT INTO msg_fts (rowid, body) VALUES (new.id, new.body); END;
    CREATE TRIGGER msg_ad AFTER DELETE ON msg BEGIN
        DELETE FROM msg_fts WHERE rowid = old.id; END;
    INSERT INTO msg (body) VALUES ('a'), ('b'), ('c');
"""


@BOTH
@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("ALTER TABLE users RENAME TO users_2024; CREATE TABLE users (id, name);", {}),
        (
            (
                "ALTER TABLE users RENAME TO x; ALTER TABLE orders RENAME TO users;"
                " ALTER TABLE x RENAME TO orders;"
            ),
            {},
        ),
        ("DELETE FROM msg WHERE id = 2;", {"msg": 1, "msg_fts": 1}),
        (
            (
                "CREATE VIEW v AS SELECT * FROM msg; CREATE TRIGGER v_d INSTEAD OF DELETE ON v BEGIN"
                " DELETE FROM msg WHERE id = old.id; END; DELETE FROM v WHERE id = 1;"
            ),
            {"msg": 1, "msg_fts": 1},
        ),
    ],
)
def test_what_lives_on_or_was_said_to_go_passes(shop, way, sql, expected):
    """Archived, swapped, kept by an index's triggers or deleted through a view: nothing is refused."""
    make_database(shop, FTS)
    result = run(shop, sql, way=way)
    assert 0 == result.code, result.stderr
    assert expected == result.one("migration.finished")["rows_removed"]
    assert ["001"] == history(shop)


@BOTH
def test_a_delete_that_was_taken_back_is_refused_as_none_is(shop, tmp_path, way):
    """After a failed `with conn:` the rebuild that drops rows has nothing said for it."""
    before = logical_digest(shop)
    statements = [each.strip() for each in SHRINK.split(";") if each.strip()]
    text = f"""
transactional = {way == "in-place"}
def up(conn):
    try:
        with conn:
            conn.execute("DELETE FROM users WHERE id = 3")
            raise ValueError
    except ValueError:
        pass
    for each in {statements!r}:
        conn.execute(each)
"""
    directory = write_migrations(tmp_path / "m", {"001_step.py": text})
    result = run_entrypoint("--database", shop, "--migrations", directory)
    refused(result, shop, before, table="users", before=3, after=2, file="001_step.py")


def test_a_table_is_followed_through_several_migrations_of_a_run(shop):
    """What the first one renamed the second cannot lose, and the first says nothing for it."""
    before = logical_digest(shop)
    result = run(
        shop,
        "ALTER TABLE users RENAME TO people; CREATE TABLE users (id, name);",
        **{"002_empty.sql": "DROP TABLE people; CREATE TABLE people (id);"},
    )
    assert 81 == result.code
    assert "002_empty.sql left 0 of the 3 rows of table 'people'" in result.finished["error"]
    assert before == logical_digest(shop)


def test_down_is_guarded_as_up_is(shop):
    """A `down` that comes back smaller is undone, and its migration is still applied."""
    sql = f"CREATE TABLE made (x);\n-- migrate:down\n{SHRINK}"
    assert 0 == run(shop, sql).code
    before = logical_digest(shop)
    directory = shop.parent.parent / "migrations"
    result = run_migrator("down", "--database", shop, "--migrations", directory)
    assert (81, "rows.lost") == (result.code, result.finished["reason"]), result.stderr
    assert before == logical_digest(shop)
    assert ["001"] == history(shop)
