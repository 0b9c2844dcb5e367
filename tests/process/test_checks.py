"""What is checked before the commit: foreign keys, structure, the migration's own checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.digest import logical_digest
from tests.support.files import history, listing, make_database, rows, tables, write_migrations
from tests.support.processes import Result, run_entrypoint

BOTH = pytest.mark.parametrize("way", ["in-place", "copy"])
ORPHAN = "INSERT INTO notes (user_id, text) VALUES (99, 'nobody');"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return an empty directory for migrations."""
    return write_migrations(tmp_path / "files", {})


def start(database: Path, files: Path, *more: str) -> Result:
    """Run the entrypoint with an application that says that it runs."""
    return run_entrypoint("--database", database, "--migrations", files, *more, "--", "echo", "app")


def head(way: str) -> str:
    """Return the first line of an `.sql` file that takes one way."""
    return f"-- migrate:up{' transaction:false' if way == 'copy' else ''}\n"


def undone(result: Result, database: Path, before: str) -> None:
    """Say that a failed run has left everything as before, and all of it pending."""
    assert "app" not in result.stdout
    assert "failed_restored" == result.finished["outcome"]
    assert before == logical_digest(database)
    assert "migrations" not in tables(database)


# --- foreign keys -------------------------------------------------------------------


@BOTH
def test_orphans_that_a_migration_made_are_81(database, files, way):
    """The tables and the count are named, and the hint says that foreign keys are off."""
    write_migrations(files, {"001_a.sql": head(way) + ORPHAN})
    before = logical_digest(database)
    result = start(database, files)
    assert (81, "verify.foreign_keys") == (result.code, result.finished["reason"])
    assert "notes" in result.finished["error"]
    assert "users" in result.finished["error"]
    assert "oreign keys are off" in result.finished["hint"]
    assert "foreign_key_check" == result.one("verify.failed")["check"]
    undone(result, database, before)


@BOTH
def test_orphans_from_before_are_reported_and_do_not_block(database, files, way):
    """What was wrong already is a warning with its count."""
    make_database(database, ORPHAN * 2)
    write_migrations(files, {"001_a.sql": head(way) + "CREATE TABLE a (id INTEGER);"})
    result = start(database, files)
    assert (0, "app\n") == (result.code, result.stdout)
    warning = result.named("verify.finished")[0]
    assert ("warning", "foreign_key_check", 2) == tuple(
        warning[key] for key in ("level", "check", "violations")
    )
    assert "notes" in warning["message"]


def test_one_orphan_more_than_before_is_81(database, files):
    """Counts per table are compared: mending one and making two is one too many."""
    make_database(database, ORPHAN)
    write_migrations(files, {"001_a.sql": f"DELETE FROM notes WHERE user_id = 99;\n{ORPHAN * 2}"})
    before = logical_digest(database)
    result = start(database, files)
    assert (81, "verify.foreign_keys") == (result.code, result.finished["reason"])
    undone(result, database, before)


def test_orphans_follow_a_renamed_table(database, files):
    """What was violated under the old name is no new violation under the new one."""
    make_database(database, ORPHAN)
    write_migrations(files, {"001_a.sql": "ALTER TABLE notes RENAME TO remarks;"})
    result = start(database, files)
    assert 0 == result.code, result.stderr
    assert "remarks" in tables(database)


def test_a_mismatch_from_before_is_reported_and_does_not_block(database, files):
    """A foreign key that SQLite cannot check counts as one violation of its table."""
    make_database(
        database,
        "CREATE TABLE parent (code TEXT);"
        "CREATE TABLE child (id INTEGER PRIMARY KEY, code TEXT REFERENCES parent(code));"
        "INSERT INTO child (code) VALUES ('x');",
    )
    write_migrations(files, {"001_a.sql": "CREATE TABLE a (id INTEGER);"})
    result = start(database, files)
    assert (0, "app\n") == (result.code, result.stdout)
    warning = result.named("verify.finished")[0]
    assert "warning" == warning["level"]
    assert "child" in warning["message"]


