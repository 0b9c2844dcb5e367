"""What a crash leaves of a backup, and of a pruning: a backup, or litter that goes."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from migrator import files
from migrator.backups import pending, retention
from migrator.backups.backup import Backup
from migrator.backups.catalog import list_backups, verify_backup
from migrator.backups.directory import partial_path
from migrator.backups.retention import prune_backups, remove_unfinished
from migrator.database.workspace import Layout, like_database
from migrator.model import Settings
from tests.support.files import make_database
from tests.support.recorder import Recorder
from tests.unit.backups.common import ID, MUTATING, back_up, change, left, pair, several


def run_until(operation: int, work: Callable[[], object]) -> bool:
    """
    Do something in a child that dies at its N-th operation on files, as by SIGKILL.

    Returns:
        Whether it came to its end.
    """
    pid = os.fork()
    if pid == 0:
        count = 0

        def hook(event: str, args: tuple[Any, ...]) -> None:
            nonlocal count
            if event in MUTATING and not str(args[0]).startswith("/proc"):
                count += 1
                if count == operation:
                    os._exit(9)

        code = 1
        try:
            sys.addaudithook(hook)
            work()
            code = 0
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, 9)
    return status == 0


def test_a_crash_at_any_point_leaves_a_backup_or_litter(layout: Layout, tmp_path: Path) -> None:
    """After cleaning there are only sound pairs, the older one among them, and nothing else."""
    several(layout, 1)
    change(layout)
    saved = tmp_path / "saved"
    shutil.copytree(layout.backup_dir, saved)
    seen = set()
    for operation in range(1, 1000):
        finished = run_until(operation, lambda: back_up(layout))
        remove_unfinished(layout)
        found = list_backups(layout)
        assert left(layout) == pair(*found)
        assert [verify_backup(each) for each in found] == [None] * len(found)
        assert found[-1].counter == 1
        seen.add(len(found))
        if finished:
            break
        shutil.rmtree(layout.backup_dir)
        shutil.copytree(saved, layout.backup_dir)
    assert operation > 10
    assert seen == {1, 2}


def test_a_crash_between_the_two_names_loses_nothing(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database in place whose facts were about to follow is a finished backup."""
    real = files.rename

    def crash(old: Path, new: Path) -> None:
        if new.suffix == ".json":
            raise KeyboardInterrupt
        real(old, new)

    monkeypatch.setattr(pending, "rename", crash)
    monkeypatch.setattr(pending.PendingBackup, "close", lambda self: os.close(self.descriptor))
    with pytest.raises(KeyboardInterrupt):
        back_up(layout)
    assert list_backups(layout) == []
    remove_unfinished(layout)
    (found,) = list_backups(layout)
    assert verify_backup(found) is None


def test_both_names_of_a_half_done_rename_become_one(layout: Layout) -> None:
    """Renaming one name of a file to another of its names does nothing, and is made up for."""
    made = back_up(layout)
    unfinished = partial_path(made.json_path)
    os.link(made.json_path, unfinished)
    remove_unfinished(layout)
    assert left(layout) == pair(made)


def test_a_crash_while_pruning_leaves_no_litter_for_long(layout: Layout, tmp_path: Path) -> None:
    """Whatever point it stops at, cleaning finishes it, and the kept ones are whole."""
    made = several(layout, 4)
    saved = tmp_path / "saved"
    shutil.copytree(layout.backup_dir, saved)
    found: list[Backup] = []
    for operation in range(1, 1000):
        finished = run_until(operation, lambda: prune_backups(layout, 2, (), None, Recorder()))
        remove_unfinished(layout)
        found = list_backups(layout)
        assert left(layout) == pair(*found)
        assert found[:2] == made[:1:-1]
        if finished:
            break
        shutil.rmtree(layout.backup_dir)
        shutil.copytree(saved, layout.backup_dir)
    assert found == made[:1:-1]


def test_a_users_own_copy_is_never_removed(layout: Layout) -> None:
    """A file called like ours without facts, and anything else, stays where it is."""
    made = back_up(layout)
    theirs = layout.backup_dir / "app.db-000009-mine.db"
    shutil.copyfile(made.path, theirs)
    (layout.backup_dir / "notes.txt").touch()
    remove_unfinished(layout)
    prune_backups(layout, 1, (), made.name, Recorder())
    assert left(layout) == pair(made) | {theirs.name, "notes.txt"}
    assert list_backups(layout) == [made]


def test_a_neighbours_backup_under_way_is_no_litter(layout: Layout, tmp_path: Path) -> None:
    """Two databases of one name may share the directory, each with a lock of its own."""
    other = make_database(tmp_path / "other" / "app.db", "CREATE TABLE theirs (x)")
    shared = Layout.of(Settings(other, backup_dir=layout.backup_dir))
    layout.backup_dir.mkdir()
    theirs = pending.PendingBackup.reserve(shared, like_database(shared), ID)
    theirs.partial.touch()
    remove_unfinished(layout)
    assert theirs.partial.exists()
    made = back_up(layout)
    assert made.counter == theirs.counter + 1
    theirs.close()
    assert left(layout) == pair(made)


def test_neighbours_never_take_the_same_name(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes second to a counter takes the next one, finished or not."""
    layout.backup_dir.mkdir()
    own = like_database(layout)
    monkeypatch.setattr(pending, "highest_counter", lambda _: 0)
    monkeypatch.setattr(time, "strftime", lambda *_: "20260131T000000Z")
    (layout.backup_dir / "app.db-000001-20260131T000000Z.db").touch()
    second = pending.PendingBackup.reserve(layout, own, ID)
    third = pending.PendingBackup.reserve(layout, own, ID)
    assert (second.counter, third.counter) == (2, 3)
    second.close()
    third.close()


def test_a_reservation_taken_for_litter_is_given_up(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A neighbour may clean between the creation of a file and its lock."""
    layout.backup_dir.mkdir()
    real = retention.lock_if_free
    calls: list[int] = []

    def cleaned(descriptor: int) -> bool:
        if not calls:
            (layout.backup_dir / next(iter(left(layout)))).unlink()
        calls.append(descriptor)
        return real(descriptor)

    monkeypatch.setattr(pending, "lock_if_free", cleaned)
    reserved = pending.PendingBackup.reserve(layout, like_database(layout), ID)
    assert (reserved.counter, len(calls)) == (2, 2)
    assert reserved.facts.exists()
    reserved.close()


def test_without_locks_litter_is_litter(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without locks a crash loop must not fill the disk."""
    layout.backup_dir.mkdir()
    name = ".app.db-000001-20260131T000000Z.db"
    (layout.backup_dir / f"{name}.partial").touch()
    (layout.backup_dir / f"{name}.json.partial").touch()

    def refuse(*args: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    remove_unfinished(layout)
    assert left(layout) == set()


def test_cleaning_fails_no_run(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a directory, or with one that cannot be read, cleaning does nothing."""
    remove_unfinished(layout)
    assert not layout.backup_dir.exists()
    layout.backup_dir.touch()
    remove_unfinished(layout)
