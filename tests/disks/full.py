"""
Full disks of every size around the need: `python -m tests.prove --only full`.

A scene runs on a small disk of which exactly so many KiB are left, from none to more than it
needs. What it has to survive is asked by the four questions of tests/faults. Besides, a run
that fails gives back what it took, however often it is started, and an application that could
use its database before can use it afterwards.
"""

from __future__ import annotations

import errno
import itertools
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.disks.scenes import APPLICATION_WRITES, SCENES, DiskScene, order_of
from tests.disks.small import KIB, KINDS, Disk, Kind, missing, small_disk, used
from tests.faults.harness import Stage, Verdict
from tests.faults.launching import Done, HungError, arguments
from tests.faults.scenes import fresh
from tests.faults.shim import Call, Fault
from tests.powercut.questions import warm
from tests.support.processes import PACKAGES
from tests.support.proof import Effort, Row, Stopwatch, not_tried

NEVER_KILLED = Fault(0, "error-on", errno.ENOSPC)
"""To the questions of tests/faults a full disk is an error from some call on."""
OURS = 64 * KIB
"""Bytes that the two directories, the lock and what the file system needs for them may take."""
STEP = 4
"""KiB: a block of each of the file systems."""
STARTS = 5
"""How often a start that fails is repeated."""
_ERRORS = (sqlite3.Error, AssertionError, ValueError, OSError)


