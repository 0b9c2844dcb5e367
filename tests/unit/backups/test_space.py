"""Asking for space before a run, and making some."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from migrator.backups import pending, retention, space
from migrator.backups.backup import Backup
from migrator.backups.directory import names
from migrator.backups.space import check_space, make_space, space_needed
from migrator.database.workspace import Layout
from migrator.errors import (
    BackupError,
)
from migrator.files import Ownership
from migrator.model import Settings
from tests.support.recorder import Recorder, small_disk
from tests.unit.backups.common import ID, left, pair, several


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Return a disk of 100 MiB whose free bytes a test can set; what is removed becomes free."""
    facts = {"free": 50 << 20}

    class Found:
        f_frsize = 1
        f_blocks = 100 << 20
        f_fsid = 0

        @property
        def f_bavail(self) -> int:
            return facts["free"]

    real = retention.remove_backup

    def remove(layout: Layout, backup: Backup) -> bool:
        facts["free"] += backup.bytes
        return real(layout, backup)

    monkeypatch.setattr(retention, "remove_backup", remove)
    monkeypatch.setattr(os, "statvfs", lambda _: Found())
    return facts


SLACK = (100 << 20) // 16


def test_each_way_needs_its_own_room(layout: Layout, disk: dict[str, int]) -> None:
    """Way A a backup, way B a backup, a copy and a journal; and some slack for both."""
    assert space_needed(layout, 1000, "in-place") == 1000 + SLACK
    assert space_needed(layout, 1000, "copy") == 3000 + SLACK


def test_a_first_install_needs_no_room_for_a_backup(volume: Path, disk: dict[str, int]) -> None:
    """There is nothing to back up."""
    assert space_needed(Layout.of(Settings(volume / "app.db")), 0, "in-place") == SLACK


def test_too_little_room_is_73_with_the_numbers(layout: Layout, disk: dict[str, int]) -> None:
    """What is needed, what is there, and where, is known before the first byte is written."""
    disk["free"] = SLACK
    with pytest.raises(BackupError, match=str(SLACK + 5000)) as caught:
        check_space(layout, 5000, "in-place", Recorder())
    assert (caught.value.reason, caught.value.retryable) == ("backup.no_space", False)
    assert caught.value.data == {"needed_bytes": SLACK + 5000, "free_bytes": SLACK}
    assert not layout.backup_dir.exists()
    check_space(layout, 5000, "in-place", Recorder(), backed_up=True)


def test_the_oldest_backups_make_room(layout: Layout, disk: dict[str, int]) -> None:
    """Only as many go as are needed, oldest first."""
    made = several(layout, 4)
    size = made[0].bytes
    disk["free"] = SLACK - size
    emit = Recorder()
    check_space(layout, size, "in-place", emit)
    assert left(layout) == pair(*made[2:])
    assert {event["reason"] for event in emit.named("backup.pruned")} == {"space"}


def test_nothing_goes_in_vain(layout: Layout, disk: dict[str, int]) -> None:
    """Where all that may go would not be enough, nothing goes; the last good one never does."""
    made = several(layout, 3)
    size = made[0].bytes
    disk["free"] = 0
    assert make_space(layout, size * 2 + 1, (), Recorder()) is False
    assert left(layout) == pair(*made)
    assert make_space(layout, size * 2, {made[0].name}, Recorder()) is False
    assert make_space(layout, size * 2, (), Recorder()) is True
    assert left(layout) == pair(made[2])


def test_the_last_good_one_is_known_by_its_checksum(layout: Layout, disk: dict[str, int]) -> None:
    """A newer backup that is damaged does not take a good one's place."""
    made = several(layout, 2)
    made[1].path.write_bytes(bytes(made[1].bytes))
    disk["free"] = 0
    make_space(layout, made[0].bytes, (), Recorder())
    assert left(layout) == pair(made[0])


def test_backups_on_another_disk_need_their_room_there(
    layout: Layout, tmp_path: Path, as_root: None
) -> None:
    """Each file system is asked for its own share."""
    with small_disk(tmp_path / "disk", "1m") as disk:
        there = Layout.of(Settings(layout.database, backup_dir=disk / "b"))
        check_space(there, 1 << 19, "in-place", Recorder())
        with pytest.raises(BackupError, match=str(disk)):
            check_space(there, 1 << 21, "in-place", Recorder())
    with small_disk(tmp_path / "disk", "1m") as disk:
        shutil.copyfile(layout.database, disk / "app.db")
        here = Layout.of(Settings(disk / "app.db", backup_dir=tmp_path / "b"))
        check_space(here, 1 << 21, "in-place", Recorder())
        with pytest.raises(BackupError, match=str(disk)):
            check_space(here, 1 << 21, "copy", Recorder())


def test_room_is_asked_for_where_a_directory_will_be(tmp_path: Path) -> None:
    """A backup directory that does not exist yet lies on its parent's file system."""
    assert space.existing(tmp_path / "a" / "b") == tmp_path
    assert space.free(tmp_path / "a" / "b") > 0


def test_a_reservation_is_as_private_as_the_database(layout: Layout) -> None:
    """Also what is unfinished gives nobody more than the database does."""
    layout.backup_dir.mkdir()
    reserved = pending.PendingBackup.reserve(
        layout, Ownership(os.getuid(), os.getgid(), 0o640, 0o750), ID
    )
    assert reserved.facts.stat().st_mode & 0o777 == 0o640
    assert names(layout) == [reserved.facts.name]
    reserved.close()
