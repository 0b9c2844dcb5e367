"""Free pages: their content means nothing, and a rollback does not put it back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from migrator.database.freelist import free_leaves, without_pages
from migrator.database.pages import same_pages
from tests.support.files import make_database, opened

PAGE = 1024


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return a database with some forty free pages."""
    path = make_database(tmp_path / "app.db", "CREATE TABLE kept (x);", page_size=PAGE)
    with opened(path) as conn:
        conn.execute("CREATE TABLE gone AS SELECT zeroblob(40000) AS x")
        conn.execute("DROP TABLE gone")
    return path


def same(one: Path, other: Path) -> bool:
    """Compare two files, and the other way round."""
    left, right = (os.open(path, os.O_RDONLY) for path in (one, other))
    try:
        answers = same_pages(left, right), same_pages(right, left)
    finally:
        os.close(left)
        os.close(right)
    assert answers[0] == answers[1]
    return answers[0]


def leaves(path: Path) -> frozenset[int]:
    """Return the free leaves of a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return free_leaves(descriptor, PAGE, path.stat().st_size // PAGE)
    finally:
        os.close(descriptor)


def test_a_rollback_over_free_pages_leaves_the_same_database(database: Path, tmp_path: Path):
    """What a transaction wrote to free pages and rolled back makes no difference."""
    copy = tmp_path / "copy.db"
    copy.write_bytes(database.read_bytes())
    with opened(database) as conn:
        conn.execute("PRAGMA cache_size = 1")
        conn.execute("BEGIN IMMEDIATE")
        conn.execute("INSERT INTO kept SELECT randomblob(30000)")
        conn.execute("ROLLBACK")
    assert database.read_bytes() != copy.read_bytes()
    assert same(database, copy)


def test_pages_in_use_still_count(database: Path, tmp_path: Path):
    """A byte of any page but a free leaf makes the files differ."""
    data = database.read_bytes()
    free = leaves(database)
    copy = tmp_path / "copy.db"
    for page in range(2, len(data) // PAGE + 1):
        changed = bytearray(data)
        changed[page * PAGE - PAGE // 2] ^= 0xFF
        copy.write_bytes(changed)
        assert same(database, copy) is (page in free), page


def test_the_leaves_are_those_that_sqlite_counts(database: Path):
    """Leaves and trunks together are SQLite's own count."""
    with opened(database) as conn:
        (count,) = conn.execute("PRAGMA freelist_count").fetchone()
    assert count - len(leaves(database)) == 1
    assert count > 30


@pytest.mark.parametrize("trunk", [0xFFFFFFFF, 1])
def test_a_freelist_without_sense_frees_nothing(database: Path, trunk: int):
    """A first trunk outside of the file, or on the first page, is no freelist."""
    data = bytearray(database.read_bytes())
    data[32:36] = trunk.to_bytes(4, "big")
    database.write_bytes(data)
    assert leaves(database) == frozenset()


def test_a_freelist_that_leads_back_to_itself_ends(database: Path):
    """A cycle of trunks is no freelist."""
    data = bytearray(database.read_bytes())
    trunk = int.from_bytes(data[32:36], "big")
    data[(trunk - 1) * PAGE : (trunk - 1) * PAGE + 4] = data[32:36]
    database.write_bytes(data)
    assert leaves(database) == frozenset()


def test_pages_are_blanked_where_they_lie():
    """Page numbers count from 1, and from the chunk's own place in the file."""
    chunk = b"a" * 512 + b"b" * 512 + b"c" * 100
    assert without_pages(chunk, 1024, 512, {4}) == b"a" * 512 + bytes(512) + b"c" * 100
    assert without_pages(chunk, 1024, 512, {5}) == b"a" * 512 + b"b" * 512 + bytes(100)
