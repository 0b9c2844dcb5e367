"""Rows that a migration loses: which it has said it would lose, and which not."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from migrator.errors import VerificationError
from migrator.model import Entry
from migrator.session.guard import Guard, open_guard
from migrator.session.record import Record
from migrator.session.recording import RecordingConnection
from migrator.verify.row_loss import RowGuard

ENTRY = Entry(key=(7,), version="007", name="tidy", path=Path("/m/007_tidy.sql"))

REBUILD = """
    CREATE TABLE users_new (id INTEGER PRIMARY KEY, name TEXT, mail TEXT);
    INSERT INTO users_new (id, name) SELECT id, name FROM users WHERE {where};
    DROP TABLE users;
    ALTER TABLE users_new RENAME TO users;
"""


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guard]:
    """Return a guard in its transaction, over ten users, five notes and an empty table."""
    path = tmp_path / "app.db"
    conn = sqlite3.connect(path)
    conn.executescript("""
        CREATE TABLE migrations (version TEXT PRIMARY KEY);
        CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
        CREATE TABLE notes (id INTEGER PRIMARY KEY, user INTEGER REFERENCES users, text UNIQUE);
        CREATE TABLE spare (a);
        CREATE VIRTUAL TABLE search USING fts5 (text);
        WITH n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 10)
        INSERT INTO users SELECT i, 'user ' || i FROM n;
        INSERT INTO notes SELECT id, id, 'note ' || id FROM users WHERE id <= 5;
        INSERT INTO search SELECT text FROM notes;
        INSERT INTO migrations VALUES ('001'), ('002');
    """)
    conn.close()
    shutil.copy(path, tmp_path / "old.db")
    guard = open_guard(path)
    guard.begin()
    yield guard
    guard.rollback()
    guard.close()


def old_of(conn: sqlite3.Connection) -> Path:
    """Return where the copy of a database lies that stands for its backup."""
    return Path(conn.execute("PRAGMA database_list").fetchone()[2]).with_name("old.db")


class Run:
    """A run of migrations under the row guard."""

    def __init__(self, guard: Guard, mode: str) -> None:
        self.guard = guard
        with guard.engine():
            self.rows = RowGuard(guard.conn, mode, "Migrations", old_of(guard.conn))
            self.rows.begin()

    def __call__(self, script: str, *allowed: str) -> dict[str, int]:
        """Run one migration; returns the rows that were said to go."""
        self.guard.start_migration()
        self.guard.conn.executescript(script)
        self.guard.finish_migration()
        with self.guard.engine():
            return self.rows.check(self.guard.record, ENTRY, frozenset(allowed))


@pytest.fixture
def run(guard: Guard) -> Iterator[Run]:
    """Return a run with `--row-guard on`."""
    run = Run(guard, "on")
    with run.rows:
        yield run


@pytest.fixture
def strict(guard: Guard) -> Iterator[Run]:
    """Return a run with `--row-guard strict`."""
    run = Run(guard, "strict")
    with run.rows:
        yield run


def lost(error: pytest.ExceptionInfo[VerificationError]) -> tuple[object, object, object]:
    """Return the table and the counts that an error carries."""
    data = error.value.data
    return data["table"], data["before"], data["after"]


# --- not said ---------------------------------------------------------------


def test_the_shadows_of_a_new_virtual_table_are_no_tables(tmp_path: Path) -> None:
    """Whoever deletes from it says nothing of them, also where it is a database's first."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE first (a)")
    shutil.copy(path, tmp_path / "old.db")
    with closing(open_guard(path)) as guard:
        guard.begin()
        run = Run(guard, "on")
        with run.rows:
            run("CREATE VIRTUAL TABLE f USING fts5 (t); INSERT INTO f VALUES ('one'), ('two')")
            assert {"f": 2} == run("DELETE FROM f")
        guard.rollback()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (REBUILD.format(where="id > 2"), ("users", 10, 8)),
        ("INSERT OR REPLACE INTO notes SELECT 1, 1, 'note 2'", ("notes", 5, 4)),
        ("REPLACE INTO notes SELECT 1, 1, 'note 2'", ("notes", 5, 4)),
        ("UPDATE OR REPLACE notes SET text = 'note 2' WHERE id = 1", ("notes", 5, 4)),
        (
            (
                "CREATE TRIGGER t AFTER DELETE ON users BEGIN"
                " DELETE FROM notes WHERE user = OLD.id; END;"
                " DELETE FROM users WHERE id < 3"
            ),
            ("notes", 5, 3),
        ),
        ("DROP TABLE users; CREATE TABLE users (id INTEGER PRIMARY KEY)", ("users", 10, 0)),
        (
            (
                "EXPLAIN DELETE FROM users; INSERT OR REPLACE INTO notes VALUES (1, 1, 'note 2');"
                "EXPLAIN DELETE FROM notes"
            ),
            ("notes", 5, 4),
        ),
        (
            (
                "ALTER TABLE users RENAME TO users_old;"
                "CREATE TABLE users (id INTEGER PRIMARY KEY);"
                "INSERT INTO users SELECT id FROM users_old LIMIT 4;"
                "DELETE FROM users_old; DROP TABLE users_old"
            ),
            ("users", 10, 4),
        ),
        ("INSERT INTO search (search) VALUES ('rebuild')", None),
        ("DELETE FROM spare; " + REBUILD.format(where="id > 2"), ("users", 10, 8)),
    ],
)
def test_rows_that_go_unsaid_fail_the_migration(
    run: Run, script: str, expected: tuple[str, int, int] | None
) -> None:
    """A smaller rebuild, REPLACE, and what triggers delete are losses that nobody has said."""
    if expected is None:  # no rows go at all
        assert {} == run(script)
        return
    with pytest.raises(VerificationError) as caught:
        run(script)

    assert expected == lost(caught)


