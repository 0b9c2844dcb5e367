"""What identifies a migration, what order they have, and whether a changed text is a conflict."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from migrator import plan
from migrator.errors import MisfitError
from migrator.formats.history import BY_NAME, BY_VERSION, OwnFormat
from migrator.model import Applied, Entry, Script

BOTH = pytest.mark.parametrize("fmt", [BY_VERSION, BY_NAME], ids=["version", "name"])


@pytest.fixture
def conn() -> Iterator[sqlite3.Connection]:
    """Open an empty database."""
    with closing(sqlite3.connect(":memory:")) as made:
        yield made


def entry(fmt: OwnFormat, version: str, name: str) -> Entry:
    """Return a migration that is given."""
    return Entry(fmt.key_of(version, name), version, name)


def note(conn: sqlite3.Connection, fmt: OwnFormat, *rows: tuple[str, str]) -> tuple[Applied, ...]:
    """Note migrations as applied, in this order; returns the history."""
    history = fmt.history("migrations")
    history.prepare(conn)
    for version, name in rows:
        history.record(conn, Script(entry(fmt, version, name), checksum="abc"), None, "run")
    return history.read(conn)


def kinds(fmt: OwnFormat, given: list[tuple[str, str]], history: tuple[Applied, ...]) -> list[str]:
    """Return the kinds of the misfits between what is given and what is applied."""
    entries = [entry(fmt, *each) for each in given]
    return [problem.kind for problem in plan.compare(entries, history, fmt).problems]


@pytest.mark.parametrize(
    ("fmt", "text", "expected"),
    [
        (BY_VERSION, "010", (10,)),
        (BY_VERSION, "1.2", (1, 2)),
        (BY_VERSION, "create_users", None),
        (BY_NAME, "010", "010"),
        (BY_NAME, "create_users", "create_users"),
    ],
)
def test_a_commands_version_is_a_key(fmt: OwnFormat, text: str, expected: object) -> None:
    """What a command is told means a version by its value, or a name as it is spelled."""
    assert expected == fmt.key(text)


@BOTH
def test_a_row_has_the_key_of_its_migration(conn: sqlite3.Connection, fmt: OwnFormat) -> None:
    """What was recorded is known by the same key as the migration, and is erased by it."""
    (row,) = note(conn, fmt, ("001", "users"))
    assert entry(fmt, "001", "users").key == row.key
    fmt.history("migrations").erase(conn, row)
    assert () == fmt.history("migrations").read(conn)


def test_a_text_that_is_no_version_equals_no_migration(conn: sqlite3.Connection) -> None:
    """Rows whose version is no number are the last ones, and missing, whatever they say."""
    rows = note(conn, BY_VERSION, ("10", "c"), ("latest", "b"), ("9", "a"))
    conn.execute("INSERT INTO migrations (version, name) VALUES (NULL, 'd')")
    assert ["9", "10", "latest"] == [row.version for row in rows]
    read = BY_VERSION.history("migrations").read(conn)
    assert ["9", "10", "None", "latest"] == [row.version for row in read]
    assert ["missing", "missing"] == kinds(BY_VERSION, [("9", "a"), ("10", "c")], read)


@pytest.mark.parametrize(
    ("fmt", "expected"), [(BY_VERSION, ["newer", "out-of-order"]), (BY_NAME, ["newer"])]
)
def test_only_versions_are_out_of_order(
    conn: sqlite3.Connection, fmt: OwnFormat, expected: list[str]
) -> None:
    """A pending version below an applied one is out of order, a name registered before is not."""
    history = note(conn, fmt, ("002", "b"), ("003", "c"))
    assert expected == kinds(fmt, [("001", "a"), ("002", "b")], history)


@pytest.mark.parametrize(
    ("fmt", "expected"), [(BY_VERSION, ["missing"]), (BY_NAME, ["newer", "newer"])]
)
def test_newer_is_above_versions_and_behind_names(
    conn: sqlite3.Connection, fmt: OwnFormat, expected: list[str]
) -> None:
    """Newer is a version above all that are given, or a name applied after all that are known."""
    history = note(conn, fmt, ("002", "b"), ("001", "a"))
    assert expected == kinds(fmt, [("002", "b")] if fmt is BY_VERSION else [("003", "c")], history)


@pytest.mark.parametrize(("fmt", "expected"), [(BY_VERSION, "abc"), (BY_NAME, None)])
def test_only_files_have_checksums(
    conn: sqlite3.Connection, fmt: OwnFormat, expected: str | None
) -> None:
    """A registry's row has no checksum, also where somebody's own column is called that."""
    note(conn, fmt)
    if not fmt.has_checksums:
        conn.execute("ALTER TABLE migrations ADD COLUMN checksum TEXT DEFAULT 'theirs'")
    (row,) = note(conn, fmt, ("001", "a"))
    assert expected == row.checksum


def test_a_history_of_the_other_format_is_refused(conn: sqlite3.Connection) -> None:
    """The error says what the history holds and what was given."""
    note(conn, BY_NAME, ("1.0.0", "users"))
    with pytest.raises(MisfitError, match=r"holds names of a registry, .* a directory of versions"):
        BY_VERSION.history("migrations").read(conn)
