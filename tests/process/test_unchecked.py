"""What SQLite cannot check is not what is broken, and what it can check it checks itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.digest import logical_digest
from tests.support.files import history, make_database, opened, rows, tables, write_migrations
from tests.support.processes import Result, run_entrypoint, run_migrator

BOTH = pytest.mark.parametrize("way", ["in-place", "copy"])
HEAD = {"in-place": "-- migrate:up\n", "copy": "-- migrate:up transaction:false\n"}
OUTSIDE = {"in-place": "", "copy": "transactional = False\n"}

FULL_TEXT = (
    "CREATE VIRTUAL TABLE f USING {0} (body); INSERT INTO f VALUES ('hello');"
    "PRAGMA writable_schema = 1;"
    "UPDATE sqlite_schema SET sql = 'CREATE VIRTUAL TABLE f USING {0} (body, tokenize=own)'"
    " WHERE name = 'f';"
)
OWN = {
    "a tokenizer of fts3": FULL_TEXT.format("fts3"),
    "a tokenizer of fts4": FULL_TEXT.format("fts4"),
    "a tokenizer of fts5": FULL_TEXT.format("fts5"),
    "a module": FULL_TEXT.format("fts5").replace("fts5 (body, tokenize=own)", "own (body)"),
    "a collation in an index": "CREATE INDEX i ON users (name COLLATE own);",
    "a collation in a key": "CREATE TABLE o (a COLLATE own PRIMARY KEY);",
    "a collation in a table without rowid": (
        "CREATE TABLE o (a COLLATE own PRIMARY KEY) WITHOUT ROWID;"
        "INSERT INTO o VALUES ('b'), ('A');"
    ),
    "a reference to such a key": (
        "CREATE TABLE o (a COLLATE own PRIMARY KEY) WITHOUT ROWID; INSERT INTO o VALUES ('b');"
        "CREATE TABLE c (a REFERENCES o (a)); INSERT INTO c VALUES ('b'), ('z');"
    ),
    "a function in a CHECK": "CREATE TABLE o (a CHECK (own(a) > 0)); INSERT INTO o VALUES (1);",
    "a function in a generated column": (
        "CREATE TABLE o (a, b AS (own(a))); INSERT INTO o VALUES (1);"
    ),
    "a function in an index": "CREATE INDEX i ON users (own(name));",
    "a function in a partial index": "CREATE INDEX i ON users (name) WHERE own(name);",
}
each_own = pytest.mark.parametrize("kind", OWN)
LEVELS = pytest.mark.parametrize("level", ["quick", "full"])


@contextmanager
def application(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database as an application with a function and a collation of its own does."""
    with opened(path) as conn:
        conn.create_function("own", 1, lambda _: 1, deterministic=True)
        conn.create_collation("own", lambda a, b: (a > b) - (a < b))
        yield conn


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return an empty directory for migrations."""
    return write_migrations(tmp_path / "files", {})


def start(database: Path, files: Path, *more: str) -> Result:
    """Run the entrypoint with an application that says that it runs."""
    return run_entrypoint("--database", database, "--migrations", files, *more, "--", "echo", "app")


def verify(database: Path, files: Path, *more: str) -> Result:
    """Run `migrator verify`."""
    return run_migrator("verify", "--database", database, "--migrations", files, *more)


def undone(result: Result, database: Path, before: str) -> None:
    """Say that a failed run has left everything as before, and all of it pending."""
    assert "app" not in result.stdout
    assert "failed_restored" == result.finished["outcome"]
    assert before == logical_digest(database)
    assert "migrations" not in tables(database)


def sound(database: Path) -> bool:
    """Tell whether SQLite itself, all of it, finds nothing wrong."""
    return [("ok",)] == rows(database, "PRAGMA integrity_check")


# --- what only the application has ------------------------------------------------------


@each_own
@LEVELS
def test_what_only_the_application_has_blocks_no_run(database, files, kind, level):
    """Two releases run beside it, their backups equal the database, `verify` finds no damage."""
    with application(database) as conn:
        conn.executescript(OWN[kind])
    write_migrations(files, {"001_a.sql": "CREATE TABLE made (x);"})
    result = start(database, files, "--verify", level)
    assert (0, "app\n") == (result.code, result.stdout), result.stderr
    for event in result.named("backup.check_incomplete"):
        assert "byte by byte" in event["message"]
    write_migrations(files, {"002_b.sql": HEAD["copy"] + "CREATE TABLE again (x);"})
    result = start(database, files, "--verify", level)
    assert (0, "app\n") == (result.code, result.stdout), result.stderr
    assert ["001", "002"] == history(database)
    verified = verify(database, files, "--verify", level)
    assert 0 == verified.code, verified.stderr
    assert (
        0 == run_migrator("restore", "latest", "--database", database, "--migrations", files).code
    )
    assert ["001"] == history(database)


@each_own
def test_damage_beside_what_cannot_be_checked_is_found(database, files, kind):
    """The other tables are checked all the same: 65 before anything runs, and in `verify`."""
    with application(database) as conn:
        conn.executescript("CREATE TABLE zzz (x); INSERT INTO zzz VALUES (1);")
        page = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'zzz'").fetchone()[0]
        conn.executescript(OWN[kind])
    with database.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    content = database.read_bytes()
    write_migrations(files, {"001_a.sql": "CREATE TABLE made (x);"})
    assert 65 == start(database, files).code
    assert 65 == verify(database, files).code
    assert content == database.read_bytes()


def test_what_cannot_be_checked_is_said(database, files):
    """The backup, the new state and its foreign keys: each is a warning with SQLite's words."""
    with application(database) as conn:
        conn.executescript(OWN["a reference to such a key"])
    write_migrations(files, {"001_a.sql": "CREATE TABLE made (x);"})
    result = start(database, files)
    assert 0 == result.code
    assert "own" in result.one("backup.check_incomplete")["error"]
    said = {
        event["check"]: event["error"]
        for event in result.named("verify.finished")
        if event["level"] == "warning"
    }
    assert {"quick_check", "foreign_key_check"} == set(said)
    assert all("own" in error for error in said.values())
    warned = {event["check"] for event in verify(database, files).named("verify.finished")}
    assert {"quick_check", "foreign_key_check"} == warned


