"""
Full disks: a few sizes of a few scenes, and the bugs that the harness must find.

The whole of it is `python -m tests.prove --only full`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from migrator.backups.space import copies_on_write
from tests.disks.full import STEP, Narrow, border, borders
from tests.disks.planted import BUGS, FullBug
from tests.disks.scenes import SCENES
from tests.disks.small import KIB, KINDS, Kind, missing, small_disk
from tests.faults.launching import arguments, run
from tests.support.files import make_database, write_migrations

pytestmark = [pytest.mark.faults, pytest.mark.root, pytest.mark.timeout(0)]


def of(name: str) -> Kind:
    """Return a kind of disk, and skip the test where this machine cannot have it, CI aside."""
    lack = missing(KINDS[name])
    if lack and os.environ.get("CI"):
        pytest.fail(f"needs {lack}")
    if lack:
        pytest.skip(f"needs {lack}")
    return KINDS[name]


@pytest.mark.parametrize(
    ("scene", "kind", "room"),
    [
        ("up in-place wal", "ext4", 1800),
        ("restore delete", "ext4", 1000),
        ("restore wal", "xfs", 1944),
        ("restore wal", "btrfs quota", 584),
        ("up in-place delete meanwhile", "xfs", 200),
        ("up copy wal meanwhile", "xfs", 4096),
        ("up copy delete meanwhile", "btrfs", 700),
        ("up copy delete", "btrfs quota", 500),
        ("down copy wal", "btrfs quota", 4096),
        ("inline down in-place wal", "btrfs", 4096),
        ("inline down in-place wal", "btrfs", 1912),
        ("inline down copy wal", "btrfs quota", 10428),
        ("up copy wal meanwhile", "xfs", 0),
        ("up copy wal meanwhile", "xfs", 64),
        ("up copy wal meanwhile", "btrfs quota", 16),
    ],
)
def test_a_full_disk_leaves_old_or_new(scene: str, kind: str, room: int, tmp_path: Path) -> None:
    """With too little room the database is old, and usable, and the next start with room is new."""
    with small_disk(of(kind), tmp_path / "disk") as disk:
        verdict = Narrow(SCENES[scene], disk, tmp_path / "aside").try_with(room, starts=1)
    assert verdict.code in (73, 74)
    assert [] == verdict.problems


def test_a_backup_that_an_earlier_run_has_made_stays(tmp_path: Path) -> None:
    """A run of the Python API that is refused for want of room removes only what it has made."""
    migrations = write_migrations(
        tmp_path / "migrations", {"001_fails.sql": "INSERT INTO nowhere VALUES (1);"}
    )
    with small_disk(of("btrfs quota"), tmp_path / "disk") as disk:
        volume = disk.home / "data"
        volume.mkdir()
        database = make_database(volume / "app.db", "CREATE TABLE users (id);", wal=True)
        words = arguments(("inline", "up", "allow"), database, migrations)
        assert run(words, {}).code == 80
        backups = sorted((volume / "backups").iterdir())
        disk.leave(512 * KIB)
        refused = run(words, {})
        assert refused.code == 73
        assert "less than 1 MiB of space are left" in refused.stderr
        assert sorted((volume / "backups").iterdir()) == backups


@pytest.mark.parametrize("kind", KINDS)
def test_what_takes_new_blocks_for_every_write_is_known(kind: str, tmp_path: Path) -> None:
    """The room that a restore takes depends on it."""
    with small_disk(of(kind), tmp_path / "disk") as disk:
        assert copies_on_write(disk.home) == (KINDS[kind].system == "btrfs")


@pytest.mark.parametrize("planted", BUGS, ids=[each.bug.name for each in BUGS])
def test_a_planted_bug_is_found(planted: FullBug, tmp_path: Path) -> None:
    """The harness finds this bug on the disk that it is for."""
    with small_disk(of(planted.kind), tmp_path / "disk") as disk:
        stage = Narrow(SCENES[planted.bug.scene], disk, tmp_path / "aside")
        stage.packages = planted.bug.plant(tmp_path / "packages")
        found = [stage.try_with(room, starts=1).problems for room in planted.rooms]
    assert any(found)


def test_where_the_end_changes_is_found() -> None:
    """Between two sizes with different ends, every change is narrowed down to a block."""
    ends = {0: "old", 400: "old", 800: "new"}

    def look(room: int) -> str:
        return ends.setdefault(room, "old" if room < 500 else "new")

    assert [(496, 500)] == borders(ends, look)


def test_exactly_so_much_is_left(tmp_path: Path) -> None:
    """A disk of which so many KiB are left takes them, and no block more."""
    with small_disk(of("ext4"), tmp_path / "disk") as disk:
        disk.leave(40 * KIB)
        with (disk.home / "file").open("wb", 0) as file:
            file.write(bytes(40 * KIB))
            with pytest.raises(OSError, match="No space left"):
                file.write(bytes(4 * KIB))


def test_border() -> None:
    """The border is the least size, in blocks, for which a condition holds no more."""
    assert 72 == border(0, 512, lambda room: room < 70)
    assert STEP == border(0, 512, lambda room: room < 1)
