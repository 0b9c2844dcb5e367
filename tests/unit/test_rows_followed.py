"""Rows under the guard while tables are renamed, rebuilt, indexed, and deletes are taken back."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from migrator.errors import VerificationError
from migrator.model import Entry
from migrator.session.guard import open_guard
from migrator.strategy.in_place import InPlaceSession
from migrator.strategy.on_copy import CopySession
from migrator.verify.row_loss import RowGuard
from tests.unit.test_rows import old_of

ENTRY = Entry(key=(7,), version="007", name="tidy", path=Path("/m/007_tidy.sql"))
SCRIPT: Any = SimpleNamespace(
    is_code=True, wants_cursor=False, wants_path=False, sql_up=None, sql_down=None
)

SCHEMA = """
    CREATE TABLE logs (id INTEGER PRIMARY KEY, t TEXT);
    CREATE TABLE pair (id INTEGER PRIMARY KEY, t TEXT);
    CREATE TABLE "Odd ""näme" (id INTEGER PRIMARY KEY);
    CREATE TABLE keyed (k TEXT PRIMARY KEY, "DELETE" TEXT) WITHOUT ROWID;
    CREATE TABLE gone (id INTEGER PRIMARY KEY);
    INSERT INTO logs VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd');
    INSERT INTO pair VALUES (1, 'x'), (2, 'y');
    INSERT INTO "Odd ""näme" VALUES (1), (2), (3);
    INSERT INTO keyed VALUES ('a', ''), ('b', ''), ('c', 'x');
    INSERT INTO gone VALUES (1), (2), (3), (4), (5);
    CREATE TABLE seen (id INTEGER PRIMARY KEY, t TEXT);
    INSERT INTO seen VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd');
    CREATE VIEW shown AS SELECT * FROM seen;
    CREATE VIEW above AS SELECT * FROM shown;
    CREATE TRIGGER shown_d INSTEAD OF DELETE ON shown BEGIN
        DELETE FROM seen WHERE id = old.id; END;
    CREATE TRIGGER above_d INSTEAD OF DELETE ON above BEGIN
        DELETE FROM shown WHERE id = old.id; END;
    CREATE TRIGGER shown_u INSTEAD OF UPDATE ON shown BEGIN
        DELETE FROM seen WHERE id = old.id; END;
    CREATE TABLE beside (id INTEGER PRIMARY KEY);
    CREATE TRIGGER beside_d AFTER DELETE ON beside BEGIN DELETE FROM pair; END;
    INSERT INTO beside VALUES (1);
"""
SHRINK = (
    "CREATE TABLE slim AS SELECT * FROM logs WHERE id < 3; DROP TABLE logs;"
    " ALTER TABLE slim RENAME TO logs;"
)

Migration = Callable[[sqlite3.Connection], object]


BEGUN = contextlib.ExitStack()
"""The row guards of a test, which have the copy of its database open."""


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close them after each test."""
    with BEGUN:
        yield


class Run:
    """A run of migrations under the row guard, on one of the two ways."""

    def __init__(self, desk: InPlaceSession | CopySession, mode: str = "on") -> None:
        self.desk = desk
        with desk.engine():
            self.rows = RowGuard(desk.conn, mode, "migrations", old_of(desk.conn))
            BEGUN.push(self.rows)
            self.rows.begin()

    def __call__(self, migration: str | Migration, *allowed: str) -> dict[str, int]:
        """Run one migration; returns the rows that were said to go."""
        with self.desk.migration(SCRIPT) as conn:
            if isinstance(migration, str):
                conn.executescript(migration)
            else:
                migration(conn)
        with self.desk.engine():
            self.rows.conn = self.desk.conn
            return self.rows.check(self.desk.record, ENTRY, frozenset(allowed))

    def lost(self, migration: str | Migration, *allowed: str) -> dict[str, tuple[int, int]]:
        """Run one that is refused; returns before and after, per table."""
        with pytest.raises(VerificationError) as caught:
            self(migration, *allowed)
        tables = caught.value.data["tables"]
        return {each["table"]: (each["before"], each["after"]) for each in tables}