def test_a_backup_that_differs_is_refused_where_sqlite_cannot_check(database, files):
    """A flipped byte in the backup of such a database is found by its checksum."""
    with application(database) as conn:
        conn.executescript(OWN["a collation in an index"])
    write_migrations(files, {"001_a.sql": "CREATE TABLE made (x);"})
    assert 0 == start(database, files).code
    (backup,) = (database.parent / "backups").glob("*.db")
    content = bytearray(backup.read_bytes())
    content[-1] ^= 1
    backup.chmod(0o600)
    backup.write_bytes(content)
    assert 65 == verify(database, files).code


# --- what a migration registers -----------------------------------------------------------

CASEFOLD = "lambda a, b: (a.casefold() > b.casefold()) - (a.casefold() < b.casefold())"
WORDS = r'("Z", "\u00e4", "\u00c4b", "[", "a", "\u00df", "ss", "SSa")'
MISLEADING = {
    "a collation": (
        f"conn.create_collation('NOCASE', {CASEFOLD})\n"
        "conn.execute('CREATE TABLE w (t TEXT COLLATE NOCASE)')\n"
        "FILL\n"
        "conn.execute('CREATE INDEX w_t ON w (t)')\n"
    ),
    "a collation in another spelling": (
        f"conn.create_collation('nocase', {CASEFOLD})\n"
        "conn.execute('CREATE TABLE w (t TEXT)')\n"
        "FILL\n"
        "conn.execute('CREATE INDEX w_t ON w (t COLLATE NoCase)')\n"
    ),
    "a collation for trailing blanks": (
        "conn.create_collation('RTRIM', lambda a, b: (a < b) - (a > b))\n"
        "conn.execute('CREATE TABLE w (t TEXT COLLATE RTRIM)')\n"
        "FILL\n"
        "conn.execute('CREATE INDEX w_t ON w (t)')\n"
    ),
    "a function in an index": (
        "conn.create_function('lower', 1, lambda t: t[::-1].casefold(), deterministic=True)\n"
        "conn.execute('CREATE TABLE w (t TEXT)')\n"
        "FILL\n"
        "conn.execute('CREATE INDEX w_t ON w (lower(t))')\n"
    ),
    "a function for any number of arguments": (
        "conn.create_function('upper', -1, lambda t: 'x' + t, deterministic=True)\n"
        "conn.execute('CREATE TABLE w (t TEXT, u AS (upper(t)) UNIQUE)')\n"
        "FILL\n"
    ),
    "a function in a partial index": (
        "conn.create_function('length', 1, lambda t: 0 if t > 'a' else 1, deterministic=True)\n"
        "conn.execute('CREATE TABLE w (t TEXT)')\n"
        "FILL\n"
        "conn.execute('CREATE INDEX w_t ON w (t) WHERE length(t)')\n"
    ),
    "a function in a CHECK": (
        "conn.create_function('abs', 1, lambda t: -1, deterministic=True)\n"
        "conn.execute('CREATE TABLE w (t TEXT, CHECK (abs(1) < 0))')\n"
        "FILL\n"
    ),
}


