"""
Contenders in turn, each run timed by hyperfine as one whole process.

In turn, so that whatever else the machine is doing meets all of them. What a run needs is made
before it, outside of its time, and has reached the disk; the page cache is warm for everybody.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import FAILED, LIMIT, OURS, Figure

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Way:
    """
    One contender's way of doing the work.

    Args:
        name: Whose.
        command: What is timed.
        prepare: What makes the same beginning before each run; not timed.
        within: What the timing takes place inside of: the words before it.
    """

    name: str
    command: Sequence[str]
    prepare: Callable[[], object] = lambda: None
    within: Sequence[str] = ()


class TooLongError(Exception):
    """A run did not end within the limit."""


class RunFailedError(Exception):
    """A run ended with an error; the text is the end of what it said."""


Measure = Callable[[Way, float, Path], float]
"""Runs a way once, within that many seconds, with its output in a file; returns the figure."""


def race(
    ways: Sequence[Way],
    runs: int,
    limit: float,
    output: Path,
    measure: Measure,
) -> dict[str, Figure]:
    """
    Let contenders do the same work in turn.

    Args:
        ways: The contenders.
        runs: How often each.
        limit: Seconds that a run may take. Who takes longer once is not started again.
        output: The file for what they write.
        measure: What is measured.

    Returns:
        The median of each, or `LIMIT`, or `FAILED`, which a peer may have.

    Raises:
        RunFailedError: This program has failed, or what it is compared to.
    """
    taken: dict[str, list[float]] = {way.name: [] for way in ways}
    out: dict[str, Figure] = {}
    for _ in range(runs):
        for way in ways:
            if way.name in out:
                continue
            way.prepare()
            try:
                taken[way.name].append(measure(way, limit, output))
            except TooLongError:
                out[way.name] = LIMIT
            except RunFailedError as error:
                if way.name.startswith(OURS) or way is ways[0]:
                    raise
                print(f"  {way.name} failed: {error}")
                out[way.name] = FAILED
    return {name: out.get(name) or statistics.median(each) for name, each in taken.items()}


def seconds(way: Way, limit: float, output: Path) -> float:
    """Return how long a run takes, by the clock."""
    return _timed(way, limit, output)["median"]


def cpu_seconds(way: Way, limit: float, output: Path) -> float:
    """Return how long a run keeps a processor busy, in its own code and in the kernel's."""
    timed = _timed(way, limit, output)
    return timed["user"] + timed["system"]


def peak(way: Way, limit: float, output: Path) -> float:
    """Return the most memory, in MiB, that a process of a run has had at one time."""
    script = [sys.executable, "-I", "-S", str(HERE / "peak.py"), *way.command]
    _run([*way.within, *script], limit, output)
    return int(output.read_text(errors="replace").split()[-1]) / 1024


def _timed(way: Way, limit: float, output: Path) -> Mapping[str, float]:
    export = output.with_suffix(".json")
    hyperfine = ["hyperfine", "--shell=none", "--runs=1", "--warmup=0", "--show-output"]
    words = [*hyperfine, f"--export-json={export}", shlex.join(way.command)]
    _run([*way.within, *words], limit, output)
    (result,) = json.loads(export.read_text())["results"]
    timed: Mapping[str, float] = result
    return timed


def _run(command: Sequence[str], limit: float, output: Path) -> None:
    """Run a command with its output in a file, and kill all of it at the limit."""
    with (
        output.open("wb") as file,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=HERE.parent,
            env=environment(),
            start_new_session=True,
        ) as process,
    ):
        try:
            code = process.wait(limit)
        except BaseException as error:
            # It may just have ended by itself.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise TooLongError from None
            raise
    if code:
        raise RunFailedError(_last_line(output.read_text(errors="replace")))


def succeed(command: Sequence[str], text: str | None = None) -> str:
    """
    Run a command that only prepares something, and return what it prints.

    Raises:
        RunFailedError: It has failed.
    """
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        env=environment(),
        cwd=HERE.parent,
        check=False,
    )
    if done.returncode:
        msg = f"{Path(command[0]).name}: {_last_line(done.stderr or done.stdout)}"
        raise RunFailedError(msg)
    return done.stdout


def _last_line(text: str) -> str:
    """Return the end of what a program has said, without what hyperfine adds."""
    lines = [line for line in text.splitlines() if line.strip() and "--show-output" not in line]
    return lines[-1][-500:] if lines else "it said nothing"


def environment() -> dict[str, str]:
    """Return this environment without what the programs would read their settings from."""
    read = ("MIGRATOR_", "PUID", "PGID", "DBMATE_", "DATABASE_URL", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(read)}
