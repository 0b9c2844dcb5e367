"""
A random long run of processes: `python -m tests.soak --help`.

Random databases, migrations, kills and concurrent starters, case after case, each made by
its seed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.faults.launching import arguments, interpreted
from tests.soak.case import ACCEPTED, HUNG, Case, Tally, World
from tests.support.processes import PACKAGES, clean_environment, without_coverage
from tests.support.proof import Effort, Row, Stopwatch

CASES = 400
"""Where there is no budget."""
AT_ONCE = 20
"""Cases for one row of the table."""


class Process:
    """A start as a process group of its own, its output going to files."""

    def __init__(self, words: Sequence[str], stem: Path, packages: Path) -> None:
        env = without_coverage(clean_environment({"MIGRATOR_ACCEPT": ACCEPTED}))
        if packages != PACKAGES:
            env["PYTHONPATH"] = str(packages)
        self._out, self._err = stem.with_suffix(".out"), stem.with_suffix(".err")
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(
                interpreted(words),
                env=env,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def stderr(self) -> str:
        """Return what it has said so far."""
        return self._err.read_text(errors="replace")

    def running(self) -> bool:
        """Tell whether it still runs."""
        return self._process.poll() is None

    def hit(self, how: str) -> None:
        """Kill the parent, its worker or all of it, or send SIGTERM."""
        pid = self._process.pid
        if how == "worker":
            for child in self._children():
                _kill(os.kill, child, signal.SIGKILL)
        elif how == "group":
            _kill(os.killpg, pid, signal.SIGKILL)
        else:
            _kill(os.kill, pid, signal.SIGTERM if how == "term" else signal.SIGKILL)

    def _children(self) -> list[int]:
        pid = self._process.pid
        try:
            return [
                int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            ]
        except OSError:
            return []

    def end(self) -> tuple[int, str]:
        """Wait for it, and for its worker, which follows a killed parent."""
        from tests.support.waiting import until

        try:
            code = self._process.wait(HUNG)
        except subprocess.TimeoutExpired:
            _kill(os.killpg, self._process.pid, signal.SIGKILL)
            self._process.wait(10)
            msg = f"hung: {self.stderr()[-800:]}"
            raise TimeoutError(msg) from None
        until(lambda: not _group_lives(self._process.pid), "The worker outlives its parent.")
        return code, self._out.read_text()


def _kill(how: Callable[[int, int], None], pid: int, number: int) -> None:
    try:
        how(pid, number)
    except ProcessLookupError:
        return


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


class Here(World):
    """Processes on this machine, on a directory."""

    inline = True

    def __init__(self, directory: Path, packages: Path = PACKAGES) -> None:
        self.volume, self.migrations = directory / "data", directory / "migrations"
        self._logs, watch = directory / "logs", directory / "watch"
        for each in (self.volume, self.migrations, self._logs, watch):
            each.mkdir(parents=True)
        self.watch, self._packages = str(watch / "lock"), packages

    def start(self, command: Sequence[str], number: int) -> Process:
        """Start a command."""
        words = arguments(tuple(command), self.volume / "app.db", self.migrations)
        if command[0] == "inline":
            return Process(words, self._logs / f"{number}", self._packages)
        more = ("--wait-timeout", "30", "--lock-timeout", "60")
        words[1:1] = more if command[1] not in ("status", "check", "plan", "backups") else ()
        words = _patient(words)
        return Process(words, self._logs / f"{number}", self._packages)

    def adopt(self) -> None:
        """Do nothing: the owner is this user."""


def _patient(words: list[str]) -> list[str]:
    """Wait longer than the sweep of single faults does: others are under way."""
    words = list(words)
    while words.count("--wait-timeout") > 1:
        at = len(words) - 1 - words[::-1].index("--wait-timeout")
        del words[at : at + 2]
    while words.count("--lock-timeout") > 1:
        at = len(words) - 1 - words[::-1].index("--lock-timeout")
        del words[at : at + 2]
    return words


def play(seed: str, directory: Path, packages: Path = PACKAGES) -> Tally:
    """Play the case of a seed in a directory that is removed afterwards."""
    scratch = directory / "scratch"
    try:
        world = Here(directory, packages)
        scratch.mkdir()
        return Case(seed, world, scratch).play()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def rows(effort: Effort) -> Iterator[Row]:
    """Play case after case, for as long as there is, a row for every so many of them."""
    yield from soak("soak", play, effort)


def soak(name: str, play: Callable[[str, Path], Tally], effort: Effort) -> Iterator[Row]:
    """Play the cases `SEED-0`, `SEED-1`… until the time is over."""
    whole, number = Stopwatch(effort.seconds), 0
    with ProcessPoolExecutor(effort.jobs) as pool:
        while not whole.spent and (effort.seconds is not None or number < CASES):
            watch = Stopwatch()
            found: list[Tally] = []
            seeds = [f"{effort.seed}-{n}" for n in range(number, number + AT_ONCE)]
            at_once = len(seeds) if effort.seconds is None else effort.jobs
            while seeds and not whole.spent:
                batch, seeds = seeds[:at_once], seeds[at_once:]
                found += pool.map(play, batch, [effort.directory / seed for seed in batch])
            broken = tuple("; ".join(each.problems) for each in found if each.problems)
            starts = sum(each.starts for each in found)
            kills = sum(each.kills for each in found)
            last = number + len(found) - 1
            fixture = f"cases {effort.seed}-{number} to {effort.seed}-{last}, {kills} kills"
            yield Row(name, fixture, len(found), starts, broken, watch.seconds)
            number += len(found)