def registering(code: str, way: str) -> str:
    """Return a migration of such code."""
    fill = f"conn.executemany('INSERT INTO w (t) VALUES (?)', [(t,) for t in {WORDS}])"
    body = "".join(f"    {line}\n" for line in code.replace("FILL", fill).splitlines())
    return f"{OUTSIDE[way]}def up(conn):\n{body}"


@pytest.mark.parametrize("kind", MISLEADING)
@BOTH
def test_what_a_migration_registers_does_not_decide_whether_the_database_is_sound(
    database, files, kind, way
):
    """An index or a constraint is checked with SQLite's own: 81, and everything as before."""
    write_migrations(files, {"001_a.py": registering(MISLEADING[kind], way)})
    before = logical_digest(database)
    result = start(database, files)
    assert 81 == result.code, result.stderr
    assert result.finished["reason"] in ("verify.structure", "verify.constraints")
    undone(result, database, before)
    assert sound(database)


def test_nor_does_it_on_a_first_install(tmp_path, files):
    """A new database is checked in the same way, and is not made."""
    write_migrations(files, {"001_a.py": registering(MISLEADING["a collation"], "in-place")})
    new = tmp_path / "new.db"
    assert 81 == start(new, files).code
    assert not new.exists()


def test_what_was_registered_by_one_migration_does_not_mislead_the_next(database, files):
    """SQLite's own `lower` and NOCASE are there again for the migration after."""
    write_migrations(
        files,
        {
            "001_a.py": f"""
                def up(conn):
                    conn.create_function("lower", 1, lambda text: "mine", deterministic=True)
                    conn.create_collation("NOCASE", {CASEFOLD})
                    conn.execute("CREATE TABLE told (by TEXT, text TEXT)")
                    conn.execute("INSERT INTO told SELECT 'one', lower('\u00c4X')")
                """,
            "002_b.py": """
                def up(conn):
                    conn.execute("INSERT INTO told SELECT 'two', lower('\u00c4X')")
                    conn.execute("INSERT INTO told SELECT 'same', '\u00e4' = '\u00c4' COLLATE NOCASE")
                    conn.execute("INSERT INTO told SELECT 'like', 'a' = 'A' COLLATE NOCASE")
                    conn.execute("CREATE TABLE w (t TEXT COLLATE NOCASE UNIQUE)")
                    conn.execute("INSERT INTO w VALUES ('\u00e4'), ('\u00c4'), ('a'), (lower('B'))")
                    conn.execute("CREATE INDEX w_l ON w (lower(t))")
                """,
        },
    )
    result = start(database, files)
    assert (0, "app\n") == (result.code, result.stdout), result.stderr
    expected = [("one", "mine"), ("two", "\u00c4x"), ("same", "0"), ("like", "1")]
    assert expected == rows(database, "SELECT by, text FROM told")
    assert sound(database)


@BOTH
def test_a_migration_may_use_a_function_under_a_name_of_sqlites(database, files, way):
    """`lower` for all of Unicode is fine where no index or constraint is made with it."""
    write_migrations(
        files,
        {
            "001_a.py": f"""
                {OUTSIDE[way].strip()}
                def up(conn):
                    conn.create_function("lower", 1, lambda text: text.lower())
                    conn.execute("UPDATE users SET name = lower('\u00c4' || name)")
                """
        },
    )
    result = start(database, files)
    assert (0, "app\n") == (result.code, result.stdout), result.stderr
    assert "\u00e4ada" == rows(database, "SELECT name FROM users WHERE id = 1")[0][0]
    assert sound(database)


