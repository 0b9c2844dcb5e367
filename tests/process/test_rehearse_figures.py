"""Each figure of a rehearsal's report, held against what plain SQLite says of the two files."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.files import make_database, opened, rows, write_migrations
from tests.support.processes import run_migrator

SCHEMA = """
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, legacy TEXT);
    CREATE TABLE posts (id INTEGER PRIMARY KEY, user_id REFERENCES users(id), body TEXT);
    CREATE TABLE tags (name TEXT PRIMARY KEY, n INT) WITHOUT ROWID;
    CREATE TABLE log (line TEXT);
    CREATE INDEX posts_body ON posts(body);
    CREATE INDEX posts_user ON posts(user_id);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
    INSERT INTO users SELECT i, 'name ' || i, CASE i % 2 WHEN 0 THEN 'old' END FROM n;
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
    INSERT INTO posts SELECT i, i % 500 + 1, 'body ' || i FROM n;
    INSERT INTO tags VALUES ('a', 1), ('b', 2), ('c', 3);
    INSERT INTO log VALUES ('one'), ('two'), ('two'), ('three');
"""


LOOSE = SCHEMA.replace(" REFERENCES users(id)", "")
"""The same without the reference, so that users may go."""


@dataclass(frozen=True)
class Rehearsed:
    """A report, with the two files that it is about."""

    report: dict[str, Any]
    before: Path
    after: Path

    @property
    def migrations(self) -> list[dict[str, Any]]:
        """The report's migrations."""
        found: list[dict[str, Any]] = self.report["migrations"]
        return found

    def told(self, number: int, table: str) -> dict[str, Any]:
        """Return what is told of a table of a migration."""
        (found,) = [each for each in self.migrations[number]["rows"] if each["table"] == table]
        return dict(found)


def rehearse(
    directory: Path, files: Mapping[str, str], *more: str, schema: str = SCHEMA, wal: bool = False
) -> Rehearsed:
    """Rehearse migrations on a new database, and keep both files."""
    database = make_database(directory / "app.db", schema, wal=wal)
    migrations = write_migrations(directory / "m", files)
    result = run_migrator(
        "rehearse", "--database", database, "--migrations", migrations, "--json", "--keep", *more
    )
    assert result.code == 0, result.stderr
    report = json.loads(result.stdout)
    kept = Path(report["kept"])
    return Rehearsed(report, kept / "before.db", kept / "after.db")


def compared(before: Path, after: Path, table: str, key: str, columns: str) -> tuple[int, int, int]:
    """Return the rows inserted, changed and deleted, as plain SQLite finds them by key."""
    names = columns.split(", ")
    changed = " OR ".join(f"a.{name} IS NOT b.{name}" for name in names)
    with closing(sqlite3.connect(after)) as conn:
        conn.execute("ATTACH ? AS old", (str(before),))

        def count(sql: str) -> int:
            return int(conn.execute(f"SELECT count(*) FROM {sql}").fetchone()[0])

        return (
            count(f"{table} WHERE {key} NOT IN (SELECT {key} FROM old.{table})"),
            count(f"{table} a JOIN old.{table} b USING ({key}) WHERE {changed}"),
            count(f"old.{table} WHERE {key} NOT IN (SELECT {key} FROM main.{table})"),
        )


MIXED = {
    "001_mixed.sql": """
        UPDATE users SET name = upper(name) WHERE id % 10 = 0;
        UPDATE users SET name = name WHERE id % 7 = 0;
        DELETE FROM posts WHERE id > 1900;
        INSERT INTO posts VALUES (5000, 1, 'new'), (5001, 2, 'new');
        INSERT OR REPLACE INTO tags VALUES ('a', 9), ('z', 1);
        UPDATE tags SET n = n WHERE name = 'b';
    """
}


@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
@pytest.mark.parametrize(
    ("table", "key", "columns"),
    [
        ("users", "id", "name, legacy"),
        ("posts", "id", "user_id, body"),
        ("tags", "name", "n"),
    ],
)
def test_rows_by_key(tmp_path: Path, table: str, key: str, columns: str, wal: bool) -> None:
    """Inserted, changed and deleted are what a join of the two files says, and no more."""
    found = rehearse(tmp_path, MIXED, wal=wal)
    told = found.told(0, table)
    assert (told["inserted"], told["changed"], told["deleted"]) == compared(
        found.before, found.after, table, key, columns
    )
    for file, name in ((found.before, "before"), (found.after, "after")):
        assert told[name] == rows(file, f"SELECT count(*) FROM {table}")[0][0]
    assert told["by"] == "key"


