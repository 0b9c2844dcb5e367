"""What the verification finds in a database, and what it cannot find out."""

from __future__ import annotations

import resource
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.database.integrity_check import Structural, examine
from migrator.verify.checks import foreign_keys, new_orphans, tables
from tests.support.digest import logical_digest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the database of a test lies."""
    return tmp_path / "app.db"


@pytest.fixture
def conn(path: Path) -> Iterator[sqlite3.Connection]:
    """Return a connection to a new database."""
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


def damage(path: Path, page: int) -> None:
    """Overwrite one page of a database."""
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)


@pytest.mark.parametrize("mode", ["quick", "full"])
def test_a_sound_database_has_no_problems(conn: sqlite3.Connection, mode: str) -> None:
    """A database in which everything is well has neither problems nor blind spots."""
    conn.executescript("CREATE TABLE t (a); CREATE INDEX i ON t (a); INSERT INTO t VALUES (1);")

    assert Structural() == examine(conn, mode)


@pytest.mark.parametrize("page", [1, 3])
def test_a_damaged_page_is_a_problem(path: Path, conn: sqlite3.Connection, page: int) -> None:
    """A damaged page is a finding, whether SQLite lists it or raises because of it."""
    conn.executescript(
        "CREATE TABLE t (a); CREATE TABLE u (a);INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)"
    )
    conn.close()
    damage(path, page)
    damaged = sqlite3.connect(path)

    found = examine(damaged)
    damaged.close()

    assert found.problems
    assert found.incomplete is None


def test_an_index_that_is_out_of_order_is_found_by_the_full_check(conn: sqlite3.Connection) -> None:
    """What an index has in the wrong place is found by `full`, and not looked for by `quick`."""
    conn.executescript("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2);")
    conn.executescript(
        "PRAGMA writable_schema=1;"
        "CREATE INDEX i ON t (a);"
        "UPDATE sqlite_master SET sql = 'CREATE INDEX i ON t (a DESC)' WHERE name = 'i';"
        "PRAGMA writable_schema=RESET;"
    )

    assert not examine(conn, "quick").problems
    assert examine(conn, "full").problems


def test_at_most_ten_problems_are_listed(conn: sqlite3.Connection) -> None:
    """However much is wrong, ten lines say enough."""
    conn.execute("CREATE TABLE t (a)")
    conn.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(50)])
    conn.executescript(
        "PRAGMA writable_schema=1;"
        "CREATE INDEX i ON t (a) WHERE a < 0;"
        "UPDATE sqlite_master SET sql = 'CREATE INDEX i ON t (a)' WHERE name = 'i';"
        "PRAGMA writable_schema=RESET;"
    )

    assert 10 == len(examine(conn, "full").problems)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("(a)", "(a NOT NULL)", "NULL value in t.a"),
        ("(a, b DEFAULT 5)", "(a, b TEXT DEFAULT 5)", "NUMERIC value in t.b"),
        ("(a, b DEFAULT 'x')", "(a, b INTEGER DEFAULT 'x')", None),
        ("(a, b DEFAULT '5')", "(a, b INTEGER DEFAULT '5')", "TEXT value in t.b"),
        (
            "(a INTEGER, b INTEGER DEFAULT 'x')",
            "(a INTEGER, b INTEGER) STRICT",
            "non-INTEGER value in t.b",
        ),
        ("(a, b DEFAULT 5)", "(a, b DEFAULT 5 CHECK (b > 5))", "CHECK constraint failed in t"),
    ],
)
def test_rows_that_a_constraint_forbids_are_no_damage(
    conn: sqlite3.Connection, before: str, after: str, said: str | None
) -> None:
    """They are counted, all of them, and hide no damage that SQLite says after them."""
    conn.execute(f"CREATE TABLE t {before}")
    conn.executemany("INSERT INTO t (a) VALUES (?)", [(None,)] * 50)
    conn.execute("CREATE TABLE z (a)")
    conn.executescript(
        "INSERT INTO z VALUES (1);"
        "PRAGMA writable_schema=1;"
        "CREATE INDEX i ON z (a) WHERE a < 0;"
        "UPDATE sqlite_master SET sql = 'CREATE INDEX i ON z (a)' WHERE name = 'i';"
    )
    conn.execute("UPDATE sqlite_master SET sql = ? WHERE name = 't'", (f"CREATE TABLE t {after}",))
    conn.execute("PRAGMA writable_schema=RESET")

    found = examine(conn, "full")

    assert {said: 50} == found.rows if said else not found.rows
    assert "index i" in " ".join(found.problems)


@pytest.mark.parametrize(
    ("needs", "schema"),
    [
        ("function", "CREATE TABLE t (a, CHECK (own(a) > 0))"),
        ("function", "CREATE TABLE t (a); CREATE INDEX i ON t (own(a))"),
        ("collation", "CREATE TABLE t (a COLLATE own); CREATE INDEX i ON t (a)"),
    ],
)
def test_what_only_the_application_defines_leaves_the_check_incomplete(
    path: Path, conn: sqlite3.Connection, needs: str, schema: str
) -> None:
    """A function or collation that SQLite lacks is no damage: the check says it is incomplete."""
    conn.create_function("own", 1, lambda _: 1, deterministic=True)
    conn.create_collation("own", lambda a, b: (a > b) - (a < b))
    conn.executescript(f"{schema}; INSERT INTO t (a) VALUES (1), (2)")
    other = sqlite3.connect(path)

    found = examine(other, "full")
    other.close()

    assert () == found.problems
    assert found.incomplete is not None
    assert needs in found.incomplete


FULL_TEXT = (
    "CREATE VIRTUAL TABLE f USING {0} (body); INSERT INTO f VALUES ('hello');"
    "PRAGMA writable_schema=1;"
    "UPDATE sqlite_master SET sql = 'CREATE VIRTUAL TABLE f USING {0} (body, tokenize=own)'"
    " WHERE name = 'f'"
)
OWN = {
    "a function in a CHECK": "CREATE TABLE t (a, CHECK (own(a) > 0))",
    "a function in a generated column": "CREATE TABLE t (a, b AS (own(a)))",
    "a function in a stored column": "CREATE TABLE t (a, b AS (own(a)) STORED)",
    "a function in an index": "CREATE TABLE t (a); CREATE INDEX i ON t (own(a))",
    "a function in a partial index": "CREATE TABLE t (a); CREATE INDEX i ON t (a) WHERE own(a)",
    "a collation in an index": "CREATE TABLE t (a COLLATE own); CREATE INDEX i ON t (a)",
    "a collation in a UNIQUE": "CREATE TABLE t (a COLLATE own UNIQUE)",
    "a collation in a key": "CREATE TABLE t (a COLLATE own PRIMARY KEY)",
    "a collation in a table without rowid": "CREATE TABLE t (a COLLATE own PRIMARY KEY) WITHOUT ROWID",
    "a tokenizer of fts3": f"CREATE TABLE t (a); {FULL_TEXT.format('fts3')}",
    "a tokenizer of fts4": f"CREATE TABLE t (a); {FULL_TEXT.format('fts4')}",
    "a tokenizer of fts5": f"CREATE TABLE t (a); {FULL_TEXT.format('fts5')}",
    "a module": "CREATE TABLE t (a); CREATE VIRTUAL TABLE f USING fts5 (body);"
    "PRAGMA writable_schema=1; UPDATE sqlite_master SET sql = 'CREATE VIRTUAL TABLE f USING own()'"
    " WHERE name = 'f'",
}


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("mode", ["quick", "full"])
def test_what_the_application_has_alone_is_no_damage_and_hides_none(
    path: Path, conn: sqlite3.Connection, kind: str, mode: str
) -> None:
    """Whatever SQLite lacks: nothing is wrong, and damage in another table is found."""
    conn.create_function("own", 1, lambda _: 1, deterministic=True)
    conn.create_collation("own", lambda a, b: (a > b) - (a < b))
    conn.executescript("CREATE TABLE zzz (x); INSERT INTO zzz VALUES (1)")
    page = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = 'zzz'").fetchone()[0]
    conn.executescript(f"{OWN[kind]}; INSERT INTO t (a) VALUES (1), (2)")
    conn.close()
    other = sqlite3.connect(path)

    assert () == examine(other, mode).problems
    other.close()

    damage(path, page)
    other = sqlite3.connect(path)
    assert examine(other, mode).problems
    other.close()


def test_a_message_without_a_known_word_is_decided_by_its_code() -> None:
    """SQLite's texts differ from version to version; code 1, with any extension, is no damage."""

    class Refusing(sqlite3.Connection):
        def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
            if "quick_check" in sql:
                error = sqlite3.OperationalError("something new")
                error.sqlite_errorcode = sqlite3.SQLITE_ERROR | 1 << 8
                raise error
            return super().execute(sql, *parameters)

    conn = sqlite3.connect(":memory:", factory=Refusing)

    assert Structural(incomplete="something new") == examine(conn)
    conn.close()