def test_the_failure_names_migration_table_and_both_counts(run: Run) -> None:
    """The error says who lost what, and how to say that it is meant."""
    with pytest.raises(VerificationError) as caught:
        run(REBUILD.format(where="id > 2"))

    error = caught.value
    assert (81, "rows.lost") == (error.exit_code, error.reason)
    assert "007_tidy.sql left 8 of the 10 rows of table 'users'" in error.message
    assert "allow_row_loss = ('users',)" in error.hint
    assert "-- migrate:allow-row-loss users" in error.hint
    assert ("007", "tidy") == (error.data["version"], error.data["name"])


def test_every_table_that_lost_rows_is_listed(run: Run) -> None:
    """Where several tables lost rows, all of them are in the error's data and hint."""
    with pytest.raises(VerificationError) as caught:
        run(REBUILD.format(where="id > 2") + "INSERT OR REPLACE INTO notes SELECT 1, 1, 'note 2'")

    assert ["notes", "users"] == sorted(loss["table"] for loss in caught.value.data["tables"])
    assert "notes" in caught.value.hint
    assert "users" in caught.value.hint


# --- said ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("DELETE FROM users WHERE id < 4", {"users": 3}),
        ('delete from main."Users" where id < 4', {"users": 3}),
        ("WITH old AS (SELECT 1) DELETE FROM users WHERE id IN (SELECT * FROM old)", {"users": 1}),
        ("/* tidy */ DELETE FROM users", {"users": 10}),
        ("DROP TABLE notes; DROP TABLE users", {"notes": 5, "users": 10}),
        ("DROP TABLE spare", {}),
        ("ALTER TABLE notes RENAME TO memos; DROP TABLE memos", {"notes": 5}),
        ("ALTER TABLE notes RENAME TO memos; DELETE FROM memos WHERE id = 1", {"notes": 1}),
        ("DELETE FROM notes WHERE id = 1; ALTER TABLE notes RENAME TO memos", {"notes": 1}),
        ("DELETE FROM users WHERE id = 1;" + REBUILD.format(where="id > 2"), {"users": 2}),
        (
            REBUILD.format(where="true").replace(
                "DROP", "DELETE FROM users_new WHERE id > 8; DROP"
            ),
            {"users": 2},
        ),
        ("DELETE FROM search WHERE text = 'note 1'", {"search": 1}),
        ("DROP TABLE search", {"search": 5}),
        ("DROP TABLE notes; CREATE VIEW notes AS SELECT 1", {"notes": 5}),
    ],
)
def test_what_a_migration_says_itself_may_go(
    run: Run, script: str, expected: dict[str, int]
) -> None:
    """Its own DELETE on the table, or dropping it for good, says that rows go."""
    assert expected == run(script)