class Narrow(Stage):
    """
    A scene on a disk that has so much room left.

    Args:
        scene: The scene.
        disk: Where it takes place.
        directory: For everything that is not on the disk; must not exist.
        packages: Where the two packages lie.
    """

    scene: DiskScene
    remembers = False  # how much room there is, the bytes do not tell

    def __init__(
        self, scene: DiskScene, disk: Disk, directory: Path, packages: Path = PACKAGES
    ) -> None:
        self.disk = disk
        directory.mkdir(parents=True)
        self._order = order_of(directory / "stage/migrations")
        self._ends: set[str] = set()
        super().__init__(scene, directory / "stage", directory, packages)
        self._from = self._application_needs()

    def _rehearse(self) -> list[Call]:
        self.volume = self.disk.home / "data"
        self.database = self.volume / "app.db"
        fresh(self._template, self.volume)
        self._learn(self._run(self.scene.command, faulty=True))
        return []

    def _run(self, command: Sequence[str], *, faulty: bool) -> Done:  # noqa: ARG002
        return warm(self.packages).run(arguments(command, self.database, self.migrations))

    @property
    def _again(self) -> tuple[str, ...]:
        """What is repeated; `rollback_last` of the API would take back another migration."""
        return self.scene.after or self.scene.command

    # -- one size --------------------------------------------------------------------------

    def try_with(self, room: int, *, starts: int = 0) -> Verdict:
        """
        Run with so many KiB left, ask, make room, start again and ask once more.

        Args:
            room: The KiB.
            starts: How often a failing start is repeated on the full disk; by default
                often where it fails in a way not met before, and once otherwise.
        """
        verdict = Verdict(self.scene.name, NEVER_KILLED, fired=True, at=f"{room} KiB")
        self._fill(room)
        try:
            self._start_on_full_disk(verdict, room, starts)
            self._with_room()
            self._next(verdict, NEVER_KILLED)
        except HungError as error:
            verdict.problems.append("hung")
            verdict.log = str(error)
        except _ERRORS as error:
            verdict.problems.append(f"{type(error).__name__}: {error}")
        finally:
            self._with_room()
        return verdict

    def _fill(self, room: int) -> None:
        fresh(self._template, self.volume)
        if self.scene.meanwhile:
            self._order.write_text(f"{self.disk.ballast}\n{room * KIB}")
        else:
            self.disk.leave(room * KIB)
        self._before = used(self.volume)

    def _with_room(self) -> None:
        self._order.unlink(missing_ok=True)
        self.disk.release()

    def _start_on_full_disk(self, verdict: Verdict, room: int, starts: int) -> None:
        done = self._run(self.scene.command, faulty=True)
        verdict.code, verdict.log = done.code, done.stderr
        state = self._ask_database(verdict)
        self._ask_backups(verdict)
        if self._ended_the_application(done):
            return
        self._ask_report(verdict, NEVER_KILLED, done, state)
        if done.code != self.code:
            if state == "old":
                self._ask_room(verdict, room)
            self._ask_loop(verdict, done, starts)
            self._ask_application(verdict, room)

    def _ended_the_application(self, done: Done) -> bool:
        """
        Tell whether the kernel has ended a program that runs the Python API.

        SQLite maps the `-shm` of a WAL database: who writes to it where no block is left
        gets SIGBUS, at an open or a commit of its own as well. Nobody is left to tell
        how it ended, or to give anything back before the next start.
        """
        return self.scene.command[0] == "inline" and done.code == -signal.SIGBUS

    def _ask_backups(self, verdict: Verdict) -> None:
        """Where space was short the oldest may have gone, and nothing but the oldest."""
        super()._ask_backups(verdict)
        gone = set(self.earlier) - set(self._finished(self.volume))
        verdict.problems = [each for each in verdict.problems if "backups are gone" not in each]
        allowed = sorted(self.earlier)[:-1][: len(gone)]
        if gone != set(allowed):
            verdict.problems.append(f"backups are gone that are not the oldest: {sorted(gone)}")

    def _ask_room(self, verdict: Verdict, room: int) -> None:
        """
        Ask that a run which failed has given back what it took.

        SQLite does not say of a quota that it was in the way. Where it has been
        given back before anybody could look, the backup may stay, as long as the
        application has room for as much again.
        """
        more = used(self.volume) - self._before
        spare = room * KIB - more if self.disk.kind.quota else 0
        if more > OURS and spare < self.database.stat().st_size:
            verdict.problems.append(f"the failed run keeps {more // KIB} KiB")

    def _ask_loop(self, verdict: Verdict, done: Done, starts: int) -> None:
        """
        Ask that the same start, over and over, ends the same way and takes no more.

        A run whose commit stands is finished by the next start, which moves its `-wal`
        into the database.
        """
        after, end = used(self.volume), self._end(done)
        starts = starts or (1 if end in self._ends else STARTS - 1)
        self._ends.add(end)
        codes = [self._run(self._again, faulty=True).code for _ in range(starts)]
        if self.code in codes:
            return  # the first one has removed the older backups that were in the way
        more = used(self.volume) - after
        state = self._ask_database(verdict, "after more starts: ")
        if state == "old" and more > 2 * STEP * KIB:
            verdict.problems.append(f"{starts} more starts take {more // KIB} KiB")
        self._ask_backups(verdict)

    def _end(self, done: Done) -> str:
        last = done.last or {}
        return f"{done.code} {last.get('reason')} {last.get('version')}"

    def _ask_application(self, verdict: Verdict, room: int) -> None:
        """Ask that an application which could use its database before can use it now."""
        if self.scene.meanwhile or not self.database.exists():
            return
        said = application(self.database)
        if said and room >= self._from + OURS // KIB:
            verdict.problems.append(f"the application cannot use its database any more: {said}")

    def _application_needs(self) -> int:
        """Find out how many KiB an application needs to use its database, without any run."""
        if self.scene.meanwhile or not self.scene.journal:
            return 0

        def fails(room: int) -> bool:
            self._fill(room)
            said = application(self.database)
            self._with_room()
            return bool(said)

        return border(0, 512, fails)


APPLICATION = f"""
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None)
conn.execute({APPLICATION_WRITES!r})
print(*conn.execute("PRAGMA quick_check").fetchone())
conn.close()
"""


def application(database: Path) -> str:
    """
    Open the database and write to it, as an application does; returns what was in its way.

    In a process of its own: where the disk is full, the kernel ends one that
    writes to a mapped `-shm` with SIGBUS.
    """
    words = (sys.executable, "-I", "-S", "-c", APPLICATION, database)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.stdout == "ok\n" and done.returncode == 0:
        return ""
    return done.stdout + done.stderr[-200:] or f"exit code {done.returncode}"


def border(low: int, high: int, below: Callable[[int], bool]) -> int:
    """Return the least number of KiB, in steps of a block, for which it holds no more."""
    while high - low > STEP:
        middle = (low + high) // 2 // STEP * STEP
        low, high = (middle, high) if below(middle) else (low, middle)
    return high


# -- which sizes -------------------------------------------------------------------------


@dataclass(slots=True)
class Findings:
    """
    What was found in one scene on one disk.

    Args:
        ends: How the run ended with so many KiB left.
        broken: Where a promise did not hold, one sentence each.
        enough: KiB with which it succeeded, where that was found.
    """

    ends: dict[int, str]
    broken: list[str]
    enough: int = 0


