"""
Power cuts by replay: `python -m tests.prove --only replay`.

Every change that a run makes on the volume is recorded with its data. For the
moment after each of them the states that POSIX allows a file system to be found
in are built and asked the four questions of tests/faults: old or new to a plain
`sqlite3`; what the next start makes of it; the backups. Once a run has said that
it succeeded, only new will do.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.harness import Done, Verdict, arguments, run
from tests.faults.harness import State as Contents
from tests.faults.scenes import SCENES, fresh
from tests.powercut.disk import SHARED_MEMORY, Disk, State, outcomes
from tests.powercut.questions import Afterwards
from tests.powercut.recording import Operation, Recorder, recorder
from tests.support.processes import PACKAGES
from tests.support.proof import Effort, Row, Stopwatch

DATABASE = frozenset({"app.db", "app.db-wal", "app.db-journal", "app.db-shm"})
_ORDER = re.compile(rb'"(since|run_id|created_at)": "[^"]*"')


@dataclass(frozen=True, slots=True)
class Cut:
    """
    One state in which the volume may be found.

    Args:
        after: The number of operations before the cut.
        what: The last of them, and what of the pending changes got through.
        said: Whether the run had said by then that it succeeded.
        state: What is found.
    """

    after: int
    what: str
    said: bool
    state: State


@dataclass(slots=True)
class Findings:
    """
    What was found in one scene.

    Args:
        operations: After how many the power was cut.
        states: Distinct states that were opened.
        broken: Those in which a promise did not hold, one sentence each.
        kinds: Kinds of states that a start may tell apart.
        starts: Starts that were made from a state.
        failed: Those after which a promise did not hold.
        seconds: How long the opening of the states took.
    """

    operations: int
    states: int = 0
    broken: list[str] = field(default_factory=list)
    kinds: int = 0
    starts: int = 0
    failed: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Scenery(Afterwards):
    """
    A scene whose operations are recorded, and the four questions about its states.

    What depends only on the database's files, or only on the backups, is asked
    once for each content of theirs.
    """

    def __init__(
        self, name: str, directory: Path, library: Path, packages: Path = PACKAGES
    ) -> None:
        self._cut: State | None = None
        self._databases: dict[bytes, Contents | Exception] = {}
        self._backups: dict[bytes, dict[str, Contents] | Exception] = {}
        directory.mkdir(parents=True)
        self.recorder = Recorder(library, directory, directory / "stage/data")
        super().__init__(SCENES[name], directory / "stage", library, packages)

    # -- the recording -------------------------------------------------------------------

    def _run(self, command: Sequence[str], *, faulty: bool) -> Done:
        words = arguments(command, self.database, self.migrations)
        return run(words, self.recorder.env if faulty else {}, self.packages)

    def rehearse(self) -> Done:
        """Record a run that nothing disturbs."""
        return self._record()

    def use(self, packages: Path) -> None:
        """Record other packages; what is new stays."""
        self.packages = packages
        self._record()

    def _record(self) -> Done:
        fresh(self._template, self.volume)
        self.recorder.clear()
        self._before = Disk.of(self.volume, self.scene.name)
        done = self._run(self.scene.command, faulty=True)
        self.operations = self.recorder.operations()
        self._complete()
        return done

    def _complete(self) -> None:
        """See to it that the operations lead to the very files that are there."""
        disk = self._before.copy()
        for operation in self.operations:
            disk.apply(operation)
        found, there = disk.state(disk.pending), Disk.of(self.volume, "").state([])
        assert _without_shared_memory(found) == _without_shared_memory(there)

    # -- the states ----------------------------------------------------------------------

    def cuts(self, chance: random.Random, subsets: int, most: int) -> Iterator[Cut]:
        """Yield each distinct state once, before and after the word of success."""
        disk, said, seen = self._before.copy(), False, set()
        for after in range(len(self.operations) + 1):
            what = "the start"
            if after:
                operation = self.operations[after - 1]
                what = str(operation)
                disk.apply(operation)
                said = said or _says_success(operation)
            for name, changes in outcomes(disk, chance, subsets, most):
                state = disk.state(changes)
                key = said, state.digest()
                if key not in seen:
                    seen.add(key)
                    yield Cut(after, f"{what}: {name}", said, state)

    # -- the questions -------------------------------------------------------------------

    def ask(self, cut: Cut) -> Verdict:
        """Ask what needs no start: the database, and the backups."""
        self._cut = cut.state
        try:
            return self.judge(cut.what, said=cut.said)
        finally:
            self._cut = None

    def start(self, cut: Cut) -> Verdict:
        """Ask what the next start makes of it."""
        cut.state.write(self.volume)
        return self.go_on(cut.what)

    def kind(self, cut: Cut, verdict: Verdict) -> bytes:
        """
        Return what a start may act upon: states of one kind differ only in what it does not.

        Which database it is and how it has to be recovered, what the run had
        noted, which files there are, and which backups are sound.
        """
        files = cut.state.files
        kind = [
            (path, _sort(path, data), path in cut.state.links)
            for path, (_, data) in sorted(files.items())
            if not path.endswith(SHARED_MEMORY)
        ]
        return hashlib.sha256(repr((verdict.state, kind)).encode()).digest()

    def _look(self, volume: Path) -> Contents:
        if self._cut is None or volume != self.volume:
            return super()._look(volume)
        found = self._cut.only(DATABASE.__contains__)
        key = found.only(lambda path: not path.endswith(SHARED_MEMORY)).digest()
        if key not in self._databases:
            found.write(self.volume)
            try:
                self._databases[key] = super()._look(volume)
            except (sqlite3.Error, OSError) as error:
                self._databases[key] = error
        return _given(self._databases[key])

    def _finished(self, volume: Path) -> dict[str, Contents]:
        if self._cut is None or volume != self.volume:
            return super()._finished(volume)
        found = self._cut.only(lambda path: path.startswith("backups"))
        key = found.digest()
        if key not in self._backups:
            found.write(self.volume)
            try:
                self._backups[key] = super()._finished(volume)
            except (sqlite3.Error, OSError, ValueError) as error:
                self._backups[key] = error
        return _given(self._backups[key])


def _given(answer):
    if isinstance(answer, Exception):
        raise answer
    return answer


def _without_shared_memory(state: State) -> Mapping[str, object]:
    return {
        path: found for path, found in state.files.items() if not path.endswith(SHARED_MEMORY)
    } | state.directories


def _says_success(operation: Operation) -> bool:
    if operation.name != "said":
        return False
    last = json.loads(operation.data.splitlines()[-1])
    return last["event"] == "run.finished" and last["exit_code"] == 0


def _sort(path: str, data: bytes) -> object:
    """Return what a start can tell of a file."""
    if path.endswith((".json", ".json.tmp")):
        return _ORDER.sub(b"", data)
    if path in DATABASE:
        return len(data) == 0, data[:8]
    if path.startswith("backups/") and not path.startswith("backups/."):
        return hashlib.sha256(data).digest()
    return len(data) == 0


# -- the harness ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Size:
    """
    How much of a scene is tried.

    Args:
        subsets: Random subsets at each operation.
        most: Of how many pending changes each is dropped, or kept, alone.
        starts: Starts for each kind of state.
        at_most: Starts in all; None for no limit.
        seconds: After how many no further start is made; None for no limit.
    """

    subsets: int = 12
    most: int = 48
    starts: int = 3
    at_most: int | None = None
    seconds: float | None = None


SMALL = Size(subsets=2, most=4, starts=1, at_most=3)


def examine(stage: Scenery, size: Size, seed: str) -> Findings:
    """Build every state of a scene and ask; then start after some of each kind."""
    watch = Stopwatch(size.seconds)
    chance = random.Random(f"{seed} {stage.scene.name}")  # noqa: S311 - nothing secret
    found = Findings(len(stage.operations))
    kinds: dict[bytes, list[Cut]] = defaultdict(list)
    for cut in stage.cuts(chance, size.subsets, size.most):
        verdict = stage.ask(cut)
        found.states += 1
        if verdict.problems:
            found.broken.append(_sentence(cut, verdict))
        else:
            kinds[stage.kind(cut, verdict)].append(cut)
    found.kinds, found.seconds = len(kinds), watch.seconds
    for cut in representatives(kinds, size.starts, chance)[: size.at_most]:
        if watch.spent:
            break
        verdict = stage.start(cut)
        found.starts += 1
        if verdict.problems:
            found.failed.append(_sentence(cut, verdict))
    return found


def representatives(
    kinds: Mapping[bytes, list[Cut]], number: int, chance: random.Random
) -> list[Cut]:
    """Return so many of each kind, the first of each before the second of any."""
    shuffled = [chance.sample(cuts, min(number, len(cuts))) for cuts in kinds.values()]
    chance.shuffle(shuffled)
    return [cuts[n] for n in range(number) for cuts in shuffled if n < len(cuts)]


def _sentence(cut: Cut, verdict: Verdict) -> str:
    return f"Cut after operation {cut.after}, {cut.what}: {'; '.join(verdict.problems)}."


def rows(effort: Effort) -> Iterator[Row]:
    """Examine every scene, or with a budget as many as it has time for."""
    library = recorder(effort.directory)
    names, size = list(SCENES), Size()
    if effort.seconds is not None:
        random.Random(effort.seed).shuffle(names)  # noqa: S311 - nothing secret
        turns = max(1, int(effort.seconds / A_SCENE))
        names = names[: effort.jobs * turns]
        size = Size(6, 24, 1, seconds=effort.share(turns))
    with ProcessPoolExecutor(effort.jobs) as pool:
        jobs = [
            pool.submit(_examined, name, effort.directory / f"{n}", library, size, effort.seed)
            for n, name in enumerate(names)
        ]
        for job in jobs:
            yield from job.result()


A_SCENE = 20.0
"""Seconds that a scene with a budget should have."""


def _examined(name: str, directory: Path, library: Path, size: Size, seed: str) -> list[Row]:
    """Return two rows: the states, and the starts from some of them."""
    watch = Stopwatch()
    stage = Scenery(name, directory, library)
    found = examine(stage, size, seed)
    stage.close()
    return [
        Row("replay", name, found.operations, found.states, tuple(found.broken), found.seconds),
        Row(
            "replay",
            f"{name}: the next start",
            found.kinds,
            found.starts,
            tuple(found.failed),
            watch.seconds - found.seconds,
        ),
    ]