def test_a_locked_database_is_no_finding(path: Path, conn: sqlite3.Connection) -> None:
    """What is neither damage nor a blind spot is raised, not reported as damage."""
    conn.executescript("CREATE TABLE t (a); BEGIN EXCLUSIVE;")
    other = sqlite3.connect(path, timeout=0)

    with pytest.raises(sqlite3.OperationalError, match="locked"):
        examine(other)
    other.close()


def test_a_page_that_finds_no_room_is_no_damage(conn: sqlite3.Connection) -> None:
    """SQLite lists among its findings what the disk did not let it do: that is raised."""
    conn.executescript("""
        PRAGMA cache_size = 10;
        CREATE TABLE t (a);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
            INSERT INTO t SELECT zeroblob(1000) FROM n;
        BEGIN;
        UPDATE t SET a = zeroblob(999) WHERE rowid <= 30;
        """)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        with pytest.raises(sqlite3.OperationalError, match="disk I/O error") as raised:
            examine(conn)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert raised.value.sqlite_errorcode == sqlite3.SQLITE_IOERR_WRITE


def test_violations_are_counted_per_table_and_parent(conn: sqlite3.Connection) -> None:
    """Each row whose parent is missing counts for its table and that parent."""
    conn.executescript("""
        CREATE TABLE users (id INTEGER PRIMARY KEY);
        CREATE TABLE "odd "" name" (u REFERENCES users, g REFERENCES gone);
        INSERT INTO "odd "" name" VALUES (1, 1), (2, NULL);
        """)

    found = foreign_keys(conn)

    assert Counter({('odd " name', "users"): 2, ('odd " name', "gone"): 1}) == found.orphans