@contextlib.contextmanager
def place(tmp_path: Path, way: str, schema: str = SCHEMA) -> Iterator[InPlaceSession | CopySession]:
    """Make a database, and open the desk of a way on it."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.executescript(schema)
    shutil.copy(path, tmp_path / "old.db")
    if way == "copy":
        with closing(CopySession(path, None)) as desk:
            yield desk
        return
    guard = open_guard(path)
    guard.begin()
    yield InPlaceSession(guard)
    guard.rollback()
    guard.close()


@pytest.fixture(params=["in-place", "copy"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[InPlaceSession | CopySession]:
    """Return the desk of each way over the same tables."""
    with place(tmp_path, request.param) as found:
        yield found


@pytest.fixture
def run(desk: InPlaceSession | CopySession) -> Run:
    """Return a run with `--row-guard on`."""
    return Run(desk)


# --- renames ----------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        "ALTER TABLE logs RENAME TO logs_2024; CREATE TABLE logs (id INTEGER PRIMARY KEY)",
        (
            "ALTER TABLE logs RENAME TO old; CREATE TABLE logs (id INTEGER PRIMARY KEY, t TEXT);"
            "INSERT INTO logs SELECT * FROM old WHERE id > 3"
        ),
        "ALTER TABLE logs RENAME TO x; ALTER TABLE pair RENAME TO logs",
        (
            "ALTER TABLE logs RENAME TO x; ALTER TABLE pair RENAME TO logs;"
            "ALTER TABLE x RENAME TO pair"
        ),
        (
            "ALTER TABLE logs RENAME TO a; ALTER TABLE a RENAME TO b; ALTER TABLE b RENAME TO c;"
            "CREATE TABLE logs (a); CREATE TABLE a (a); CREATE TABLE b (a)"
        ),
        """ALTER TABLE "Odd ""näme" RENAME TO [ü 'x']; CREATE TABLE "odd ""näme" (a)""",
        "alter/* */table main.`logs` -- old\n rename to 'NEW one'; CREATE TABLE LOGS (a)",
        "ALTER TABLE keyed RENAME TO k2; CREATE TABLE keyed (k)",
        (
            "CREATE TABLE new AS SELECT * FROM logs; DROP TABLE logs;"
            "ALTER TABLE new RENAME TO logs; CREATE TABLE new AS SELECT * FROM logs;"
            "DROP TABLE logs; ALTER TABLE new RENAME TO logs"
        ),
        "ALTER TABLE logs RENAME COLUMN t TO text; ALTER TABLE logs ADD COLUMN more",
        ("ALTER TABLE logs RENAME TO logs_data;CREATE VIEW logs AS SELECT * FROM logs_data"),
        "CREATE TEMP TABLE logs (a); ALTER TABLE temp.logs RENAME TO pair",
    ],
)
def test_nothing_is_lost_where_a_table_lives_on_under_another_name(run: Run, script: str) -> None:
    """Archiving by renaming, swapping names and rebuilding whole lose no row."""
    assert {} == run(script)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (
            (
                "ALTER TABLE logs RENAME TO old; CREATE TABLE logs AS SELECT * FROM old LIMIT 1;"
                "DROP TABLE old"
            ),
            {"logs": (4, 1)},
        ),
        (
            (
                "ALTER TABLE logs RENAME TO x; ALTER TABLE pair RENAME TO logs;"
                "ALTER TABLE x RENAME TO pair; UPDATE OR REPLACE pair SET id = 1 WHERE id = 2"
            ),
            {"logs": (4, 3)},
        ),
        ("DROP TABLE gone; ALTER TABLE pair RENAME TO gone", {"gone": (5, 2)}),
        ("DROP TABLE gone; CREATE TABLE gone (id INTEGER PRIMARY KEY)", {"gone": (5, 0)}),
        (
            "ALTER TABLE pair RENAME TO kept; CREATE TABLE pair (id); DELETE FROM beside",
            {"pair": (2, 0)},
        ),
        (
            (
                "ALTER TABLE logs RENAME TO logs_2024; CREATE TABLE logs (a); REPLACE INTO logs_2024"
                " VALUES (1, 'z'); CREATE UNIQUE INDEX i ON logs_2024 (t); REPLACE INTO logs_2024"
                " VALUES (1, 'b')"
            ),
            {"logs": (4, 3)},
        ),
        (
            (
                "CREATE TABLE k2 (k TEXT PRIMARY KEY, d) WITHOUT ROWID;"
                "INSERT INTO k2 SELECT * FROM keyed LIMIT 1;"
                "DROP TABLE keyed; ALTER TABLE k2 RENAME TO keyed"
            ),
            {"keyed": (3, 1)},
        ),
        (
            SHRINK + "CREATE TABLE slim AS SELECT * FROM logs; DROP TABLE logs;"
            "ALTER TABLE slim RENAME TO logs",
            {"logs": (4, 2)},
        ),
    ],
)
def test_a_loss_is_found_behind_every_rename(
    run: Run, script: str, expected: dict[str, tuple[int, int]]
) -> None:
    """A table keeps its rows under whichever name; what stands in its place must have them."""
    assert expected == run.lost(script)


def test_a_dropped_table_and_a_new_one_with_its_number_are_two(run: Run) -> None:
    """SQLite gives a new table the rowid of the last one dropped: that makes it no rename."""
    run("CREATE TABLE final (a); INSERT INTO final VALUES (1), (2)")
    assert {"final": 2} == run("DROP TABLE final; CREATE TABLE next (a)")


def test_a_table_that_goes_by_the_schema_is_missed(run: Run) -> None:
    """Taken out of `sqlite_schema` by hand, it is no table that was dropped."""
    script = (
        "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'gone';"
        " PRAGMA writable_schema = RESET"
    )
    assert {"gone": (5, 0)} == run.lost(script)


def test_renames_are_followed_from_one_migration_to_the_next(run: Run) -> None:
    """What one migration has renamed the next one cannot lose, nor the one after."""
    assert {} == run("ALTER TABLE logs RENAME TO a; CREATE TABLE logs (id, t)")
    assert {} == run("ALTER TABLE a RENAME TO b; INSERT INTO logs VALUES (1, 'n')")
    assert {"b": (4, 0)} == run.lost("DROP TABLE b; CREATE TABLE b (id)")
    assert {"logs": 1} == run("DELETE FROM logs")


def test_a_rename_that_was_rolled_back_is_none(run: Run) -> None:
    """The table is at its old name again, and a loss there is one."""

    def migration(conn: sqlite3.Connection) -> None:
        conn.execute("SAVEPOINT s")
        conn.execute("ALTER TABLE logs RENAME TO old")
        conn.execute("ALTER TABLE pair RENAME TO logs")
        conn.execute("ROLLBACK TO s")
        conn.execute("RELEASE s")
        conn.executescript(SHRINK)

    assert {"logs": (4, 2)} == run.lost(migration)
    assert [("slim", "logs")] == run.desk.record.renames


def test_names_made_by_python_are_followed(run: Run) -> None:
    """A rename put together by an f-string, on a cursor, is one like any other."""

    def migration(conn: sqlite3.Connection) -> None:
        for year in (2023, 2024):
            conn.cursor().execute(f'ALTER TABLE "logs" RENAME TO "logs {year}"')
            conn.execute(f"CREATE TABLE {'LOGS'} (id)")

    assert {} == run(migration)


@pytest.mark.parametrize("way", ["in-place", "copy"])
def test_vacuum_and_auto_vacuum_move_no_table(tmp_path: Path, way: str) -> None:
    """Numbers and pages in the schema change with them, and what a table is does not."""
    with place(tmp_path, way, "PRAGMA auto_vacuum = FULL;" + SCHEMA) as desk:
        run = Run(desk)
        vacuum = "VACUUM;" if way == "copy" else ""
        assert {"gone": 5} == run(f"DROP TABLE gone; {vacuum} ALTER TABLE pair RENAME TO p2")
        assert {"logs": (4, 2)} == run.lost(f"{vacuum} {SHRINK} {vacuum}")


# --- taken back ---------------------------------------------------------------


def _fails(conn: sqlite3.Connection, *statements: str) -> None:
    with contextlib.suppress(sqlite3.Error):
        for statement in statements:
            conn.execute(statement)


def _with_conn(conn: sqlite3.Connection) -> None:
    with contextlib.suppress(ValueError), conn:
        conn.execute("DELETE FROM logs WHERE id = 4")
        raise ValueError


def _rollback(conn: sqlite3.Connection) -> None:
    conn.execute("DELETE FROM logs WHERE id = 4")
    conn.rollback()


def _rolled_back_twice(conn: sqlite3.Connection) -> None:
    conn.execute("DELETE FROM pair WHERE id = 1")
    conn.commit()
    for _ in range(2):
        conn.execute("DELETE FROM logs WHERE id = 4")
        conn.rollback()
    conn.execute("INSERT INTO pair VALUES (1, 'x')")
    conn.commit()


def _savepoint(conn: sqlite3.Connection) -> None:
    conn.executescript(
        "SAVEPOINT a; SAVEPOINT b; DELETE FROM logs; RELEASE b; ROLLBACK TO a; RELEASE a"
    )


def _raw_savepoint(conn: sqlite3.Connection) -> None:
    conn.execute("INSERT INTO pair (t) VALUES ('z')")
    cursor = sqlite3.Cursor(conn)
    cursor.execute("SAVEPOINT a")
    conn.execute("DELETE FROM logs")
    cursor.execute("ROLLBACK TO a")
    cursor.execute("RELEASE a")


def _failing_statement(conn: sqlite3.Connection) -> None:
    conn.execute(
        "CREATE TRIGGER no BEFORE DELETE ON logs WHEN old.id = 4 BEGIN"
        " SELECT RAISE(ABORT, 'no'); END"
    )
    _fails(conn, "DELETE FROM logs")
    conn.execute("DROP TRIGGER no")


def _failing_many(conn: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error), conn:
        conn.executemany("DELETE FROM logs WHERE id = ?", [(4,), (object(),)])


def _uncompiled(conn: sqlite3.Connection) -> None:
    _fails(conn, "DELETE FROM logs WHERE nothing = 1")
    _fails(conn, "DELETE FROM logs; DELETE FROM logs")


def _explained(conn: sqlite3.Connection) -> None:
    conn.execute("EXPLAIN DELETE FROM logs").fetchall()
    conn.execute("/* x */ explain query plan DELETE FROM logs").fetchall()
    conn.execute("; -- y\n;EXPLAIN DELETE FROM logs").fetchall()


def _in_another_schema(conn: sqlite3.Connection) -> None:
    conn.execute("CREATE TEMP TABLE logs (id)")
    conn.execute("INSERT INTO temp.logs VALUES (4)")
    conn.execute("DELETE FROM logs")
    conn.execute("DROP TABLE temp.logs")


def _in_text(conn: sqlite3.Connection) -> None:
    conn.execute("UPDATE pair SET t = 'DELETE FROM logs'")
    conn.execute("/* DELETE FROM logs */ SELECT 1")
    conn.execute('WITH "DELETE" AS (SELECT 1) INSERT INTO pair (t) SELECT \'\' FROM "DELETE"')


@pytest.mark.parametrize(
    "migration",
    [
        _with_conn,
        _rollback,
        _rolled_back_twice,
        _savepoint,
        _raw_savepoint,
        _failing_statement,
        _failing_many,
        _uncompiled,
        _explained,
        _in_another_schema,
        _in_text,
    ],
)
def test_a_delete_that_was_taken_back_says_nothing(run: Run, migration: Migration) -> None:
    """However it was undone, a rebuild that drops rows afterwards is a loss."""

    def both(conn: sqlite3.Connection) -> None:
        migration(conn)
        conn.executescript(SHRINK)

    assert {"logs": (4, 2)} == run.lost(both)


def test_a_transaction_that_sqlite_has_rolled_back_by_itself_says_nothing(tmp_path: Path) -> None:
    """`OR ROLLBACK` and `RAISE(ROLLBACK)` end a transaction without anybody's `rollback()`."""

    def migration(conn: sqlite3.Connection) -> None:
        for statement in ("INSERT OR ROLLBACK INTO pair VALUES (1, '')", "DELETE FROM gone"):
            conn.execute(
                "CREATE TEMP TRIGGER IF NOT EXISTS no BEFORE DELETE ON gone BEGIN"
                " SELECT RAISE(ROLLBACK, 'no'); END"
            )
            conn.commit()
            conn.execute("DELETE FROM logs WHERE id = 4")
            _fails(conn, statement)
        conn.executescript(SHRINK)

    with place(tmp_path, "copy") as desk:
        assert {"logs": (4, 2)} == Run(desk).lost(migration)


