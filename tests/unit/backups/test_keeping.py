"""One backup a state, and how many are kept: never is the last good one pruned."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from migrator.backups.catalog import list_backups
from migrator.backups.create import same_state
from migrator.backups.find import newest_backup
from migrator.backups.retention import prune_backups
from migrator.backups.reuse import reuse
from migrator.database import started
from migrator.database.raw_file import LiveFile
from migrator.database.workspace import Layout, like_database
from migrator.model import Settings
from tests.support.recorder import Recorder, read_only
from tests.unit.backups.common import RESTORE, UP, back_up, change, left, pair, several


def test_a_crash_loop_adds_no_second_backup_of_a_state(layout: Layout) -> None:
    """The backup of this very state is found, and taken in place of a new one."""
    made = back_up(layout)
    emit = Recorder()
    with LiveFile.open(layout.database) as live:
        found = same_state(layout, live, UP)
        assert found == made
        assert reuse(layout, made, UP, emit) == made
    assert emit.names == ["backup.reused"]
    assert left(layout) == pair(made)
    change(layout)
    with LiveFile.open(layout.database) as live:
        assert same_state(layout, live, UP) is None


def test_a_damaged_backup_of_the_same_state_is_not_reused(layout: Layout) -> None:
    """Bytes that a comparison leaves out are still under the checksum."""
    made = back_up(layout)
    with made.path.open("r+b") as file:
        file.seek(95)
        file.write(b"\xee")
    with LiveFile.open(layout.database) as live:
        assert live.same_as(made.path)
        assert same_state(layout, live, UP) is None


def test_without_access_to_the_file_the_copy_is_compared(layout: Layout) -> None:
    """The Python API never opens the database past SQLite, and adds no second backup either."""
    made = back_up(layout, dedupe=True)
    emit = Recorder()
    assert back_up(layout, emit=emit, dedupe=True) == made
    assert emit.names == ["backup.reused"]
    assert left(layout) == pair(made)
    change(layout)
    emit = Recorder()
    other = back_up(layout, emit=emit, dedupe=True)
    assert emit.names == ["backup.started", "backup.finished"]
    assert left(layout) == pair(made, other)


def test_latest_leads_to_the_state_before_the_last_run_also_when_its_backup_is_old(
    layout: Layout,
) -> None:
    """A backup that a run reuses takes the place in the order that a new one would have had."""
    before = layout.database.read_bytes()
    first = back_up(layout)
    change(layout)
    second = back_up(layout)
    layout.database.write_bytes(before)
    again = back_up(layout, dedupe=True)
    assert again.name == first.name
    assert again.counter > second.counter
    assert newest_backup(layout) == again
    assert left(layout) == pair(first, second)
    change(layout)
    assert back_up(layout).counter == again.counter + 1


def test_repeating_a_restore_changes_no_order(layout: Layout) -> None:
    """What a restore reuses for the state that it replaces stays where it is."""
    before = layout.database.read_bytes()
    first = back_up(layout)
    change(layout)
    second = back_up(layout)
    layout.database.write_bytes(before)
    assert back_up(layout, RESTORE, dedupe=True) == first
    assert newest_backup(layout) == second


def test_what_a_restore_kept_becomes_a_runs_backup_when_a_run_reuses_it(layout: Layout) -> None:
    """Else `latest` would lead past the state before that run."""
    several(layout, 1)
    change(layout)
    kept = back_up(layout, RESTORE)
    again = back_up(layout, UP, dedupe=True)
    assert (again.name, again.reason) == (kept.name, "up")
    assert newest_backup(layout) == again


# -- pruning --------------------------------------------------------------------------


def test_the_newest_are_kept(layout: Layout) -> None:
    """As many as asked for, by the counter; each that goes is said."""
    made = several(layout, 5)
    emit = Recorder()
    prune_backups(layout, 2, (), made[-1].name, emit)
    assert left(layout) == pair(*made[-2:])
    assert [event["path"] for event in emit.named("backup.pruned")] == [
        str(each.path) for each in made[:3]
    ]
    assert {event["reason"] for event in emit.events} == {"keep"}


def test_what_an_unfinished_run_needs_is_kept(layout: Layout) -> None:
    """A protected backup goes neither for the count nor for space."""
    made = several(layout, 4)
    prune_backups(layout, 1, {made[0].name}, made[-1].name, Recorder())
    assert left(layout) == pair(made[0], made[-1])
    prune_backups(layout, 0, {made[-1].name}, made[-1].name, Recorder())
    assert made[-1].name in left(layout)


def test_damaged_ones_do_not_count_and_the_last_good_one_stays(layout: Layout) -> None:
    """Newer backups that are damaged are no reason to remove the last good one."""
    made = several(layout, 4)
    os.truncate(made[3].path, 10)
    good = made[2].path.read_bytes()
    made[2].path.write_bytes(bytes(len(good)))
    prune_backups(layout, 1, (), None, Recorder())
    assert made[1].name in left(layout)
    assert made[0].name not in left(layout)


def test_pruning_after_a_restore_keeps_what_latest_leads_to(layout: Layout) -> None:
    """However few are to be kept, the same `restore latest` can be given again."""
    made = several(layout, 2)
    change(layout)
    kept = back_up(layout, RESTORE)
    prune_backups(layout, 1, (), kept.name, Recorder())
    assert left(layout) == pair(made[1], kept)
    assert newest_backup(layout) == made[1]


def test_keeping_none_removes_the_runs_own(layout: Layout) -> None:
    """With 0 the run's own backup goes, and of older ones all but the newest."""
    made = several(layout, 3)
    prune_backups(layout, 0, (), made[-1].name, Recorder())
    assert left(layout) == pair(made[1])
    own = several(layout, 1)[0]
    prune_backups(layout, 0, (), own.name, Recorder())
    assert left(layout) == pair(made[1])