@BOTH
def test_a_collation_under_a_name_of_its_own_is_no_fault(database, files, way):
    """The index made with it is applied, and warned about: SQLite alone cannot check it."""
    write_migrations(
        files,
        {
            "001_a.py": registering(
                f"conn.create_collation('own', {CASEFOLD})\n"
                "conn.create_function('fold', 1, str.casefold, deterministic=True)\n"
                "conn.execute('CREATE TABLE w (t TEXT COLLATE own UNIQUE)')\n"
                "conn.execute(\"INSERT INTO w VALUES ('a'), ('B')\")\n"
                "conn.execute('CREATE INDEX w_f ON w (fold(t))')\n",
                way,
            ),
            "002_b.sql": "CREATE TABLE made (x);",
        },
    )
    result = start(database, files)
    assert (0, "app\n") == (result.code, result.stdout), result.stderr
    warnings = [each for each in result.named("verify.finished") if each["level"] == "warning"]
    assert ["quick_check"] == [each["check"] for each in warnings]
    assert "own" in warnings[0]["error"]


@BOTH
def test_count_stays_sqlites(database, files, way):
    """The function by which lost rows are found is not replaced: 80."""
    code = (
        "class Many:\n"
        "    def step(self): pass\n"
        "    def finalize(self): return 1000\n"
        "conn.create_aggregate('COUNT', 0, Many)\n"
        "conn.execute('CREATE TABLE slim AS SELECT * FROM users LIMIT 1')\n"
        "conn.execute('DROP TABLE users')\n"
        "conn.execute('ALTER TABLE slim RENAME TO users')\n"
    )
    write_migrations(files, {"001_a.py": registering(code, way)})
    before = logical_digest(database)
    result = start(database, files)
    assert 80 == result.code
    assert "count()" in result.finished["error"]
    undone(result, database, before)


# --- rows against a constraint ------------------------------------------------------------

EDIT = (
    "PRAGMA writable_schema = ON;\n"
    "UPDATE sqlite_schema SET sql = replace(sql, 'text TEXT', 'text TEXT {0}') WHERE name = 'notes';\n"
    "PRAGMA writable_schema = OFF;\n"
)
AGAINST = {
    "a CHECK that was switched off": (
        "CREATE TABLE p (n CHECK (n > 0));\n"
        "PRAGMA ignore_check_constraints = ON;\nINSERT INTO p VALUES (-1);\n"
    ),
    "a CHECK written into the schema": EDIT.format("CHECK (text <> ''one'')"),
    "NOT NULL written into the schema": (
        "UPDATE notes SET text = NULL WHERE id = 2;\n" + EDIT.format("NOT NULL")
    ),
    "a type written into the schema": (
        "UPDATE notes SET text = x'00' WHERE id = 2;\n"
        "CREATE TABLE p (n INTEGER); INSERT INTO p VALUES ('x');\nPRAGMA writable_schema = ON;\n"
        "UPDATE sqlite_schema SET sql = 'CREATE TABLE p (n INTEGER) STRICT' WHERE name = 'p';\n"
    ),
}


@pytest.mark.parametrize("kind", AGAINST)
@BOTH
def test_rows_that_a_migration_left_against_a_constraint_are_81(database, files, kind, way):
    """SQLite would not have let them in: the run fails, and everything is as before."""
    write_migrations(files, {"001_a.sql": HEAD[way] + AGAINST[kind]})
    before = logical_digest(database)
    result = start(database, files)
    assert (81, "verify.constraints") == (result.code, result.finished["reason"]), result.stderr
    undone(result, database, before)


@BOTH
def test_a_unique_index_written_into_the_schema_is_81(database, files, way):
    """Where a migration writes the schema itself, everything is checked."""
    text = (
        "CREATE INDEX by_user ON notes (user_id);\nPRAGMA writable_schema = ON;\n"
        "UPDATE sqlite_schema SET sql = 'CREATE UNIQUE INDEX by_user ON notes (user_id)'"
        " WHERE name = 'by_user';\n"
    )
    write_migrations(files, {"001_a.sql": HEAD[way] + text})
    before = logical_digest(database)
    result = start(database, files)
    assert (81, "verify.structure") == (result.code, result.finished["reason"]), result.stderr
    undone(result, database, before)