def _committed(conn: sqlite3.Connection) -> None:
    conn.execute("DELETE FROM logs WHERE id = 4")
    conn.commit()
    conn.execute("INSERT INTO pair (t) VALUES ('')")
    conn.rollback()


def _once_more(conn: sqlite3.Connection) -> None:
    for end in (conn.rollback, conn.commit):
        conn.execute("DELETE FROM logs WHERE id = 4")
        end()


def _released(conn: sqlite3.Connection) -> None:
    conn.executescript("SAVEPOINT a; DELETE FROM logs WHERE id = 4; RELEASE a")


def _inner_taken_back(conn: sqlite3.Connection) -> None:
    conn.executescript(
        "SAVEPOINT a; DELETE FROM logs WHERE id = 4; SAVEPOINT b; DELETE FROM pair;"
        "ROLLBACK TO b; RELEASE a"
    )


def _many(conn: sqlite3.Connection) -> None:
    conn.executemany("DELETE FROM logs WHERE id = ?", iter([(4,)]))


def _many_in_part(conn: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        conn.executemany("DELETE FROM logs WHERE id = ?", [(4,), (object(),)])
    conn.commit()


def _returning(conn: sqlite3.Connection) -> None:
    assert [4] == [row[0] for row in conn.execute("DELETE FROM logs WHERE id > 3 RETURNING id")]


def _temporary_store(conn: sqlite3.Connection) -> None:
    conn.execute("DELETE FROM logs WHERE id = 4")
    conn.commit()
    conn.execute("PRAGMA temp_store = MEMORY")


def _own_look(conn: sqlite3.Connection) -> None:
    conn.text_factory = bytes
    conn.execute("DELETE FROM logs WHERE id = 4")
    assert 1 == conn.execute("SELECT changes()").fetchone()[0]


def _behind_a_semicolon(conn: sqlite3.Connection) -> None:
    conn.execute(";;DELETE FROM logs WHERE id = 4")


@pytest.mark.parametrize(
    "migration",
    [
        _committed,
        _once_more,
        _released,
        _inner_taken_back,
        _many,
        _many_in_part,
        _returning,
        _temporary_store,
        _own_look,
        _behind_a_semicolon,
        lambda conn: conn.execute("WITH x AS (SELECT 4 AS i) DELETE FROM logs WHERE id IN x"),
        lambda conn: conn.execute("DELETE FROM \"main\".'logs' WHERE id = 4"),
        lambda conn: conn.execute("/* DELETE FROM pair */ -- x\n delete from LOGS where id=4"),
    ],
)
def test_a_delete_that_stands_is_said_however_it_is_written(run: Run, migration: Migration) -> None:
    """What SQLite reports counts, and not the text, the cursor or what was rolled back around."""
    assert {"logs": 1} == run(migration)


def test_a_column_called_delete_makes_no_difference(run: Run) -> None:
    """Words of SQL may be names."""
    script = 'WITH x AS (SELECT "DELETE" FROM keyed) DELETE FROM keyed WHERE "DELETE" = \'\''
    assert {"keyed": 2} == run(script)


def test_a_million_deletes_are_noted_once(run: Run) -> None:
    """A loop that repeats a statement has SQLite keep one number."""
    traced: list[str] = []

    def migration(conn: sqlite3.Connection) -> None:
        conn.set_trace_callback(traced.append)
        for number in range(1, 200):
            conn.execute("DELETE FROM logs WHERE id = ?", (number,))

    assert {"logs": 4} == run(migration)
    assert len([each for each in traced if "application_id" in each]) <= 6


# --- views --------------------------------------------------------------------


@pytest.mark.parametrize("view", ["shown", "above", "main.SHOWN", "temporary"])
def test_a_delete_on_a_view_is_one_on_its_table(run: Run, view: str) -> None:
    """What an INSTEAD OF trigger deletes for a `DELETE` on its view was said, views of views too."""
    script = (
        "CREATE TEMP VIEW temporary AS SELECT * FROM seen;"
        "CREATE TEMP TRIGGER tv INSTEAD OF DELETE ON temporary BEGIN"
        " DELETE FROM seen WHERE id = old.id; END;"
    )
    assert {"seen": 1} == run(f"{script} DELETE FROM {view} WHERE id = 1")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("UPDATE shown SET t = '' WHERE id = 1", {"seen": (4, 3)}),
        (
            (
                "CREATE TRIGGER l AFTER DELETE ON seen BEGIN DELETE FROM pair; END;"
                "DELETE FROM above WHERE id = 1"
            ),
            {"pair": (2, 0)},
        ),
        (
            (
                "CREATE TRIGGER l AFTER DELETE ON beside BEGIN DELETE FROM shown; END;"
                "DELETE FROM beside"
            ),
            {"seen": (4, 0), "pair": (2, 0)},
        ),
    ],
)
def test_only_a_delete_on_the_view_itself_is_said(
    run: Run, script: str, expected: dict[str, tuple[int, int]]
) -> None:
    """Another statement on a view, and triggers of the tables behind it, delete unsaid."""
    assert expected == run.lost(script)


