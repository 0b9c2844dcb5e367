"""Two schemas are compared by what they mean, not by how they are written."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing

import pytest

from migrator.inspect.schema import Schema, differences, lacking_tables, schema_of
from migrator.parsing import sql


def schema(script: str, left_out: Sequence[str] = ()) -> Schema:
    """Return the schema that a script makes."""
    with closing(sqlite3.connect(":memory:")) as conn:
        conn.executescript(script)
        return schema_of(conn, left_out)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CREATE TABLE t (a INT, b TEXT)", 'create table "T"(\n a int , -- the first\n [b] text)'),
        ("CREATE TABLE t (a, b)", "CREATE TABLE t (b, a)"),
        ("CREATE TABLE t (a); ALTER TABLE t ADD COLUMN b", "CREATE TABLE t (a, b)"),
        ("CREATE TABLE x (a); ALTER TABLE x RENAME TO t", "CREATE TABLE t (a)"),
        ("CREATE TABLE t (x); ALTER TABLE t RENAME COLUMN x TO a", "CREATE TABLE t (a)"),
        ("CREATE TABLE t (a, b); ALTER TABLE t DROP COLUMN b", "CREATE TABLE t (a)"),
        ("CREATE TABLE IF NOT EXISTS t (a)", "CREATE TABLE t (a)"),
        (
            "CREATE TABLE t (a, CHECK (a IN (1, 2)), UNIQUE (a))",
            "CREATE TABLE t (a, UNIQUE(a), CHECK(a IN(1,2)))",
        ),
        (
            "CREATE TABLE t (a); CREATE INDEX i ON t (a) WHERE a > 1",
            "CREATE TABLE t (a); CREATE INDEX IF NOT EXISTS I ON T(A) where a>1",
        ),
        ("CREATE TABLE t (a); ANALYZE", "CREATE TABLE t (a)"),
        ("CREATE TABLE t (a); CREATE TABLE _litestream_seq (x)", "CREATE TABLE t (a)"),
    ],
)
def test_what_means_the_same_does_not_differ(one: str, other: str) -> None:
    """Case, quotes, comments, blanks, the order of columns, and tables that no migration makes."""
    assert differences(schema(one), schema(other)) == []
    assert differences(schema(other), schema(one)) == []


@pytest.mark.parametrize(
    ("database", "version", "said"),
    [
        ("", "CREATE TABLE t (a)", ["it lacks the table t"]),
        ("CREATE TABLE t (a)", "", ["it has the table t"]),
        ("CREATE TABLE t (a)", "CREATE TABLE t (a, b TEXT)", ["its table t lacks `b text`"]),
        ("CREATE TABLE t (a, b TEXT)", "CREATE TABLE t (a)", ["its table t has `b text`"]),
        (
            "CREATE TABLE t (a INT)",
            "CREATE TABLE t (a TEXT)",
            ["its table t has `a int` in place of `a text`"],
        ),
        (
            "CREATE TABLE t (a DEFAULT 'X')",
            "CREATE TABLE t (a DEFAULT 'x')",
            ["its table t has `a default 'X'` in place of `a default 'x'`"],
        ),
        (
            "CREATE TABLE t (a)",
            "CREATE TABLE t (a, UNIQUE (a))",
            ["its table t lacks `unique ( a )`"],
        ),
        (
            "CREATE TABLE t (a PRIMARY KEY)",
            "CREATE TABLE t (a PRIMARY KEY) WITHOUT ROWID",
            ["its table t is defined in another way"],
        ),
        (
            "CREATE VIEW v AS SELECT 1",
            "CREATE VIEW v AS SELECT 2",
            ["its view v is defined in another way"],
        ),
        (
            "CREATE VIEW v AS SELECT 1 AS a",
            "CREATE TABLE v (a)",
            ["it lacks the table v", "it has the view v"],
        ),
    ],
)
def test_what_differs_is_said(database: str, version: str, said: list[str]) -> None:
    """A clause for each, with the name that the object has."""
    assert differences(schema(database), schema(version)) == said


def test_an_odd_name_is_no_syntax() -> None:
    """Commas and parentheses within a name end no column."""
    script = 'CREATE TABLE "a,(b" ("c,d)" TEXT CHECK ("c,d)" <> \'),(\'), e)'
    ((key, parts),) = schema(script).items()
    assert key == ("table", "a,(b")
    assert set(parts) == {'"c,d)"', "e", ""}


def test_a_table_that_is_left_out_goes_with_its_indexes() -> None:
    """A history is not what migrations make."""
    script = "CREATE TABLE Migrations (a); CREATE INDEX i ON migrations (a); CREATE TABLE t (a);"
    assert set(schema(script, ["MIGRATIONS"])) == {("table", "t")}


def test_shadow_tables_do_not_count() -> None:
    """Each version of SQLite makes those of a full-text index its own way."""
    found = schema("CREATE VIRTUAL TABLE notes USING fts5(body)")
    assert set(found) == {("table", "notes")}


def test_lacking_tables_are_those_that_have_no_namesake() -> None:
    """A view of that name may stand in for one."""
    database = schema("CREATE TABLE A (x); CREATE VIEW c AS SELECT 1")
    version = schema("CREATE TABLE a (x); CREATE TABLE b (x); CREATE TABLE c (x)")
    assert lacking_tables(database, version) == ["b"]


def test_a_long_definition_is_cut() -> None:
    """A few lines are for people."""
    (said,) = differences(
        schema(f"CREATE TABLE t (a, b CHECK (b <> '{'x' * 500}'))"), schema("CREATE TABLE t (a)")
    )
    assert len(said) < 120
    assert said.endswith("…`")


def test_the_normal_form_keeps_strings_and_drops_what_says_nothing() -> None:
    """Keywords and names in lower case, in the order of the text."""
    text = "SELECT \"Ab\", [c d], 'It''s', x'FF' /* no */ -- more\n FROM `T`"
    assert sql.normal(text) == (
        *("select", "ab", ",", '"c d"', ",", "'It''s'", ",", "x", "'FF'", "from", "t"),
    )
