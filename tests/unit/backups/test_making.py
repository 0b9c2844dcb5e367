"""A backup is complete and checked, on the disk, and no wider than the database."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from migrator.backups import create as store
from migrator.backups.catalog import list_backups, verify_backup
from migrator.backups.create import same_state
from migrator.backups.retention import prune_backups
from migrator.database import pages
from migrator.database.raw_file import LiveFile
from migrator.database.workspace import Layout
from migrator.model import Settings
from tests.support.files import rows
from tests.support.recorder import Recorder
from tests.unit.backups.common import UP, back_up, change, left, pair, several


def test_a_backup_is_a_plain_database_with_its_facts_beside_it(layout: Layout) -> None:
    """Whoever has nothing but `sqlite3` and `sha256sum` can use and check it."""
    emit = Recorder()
    made = back_up(layout, emit=emit)
    assert left(layout) == pair(made)
    assert emit.names == ["backup.started", "backup.finished"]
    assert all({"path", "bytes", "seconds"} <= event.keys() for event in emit.events)
    assert rows(made.path, "SELECT name FROM users") == rows(
        layout.database, "SELECT name FROM users"
    )
    noted = json.loads(made.json_path.read_text())
    assert noted["sha256"] == hashlib.sha256(made.path.read_bytes()).hexdigest()
    assert noted["bytes"] == made.path.stat().st_size
    assert (noted["name"], noted["path"]) == (made.name, str(made.path))
    assert (noted["reason"], noted["version"], noted["run_id"]) == ("up", "002", "01J")
    assert noted["database"] == str(layout.database)
    assert noted["applied"][0] == {"version": "001", "name": "users", "applied_at": "t1"}
    assert verify_backup(made) is None


def test_the_name_is_database_counter_and_time(layout: Layout) -> None:
    """Names sort by the counter, which counts what is there, finished or not, whoever's it is."""
    first, second = several(layout, 2)
    assert first.name.startswith("app.db-000001-2")
    assert second.name.startswith("app.db-000002-2")
    (layout.backup_dir / ".app.db-000007-20200101T000000Z.db.partial").touch()
    (layout.backup_dir / "other.db-000050-20200101T000000Z.db").touch()
    assert back_up(layout).counter == 8


def test_the_order_does_not_hang_on_the_clock(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board without a battery wakes up in 1970, and its newest backup is still the newest."""
    first = back_up(layout)
    change(layout)
    monkeypatch.setattr(time, "gmtime", lambda *_: time.struct_time((1970, 1, 1, 0, 0, 0, 3, 1, 0)))
    second = back_up(layout)
    assert second.created_at == "1970-01-01T00:00:00Z"
    assert [each.name for each in list_backups(layout)] == [second.name, first.name]
    prune_backups(layout, 1, (), second.name, Recorder())
    assert left(layout) == pair(second)


def test_what_was_noted_is_read_back(layout: Layout) -> None:
    """A backup that is listed is the one that was made."""
    made = back_up(layout)
    (listed,) = list_backups(layout)
    assert listed == made
    assert [(row.version, row.name, row.applied_at) for row in listed.applied] == [
        ("001", "users", "t1"),
        ("002", "notes", "t2"),
    ]


def test_a_backup_is_no_wider_than_the_database(layout: Layout) -> None:
    """Who may not read the database may not read its backups."""
    layout.database.chmod(0o640)
    before = os.umask(0)
    try:
        made = back_up(layout)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (made.path, made.json_path)} == {0o640}


def test_made_by_root_it_belongs_to_the_databases_owner(layout: Layout, as_root: None) -> None:
    """`docker exec` as root leaves nothing that the application cannot prune."""
    os.chown(layout.database, 12345, 23456)
    made = back_up(layout)
    found = {(p.stat().st_uid, p.stat().st_gid) for p in (made.path, made.json_path)}
    assert found == {(12345, 23456)}


def test_an_empty_database_has_an_empty_backup(volume: Path) -> None:
    """Zero bytes is a valid database, and so is its backup."""
    (volume / "app.db").touch()
    layout = Layout.of(Settings(volume / "app.db"))
    made = back_up(layout)
    assert (made.bytes, made.path.stat().st_size) == (0, 0)
    assert verify_backup(made) is None
    with LiveFile.open(layout.database) as live:
        assert same_state(layout, live, UP) == made


def test_progress_is_told_every_second(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long backup says how far it is; a short one says nothing in between."""
    monkeypatch.setattr(pages, "_CHUNK", 4096)
    emit = Recorder()
    back_up(layout, emit=emit)
    assert emit.named("backup.progress") == []
    monkeypatch.setattr(store, "_EVERY", 0)
    back_up(layout, emit=emit)
    told = emit.named("backup.progress")
    assert len(told) >= 2
    assert told[-1]["bytes"] == told[-1]["total_bytes"] == layout.database.stat().st_size


@pytest.mark.parametrize("as_file", [False, True])
def test_a_backup_is_on_disk_before_it_has_its_name(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, as_file: bool
) -> None:
    """Contents of both files and the facts' first name, then the names, the facts' last."""
    back_up(layout)
    steps: list[tuple[str, str]] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append(("fsync", target.suffixes[-2] if target.suffix == ".partial" else "directory"))
        real_fsync(descriptor)

    def rename(old: str, new: str, **more: int) -> None:
        steps.append(("rename", Path(new).suffix))
        real_rename(old, new, **more)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    with LiveFile.open(layout.database) as live:
        back_up(layout, live=live if as_file else None)
    assert steps == [
        ("fsync", ".db"),
        ("fsync", ".json"),
        ("fsync", "directory"),
        ("rename", ".db"),
        ("rename", ".json"),
        ("fsync", "directory"),
    ]


def test_the_database_is_the_same_after_a_backup(layout: Layout) -> None:
    """Backing up writes nothing to the database."""
    before = layout.database.read_bytes()
    back_up(layout)
    assert layout.database.read_bytes() == before