@dataclass(frozen=True, slots=True)
class Size:
    """
    How much of a scene is tried.

    Args:
        coarse: Sizes at equal distances, before it is refined where two ends differ.
        around: Blocks tried on each side of where the end changes.
        seconds: After how many no further size is tried; None for no limit.
    """

    coarse: int = 48
    around: int = 8
    seconds: float | None = None


def examine(stage: Narrow, size: Size) -> Findings:
    """Try sizes from nothing to more than enough, and block by block where the end changes."""
    watch = Stopwatch(size.seconds)
    found = Findings({}, [])

    def ends(room: int) -> str:
        if room not in found.ends and not watch.spent:
            verdict = stage.try_with(room)
            found.ends[room] = f"{verdict.code} {verdict.state}"
            if verdict.problems:
                found.broken.append(f"With {room} KiB left: {'; '.join(verdict.problems)}.")
        return found.ends.get(room, "")

    found.enough = 64
    while not ends(found.enough).startswith(str(stage.code)) and not watch.spent:
        found.enough *= 2
    for room in _spread(found.enough, size.coarse):
        ends(room)
    for low, high in borders(found.ends, ends):
        for room in range(low - size.around * STEP, high + size.around * STEP + 1, STEP):
            ends(max(0, room))
    return found


def _spread(high: int, number: int) -> list[int]:
    """Return sizes at equal distances, the first and the middle ones first."""
    every = [high * n // number // STEP * STEP for n in range(number)]
    order = sorted(range(number), key=lambda n: int(f"{n:032b}"[::-1], 2))
    return [every[n] for n in order]


def borders(ends: dict[int, str], look: Callable[[int], str]) -> list[tuple[int, int]]:
    """Narrow down between which two blocks the end changes."""
    known = sorted(ends)
    borders = []
    for below, above in itertools.pairwise(known):
        low, high = below, above
        if ends[low] == ends[high]:
            continue
        before = ends[low]
        while high - low > STEP:
            middle = (low + high) // 2 // STEP * STEP
            low, high = (middle, high) if look(middle) == before else (low, middle)
        borders.append((low, high))
    return borders


# -- the harness ---------------------------------------------------------------------------

A_SCENE = 40.0
"""Seconds that a scene on a disk should have, where there is a budget."""


def rows(effort: Effort) -> Iterator[Row]:
    """Examine every scene on every kind of disk, or with a budget as many as it has time for."""
    lacks = {name: missing(kind) for name, kind in KINDS.items()}
    yield from (not_tried("full", name, lack) for name, lack in lacks.items() if lack)
    kinds = [kind for name, kind in KINDS.items() if not lacks[name]]
    places = [(scene, kind) for scene in SCENES.values() for kind in kinds]
    if not places:
        return
    size = Size()
    if effort.seconds is not None:
        places = _some(places, max(len(kinds), int(effort.seconds / A_SCENE)), effort.seed)
        size = Size(24, 2, effort.share(len(places)))
    for number, (scene, kind) in enumerate(places):
        yield examined(scene, kind, effort.directory / f"{number}", size)


def _some(
    places: list[tuple[DiskScene, Kind]], number: int, seed: str
) -> list[tuple[DiskScene, Kind]]:
    """Return so many places, spread over the scenes and the disks."""
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    shuffled = chance.sample(places, len(places))
    met: dict[object, int] = {}

    def seldom(place: tuple[DiskScene, Kind]) -> int:
        return sum(met.get(each.name, 0) for each in place)

    chosen = []
    for _ in range(min(number, len(places))):
        place = min(shuffled, key=seldom)
        shuffled.remove(place)
        chosen.append(place)
        for each in place:
            met[each.name] = met.get(each.name, 0) + 1
    return chosen


def examined(
    scene: DiskScene, kind: Kind, directory: Path, size: Size, packages: Path = PACKAGES
) -> Row:
    """Examine one scene on one kind of disk."""
    watch = Stopwatch()
    directory.mkdir()
    with small_disk(kind, directory / "disk") as disk:
        stage = Narrow(scene, disk, directory / "aside", packages)
        found = examine(stage, size)
    stage.close()
    fixture = f"{kind.name}: {scene.name}"
    sizes = found.enough // STEP + 1
    return Row("full", fixture, sizes, len(found.ends), tuple(found.broken), watch.seconds)
