"""What one migration costs does not grow with the number of migrations, nor with that of tables."""

from __future__ import annotations

import gc
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from migrator import MigrationRunner
from migrator.session.guard import Guard
from migrator.session.guarded import GuardedConnection
from migrator.session.recording import RecordingConnection
from migrator.session.reset import close_cursors
from migrator.strategy.on_copy import CopySession
from migrator.verify.row_loss import _OldState

WAYS = pytest.mark.parametrize("way", ["in-place", "copy"])


class Watched:
    """Runs in this process, every statement of theirs noted."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.statements: list[str] = []
        self.walks = 0
        begin, connect, objects = Guard.begin, CopySession._connect, gc.get_objects

        def watch(conn: sqlite3.Connection) -> None:
            sqlite3.Connection.set_trace_callback(conn, self.statements.append)

        def begin_watched(guard: Guard) -> None:
            begin(guard)
            watch(guard.conn)

        def connect_watched(desk: CopySession, factory: type[sqlite3.Connection]) -> object:
            conn = connect(desk, factory)
            watch(conn)
            return conn

        def walk(*arguments: object) -> list[object]:
            self.walks += 1
            return objects(*arguments)

        old = _OldState.conn.fget

        def old_watched(state: _OldState) -> sqlite3.Connection:
            conn = old(state)
            watch(conn)
            return conn

        monkeypatch.setattr(_OldState, "conn", property(old_watched))
        monkeypatch.setattr(Guard, "begin", begin_watched)
        monkeypatch.setattr(CopySession, "_connect", connect_watched)
        # A migration's own callback is taken away at its end, and this one is to stay.
        monkeypatch.setattr(GuardedConnection, "set_trace_callback", lambda *_: None)
        monkeypatch.setattr(gc, "get_objects", walk)

    def run(
        self, number: int, text: Callable[[int], str], schema: str = "", way: str = "in-place"
    ) -> Counter[str]:
        """Apply this many migrations to a new database; returns how often each statement ran."""
        place = self.directory / f"{number}"
        place.mkdir(parents=True)
        with closing(sqlite3.connect(place / "app.db")) as conn:
            conn.executescript(f"CREATE TABLE first (a); {schema}")
        migrations = place / "migrations"
        migrations.mkdir()
        head = "-- migrate:up transaction:false\n" if way == "copy" else ""
        for each in range(1, number + 1):
            (migrations / f"{each:04}_step.sql").write_text(head + text(each))
        self.statements.clear()
        self.walks = 0
        runner = MigrationRunner(
            place / "app.db", migrations_dir=migrations, in_use="wait" if way == "copy" else "allow"
        )
        assert number == runner.run_pending_migrations(verbose=False)
        return Counter(self.statements)


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Return what runs migrations, and counts."""
    return Watched(tmp_path, monkeypatch)


@WAYS
def test_each_migration_executes_as_many_statements_as_the_one_before(
    watched: Watched, way: str
) -> None:
    """Fifty more cost what fifty more cost, be there fifty before them or a hundred and fifty."""

    def table(number: int) -> str:
        return f"CREATE TABLE t{number} (x);\nINSERT INTO first VALUES ({number});\n"

    counts = [watched.run(number, table, way=way).total() for number in (50, 100, 150, 200)]
    assert counts[1] - counts[0] == counts[2] - counts[1] == counts[3] - counts[2] > 0
    assert 0 == watched.walks


def test_fifty_more_of_sql_alone_cost_their_rows_and_a_count(watched: Watched) -> None:
    """Nothing of the connection is read back or put back after a file that asked for none of it."""
    text = "INSERT INTO first VALUES ({});\n".format
    few, many = watched.run(10, text), watched.run(60, text)
    kinds: Counter[str] = Counter()
    for found, sign in ((few, -1), (many, 1)):
        for each, times in found.items():
            kinds[each.partition(" VALUES ")[0]] += sign * times
    more = {each: times for each, times in kinds.items() if times}
    (row,) = (each for each in more if each.startswith('INSERT INTO "migrations"'))
    assert (
        dict.fromkeys((row, "INSERT INTO first", 'SELECT count(*) FROM main."first"'), 50) == more
    )


def test_no_statement_of_ours_between_migrations_is_about_everything(watched: Watched) -> None:
    """What goes over the whole schema is executed as often for many as for one."""

    def step(number: int) -> str:
        return f"CREATE TABLE t{number} (x);\nDELETE FROM first;\n"

    few, many = watched.run(2, step), watched.run(40, step)
    for each in few:
        if any(word in each.lower() for word in ("sqlite_schema", "sqlite_master")):
            assert few[each] == many[each], each
    for whole in ("PRAGMA main.table_list", "PRAGMA table_list"):
        assert few[whole] == many[whole], whole
    assert 0 == many["PRAGMA writable_schema = RESET"]