def test_each_migration_is_compared_with_the_one_before_it(tmp_path: Path) -> None:
    """A table that two migrations touch has the rows of each, as runs one after another have."""
    files = {
        "001_a.sql": "UPDATE users SET name = 'x' WHERE id <= 10; DELETE FROM users WHERE id > 490;",
        "002_b.sql": "UPDATE users SET name = 'y' WHERE id <= 20; INSERT INTO users(id) VALUES (900);",
        "003_c.py": "def up(conn):\n    conn.executemany('DELETE FROM users WHERE id = ?', [(1,), (2,)])\n",
    }
    found = rehearse(tmp_path, files, schema=LOOSE)
    database = make_database(tmp_path / "plain.db", LOOSE)
    for number, text in enumerate(
        (files["001_a.sql"], files["002_b.sql"], "DELETE FROM users WHERE id IN (1, 2)")
    ):
        before = tmp_path / f"before-{number}.db"
        with opened(database) as conn, closing(sqlite3.connect(before)) as copy:
            conn.backup(copy)
            conn.executescript(text)
        told = found.told(number, "users")
        expected = compared(before, database, "users", "id", "name, legacy")
        assert (told["inserted"], told["changed"], told["deleted"]) == expected
    assert found.migrations[0]["losses"] == [
        {"table": "users", "rows": 10, "said": True, "before": None}
    ]


def test_a_table_without_a_key_goes_by_rowid_and_by_content_once_it_is_rebuilt(
    tmp_path: Path,
) -> None:
    """By content a changed row is one gone and one new, equal rows counted as often as they are."""
    found = rehearse(
        tmp_path,
        {
            "001_row.sql": "UPDATE log SET line = 'first' WHERE line = 'one';",
            "002_rebuilt.sql": """
                CREATE TABLE log_new (line TEXT);
                INSERT INTO log_new SELECT line FROM log WHERE rowid <> 2;
                INSERT INTO log_new VALUES ('four');
                DROP TABLE log;
                ALTER TABLE log_new RENAME TO log;
                UPDATE log SET line = 'THREE' WHERE line = 'three';
                -- migrate:allow-row-loss log
            """,
        },
    )
    by_rowid, by_content = found.told(0, "log"), found.told(1, "log")
    assert [by_rowid[name] for name in ("by", "inserted", "changed", "deleted")] == [
        "rowid",
        0,
        1,
        0,
    ]
    assert [by_content[name] for name in ("by", "inserted", "changed", "deleted")] == [
        "content",
        2,
        0,
        2,
    ]
    assert rows(found.after, "SELECT line FROM log ORDER BY 1") == [
        ("THREE",),
        ("first",),
        ("four",),
        ("two",),
    ]


def test_columns_that_are_new_renamed_or_gone(tmp_path: Path) -> None:
    """A new column counts where it holds more than its default, a renamed one is the same."""
    found = rehearse(
        tmp_path,
        {
            "001_columns.sql": """
                ALTER TABLE users ADD COLUMN email TEXT DEFAULT 0;
                ALTER TABLE users RENAME COLUMN name TO full_name;
                ALTER TABLE users DROP COLUMN legacy;
                UPDATE users SET email = 'x' WHERE id <= 3;
                UPDATE users SET full_name = 'y' WHERE id = 4;
            """
        },
    )
    told = found.told(0, "users")
    assert (told["inserted"], told["changed"], told["deleted"]) == (0, 4, 0)
    ((values,),) = rows(found.before, "SELECT count(legacy) FROM users")
    assert found.report["comparison"]["columns_gone"] == [
        {"table": "users", "column": "legacy", "values": values}
    ]


def test_a_value_of_another_type_is_another_value(tmp_path: Path) -> None:
    """A number that a rebuild has made a text is changed, and so is a letter of another case."""
    found = rehearse(
        tmp_path,
        {
            "001_types.sql": """
                CREATE TABLE t_new (id INTEGER PRIMARY KEY, n TEXT, s TEXT COLLATE NOCASE);
                INSERT INTO t_new SELECT * FROM t;
                DROP TABLE t;
                ALTER TABLE t_new RENAME TO t;
            """,
            "002_case.sql": "UPDATE t SET s = upper(s);",
        },
        schema="CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, s TEXT COLLATE NOCASE);"
        " INSERT INTO t VALUES (1, 1, 'a'), (2, NULL, 'B'), (3, 'x', NULL);",
    )
    assert rows(found.before, "SELECT typeof(n) FROM t") == [("integer",), ("null",), ("text",)]
    assert rows(found.after, "SELECT typeof(n) FROM t") == [("text",), ("null",), ("text",)]
    assert [found.told(number, "t")["changed"] for number in (0, 1)] == [1, 1]