def test_the_only_one_goes_when_none_is_to_be_kept(layout: Layout) -> None:
    """The new state is verified; nothing else is left to protect."""
    own = back_up(layout)
    prune_backups(layout, 0, (), own.name, Recorder())
    assert left(layout) == set()


def test_what_cannot_be_removed_fails_no_run(layout: Layout, tmp_path: Path, as_root: None) -> None:
    """On a backup directory that has become read-only, pruning gives up quietly."""
    several(layout, 2)
    with read_only(layout.database.parent, tmp_path / "ro") as shown:
        emit = Recorder()
        prune_backups(Layout.of(Settings(shown / "app.db")), 1, (), None, emit)
        assert emit.events == []
    assert len(list_backups(layout)) == 2


def test_of_starts_without_a_version_the_first_of_each_day_is_kept(layout: Layout) -> None:
    """A crash loop pushes out its own states first, then the oldest day; others are as ever."""
    made = [back_up(layout)]
    for number, day in enumerate((1, 1, 1, 2, 2, 2)):
        change(layout)
        backup = back_up(layout, replace(UP, reason="start", run_id=str(number)))
        at = f"2026-01-0{day}T00:00:0{number}Z"
        backup = replace(backup, created_at=at)
        backup.json_path.write_bytes(bytes(backup.encoded()))
        made.append(backup)
    up, first, *_, second, _, newest = made
    prune_backups(layout, 4, (), None, Recorder())
    assert [each.run_id for each in list_backups(layout)] == ["5", "3", "0", "01J"]
    prune_backups(layout, 2, (), None, Recorder())
    # What `latest` means stays as well.
    assert left(layout) == pair(newest, second, up)
    assert first.name not in left(layout)


def test_the_backup_before_the_version_that_runs_is_kept(layout: Layout) -> None:
    """However many are made while it runs; of a version that runs no more it goes."""
    made = []
    for version in ("1.0", "1.1"):
        change(layout)
        made.append(back_up(layout, replace(UP, reason="start", app_version=version)))
        started.write(layout, version, like_database(layout))
    manual = [replace(UP, reason="manual", run_id=str(number)) for number in range(3)]
    for facts in manual:
        change(layout)
        made.append(back_up(layout, facts))
    prune_backups(layout, 1, (), None, Recorder())
    assert left(layout) == pair(made[1], made[-1])