def test_a_migration_that_touches_one_table_of_many_looks_at_one(watched: Watched) -> None:
    """Only what a migration writes to is counted, in the old state and in the new one."""
    schema = "".join(f"CREATE TABLE many{each} (a); " for each in range(300))
    found = watched.run(20, lambda n: f"INSERT INTO many{n} VALUES (1);\n", schema)
    counted = Counter(
        {each: n for each, n in found.items() if each.startswith("SELECT count(*) FROM main.")}
    )
    assert {f'SELECT count(*) FROM main."many{n}"': 2 for n in range(1, 21)} == counted


def test_the_history_is_read_as_often_for_many_migrations_as_for_one(watched: Watched) -> None:
    """Each migration writes its row, and reads none."""

    def reads(found: Counter[str]) -> int:
        return sum(n for each, n in found.items() if "FROM " in each and '"migrations"' in each)

    text = "INSERT INTO first VALUES (1);\n".format
    assert reads(watched.run(1, text)) == reads(watched.run(30, text))


def test_every_cursor_of_a_connection_is_closed_without_a_walk_over_memory(
    watched: Watched,
) -> None:
    """A connection knows its cursors itself, raw ones and those of a class of one's own too."""

    class Own(sqlite3.Cursor):
        """A cursor class of somebody's own."""

    conn = sqlite3.connect(":memory:", factory=RecordingConnection)
    other = sqlite3.connect(":memory:")
    query = "SELECT 1 UNION ALL SELECT 2"
    kept = other.execute(query)
    cursors = [
        conn.execute(query),
        conn.cursor(Own).execute(query),
        sqlite3.Cursor(conn).execute(query),
        Own(conn).execute(query),
    ]
    close_cursors(conn, but=cursors[0])

    assert (1,) == cursors[0].fetchone()
    for each in cursors[1:]:
        with pytest.raises(sqlite3.ProgrammingError):
            each.fetchone()
    assert (1,) == kept.fetchone()
    assert 0 == watched.walks
    conn.close()
    other.close()


def test_where_a_connection_does_not_say_its_cursors_memory_is_searched(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another Python may keep no such list: no cursor stays open for that."""
    monkeypatch.setattr(gc, "get_referents", lambda *_: [])
    conn = sqlite3.connect(":memory:", factory=RecordingConnection)
    cursor = conn.execute("SELECT 1 UNION ALL SELECT 2")
    close_cursors(conn)

    with pytest.raises(sqlite3.ProgrammingError):
        cursor.fetchone()
    assert 1 == watched.walks
    conn.close()


def test_a_migration_that_makes_one_table_of_many_asks_about_none_by_name(
    watched: Watched,
) -> None:
    """SQLite would go over the whole schema for each: the new ones are read at its end."""

    def step(number: int) -> str:
        return f"CREATE TABLE new{number} (a);\nINSERT INTO new{number} VALUES (1);\n"

    found = watched.run(20, step)
    assert 0 == sum(n for each, n in found.items() if each.startswith("PRAGMA main.table_list("))
    assert all(1 == found[f'SELECT count(*) FROM main."new{n}"'] for n in range(1, 21))


def test_what_was_made_in_the_place_of_a_dropped_table_is_asked_about(watched: Watched) -> None:
    """Its row in the schema is not beyond the last one: it is counted all the same."""

    def step(number: int) -> str:
        gone = f"DROP TABLE new{number - 1};\n" if number > 1 else ""
        return f"{gone}CREATE TABLE new{number} (a);\nINSERT INTO new{number} VALUES (1);\n"

    found = watched.run(5, step)
    assert all(1 == found[f'SELECT count(*) FROM main."new{n}"'] for n in range(1, 6))


def test_tables_without_a_reference_are_no_work_for_the_check_of_references(
    watched: Watched,
) -> None:
    """One statement lists the references of all tables, and only whose has one is checked."""
    schema = (
        "CREATE TABLE parent (id INTEGER PRIMARY KEY); CREATE TABLE child (a REFERENCES parent)"
    )
    many = "".join(f"; CREATE TABLE many{each} (a)" for each in range(50))
    text = "INSERT INTO first VALUES ({});\n".format
    found = [watched.run(number, text, schema + more) for number, more in ((1, ""), (2, many))]
    # Those that SQLite executes for another one begin with a comment.
    few, more = (
        {k: n for k, n in each.items() if "foreign_key_" in k and not k.startswith("--")}
        for each in found
    )
    assert few == more
    assert 'PRAGMA foreign_key_check("child")' in more