# --- indexes kept as virtual tables -------------------------------------------

MSG = "CREATE TABLE msg (id INTEGER PRIMARY KEY, body TEXT, x REAL);"
FILL = "INSERT INTO msg VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3);"
INSERTED = " INSERT INTO idx (rowid, body) VALUES (new.id, new.body);"
BY_COMMAND = " INSERT INTO idx (idx, rowid, body) VALUES ('delete', old.id, old.body);"
BY_ROWID = " DELETE FROM idx WHERE rowid = old.id;"
RECIPES = {
    "fts5 external": ("fts5(body, content='msg', content_rowid='id')", INSERTED, BY_COMMAND),
    "fts5 external, bare": ("fts5(body, content=msg, content_rowid=id)", INSERTED, BY_COMMAND),
    "fts5 contentless": ("fts5(body, content='')", INSERTED, BY_COMMAND),
    "fts5 with its content": ("fts5(body)", INSERTED, BY_ROWID),
    "fts4 external": ('fts4(content="msg", body)', INSERTED, BY_ROWID),
    "fts4 with its content": ("fts4(body)", INSERTED, BY_ROWID),
    "fts3": ("fts3(body)", INSERTED, " DELETE FROM idx WHERE docid = old.rowid;"),
    "rtree": (
        "rtree(id, a, b)",
        " INSERT INTO idx VALUES (new.id, new.x, new.x);",
        " DELETE FROM idx WHERE id = old.id;",
    ),
}


