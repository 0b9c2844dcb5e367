"""Which comments look like the mark of another tool's lower part, and which are prose."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.errors import MisfitError
from migrator.model import Entry, Script
from migrator.parsing import down_markers, scripts

MARKS = [
    "-- rollback",
    "---- create above / drop below ----",
    "-- //@UNDO",
    "--//@UNDO",
    "-- [down]",
    "-- :down",
    "-- DOWN (rollback)",
    "-- ==== DOWN ====",
    "-- rambler down",
    "-- +goose Down",
    "-- +migrate Down",
    "-- !Downs",
    "# --- !Downs",
    "--rollback DROP TABLE tags;",
    "-- rollback: drop table tags;",
    "-- migrate down",
    "/* down */",
    "/* ==== ROLLBACK ==== */",
    "-- @down",
    "-- >>> revert",
    "-- undo",
    "-- Undo:",
    "-- UNDO SECTION",
    "-- Down Migration",
    "-- down:",
    "-- DOWN",
    "-- section: down",
    "-- name: down",
    "-- migration:down",
    "-- migrateDown",
    "-- migrate_down",
    "-- roll back",
    "-- ROLL-BACK",
    "-- --- rollback script ---",
    "-- reverse migration",
    "-- backward migration",
    "-- [UNDO] remove tags",
    "-- @DOWN removes the tags",
    "-- <down>",
    "-- {down}",
    "-- ### Down ###",
    "-- ----- revert -----",
    "-- down.sql",
    "-- v2 down",
    "-- 002 down",
    "-- down 002",
    "-- Rollback script:",
    "-- SQL in section Down",
    "-- Write your migrate down statements here",
    "-- downgrade",
    "-- DOWNGRADE:",
    "-- drop below this line",
    "-- to revert:",
    "-- begin rollback",
    "-- To undo this migration:",
    "-- tern: down",
    "-- ↓ down",
    "-- #down",
    "-- %% down %%",
    "-- Down part",
    "-- rollback statements",
    "-- rollback migration 002",
    "-- revert changes",
    "-- for rollback",
    "-- If rollback is needed:",
    "-- on rollback",
    "-- --> down",
    "-- | DOWN |",
    "-- ~~~ down ~~~",
    "/*\n * DOWN\n */",
    "--//undo",
    "-- -- down --",
    "-- ROLLBACK (para referência)",
    "-- Down (if need be)",
    "-- migration down starts here",
    "-- UP above, DOWN below",
]
"""What other tools, and people, write between an upgrade and what takes it back."""

PROSE = [
    "-- this is the cool down time for users",
    "-- roll back the price change of May",
    "-- undo the damage of 003 by hand",
    "-- going down the list",
    "-- downstream",
    "-- up",
    "-- drop the old table",
    "-- drop below zero",
    "-- write down the totals",
    "-- revert the column type to TEXT",
    "-- the table was broken down by year",
    "-- down payment",
    "-- down payments of customers",
    "-- Reverse geocoding cache",
    "-- drop unused indexes",
    "-- drop table",
    "-- undo log table",
    "-- undo stack of the editor",
    "-- count of rollbacks per run",
    "-- votes down",
    "-- no rollback",
    "-- this cannot be rolled back",
    "-- cannot be reverted",
    "-- irreversible migration",
    "-- forward",
    "-- teardown",
    "-- create the table",
    "-- see up.sql and down.sql for details",
    "-- number of upvotes and downvotes",
    "-- scale down",
    "-- the rollback of 003 lost the column, so add it again",
    '-- revert "add tags"',
    "-- Rollback not supported",
    "-- backward compatible change",
    "-- reverse index",
    "-- uninstall hooks",
    "-- add rollback column",
    "-- rollback_at is when it was rolled back",
    "-- table for undo history",
    "-- below",
]
"""Comments that have such a word and mark nothing."""

TITLES = [
    "-- Rollback: DROP TABLE tags;",
    "-- Undo 003",
    "-- Revert migration 012",
    "-- Up and down migration",
    "-- Rollback of 003",
    "-- Migration script with rollback plan",
    "-- Rollback:\n--   DROP TABLE tags;",
    "-- ====\n-- Rollback\n-- ====\n-- run `DROP TABLE tags` by hand",
]
"""What stands at the top of a file and says what all of it does, or how it can be undone."""

UPPER = "CREATE TABLE tags (id);\nINSERT INTO tags VALUES (1);\n"


@pytest.fixture
def read(tmp_path: Path):
    """Return a function that reads a text as a migration."""

    def read(text: str) -> Script:
        path = tmp_path / "002_tags.sql"
        path.write_text(text)
        return scripts.read(Entry((2,), "002", "tags", path))

    return read


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_between_statements_is_refused_with_its_line(read, mark):
    """What stands below it would be run as part of the upgrade."""
    script = read(f"{UPPER}{mark}\nDROP TABLE tags;\n")
    with pytest.raises(MisfitError) as caught:
        down_markers.refuse_marks([script])
    assert (78, "migrations.directive") == (caught.value.exit_code, caught.value.reason)
    assert (3, "002_tags.sql") == (caught.value.data["line"], caught.value.data["file"])
    assert "`-- migrate:up` and `-- migrate:down`" in caught.value.hint


@pytest.mark.parametrize("comment", PROSE)
def test_prose_is_no_mark(read, comment):
    """A sentence that has such a word in it is a comment."""
    assert read(f"{UPPER}{comment}\nDROP TABLE tags;\n").mark is None
    assert read(f"{comment}\n{UPPER}").mark is None


@pytest.mark.parametrize("comment", TITLES)
def test_a_title_is_no_mark(read, comment):
    """At the top of a file nothing stands above that would be taken back."""
    assert read(f"{comment}\n{UPPER}").mark is None


def test_what_says_how_a_statement_can_be_undone_is_no_mark(read):
    """Each table with its way back in a comment is an upgrade from end to end."""
    for way in ("-- Rollback: DROP TABLE t{0};", "-- Rollback:\n--   DROP TABLE t{0};"):
        pair = f"CREATE TABLE t{{0}} (x);\n{way}\n"
        assert read("".join(pair.format(n) for n in range(3))).mark is None


def test_with_nothing_below_it_a_mark_marks_nothing(read):
    """A lower part that is commented out does not run."""
    assert read(f"{UPPER}-- rollback\n-- DROP TABLE tags;\n").mark is None


def test_a_lower_part_that_stands_first_is_found(read):
    """Without anything above it, a bare mark is one."""
    assert read(f"-- down\nDROP TABLE tags;\n-- up\n{UPPER}").mark is not None


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE votes (\n    -- up\n    up INT,\n    -- down\n    down INT\n);\nSELECT 1;\n",
        "INSERT INTO d VALUES\n-- up\n(1),\n-- down\n(-1);\nSELECT 1;\n",
        "CREATE TRIGGER r AFTER INSERT ON t BEGIN\n  SELECT 1;\n-- undo\n  SELECT 2;\nEND;\nSELECT 1;\n",
        "SELECT '\n-- down\n';\nSELECT 1;\n",
        "SELECT 1; -- down\nSELECT 2;\n",
    ],
    ids=["columns", "rows", "trigger", "string", "behind a statement"],
)
def test_inside_of_a_statement_or_behind_it_nothing_is_marked(read, text):
    """A part begins between two statements, on a line of its own."""
    assert read(text).mark is None


@pytest.mark.parametrize(
    ("upper", "lower"),
    [("-- forward", "-- backward"), ("-- setup", "-- teardown"), ("-- apply", "-- unapply"),
     ("-- install", "-- uninstall"), ("-- FORWARD", "-- REVERSE")],
)  # fmt: skip
def test_a_doubtful_word_is_a_mark_with_its_counterpart(read, upper, lower):
    """`-- teardown` alone may be about anything; below `-- setup` it parts the file."""
    assert read(f"{upper}\n{UPPER}{lower}\nDROP TABLE tags;\n").mark is not None
    assert read(f"{UPPER}{lower}\nDROP TABLE tags;\n").mark is None


def test_an_applied_file_is_not_refused_for_its_comments(read):
    """It cannot be changed any more: only what is going to run is looked at."""
    assert read(f"{UPPER}-- rollback\nDROP TABLE tags;\n").sql_up is not None