def test_a_foreign_key_that_cannot_be_checked_counts_as_one_violation(
    conn: sqlite3.Connection,
) -> None:
    """A parent without a unique key does not keep the other tables from being checked."""
    conn.executescript("""
        CREATE TABLE parent (a);
        CREATE TABLE child (a REFERENCES parent (a));
        INSERT INTO child VALUES (1), (2);
        CREATE TABLE users (id INTEGER PRIMARY KEY);
        CREATE TABLE notes (u REFERENCES users);
        INSERT INTO notes VALUES (7);
        """)

    assert Counter({("child", "parent"): 1, ("notes", "users"): 1}) == foreign_keys(conn).orphans


@pytest.mark.parametrize(
    "parent", ["(a TEXT COLLATE own PRIMARY KEY) WITHOUT ROWID", "(a TEXT COLLATE own UNIQUE)"]
)
def test_a_reference_to_a_key_in_the_applications_collation_is_no_violation(
    path: Path, conn: sqlite3.Connection, parent: str
) -> None:
    """It is not checked, and said so; the other tables are."""
    conn.create_collation("own", lambda a, b: (a > b) - (a < b))
    conn.executescript(f"""
        CREATE TABLE parent {parent};
        CREATE TABLE child (a REFERENCES parent (a));
        INSERT INTO parent VALUES ('x');
        INSERT INTO child VALUES ('x'), ('y');
        CREATE TABLE users (id INTEGER PRIMARY KEY);
        CREATE TABLE notes (u REFERENCES users);
        INSERT INTO notes VALUES (7);
        """)
    other = sqlite3.connect(path)

    found = foreign_keys(other)
    other.close()

    assert Counter({("notes", "users"): 1}) == found.orphans
    assert ["child"] == list(found.unchecked)


def test_violations_inside_the_transaction_are_seen(conn: sqlite3.Connection) -> None:
    """The check sees what the open transaction has done, with foreign keys off."""
    conn.executescript(
        "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p);"
        "BEGIN; INSERT INTO c VALUES (1);"
    )

    assert Counter({("c", "p"): 1}) == foreign_keys(conn).orphans


def test_only_more_violations_than_before_are_new() -> None:
    """Violations that were there before the run do not block it."""
    before = {("notes", "users"): 3, ("tags", "notes"): 2}
    after = {("notes", "users"): 4, ("tags", "notes"): 1, ("likes", "?"): 1}

    assert {("notes", "users"): 1, ("likes", "?"): 1} == new_orphans(before, after)


def test_a_renamed_table_keeps_its_old_violations() -> None:
    """Violations follow a table, or a parent, that the run has renamed."""
    before = {("notes", "users"): 3, ("likes", "notes"): 1}
    after = {("Memos", "people"): 3, ("likes", "memos"): 1}
    renames = [("Notes", "texts"), ("texts", "memos"), ("users", "people")]

    assert {} == new_orphans(before, after, renames)


def test_only_the_applications_own_tables_are_listed(conn: sqlite3.Connection) -> None:
    """Views, temporary tables, SQLite's own and shadow tables are left out."""
    conn.executescript("""
        CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT);
        CREATE VIEW v AS SELECT 1;
        CREATE TEMP TABLE temporary (a);
        CREATE VIRTUAL TABLE f USING fts5 (a);
        """)

    assert ["t"] == tables(conn, ("table",))
    assert ["f", "t"] == tables(conn, ("table", "virtual"))


def test_the_digest_tells_states_apart(path: Path, conn: sqlite3.Connection) -> None:
    """Equal states have equal digests; a row, a type, a table or the journal mode changes it."""
    conn.executescript("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2);")
    seen = [logical_digest(path)]
    conn.execute("UPDATE t SET a = 3 - a")
    conn.execute("VACUUM")
    assert seen == [logical_digest(path)]

    for change in (
        "INSERT INTO t VALUES (2)",
        "UPDATE t SET a = '1' WHERE a = 1",
        "CREATE TABLE u (a)",
        "PRAGMA user_version=1",
        "PRAGMA journal_mode=WAL",
    ):
        conn.execute(change)
        seen.append(logical_digest(path))

    assert len(seen) == len(set(seen))