def test_a_renamed_and_a_dropped_table(tmp_path: Path) -> None:
    """A renamed table keeps its rows and is not gone; a dropped one goes with all of them."""
    found = rehearse(
        tmp_path,
        {"001_t.sql": "ALTER TABLE posts RENAME TO articles; DROP TABLE tags; CREATE TABLE t (x);"},
    )
    articles, tags, new = (found.told(0, name) for name in ("articles", "tags", "t"))
    assert (articles["was"], articles["changed"], articles["deleted"]) == ("posts", 0, 0)
    assert (tags["gone"], tags["deleted"]) == (True, 3)
    assert (new["was"], new["inserted"], new["after"]) == (None, 0, 0)
    assert found.report["comparison"]["tables_gone"] == ["tags"]
    assert found.migrations[0]["losses"] == [
        {"table": "tags", "rows": 3, "said": True, "before": None}
    ]


def schema(path: Path) -> dict[tuple[str, str], str]:
    """Return the SQL of a file's schema, by type and name."""
    query = "SELECT type, name, sql FROM sqlite_schema WHERE sql NOT NULL"
    return {(kind, name): sql for kind, name, sql in rows(path, query)}


def test_the_schema(tmp_path: Path) -> None:
    """Every object of the two schemas that differs is told with its SQL, and no other one."""
    found = rehearse(
        tmp_path,
        {
            "001_s.sql": """
                DROP INDEX posts_body;
                CREATE INDEX users_name ON users(name);
                ALTER TABLE posts ADD COLUMN seen INT;
                CREATE VIEW v AS SELECT * FROM users;
                CREATE TRIGGER tr AFTER INSERT ON users BEGIN SELECT 1; END;
            """
        },
    )
    before, after = schema(found.before), schema(found.after)
    told = found.report["comparison"]["schema"]
    assert {(each["type"], each["name"]): (each["before"], each["after"]) for each in told} == {
        key: (before.get(key), after.get(key))
        for key in before.keys() | after.keys()
        if before.get(key) != after.get(key)
    }
    assert found.report["comparison"]["indexes_gone"] == ["posts_body"]
    lines = found.report["comparison"]["schema_diff"]
    assert "-CREATE INDEX posts_body ON posts(body);" in lines
    assert "+CREATE INDEX users_name ON users(name);" in lines


def test_orphans(tmp_path: Path) -> None:
    """References without their row are those that `foreign_key_check` finds in each file."""
    found = rehearse(
        tmp_path,
        {"001_o.sql": "DELETE FROM posts WHERE id = 10;"},
        schema=f"{SCHEMA} DELETE FROM users WHERE id = 11;",
    )
    ((before,),) = rows(found.before, "SELECT count(*) FROM pragma_foreign_key_check")
    ((after,),) = rows(found.after, "SELECT count(*) FROM pragma_foreign_key_check")
    assert found.report["comparison"]["orphans"] == [
        {"table": "posts", "parent": "users", "before": before, "after": after}
    ]
    assert (before, after) == (4, 3)


def plan(path: Path, sql: str) -> list[str]:
    """Return SQLite's plan for a statement."""
    return [row[3] for row in rows(path, f"EXPLAIN QUERY PLAN {sql}")]


def test_queries(tmp_path: Path) -> None:
    """Plan and number of rows are those of each file; what is as before is said to be."""
    queries = (
        "SELECT * FROM posts WHERE body = 'body 7';",
        "SELECT id FROM users WHERE name LIKE 'NAME%';",
        "SELECT count(*) FROM tags;",
        "SELECT legacy FROM users;",
    )
    file = tmp_path / "q.sql"
    file.write_text("\n".join(queries))
    found = rehearse(
        tmp_path,
        {
            "001_q.sql": "DROP INDEX posts_body; DELETE FROM users WHERE id > 400;"
            " ALTER TABLE users DROP COLUMN legacy;"
        },
        "--queries",
        str(file),
        schema=LOOSE,
    )
    told = found.report["comparison"]["queries"]
    assert [each["line"] for each in told] == [1, 2, 3, 4]
    for each, sql in zip(told[:3], queries, strict=False):
        for side, path in (("before", found.before), ("after", found.after)):
            assert each[side]["rows"] == len(rows(path, sql))
            assert each[side]["plan"] == plan(path, sql)
    assert [each["changed"] for each in told] == [True, True, False, True]
    assert [each["plan_changed"] for each in told[:2]] == [True, False]
    assert told[3]["after"]["error"] == "no such column: legacy"