def recipe(name: str, *, fill: str = FILL) -> str:
    """Return the schema of a table with an index that triggers keep."""
    module, inserted, deleted = RECIPES[name]
    when = "BEFORE" if module.startswith(("fts4", "fts3")) else "AFTER"
    return (
        f"{MSG} CREATE VIRTUAL TABLE idx USING {module};"
        f"CREATE TRIGGER msg_ai AFTER INSERT ON msg BEGIN{inserted} END;"
        f"CREATE TRIGGER msg_ad {when} DELETE ON msg BEGIN{deleted} END; {fill}"
    )


@pytest.mark.parametrize("way", ["in-place", "copy"])
@pytest.mark.parametrize("name", RECIPES)
def test_an_index_follows_its_table(tmp_path: Path, way: str, name: str) -> None:
    """What triggers take out of an index upon a DELETE that was said, was said."""
    with place(tmp_path, way, recipe(name)) as desk:
        run = Run(desk)
        assert 1 == run("DELETE FROM msg WHERE id = 2")["msg"]
        assert {} == run("INSERT INTO msg VALUES (9, 'n', 9)")
        assert 3 == run("DELETE FROM msg")["msg"]
        assert {} == run.rows.uncounted


@pytest.mark.parametrize("way", ["in-place", "copy"])
@pytest.mark.parametrize("name", ["fts5 external", "fts4 external"])
def test_an_index_without_rows_of_its_own_loses_none(tmp_path: Path, way: str, name: str) -> None:
    """It shows what its table holds, kept up or rebuilt later, or not at all."""
    with place(tmp_path, way, recipe(name)) as desk:
        run = Run(desk)
        assert {"msg": 1} == run("DROP TRIGGER msg_ad; DELETE FROM msg WHERE id = 2")
        assert {} == run("INSERT INTO idx (idx) VALUES ('rebuild')")
        assert {} == run("ALTER TABLE idx RENAME TO idx2; DROP TABLE idx2")


