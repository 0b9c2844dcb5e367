"""
Power cuts on real file systems: `python -m tests.prove --only block`.

The program runs on ext4, xfs and btrfs, on a loop device over a disk that writes
down every write and every flush. Then the disk is put together as a power cut may
have left it: what was flushed, and some of the blocks that were not. The file
system recovers it, and the four questions of tests/faults are asked.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.harness import Verdict
from tests.faults.launching import Done
from tests.faults.scenes import SCENES
from tests.faults.shim import Call
from tests.powercut.filesystems import (
    FILE_SYSTEMS,
    FileSystem,
    Image,
    disk_program,
    logged_disk,
    loop_device,
    make_image,
    missing,
    mounted,
    survivors,
)
from tests.powercut.questions import Afterwards
from tests.support.processes import PACKAGES
from tests.support.proof import Effort, Row, Stopwatch, not_tried

SHARES = (0.0, 0.1, 0.5, 0.9, 1.0)
"""How much of what was not flushed gets through."""


@dataclass(frozen=True, slots=True)
class Moment:
    """
    A moment at which the power is cut.

    Args:
        number: How much the disk had been told.
        share: How much gets through of what had not been flushed.
        said: Whether the run had succeeded by then.
    """

    number: int
    share: float
    said: bool

    def __str__(self) -> str:
        """Return it as a sentence tells it."""
        said = ", after success" if self.said else ""
        return f"write {self.number}{said}, {self.share:.0%} of what was not flushed"


class Machine(Afterwards):
    """
    A scene on a file system, whose disk is written down.

    Args:
        name: The scene's.
        system: The file system.
        directory: Where all of it goes; must not exist.
        program: What `disk_program` returned.
        packages: Where the two packages lie.
    """

    def __init__(
        self,
        name: str,
        system: FileSystem,
        directory: Path,
        program: Path,
        packages: Path = PACKAGES,
    ) -> None:
        directory.mkdir(parents=True)
        self.system, self._program = system, program
        self._image, self._scratch = directory / "image", directory / "scratch"
        super().__init__(SCENES[name], directory / "stage", program, packages)

    def _rehearse(self) -> list[Call]:
        self.volume.mkdir()
        make_image(self.system, self._image, self._template, self.volume)
        self._base = Image.of(self._image)
        with self._on_logged_disk():
            return super()._rehearse()

    def rehearse(self) -> Done:
        """Run what nothing disturbs; from its end on, only new will do."""
        done = self._run(self.scene.command, faulty=True)
        self._success = self._disk.told if done.code == 0 else None
        return done

    def use(self, packages: Path) -> None:
        """Run other packages; what is new stays."""
        self.packages = packages
        with self._on_logged_disk():
            self.rehearse()

    @contextlib.contextmanager
    def _on_logged_disk(self) -> Iterator[None]:
        with logged_disk(self._program, self._image, self._image.parent) as self._disk:
            with mounted(self.system, self._disk.device, self.volume):
                yield
            self.told = self._disk.written()
            before = self._disk.written(self._success)
            self.success = len(before) if self._success is not None else len(self.told) + 1

    # -- the cuts --------------------------------------------------------------------------

    def moments(self, chance: random.Random) -> Iterator[Moment]:
        """Yield moments without end: the one after success, and any other."""
        for n in itertools.count():
            after_success = n % 8 == 1 and self.success <= len(self.told)
            number = self.success if after_success else chance.randrange(len(self.told) + 1)
            share = SHARES[n % len(SHARES)]
            yield Moment(number, share, number >= self.success)

    def cut(self, moment: Moment, chance: random.Random) -> Verdict:
        """Cut the power, let the file system recover, and ask."""
        told = survivors(self.told[: moment.number], moment.share, chance)
        self._base.write(self._scratch, told)
        with (
            loop_device(self._scratch) as device,
            mounted(self.system, device, self.volume),
        ):
            verdict = self.judge(str(moment), said=moment.said)
            if not verdict.problems:
                verdict.problems += self.go_on(str(moment)).problems
        return verdict


# -- the harness ---------------------------------------------------------------------------

CUTS = 40
"""Power cuts for each scene on each file system, where there is no budget."""
A_SCENE = 8.0
"""Seconds that a scene on a file system should have, where there is one."""


def examine(machine: Machine, cuts: int, seed: str, seconds: float | None = None) -> Row:
    """Cut the power so many times, or as often as there is time for."""
    watch = Stopwatch(seconds)
    fixture = f"{machine.system.name}: {machine.scene.name}"
    chance = random.Random(f"{seed} {fixture}")  # noqa: S311 - nothing secret
    broken, tried = [], 0
    for moment in itertools.islice(machine.moments(chance), cuts):
        if watch.spent:
            break
        tried += 1
        try:
            verdict = machine.cut(moment, chance)
        except OSError as error:
            broken.append(f"At {moment}: {error}.")
            continue
        if verdict.problems:
            broken.append(f"At {moment}: {'; '.join(verdict.problems)}.")
    return Row("block", fixture, len(machine.told), tried, tuple(broken), watch.seconds)


def rows(effort: Effort) -> Iterator[Row]:
    """Examine every scene on every file system, or with a budget as many as there is time for."""
    lacks = {name: missing(system) for name, system in FILE_SYSTEMS.items()}
    yield from (not_tried("block", name, lack) for name, lack in lacks.items() if lack)
    systems = [system for name, system in FILE_SYSTEMS.items() if not lacks[name]]
    places = [(name, system) for name in SCENES for system in systems]
    if not places:
        return
    program = disk_program(effort.directory)
    seconds = None
    if effort.seconds is not None:
        places = _some(places, systems, int(effort.seconds / A_SCENE), effort.seed)
        seconds = effort.share(len(places))
    for n, (name, system) in enumerate(places):
        watch = Stopwatch()
        machine = Machine(name, system, effort.directory / f"{n}", program)
        left = None if seconds is None else seconds - watch.seconds
        yield examine(machine, CUTS if left is None else 10**6, effort.seed, left)
        machine.close()


Place = tuple[str, FileSystem]


def _some(
    places: Sequence[Place], systems: Sequence[FileSystem], number: int, seed: str
) -> list[Place]:
    """Return so many places, each file system in its turn."""
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    turns = itertools.islice(itertools.cycle(systems), max(1, number))
    return [chance.choice([place for place in places if place[1] is system]) for system in turns]