def test_what_is_no_query_is_refused(tmp_path: Path) -> None:
    """A file of queries that would write is a mistake, told before anything is copied."""
    database = make_database(tmp_path / "app.db", SCHEMA)
    file = tmp_path / "q.sql"
    file.write_text("SELECT 1;\nDELETE FROM users;")
    result = run_migrator("rehearse", "--database", database, "--queries", file)
    assert result.code == 64
    assert "line 2" in result.finished["error"]


def test_statements_have_their_plan_from_before_they_ran(tmp_path: Path) -> None:
    """One that scans has the plan of the database that it found, and how often it ran."""
    found = rehearse(
        tmp_path,
        {
            "001_p.py": """
                def up(conn):
                    for number in range(5):
                        conn.execute("UPDATE users SET legacy = ? WHERE name = ?", (1, str(number)))
                    conn.execute("CREATE TABLE copied AS SELECT * FROM users")
                    conn.execute("CREATE INDEX users_name ON users(name)")
                    conn.executemany("UPDATE posts SET body = :b WHERE id = :i", [{"b": 1, "i": 2}])
            """,
            "002_p.sql": "UPDATE users SET legacy = 2 WHERE name = 'name 9';",
        },
    )
    first, second = found.migrations
    told = {each["text"]: each for each in first["statements"]}
    scanned = told["UPDATE users SET legacy = ? WHERE name = ?"]
    sql = "UPDATE users SET legacy = 1 WHERE name = '2'"
    assert (scanned["times"], scanned["scans"]) == (5, ["users"])
    assert scanned["plan"] == plan(found.before, sql)
    copied = told["CREATE TABLE copied AS SELECT * FROM users"]
    assert (copied["plan"], copied["scans"]) == (["SCAN users"], ["users"])
    assert first["statements_executed"] == 8
    (indexed,) = second["statements"]
    assert indexed["scans"] == []
    assert indexed["plan"] == plan(found.after, sql)


def test_sizes(tmp_path: Path) -> None:
    """The size of each file, and the growth of each migration, are those of the files."""
    found = rehearse(
        tmp_path,
        {
            "001_grows.sql": "CREATE TABLE big AS SELECT randomblob(1000) AS b FROM posts;",
            "002_more.sql": "INSERT INTO big SELECT randomblob(1000) FROM posts;",
        },
    )
    first, second = found.migrations
    assert found.report["bytes_before"] == found.before.stat().st_size
    assert found.report["bytes_after"] == found.after.stat().st_size
    assert first["bytes_after"] == second["bytes_before"] > first["bytes_before"]
    assert second["bytes_after"] == found.after.stat().st_size


@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
def test_the_journal_has_each_page_that_was_changed(tmp_path: Path, wal: bool) -> None:
    """
    A journal holds at least the old pages of a table that is rewritten, a `-wal` the new ones.

    Its header and those of the pages come on top (https://sqlite.org/fileformat2.html).
    """
    blobs = "CREATE TABLE b (id INTEGER PRIMARY KEY, x); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL"
    blobs += " SELECT i + 1 FROM n WHERE i < 300) INSERT INTO b SELECT i, zeroblob(3000) FROM n;"
    found = rehearse(
        tmp_path, {"001_x.sql": "UPDATE b SET x = randomblob(3000);"}, schema=blobs, wal=wal
    )
    ((pages,),) = rows(found.before, "SELECT count(*) FROM dbstat WHERE name = 'b'")
    (migration,) = found.migrations
    if wal:
        assert migration["journal_peak_bytes"] == 0
        peak = found.report["expected"]["space_peak_bytes"] - found.report["bytes_before"]
        assert peak >= pages * 4096
        assert peak <= 2 * (pages + 40) * (4096 + 24)
    else:
        assert pages * 4096 <= migration["journal_peak_bytes"] <= (pages + 40) * (4096 + 8) + 1024
        assert migration["wal_peak_bytes"] == 0


def test_the_space_that_a_start_asks_for(tmp_path: Path) -> None:
    """It is what `migrator plan` says, and what the run took at most is no less than a backup."""
    found = rehearse(tmp_path, {"001_x.sql": "UPDATE users SET name = 'x';"})
    result = run_migrator(
        "plan", "--json", "--database", tmp_path / "app.db", "--migrations", tmp_path / "m"
    )
    expected = found.report["expected"]
    assert expected["space_needed_bytes"] == json.loads(result.stdout)["space_needed_bytes"]
    journal = found.migrations[0]["journal_peak_bytes"]
    after = found.after.stat().st_size
    # The backup, the journal, and what the database has grown by: the history's table.
    assert expected["space_peak_bytes"] == after + journal
    assert expected["enough"] is True
    assert expected["seconds"] >= found.migrations[0]["seconds"]


