"""
Sweep the whole matrix: `python -m tests.faults.sweep --help`, or `python -m tests.prove --only calls`.

Prints a line for each broken promise, and one for each group of scenes.
"""
# ruff: noqa: T201  # a command prints

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import double, written
from tests.faults.harness import Stage
from tests.faults.plan import evenly, every_fault, every_kill
from tests.faults.scenes import SCENES, fresh
from tests.faults.shim import Fault, compiled
from tests.support.processes import PACKAGES
from tests.support.proof import Effort, Row, Stopwatch

REST = 12
"""At how many calls of what follows a recovery the start is killed as well."""
SOME = 4
"""How many second kills follow a first one where time is short."""


@dataclass(slots=True)
class Found:
    """What was found in one scene: the fields are those of a row."""

    points: int = 0
    tried: int = 0
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0


Search = Callable[[Stage, Path, Stopwatch, str], Found]


@dataclass(frozen=True, slots=True)
class Task:
    """A search in one scene, and the row of the table that it is counted in."""

    search: Search
    scene: str
    fixture: str


def rows(effort: Effort) -> Iterator[Row]:
    """Yield what every fault at every call leads to, or as many of them as there is time for."""
    return _rows("calls", _tasks(_sweep, SCENES), effort)


def double_rows(effort: Effort) -> Iterator[Row]:
    """
    Yield what a second kill leads to, at every call of the recovery from the first.

    And what a restore leads to that is killed at every call, and written behind.
    """
    return _rows("double", [*_tasks(_sweep_doubly, SCENES), *_written_since(SCENES)], effort)


def _tasks(search: Search, names: Iterable[str]) -> list[Task]:
    return [Task(search, name, SCENES[name].group) for name in names]


def _written_since(names: Container[str]) -> list[Task]:
    return [
        Task(_sweep_written, name, f"{SCENES[name].group}, written to since")
        for name in written.RESTORES
        if name in names
    ]


def _rows(harness: str, tasks: list[Task], effort: Effort) -> Iterator[Row]:
    library = compiled(effort.directory)
    share = effort.share(len(tasks))
    seconds = None if share is None else share * effort.jobs
    left = Counter(task.fixture for task in tasks)
    groups: dict[str, list[Found]] = defaultdict(list)
    with ProcessPoolExecutor(effort.jobs) as pool:
        jobs = {}
        for n, task in enumerate(tasks):
            directory = effort.directory / f"scene-{n}"
            job = pool.submit(_scene, task, directory, library, seconds, effort.seed)
            jobs[job] = task.fixture
        for job in as_completed(jobs):
            group = groups[jobs[job]]
            group.append(job.result())
            if len(group) == left[jobs[job]]:
                yield _row(harness, jobs[job], group)


def _row(harness: str, group: str, found: list[Found]) -> Row:
    return Row(
        harness,
        group,
        points=sum(each.points for each in found),
        tried=sum(each.tried for each in found),
        broken=tuple(sentence for each in found for sentence in each.broken),
        seconds=sum(each.seconds for each in found),
    )


def _scene(task: Task, directory: Path, library: Path, seconds: float | None, seed: str) -> Found:
    watch = Stopwatch(seconds)
    try:
        stage = Stage(SCENES[task.scene], directory, library)
        found = task.search(stage, directory, watch, f"{seed} {task.scene}")
        stage.close()
    except AssertionError as error:
        found = Found(broken=[f"{task.scene}: cannot be set up: {str(error)[-1500:]}"], tried=1)
    found.seconds = watch.seconds
    return found


def _sweep(stage: Stage, directory: Path, watch: Stopwatch, seed: str) -> Found:
    del directory
    found = Found(len(stage.calls))
    for fault in evenly(every_fault(stage.calls), seed):
        if watch.spent:
            break
        verdict = stage.play(fault)
        found.tried += verdict.fired or bool(verdict.problems)
        if verdict.problems:
            found.broken.append(str(verdict))
    return found


def _sweep_doubly(stage: Stage, directory: Path, watch: Stopwatch, seed: str) -> Found:
    found = Found()
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    faults = evenly(every_kill(stage.calls), seed)
    for left in double.states_left(stage, faults, directory / "left"):
        found.points += left.own
        kills = left.some_kills(SOME, chance.random()) if watch.limited else left.kills(REST)
        for then in kills:
            verdict = stage.again(left.volume, left.fault, then)
            found.tried += verdict.fired or bool(verdict.problems)
            if verdict.problems:
                found.broken.append(str(verdict))
        if watch.spent:
            break
    return found


def _sweep_written(stage: Stage, directory: Path, watch: Stopwatch, seed: str) -> Found:
    del directory
    found = Found(len(stage.calls))
    for fault in evenly(written.kills(stage.calls), seed):
        for command in written.COMMANDS.values():
            if watch.spent:
                return found
            problems = written.write_since(stage, fault, command)
            found.tried += 1
            if problems:
                found.broken.append("; ".join(problems))
    return found


# -- the command ---------------------------------------------------------------------------


def main() -> int:
    """Sweep, or play single faults; returns 1 where a promise was broken."""
    options = _options()
    names = [name for name in SCENES if re.search(options.scenes, name)]
    broken = 0
    with tempfile.TemporaryDirectory(prefix="faults-", dir=options.directory) as base:
        if options.fault:
            return _play(options, names, Path(base))
        seconds = None if options.minutes is None else 60 * options.minutes
        effort = Effort(Path(base), seconds, options.seed, options.jobs)
        tasks = _tasks(_sweep, names)
        if options.double:
            tasks = [*_tasks(_sweep_doubly, names), *_written_since(names)]
        for row in _rows("double" if options.double else "calls", tasks, effort):
            print(
                f"== {row.fixture}: {row.points} points, {row.tried} faults met, "
                f"{len(row.broken)} broken, {row.seconds:.0f} s",
                *row.broken,
                sep="\n   ",
                flush=True,
            )
            broken += len(row.broken)
    return int(bool(broken))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", default="", help="a regular expression on their names")
    parser.add_argument("--minutes", type=float, help="for all of it; every fault if left out")
    parser.add_argument("--double", action="store_true", help="kill the recovery as well")
    parser.add_argument("--fault", action="append", help="one fault: `action[:ERRNO]@N`")
    parser.add_argument("--then", help="with --fault: the one of the start after it")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--packages", type=Path, default=PACKAGES, help="with --fault")
    parser.add_argument("--directory", default=None, help="where to work; /dev/shm is quick")
    return parser.parse_args()


def _play(options: argparse.Namespace, names: list[str], directory: Path) -> int:
    """Play single faults, and print the logs of the runs."""
    library, broken = compiled(directory), 0
    for n, name in enumerate(names):
        stage = Stage(SCENES[name], directory / f"scene-{n}", library, options.packages)
        for fault in map(Fault.parse, options.fault):
            verdict = stage.play(fault)
            if options.then:
                stage.leave(fault)
                left = directory / "left"
                fresh(stage.volume, left)
                verdict = stage.again(left, fault, Fault.parse(options.then))
            print(verdict.log, verdict, sep="")
            broken += bool(verdict.problems)
        stage.close()
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
