"""Which backups there are, and which one is meant."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from migrator.backups.catalog import list_backups, verify_backup
from migrator.backups.find import find_backup, newest_backup
from migrator.backups.retention import prune_backups, remove_unfinished
from migrator.database.workspace import Layout
from migrator.errors import (
    MisfitError,
    UsageError,
)
from migrator.model import Settings
from tests.support.files import make_database
from tests.support.recorder import Recorder
from tests.unit.backups.common import RESTORE, back_up, change, damage, left, pair, several
from tests.unit.test_file_copy import no_thread


def test_no_directory_has_no_backups(layout: Layout) -> None:
    """Looking creates nothing."""
    assert list_backups(layout) == []
    assert newest_backup(layout) is None
    assert not layout.backup_dir.exists()


def test_two_databases_may_share_a_directory(layout: Layout, tmp_path: Path) -> None:
    """Each sees its own backups, also where both are called the same."""
    other = make_database(tmp_path / "other" / "app.db", "CREATE TABLE theirs (x)")
    shared = Layout.of(Settings(other, backup_dir=layout.backup_dir))
    ours, theirs = back_up(layout), back_up(shared)
    assert (ours.counter, theirs.counter) == (1, 2)
    assert list_backups(layout) == [ours]
    assert list_backups(shared) == [theirs]
    prune_backups(shared, 0, (), theirs.name, Recorder())
    assert list_backups(layout) == [ours]


def test_a_volume_that_is_mounted_elsewhere_keeps_its_backups(
    layout: Layout, tmp_path: Path
) -> None:
    """The database's place as seen from the backups is enough to know it."""
    back_up(layout)
    moved = tmp_path / "moved"
    layout.database.parent.rename(moved)
    (found,) = list_backups(Layout.of(Settings(moved / "app.db")))
    assert found.path.parent == moved / "backups"


def test_a_backup_is_found_by_name_and_by_path(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name with or without `.db`, an absolute or a relative path."""
    made = back_up(layout)
    monkeypatch.chdir(layout.backup_dir.parent)
    for wanted in (made.name, made.path.stem, str(made.path), f"backups/{made.name}"):
        assert find_backup(layout, wanted) == made


def test_a_backup_that_was_carried_elsewhere_is_found_by_its_path(
    layout: Layout, tmp_path: Path
) -> None:
    """The pair may have been copied off the machine and back."""
    made = back_up(layout)
    for path in (made.path, made.json_path):
        shutil.move(path, tmp_path / path.name)
    found = find_backup(layout, str(tmp_path / made.name))
    assert found.sha256 == made.sha256
    assert verify_backup(found) is None


@pytest.mark.parametrize("wanted", ["nothing", "/nowhere/app.db-000001-x.db", "app.db"])
def test_an_unknown_backup_is_64(
    layout: Layout, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads to no finished backup is refused, the database itself included."""
    made = back_up(layout)
    monkeypatch.chdir(layout.database.parent)
    with pytest.raises(UsageError) as caught:
        find_backup(layout, wanted)
    assert (caught.value.exit_code, caught.value.reason) == (64, "backup.unknown")
    if wanted == "nothing":
        assert made.name in caught.value.hint


@pytest.mark.parametrize(
    "wanted",
    [
        "a\0b",
        "/a\0b.db",
        "x" * 100_000,
        "/" + "x" * 100_000,
        "/" + "x" * 252,
        "~nobody-of-that-name/x",
    ],
)
def test_what_can_be_no_path_is_no_backup(layout: Layout, wanted: str) -> None:
    """A NUL, a name that is too long or an unknown home is 64, in a sentence that can be read."""
    with pytest.raises(UsageError) as caught:
        find_backup(layout, wanted)
    assert "backup.unknown" == caught.value.reason
    assert len(caught.value.message) < 1000


def test_another_databases_backup_is_64(layout: Layout, tmp_path: Path) -> None:
    """A path to a backup of something else is most likely a slip."""
    other = make_database(tmp_path / "shop.db", "CREATE TABLE theirs (x)")
    theirs = back_up(Layout.of(Settings(other)))
    with pytest.raises(UsageError, match="not of"):
        find_backup(layout, str(theirs.path))


def test_the_newest_is_one_that_a_run_made(layout: Layout) -> None:
    """`latest` never leads to what a restore kept of the state that it replaced."""
    made = several(layout, 2)
    change(layout)
    kept = back_up(layout, RESTORE)
    assert newest_backup(layout) == made[1]
    assert newest_backup(layout, ("restore",)) == kept


def test_a_later_versions_backup_is_78_for_readers_and_safe_from_housekeeping(
    layout: Layout,
) -> None:
    """An older program says that it cannot read a backup, and neither counts nor removes it."""
    made = several(layout, 3)
    newer = made[1]
    newer.json_path.write_text(json.dumps(newer.facts() | {"format": 2}))
    for read in (list_backups, newest_backup, lambda at: find_backup(at, newer.name)):
        with pytest.raises(MisfitError, match="later version") as caught:
            read(layout)
        assert caught.value.exit_code == 78
    prune_backups(layout, 1, (), made[2].name, Recorder())
    remove_unfinished(layout)
    assert left(layout) == pair(newer, made[2])


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": "x"}'])
def test_facts_that_cannot_be_understood_are_no_backup(layout: Layout, text: str) -> None:
    """What somebody else has written is passed over and left alone."""
    made = back_up(layout)
    made.json_path.write_text(text)
    remove_unfinished(layout)
    assert list_backups(layout) == []
    assert left(layout) == pair(made)


# -- checking -------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [True, False])
def test_a_damaged_backup_is_listed_and_named(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, threads: bool
) -> None:
    """Bits that flipped, a file cut short or gone: `verify_backup` says which."""
    if not threads:
        monkeypatch.setattr(threading.Thread, "start", no_thread)
    made = back_up(layout)
    good = made.path.read_bytes()
    made.path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert list_backups(layout) == [made]
    assert made.intact
    assert "checksum" in str(verify_backup(made))
    made.path.write_bytes(good[:-4096])
    assert not made.intact
    assert f"instead of {made.bytes}" in str(verify_backup(made))
    made.path.unlink()
    assert "cannot be read" in str(verify_backup(made))
    assert not made.intact


@pytest.mark.parametrize("threads", [True, False])
def test_a_checksum_alone_does_not_make_a_backup_sound(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, threads: bool
) -> None:
    """Damage that was noted with its own checksum is found by SQLite's check."""
    if not threads:
        monkeypatch.setattr(threading.Thread, "start", no_thread)
    made = back_up(layout)
    damage(made.path)
    fake = replace(made, sha256=hashlib.sha256(made.path.read_bytes()).hexdigest())
    assert "is damaged" in str(verify_backup(fake))


def test_checking_a_backup_creates_nothing(layout: Layout) -> None:
    """Not even beside one that somebody has put into WAL mode."""
    made = back_up(layout)
    verify_backup(made)
    assert left(layout) == pair(made)