KEYS = {
    "two columns": "CREATE TABLE t (a, b, v, PRIMARY KEY (b, a)); INSERT INTO t VALUES"
    " (1, 1, 'x'), (1, 2, 'y'), (2, 1, 'z');",
    "with a null": "CREATE TABLE t (a TEXT PRIMARY KEY, b, v); INSERT INTO t VALUES"
    " (NULL, 1, 'x'), (NULL, 1, 'x'), ('c', 1, 'z');",
    "in any case": "CREATE TABLE t (a TEXT COLLATE NOCASE PRIMARY KEY, b, v); INSERT INTO t VALUES"
    " ('One', 1, 'x'), ('two', 1, 'y'), ('c', 1, 'z');",
    "in sixteen bits": "PRAGMA encoding = 'UTF-16le'; CREATE TABLE t (a TEXT PRIMARY KEY, b, v);"
    " INSERT INTO t VALUES ('\u00e9', 1, 'x'), ('two', 1, 'y'), ('c', 1, 'z');",
    "no rowid by name": "CREATE TABLE t (rowid, oid, _rowid_, v, b DEFAULT 1); INSERT INTO t VALUES"
    " (1, 1, 1, 'x', 1), (1, 1, 1, 'y', 1), (1, 1, 1, 'z', 1);",
    "generated": "CREATE TABLE t (a INTEGER PRIMARY KEY, b INT DEFAULT 1, v, g AS (v || b));"
    " INSERT INTO t (a, v) VALUES (1, 'x'), (2, 'y'), (3, 'z');",
}


def groups(path: Path) -> Iterator[tuple[Any, ...]]:
    """Yield the values of the rows that a test changes."""
    yield from rows(path, "SELECT v FROM t ORDER BY 1")


@pytest.mark.parametrize("table", KEYS.values(), ids=KEYS)
def test_every_kind_of_key(tmp_path: Path, table: str) -> None:
    """One row of three is changed, one is deleted and one is new; equal text in another case too."""
    found = rehearse(
        tmp_path,
        {"001_k.sql": "UPDATE t SET v = 'Z' WHERE v = 'z'; DELETE FROM t WHERE v = 'x';"},
        schema=table,
    )
    told = found.told(0, "t")
    lost = len([row for row in groups(found.before) if row == ("x",)])
    changed = (0, 1, lost) if told["by"] != "content" else (1, 0, lost + 1)
    assert (told["inserted"], told["changed"], told["deleted"]) == changed
    assert told["why"] is None


def test_a_table_that_cannot_be_read_keeps_no_other_from_being_counted(tmp_path: Path) -> None:
    """It is told with a reason that quotes no row; hostile names and virtual tables are counted."""
    found = rehearse(
        tmp_path,
        {
            "001_odd.sql": """
                UPDATE a_bad SET id = 2;
                UPDATE "we|ird `name`" SET v = NULL;
                INSERT INTO words VALUES ('n', 'm');
                DELETE FROM words WHERE a = 'x';
                DELETE FROM seen WHERE id = 1;
            """
        },
        schema="""
            CREATE TABLE a_bad (id INTEGER PRIMARY KEY, t);
            INSERT INTO a_bad VALUES (1, CAST(x'736563726574ff' AS TEXT));
            CREATE TABLE "we|ird `name`" (id INTEGER PRIMARY KEY, v);
            INSERT INTO "we|ird `name`" VALUES (1, x'00ff');
            CREATE VIRTUAL TABLE words USING fts5(a, b);
            INSERT INTO words VALUES ('x', 'y'), ('p', 'q');
            CREATE TABLE made (id INTEGER PRIMARY KEY);
            INSERT INTO made VALUES (1), (2);
            CREATE VIEW seen AS SELECT * FROM made;
            CREATE TRIGGER through INSTEAD OF DELETE ON seen
            BEGIN DELETE FROM made WHERE id = old.id; END;
        """,
    )
    assert found.told(0, "a_bad")["why"] == "it holds text that is not UTF-8"
    told = {each["table"]: each for each in found.migrations[0]["rows"]}
    numbers = {
        name: [each["inserted"], each["changed"], each["deleted"]]
        for name, each in told.items()
        if each["why"] is None
    }
    assert numbers == {"we|ird `name`": [0, 1, 0], "words": [1, 0, 1], "made": [0, 0, 1]}