def test_a_delete_is_said_by_any_cursor(run: Run) -> None:
    """A DELETE by execute or executemany counts as much as one in a script."""
    guard = run.guard
    guard.start_migration()
    guard.conn.execute("DELETE FROM users WHERE id = ?", (1,))
    guard.conn.cursor().executemany("DELETE FROM notes WHERE id = ?", [(1,), (2,)])
    guard.finish_migration()

    with guard.engine():
        removed = run.rows.check(guard.record, ENTRY, frozenset())

    assert {"users": 1, "notes": 2} == removed


@pytest.mark.parametrize("name", ["users", "USERS"])
def test_allow_row_loss_says_it_beforehand(run: Run, name: str) -> None:
    """A table in `allow_row_loss`, in any case of letters, may lose rows in any way."""
    assert {"users": 2} == run(REBUILD.format(where="id > 2"), name)


@pytest.mark.parametrize("name", ["notes", "memos"])
def test_allow_row_loss_may_name_a_table_by_either_name(run: Run, name: str) -> None:
    """A renamed table may be allowed by its old name or its new one."""
    script = "INSERT OR REPLACE INTO notes SELECT 1, 1, 'note 2'; ALTER TABLE notes RENAME TO memos"
    assert {"notes": 1} == run(script, name)


# --- nothing lost ---------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        REBUILD.format(where="true"),
        "ALTER TABLE users RENAME TO people",
        "ALTER TABLE users RENAME TO a; ALTER TABLE a RENAME TO b; ALTER TABLE b RENAME TO c",
        "INSERT INTO users (name) VALUES ('new'); UPDATE notes SET text = text || '!'",
        "DELETE FROM migrations; DROP TABLE migrations",
        "CREATE TABLE fresh (a); INSERT INTO fresh VALUES (1); DELETE FROM fresh",
        "CREATE TEMP TABLE users (id); INSERT INTO temp.users VALUES (1); DELETE FROM temp.users",
    ],
)
def test_nothing_is_said_where_nothing_is_lost(run: Run, script: str) -> None:
    """A full rebuild, a rename, and work on new, temporary or our own tables lose no rows."""
    assert {} == run(script)


def test_a_renamed_table_that_lost_rows_is_named_by_both_names(run: Run) -> None:
    """A rename hides no loss: the table is followed to its new name."""
    with pytest.raises(VerificationError) as caught:
        run("ALTER TABLE notes RENAME TO memos; REPLACE INTO memos SELECT 1, 1, 'note 2'")

    assert ("notes", 5, 4) == lost(caught)
    assert "'memos' ('notes' before)" in caught.value.message


def test_each_migration_is_compared_with_the_one_before_it(run: Run) -> None:
    """What one migration added, the next one may not lose, in renamed and new tables too."""
    run("INSERT INTO users (name) VALUES ('new'); ALTER TABLE notes RENAME TO memos")
    run("CREATE TABLE fresh (a UNIQUE, b UNIQUE); INSERT INTO fresh VALUES (1, 2), (3, 4)")
    with pytest.raises(VerificationError) as caught:
        run("REPLACE INTO fresh VALUES (1, 4)")

    assert ("fresh", 2, 1) == lost(caught)
    assert {"memos": 1} == run("DELETE FROM memos WHERE id = 1")
    assert {"users": 11} == run("DELETE FROM users")


@pytest.mark.parametrize(
    ("script", "before", "after"),
    [
        ("UPDATE notes SET text = NULL WHERE id = 1", ["notes"], ["notes"]),
        ("ALTER TABLE notes ADD COLUMN more; ALTER TABLE users RENAME name TO called", [], []),
        ("ALTER TABLE notes DROP COLUMN user", [], []),
        ("ALTER TABLE notes RENAME TO memos", ["notes"], ["memos"]),
        ("CREATE TABLE fresh (a)", [], ["fresh"]),
        ("DROP TABLE users", ["users"], []),
        ("CREATE INDEX by_user ON notes (user)", [], []),
    ],
)
def test_only_what_was_touched_is_counted(
    run: Run, script: str, before: list[str], after: list[str]
) -> None:
    """Counting costs a scan: of the old state and of the new one, where rows may have gone."""
    counted: dict[str, list[str]] = {"before": [], "after": []}
    guard = run.guard
    guard.start_migration()
    guard.conn.executescript(script)
    with guard.engine():
        guard.conn.set_trace_callback(counted["after"].append)
        run.rows._old.conn.set_trace_callback(counted["before"].append)
        run.rows.check(guard.record, ENTRY, frozenset())

    found = {
        when: [each.split('"')[1] for each in statements if "count(*)" in each]
        for when, statements in counted.items()
    }
    assert {"before": before, "after": after} == found


