"""Opening the guarded connection: any path, and who else is kept out."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from migrator.session.guard import open_guard
from tests.unit.guard.common import ODD_NAMES, make, rows, stored


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_path_can_be_opened(tmp_path: Path, name: str) -> None:
    """Characters that mean something in a URI are part of the name."""
    make(tmp_path / name)
    guard = open_guard(tmp_path / name)
    guard.begin()
    with guard.engine() as conn:
        conn.execute("INSERT INTO t VALUES (3)")
    guard.commit()
    guard.close()

    assert [1, 2, 3] == stored(tmp_path / name)
    assert [name] == os.listdir(tmp_path)


def test_a_path_of_bytes_that_are_no_text_can_be_opened(tmp_path: Path) -> None:
    """A file name that is not UTF-8 is opened as it is."""
    name = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.db"))
    with closing(sqlite3.connect(os.fsencode(name))):
        name.touch()

    open_guard(name).close()

    assert [b"\xff.db"] == os.listdir(os.fsencode(tmp_path))


def test_a_missing_database_is_not_created(tmp_path: Path) -> None:
    """Opening a database that is not there fails, and leaves nothing behind."""
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        open_guard(tmp_path / "none.db")

    assert [] == os.listdir(tmp_path)


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_exclusive_use_keeps_others_out_until_the_end(path: Path, mode: str) -> None:
    """An exclusive guard holds its lock from the opening on, transaction or not."""
    with closing(sqlite3.connect(path)) as conn:
        conn.execute(f"PRAGMA journal_mode={mode}")
    guard = open_guard(path)
    other = sqlite3.connect(path, timeout=0)

    with pytest.raises(sqlite3.OperationalError, match="locked"):
        rows(other)
    other.close()
    guard.close()

    assert [1, 2] == stored(path)
    assert [path.name] == os.listdir(path.parent)


def test_a_database_in_use_is_busy(path: Path) -> None:
    """Where somebody else reads, exclusive use is refused with SQLITE_BUSY."""
    other = sqlite3.connect(path)
    reading = other.execute("SELECT * FROM t")
    reading.fetchone()

    with pytest.raises(sqlite3.OperationalError) as caught:
        open_guard(path)
    other.close()

    assert sqlite3.SQLITE_BUSY == caught.value.sqlite_errorcode


def test_beside_readers_the_guard_takes_only_the_write_lock(path: Path) -> None:
    """Without exclusive use, readers go on while the run's transaction is open."""
    guard = open_guard(path, exclusive=False)
    guard.begin()

    assert [1, 2] == stored(path)
    with (
        closing(sqlite3.connect(path, timeout=0)) as other,
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        other.execute("INSERT INTO t VALUES (3)")
    guard.rollback()
    guard.close()


def test_an_empty_file_stays_empty(tmp_path: Path) -> None:
    """Proving exclusive use writes nothing, not even the first page of an empty database."""
    path = tmp_path / "empty.db"
    path.touch()

    open_guard(path).close()

    assert 0 == path.stat().st_size


def test_settings_of_the_run(path: Path, tmp_path: Path) -> None:
    """The run syncs as safely as SQLite can, and foreign keys are off."""
    guard = open_guard(path, temporary=tmp_path)

    with guard.engine() as conn:
        found = [
            conn.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "foreign_keys")
        ]
        temporary = conn.execute("PRAGMA temp_store_directory").fetchone()
        conn.execute("PRAGMA temp_store_directory=''")
    guard.close()

    assert [3, 0] == found
    assert (str(tmp_path),) == temporary