OLD = (
    "PRAGMA ignore_check_constraints = ON;"
    "CREATE TABLE p (n CHECK (n > 0), t); INSERT INTO p (n) VALUES (-1), (-2);"
    "PRAGMA writable_schema = ON;"
    "UPDATE sqlite_schema SET sql = 'CREATE TABLE p (n CHECK (n > 0), t NOT NULL)'"
    " WHERE name = 'p';"
)
HARMLESS = {
    "something else": "CREATE TABLE made (x);",
    "a table renamed": "ALTER TABLE p RENAME TO q;",
    "a column renamed": "ALTER TABLE p RENAME COLUMN n TO m;",
    "a row mended": "UPDATE p SET n = 1, t = '' WHERE n = -1;",
    "the table dropped": "DROP TABLE p;",
}


@pytest.mark.parametrize("kind", HARMLESS)
@BOTH
def test_rows_that_were_there_before_do_not_block(database, files, kind, way):
    """They are told, and are nobody's fault in this run."""
    make_database(database, OLD)
    write_migrations(files, {"001_a.sql": HEAD[way] + HARMLESS[kind]})
    result = start(database, files)
    assert (0, "app\n") == (result.code, result.stdout), result.stderr
    said = [each["error"] for each in result.named("verify.finished") if "error" in each]
    assert ("the table dropped" == kind) == (said == [])
    assert 0 == verify(database, files).code


def test_one_row_more_than_before_is_81(database, files):
    """Counts per table and kind are compared."""
    make_database(database, OLD)
    text = "PRAGMA ignore_check_constraints = ON;\nINSERT INTO p VALUES (-3, '');\n"
    write_migrations(files, {"001_a.sql": text})
    before = logical_digest(database)
    result = start(database, files)
    assert (81, "verify.constraints") == (result.code, result.finished["reason"])
    assert "1 more row" in result.finished["error"]
    undone(result, database, before)


# --- the hint -------------------------------------------------------------------------------

LACKING = {
    "a function": ("UPDATE users SET name = slugify(name);", "create_function('slugify'"),
    "a collation": ("CREATE INDEX i ON users (name COLLATE german);", "create_collation('german'"),
    "a module": ("CREATE VIRTUAL TABLE v USING spell;", "load_extension"),
    "a tokenizer": ("CREATE VIRTUAL TABLE v USING fts5 (a, tokenize=simple);", "load_extension"),
    "an operator": ("DELETE FROM users WHERE name REGEXP 'x';", "create_function('REGEXP'"),
}


@pytest.mark.parametrize("kind", LACKING)
@BOTH
def test_what_only_the_application_registers_is_named_in_the_hint(database, files, kind, way):
    """A migration that needs it is 80, and the hint says how a .py migration has it."""
    text, words = LACKING[kind]
    write_migrations(files, {"001_a.sql": HEAD[way] + text})
    before = logical_digest(database)
    result = start(database, files)
    assert 80 == result.code
    assert "the application registers" in result.finished["hint"]
    assert words in result.finished["hint"]
    undone(result, database, before)


@BOTH
def test_the_hint_works(database, files, way):
    """A .py migration that registers the function and the collation itself is applied."""
    code = (
        "conn.create_function('slugify', 1, lambda text: text.lower())\n"
        "conn.create_collation('german', lambda a, b: (a > b) - (a < b))\n"
        "conn.execute('UPDATE users SET name = slugify(name)')\n"
        "conn.execute('CREATE INDEX i ON users (name COLLATE german)')\n"
    )
    write_migrations(files, {"001_a.py": registering(code, way)})
    assert 0 == start(database, files).code
    assert "ada" == rows(database, "SELECT name FROM users WHERE id = 1")[0][0]


def test_a_misspelled_table_has_the_usual_hint(database, files):
    """What is missing in the database itself is no business of the application's."""
    write_migrations(files, {"001_a.sql": "UPDATE usres SET name = '';"})
    result = start(database, files)
    assert 80 == result.code
    assert "registers" not in result.finished["hint"]