def test_the_old_state_is_asked_about_what_nothing_has_touched(run: Run) -> None:
    """What a migration added counts for the next one; what it dropped does not come back."""
    run("DELETE FROM users WHERE id > 4; DROP TABLE notes")
    run("INSERT INTO users (name) VALUES ('new')")
    run("CREATE TABLE notes (id); INSERT INTO notes VALUES (1)")
    with pytest.raises(VerificationError) as caught:
        run(
            "CREATE TABLE u2 AS SELECT * FROM users WHERE id < 5; DROP TABLE users;"
            "ALTER TABLE u2 RENAME TO users"
        )

    assert ("users", 5, 4) == lost(caught)
    assert {"notes": 1} == run("DELETE FROM notes")


def test_an_alteration_that_nobody_has_seen_is_counted(run: Run) -> None:
    """SQLite's own cursor renames a table without the ledger: its rows are looked for."""
    guard = run.guard
    guard.start_migration()
    sqlite3.Cursor(guard.conn).execute("ALTER TABLE users RENAME TO people")
    with guard.engine(), pytest.raises(VerificationError) as caught:
        run.rows.check(guard.record, ENTRY, frozenset())

    assert ("users", 10, 0) == lost(caught)


# --- modes, and what cannot be counted --------------------------------------


@pytest.mark.parametrize(
    "script", ["DELETE FROM users WHERE id < 4", "DROP TABLE users", REBUILD.format(where="0")]
)
def test_strict_demands_that_every_loss_is_allowed(strict: Run, script: str) -> None:
    """With `strict`, a DELETE and a dropped table need `allow_row_loss` too."""
    with pytest.raises(VerificationError) as caught:
        strict(script)

    assert "users" == caught.value.data["table"]


def test_strict_accepts_what_is_allowed_and_empty_tables(strict: Run) -> None:
    """With `strict`, an allowed loss passes, and so does dropping a table without rows."""
    assert {"users": 10} == strict("DROP TABLE users; DROP TABLE spare", "users")


def test_off_counts_nothing(guard: Guard) -> None:
    """With `off`, no table is read, and everything may go."""
    run = Run(guard, "off")

    assert {} == run("DROP TABLE users; REPLACE INTO notes SELECT 1, 1, 'note 2'")
    assert {} == run.rows.uncounted


def test_what_cannot_be_counted_is_listed(tmp_path: Path) -> None:
    """A table of a module that this SQLite lacks is named, with the reason, and does not block."""
    path = tmp_path / "own.db"
    conn = sqlite3.connect(path)
    conn.executescript(
        "CREATE TABLE t (a); INSERT INTO t VALUES (1); PRAGMA writable_schema=1;"
        "INSERT INTO sqlite_master VALUES"
        " ('table', 'far', 'far', 0, 'CREATE VIRTUAL TABLE far USING own_module (a)');"
    )
    conn.close()
    conn = sqlite3.connect(path)

    touched = Record()
    touched.written.add("far")
    with closing(conn), RowGuard(conn, "on", "migrations", path) as rows:
        rows.begin()
        rows.check(touched, ENTRY, frozenset())

    assert {"far": "no such module: own_module"} == rows.uncounted


def test_a_cascade_is_not_said_by_the_delete_that_causes_it(tmp_path: Path) -> None:
    """Where a migration turned foreign keys on (way B), a cascade's deletes are not said."""
    path = tmp_path / "app.db"
    conn = sqlite3.connect(path, factory=RecordingConnection, isolation_level=None)
    conn.executescript("""
        CREATE TABLE users (id INTEGER PRIMARY KEY);
        CREATE TABLE notes (user INTEGER REFERENCES users ON DELETE CASCADE);
        INSERT INTO users VALUES (1), (2);
        INSERT INTO notes VALUES (1), (2);
    """)
    shutil.copy(path, tmp_path / "old.db")
    with closing(conn), RowGuard(conn, "on", "migrations", tmp_path / "old.db") as rows:
        rows.begin()
        conn.record.reset()
        conn.executescript("PRAGMA foreign_keys=ON; DELETE FROM users WHERE id = 1")
        with pytest.raises(VerificationError) as caught:
            rows.check(conn.record, ENTRY, frozenset())

    assert ("notes", 2, 1) == lost(caught)
    assert 1 == len(caught.value.data["tables"])
