"""
A fault at any call that changes the volume: killed, torn, refused, and started again.

A few in each scene, spread over its calls; `SQLITE_ENTRYPOINT_FAULTS` says how many,
and `SQLITE_ENTRYPOINT_FAULTS_SEED` chooses others. Every fault at every call is tried
by `python -m tests.prove --only calls,double`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import double
from tests.faults.contents import digest_of
from tests.faults.harness import Stage
from tests.faults.plan import evenly, every_fault, every_kill
from tests.faults.scenes import SCENES
from tests.faults.shim import Fault

pytestmark = [pytest.mark.faults, pytest.mark.timeout(0)]


@pytest.mark.parametrize("name", SCENES)
def test_every_end_is_old_or_new(
    name: str,
    stages: Path,
    library: Path,
    points: int,
    seed: str,
    record_property: Callable[[str, object], None],
) -> None:
    """After a fault the database is old or new, as was said, and the next start ends rightly."""
    stage = Stage(SCENES[name], stages, library)
    # Another tool's command starts three Pythons more each time.
    few = points // 3 if SCENES[name].asks else points
    faults = evenly(every_fault(stage.calls), seed + name)[:few]
    verdicts = [stage.play(fault) for fault in faults]
    record_property("faults", sum(verdict.fired for verdict in verdicts))
    assert not [str(verdict) for verdict in verdicts if verdict.problems]


@pytest.mark.parametrize(
    "name",
    [
        "up in-place wal clean",
        "up copy delete clean",
        "up copy page_size wal clean",
        "install in-place",
        "down in-place delete clean",
        "restore delete clean",
        "inline up copy delete clean",
    ],
)
def test_the_recovery_may_be_killed_as_well(
    name: str,
    stages: Path,
    library: Path,
    points: int,
    seed: str,
    record_property: Callable[[str, object], None],
) -> None:
    """A start that settles an interrupted run can be killed, and the next one settles both."""
    stage = Stage(SCENES[name], stages, library)
    faults = evenly(every_kill(stage.calls), seed + name)[:points]
    verdicts = [
        stage.again(left.volume, left.fault, then)
        for left in double.states_left(stage, faults, stages / "left")
        for then in left.some_kills(2, 0.5)
    ]
    record_property("faults", len(verdicts))
    assert all(verdict.fired for verdict in verdicts)
    assert not [str(verdict) for verdict in verdicts if verdict.problems]


@pytest.mark.parametrize(
    ("name", "call", "which", "action"),
    [
        # The commit stands where only the sync of its directory failed.
        ("up beside delete clean", "fdatasync .", -1, "error-once:EIO"),
        # A backup whose names are not synced is no backup: the next attempt makes one.
        ("down in-place delete clean failing", "fsync backups", -1, "error-once:ENOSPC"),
        # What the last checkpoint could not move is no part of the file that is put in place.
        ("install copy wal", "pwrite app.db.migrator/new.db", -1, "error-once:ENOSPC"),
        ("install copy wal", "pwrite app.db.migrator/new.db", -2, "error-once:EIO"),
        # A commit whose sync failed stays in the -wal, and may be found there.
        ("up beside wal clean", "fdatasync app.db-wal", -2, "error-on:EIO"),
        # On a disk that stays full SQLite calls the copy read-only when it cannot roll back.
        ("up copy mode wal clean", "pwrite app.db.migrator/work.db", 4, "error-on:ENOSPC"),
        # A look at a WAL database beside a journal that is not hot makes no -shm.
        ("up copy mode wal clean", "fdatasync app.db-journal", 0, "worker-before"),
    ],
)
def test_what_was_found_stays_mended(
    name: str, call: str, which: int, action: str, stages: Path, library: Path
) -> None:
    """A fault that once broke a promise breaks it no more."""
    stage = Stage(SCENES[name], stages, library)
    point = [n for n, each in enumerate(stage.calls, 1) if str(each) == call][which]
    verdict = stage.play(Fault.parse(f"{action}@{point}"))
    assert verdict.fired
    assert [] == verdict.problems, verdict


@pytest.mark.parametrize(
    "name",
    [
        "up copy wal hot",
        "install in-place failing",
        "down in-place delete hot",
        "inline up in-place wal hot",
    ],
)
def test_forked_runs_are_like_those_from_the_start(name: str, stages: Path, library: Path) -> None:
    """A run forked from a process that has imported the packages makes the calls of a whole one."""
    stage = Stage(SCENES[name], stages, library)
    calls, left = [str(each) for each in stage.calls], _sizes(stage.volume)
    stage.forked = False
    stage.use(stage.packages)
    assert calls == [str(each) for each in stage.calls]
    assert left == _sizes(stage.volume)


def test_equal_faults_leave_equal_bytes(stages: Path, library: Path) -> None:
    """What a fault leaves is the same the second time, so that one start from it speaks for both."""
    stage = Stage(SCENES["up in-place delete clean"], stages, library)
    point = max(n for n, each in enumerate(stage.calls, 1) if str(each) == "fsync app.db.migrator")
    left = set()
    for _ in range(2):
        assert stage.leave(Fault(point, "all-after"))
        left.add(digest_of(stage.volume))
    assert 1 == len(left)


def _sizes(volume: Path) -> list[tuple[str, int, int]]:
    found = [(path, path.lstat()) for path in volume.rglob("*")]
    return sorted(
        (str(path.relative_to(volume)), facts.st_mode, facts.st_size if path.is_file() else 0)
        for path, facts in found
    )