@pytest.mark.parametrize("name", ["fts5 with its content", "fts5 contentless", "rtree"])
def test_what_goes_out_of_an_index_otherwise_is_a_loss(tmp_path: Path, name: str) -> None:
    """No DELETE that was said stands behind it: a REPLACE, an UPDATE, or none of the table's."""
    deleted = RECIPES[name][2]
    extra = f"CREATE TRIGGER msg_au AFTER UPDATE ON msg BEGIN {deleted} END;"
    with place(tmp_path, "in-place", recipe(name) + extra) as desk:
        assert {"idx": (3, 2)} == Run(desk).lost("UPDATE msg SET body = body WHERE id = 2")


def test_an_index_follows_a_delete_only_as_long_as_it_stands(tmp_path: Path) -> None:
    """Once the DELETE was rolled back, what is missing in the index was not said to go."""

    def migration(conn: sqlite3.Connection) -> None:
        conn.execute("DELETE FROM msg WHERE id = 2")
        conn.rollback()
        conn.executescript("DROP TABLE idx; CREATE VIRTUAL TABLE idx USING fts5(body)")

    with place(tmp_path, "in-place", recipe("fts5 with its content")) as desk:
        assert {"idx": (3, 0)} == Run(desk).lost(migration)


def test_strict_lets_an_index_follow_what_was_allowed(tmp_path: Path) -> None:
    """With `strict`, allowing the table's loss is enough for its index, and nothing else is."""
    with place(tmp_path, "in-place", recipe("fts5 with its content")) as desk:
        run = Run(desk, "strict")
        assert {"msg": 1, "idx": 1} == run("DELETE FROM msg WHERE id = 2", "msg")
        assert {"msg": (2, 1), "idx": (2, 1)} == run.lost("DELETE FROM msg WHERE id = 1")


def test_a_view_over_a_table_with_an_index_is_followed_to_both(tmp_path: Path) -> None:
    """A DELETE on the view is one on its table, whose triggers keep the index."""
    schema = recipe("fts5 with its content") + (
        "CREATE VIEW v AS SELECT * FROM msg; CREATE TRIGGER v_d INSTEAD OF DELETE ON v BEGIN"
        " DELETE FROM msg WHERE id = old.id; END;"
    )
    with place(tmp_path, "in-place", schema) as desk:
        assert {"msg": 1, "idx": 1} == Run(desk)("DELETE FROM v WHERE id = 1")