def test_a_mismatch_that_a_migration_made_is_81(database, files):
    """A rebuild that loses the parent's unique key makes the foreign key worthless."""
    write_migrations(
        files,
        {
            "001_a.sql": """
                CREATE TABLE slim (id INTEGER, name TEXT);
                INSERT INTO slim SELECT id, name FROM users;
                DROP TABLE users;
                ALTER TABLE slim RENAME TO users;
                """
        },
    )
    before = logical_digest(database)
    result = start(database, files)
    assert (81, "verify.foreign_keys") == (result.code, result.finished["reason"])
    undone(result, database, before)


def test_a_rebuild_keeps_the_children(database, files):
    """Foreign keys are off during the run: dropping the parent does not empty its children."""
    write_migrations(
        files,
        {
            "001_a.py": '''
                def up(conn):
                    """As people write it, with the pragma that would be too late."""
                    conn.executescript(
                        """
                        PRAGMA foreign_keys = ON;
                        CREATE TABLE fresh (id INTEGER PRIMARY KEY, name TEXT NOT NULL, age INT);
                        INSERT INTO fresh (id, name) SELECT id, name FROM users;
                        DROP TABLE users;
                        ALTER TABLE fresh RENAME TO users;
                        """
                    )
                '''
        },
    )
    result = start(database, files)
    assert 0 == result.code, result.stderr
    assert [(3, 3)] == rows(
        database, "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM notes)"
    )


RENAMED_FIRST = """
    ALTER TABLE parent RENAME TO parent_old;
    CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT);
    INSERT INTO parent (id) SELECT id FROM parent_old;
    DROP TABLE parent_old;
    """


@BOTH
def test_a_reference_that_a_renaming_has_led_astray_is_81(database, files, way):
    """Also where the table that refers is empty: its first row would be refused."""
    make_database(
        database,
        "CREATE TABLE parent (id INTEGER PRIMARY KEY);"
        "CREATE TABLE child (parent INTEGER REFERENCES parent (id));",
    )
    write_migrations(files, {"001_a.sql": head(way) + RENAMED_FIRST})
    before = logical_digest(database)
    result = start(database, files)
    assert (81, "verify.foreign_keys") == (result.code, result.finished["reason"])
    assert "child refers to parent_old" in result.finished["error"]
    assert "rename the new one last" in result.finished["hint"]
    undone(result, database, before)


def test_a_reference_that_was_astray_before_holds_nothing_up(database, files):
    """Like orphans from before: the same way of rebuilding may have led it there."""
    make_database(
        database,
        "CREATE TABLE parent (id INTEGER PRIMARY KEY);"
        "CREATE TABLE child (parent INTEGER REFERENCES parent_old (id));",
    )
    write_migrations(files, {"001_a.sql": RENAMED_FIRST})
    assert 0 == start(database, files).code


def test_a_reference_that_never_had_a_parent_holds_nothing_up(database, files):
    """Nor does one whose table was dropped for good: SQLite takes both."""
    make_database(
        database,
        "CREATE TABLE parent (id INTEGER PRIMARY KEY);"
        "CREATE TABLE child (parent INTEGER REFERENCES parent (id));",
    )
    write_migrations(
        files, {"001_a.sql": "DROP TABLE parent; CREATE TABLE early (id REFERENCES later (id));"}
    )
    assert 0 == start(database, files).code


# --- the migration's own checks --------------------------------------------------------


@pytest.mark.parametrize("name", ["check_before", "check_after"])
@BOTH
def test_a_failing_check_of_the_migration_is_81(database, files, name, way):
    """Its words are in the error, with file and line, and nothing of the run stands."""
    write_migrations(
        files,
        {
            "001_a.sql": "CREATE TABLE a (id INTEGER);",
            "002_b.py": f"""
                transactional = {way == "in-place"}

                def up(conn):
                    conn.execute("CREATE TABLE b (id INTEGER)")

                def {name}(conn):
                    count = conn.execute("SELECT count(*) AS n FROM users").fetchone()["n"]
                    assert count > 3, f"only {{count}} users"
                """,
        },
    )
    before = logical_digest(database)
    result = start(database, files)
    assert (81, f"verify.{name}") == (result.code, result.finished["reason"])
    assert "only 3 users" in result.finished["error"]
    assert "002_b.py" in result.finished["error"]
    assert ("002_b.py", 8) == (result.finished["file"], result.finished["line"])
    undone(result, database, before)


@pytest.mark.parametrize("name", ["check_before", "check_after"])
@pytest.mark.parametrize("ending", ["sys.exit(0)", "sys.exit('no')", "raise SystemExit", "exit()"])
@BOTH
def test_a_check_that_calls_exit_is_81(database, files, ending, name, way):
    """A check that wants to end the process has failed, whatever its code says."""
    write_migrations(
        files,
        {
            "001_a.py": f"""
                import sys
                transactional = {way == "in-place"}

                def up(conn):
                    conn.execute("CREATE TABLE a (id INTEGER)")

                def {name}(conn):
                    {ending}
                """
        },
    )
    before = logical_digest(database)
    result = start(database, files)
    assert (81, f"verify.{name}") == (result.code, result.finished["reason"])
    assert "sys.exit(" in result.finished["error"]
    assert ("001_a.py", 8) == (result.finished["file"], result.finished["line"])
    undone(result, database, before)


def test_a_forked_child_that_exits_in_a_check_ends_alone(database, files):
    """Its exit is its own: the run goes on, and is applied once."""
    write_migrations(
        files,
        {
            "001_a.py": """
                import os, sys

                def up(conn):
                    conn.execute("CREATE TABLE a (code INTEGER)")

                def check_after(conn):
                    child = os.fork()
                    if not child:
                        sys.exit(7)
                    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                    conn.execute("INSERT INTO a VALUES (?)", (code,))
                """
        },
    )
    assert start(database, files).code == 0
    assert rows(database, "SELECT code FROM a") == [(7,)]
    assert history(database) == ["001"]


def test_what_is_refused_in_a_check_is_told_with_the_way_out(database, files):
    """The hint is that of the refusal, and the sentence ends once."""
    write_migrations(
        files,
        {
            "001_a.py": """
                def up(conn):
                    pass

                def check_after(conn):
                    conn.execute("ATTACH 'other.db' AS other")
                """
        },
    )
    before = logical_digest(database)
    result = start(database, files)
    assert (81, "verify.check_after") == (result.code, result.finished["reason"])
    assert "Mend the data" not in result.finished["hint"]
    assert not result.finished["error"].endswith("..")
    undone(result, database, before)


@pytest.mark.parametrize("name", ["check_before", "check_after"])
@BOTH
def test_a_statement_that_fails_in_a_check_is_named(database, files, name, way):
    """As in `up`: the statement as it was given, its line, and no bound value."""
    write_migrations(
        files,
        {
            "001_a.py": f"""
                transactional = {way == "in-place"}

                def up(conn):
                    conn.execute("CREATE TABLE b (id INTEGER)")

                def {name}(conn):
                    conn.execute("SELECT count(*) FROM nobody WHERE id = ?", ("a-bound-value",))
                """
        },
    )
    before = logical_digest(database)
    result = start(database, files)
    assert (81, f"verify.{name}") == (result.code, result.finished["reason"])
    (failed,) = [each for each in result.events if each["event"] == "migration.failed"]
    for line in (failed, result.finished):
        assert 7 == line["line"]
        assert "SELECT count(*) FROM nobody WHERE id = ?" == line["statement"]
    assert "a-bound-value" not in result.stderr
    undone(result, database, before)


def test_a_full_disk_is_one_in_a_check_as_well(database, files):
    """SQLite's own "database or disk is full" is 74 wherever in a migration it comes up."""
    write_migrations(
        files,
        {
            "001_a.py": """
                def up(conn):
                    conn.execute("CREATE TABLE b (text TEXT)")

                def check_after(conn):
                    (pages,) = conn.execute("PRAGMA page_count").fetchone()
                    conn.execute(f"PRAGMA max_page_count = {pages}").fetchone()
                    conn.execute("INSERT INTO b VALUES (printf('%.*c', 1000000, 'x'))")
                """
        },
    )
    before = logical_digest(database)
    result = start(database, files)
    assert (74, "disk.full") == (result.code, result.finished["reason"])
    assert 7 == result.finished["line"]
    undone(result, database, before)


def test_checks_see_the_state_before_and_after(database, files):
    """`check_before` runs before `up`, `check_after` after it, in the run's transaction."""
    write_migrations(
        files,
        {
            "001_a.py": """
                def tables(conn):
                    query = "SELECT name FROM sqlite_schema WHERE name = 'a'"
                    return len(conn.execute(query).fetchall())

                def check_before(conn):
                    assert tables(conn) == 0

                def up(conn):
                    conn.execute("CREATE TABLE a (id INTEGER)")

                def check_after(conn):
                    assert tables(conn) == 1
                """
        },
    )
    assert 0 == start(database, files).code
    assert ["001"] == history(database)


# --- requires and description -----------------------------------------------------------


@pytest.mark.parametrize(
    ("requires", "word"),
    [("('009',)", "009"), ("('002',)", "002"), ("('001',)", "001"), ("'no version'", "no version")],
)
def test_an_unfulfilled_requires_is_78(database, files, volume, requires, word):
    """What is unknown, later than itself, or itself cannot be required; nothing runs."""
    write_migrations(
        files,
        {
            "001_a.py": f"requires = {requires}\n\ndef up(conn): pass\n",
            "002_b.sql": "CREATE TABLE b (id INTEGER);",
        },
    )
    before = listing(volume)
    result = start(database, files)
    assert 78 == result.code
    assert "001_a.py" in result.finished["error"]
    assert word in result.finished["error"]
    assert ["app.db"] == [name for name in listing(volume) if name.endswith(".db")]
    assert before["app.db"] == listing(volume)["app.db"]


def test_a_fulfilled_requires_is_no_obstacle(database, files):
    """An earlier migration, applied or pending, may be required, in any spelling."""
    write_migrations(
        files,
        {
            "001_a.sql": "CREATE TABLE a (id INTEGER);",
            "002_b.py": "requires = ('1',)\n\ndef up(conn): pass\n",
        },
    )
    assert 0 == start(database, files).code
    write_migrations(files, {"003_c.py": "requires = ('001', '002')\n\ndef up(conn): pass\n"})
    assert 0 == start(database, files).code
    assert ["001", "002", "003"] == history(database)


def test_the_description_is_in_the_history(database, files):
    """It is kept with the row, beside checksum, duration and run id."""
    write_migrations(
        files,
        {
            "001_a.py": "description = 'Makes a'\n\ndef up(conn): pass\n",
            "002_b.sql": "CREATE TABLE b (id INTEGER);",
        },
    )
    result = start(database, files)
    assert 0 == result.code
    run_id = result.finished["run_id"]
    found = rows(database, "SELECT version, description, run_id FROM migrations ORDER BY version")
    assert ("001", "Makes a", run_id) == found[0]
    assert run_id == found[1][2]
    ((kind, checksum),) = rows(database, "SELECT typeof(seconds), checksum FROM migrations LIMIT 1")
    assert "real" == kind
    assert checksum


# --- structure and history ---------------------------------------------------------------


@pytest.mark.parametrize("mode", ["quick", "full"])
def test_the_structural_check_is_named(database, migrations, mode):
    """`--verify full` is an `integrity_check`, the default a `quick_check`."""
    result = start(database, migrations, "--verify", mode)
    assert 0 == result.code
    pragma = "integrity_check" if mode == "full" else "quick_check"
    assert pragma in result.one("verify.finished")["check"]


def test_full_finds_an_index_that_a_migration_has_broken(database, files):
    """What `writable_schema` has made wrong is rolled back under `--verify full`."""
    make_database(database, "CREATE INDEX by_name ON users (name)")
    write_migrations(
        files,
        {
            "001_a.py": """
                def up(conn):
                    conn.execute("PRAGMA writable_schema = ON")
                    conn.execute(
                        "UPDATE sqlite_schema SET sql = 'CREATE INDEX by_name ON users (id)'"
                        " WHERE name = 'by_name'"
                    )
                    conn.execute("PRAGMA writable_schema = RESET")
                """
        },
    )
    before = logical_digest(database)
    result = start(database, files, "--verify", "full")
    assert (81, "verify.structure") == (result.code, result.finished["reason"])
    undone(result, database, before)


@BOTH
@pytest.mark.parametrize("reset", ["", "PRAGMA writable_schema = RESET;"])
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE sqlite_schema SET sql = 'x';",
        "UPDATE sqlite_schema SET sql = 'x' WHERE name = 'notes';",
        "UPDATE sqlite_schema SET rootpage = 9999 WHERE name = 'users';",
        "UPDATE sqlite_schema SET rootpage = 1 WHERE name = 'users';",
        "DELETE FROM sqlite_schema WHERE name = 'notes';",
    ],
)
def test_a_schema_that_nobody_could_read_is_not_kept(database, files, sql, reset, way):
    """What a migration writes into `sqlite_schema` is read anew before it is committed."""
    text = f"{head(way)}PRAGMA writable_schema = ON; {sql} {reset}"
    write_migrations(files, {"001_a.sql": text, "002_b.sql": "CREATE TABLE b (id);"})
    before = logical_digest(database)
    result = start(database, files)
    assert result.code in (80, 81), result.stderr
    undone(result, database, before)
    assert "001_a.sql" in result.stderr


@BOTH
def test_a_schema_that_was_written_well_is_in_force_at_once(database, files, way):
    """The next migration sees what `writable_schema` has changed, and it is kept."""
    text = (
        "PRAGMA writable_schema = ON;"
        " UPDATE sqlite_schema SET sql = replace(sql, 'text', 'body') WHERE name = 'notes';"
    )
    write_migrations(
        files, {"001_a.sql": head(way) + text, "002_b.sql": "UPDATE notes SET body = 'x';"}
    )
    result = start(database, files)
    assert (0, "app\n") == (result.code, result.stdout), result.stderr
    assert ["x"] == list(dict.fromkeys(row[0] for row in rows(database, "SELECT body FROM notes")))


@BOTH
@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM migrations;",
        "DROP TABLE migrations;",
        "INSERT INTO migrations (version, name) VALUES ('900', 'forged');",
        "UPDATE migrations SET version = '800';",
        "ALTER TABLE migrations RENAME TO elsewhere;",
        "INSERT INTO migrations (version, name) VALUES ('002', 'b');",
        "DROP TABLE migrations; CREATE TABLE migrations(version,name,checksum,seconds,run_id);",
    ],
)
def test_a_migration_that_writes_to_the_history_fails(database, files, sql, way):
    """The history must hold exactly what was applied, and is the run's own business."""
    write_migrations(files, {"001_a.sql": "CREATE TABLE a (id INTEGER);"})
    assert 0 == start(database, files).code
    write_migrations(files, {"002_b.sql": head(way) + sql})
    before = logical_digest(database)
    result = start(database, files)
    assert 81 == result.code, result.stderr
    assert "verify.history" == result.finished["reason"]
    assert result.finished["hint"]
    assert "failed_restored" == result.finished["outcome"]
    assert before == logical_digest(database)
    assert ["001"] == history(database)


def test_a_damaged_database_is_65_before_anything_ran(database, migrations):
    """Damage is looked for when something is pending, and never migrated."""
    make_database(
        database,
        "CREATE TABLE filler (id INTEGER PRIMARY KEY, x TEXT);"
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"
        " INSERT INTO filler (x) SELECT hex(randomblob(50)) FROM n;",
    )
    data = bytearray(database.read_bytes())
    data[-4096 * 3 : -4096 * 3 + 64] = bytes(64)
    database.write_bytes(data)
    result = start(database, migrations)
    assert (65, "database.damaged", "refused") == (
        result.code,
        result.finished["reason"],
        result.finished["outcome"],
    )
    assert [] == result.named("migration.started")
    assert bytes(data) == database.read_bytes()
