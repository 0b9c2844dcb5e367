"""The command of the benchmarks: its parts run, and print their ratios."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.parts import PARTS
from tests.conftest import ROOT
from tests.support.machine import tool
from tests.support.processes import clean_environment
from tests.support.waiting import until

NUMBER = r"\d[\d,.]*"

SAYS = {
    "many": rf"{NUMBER} SQL migrations pending: .*; {NUMBER} × SQLite's shell \(",
    "tables": rf"sqlite-entrypoint: 5: {NUMBER} s, 10: {NUMBER} s",
    "rows": rf"one by one by a `\.py`: .*; {NUMBER} × bare `sqlite3` \(",
    "dump": rf"a dump of {NUMBER} statements: .*; {NUMBER} × `executescript` \(",
    "column": rf"`ADD COLUMN`: .*; {NUMBER} × `cp` and fsync \(",
    "update": rf"and an index: .*; {NUMBER} × `cp` and fsync, then SQLite's shell \(",
    "restore": rf"restore of {NUMBER} MB: .*; {NUMBER} × `cp` and fsync \(",
    "rehearse": rf"UPDATE of 10 % and an index: .*; {NUMBER} × the same without it \(",
    "start": rf"the same, from the sources: .*; {NUMBER} × an empty Python \(",
    "docker": "nothing pending, 5 applied: not measured: needs ",
    "check": rf"`migrator check`, from the sources: {NUMBER} s of CPU; an empty Python {NUMBER} s",
    "memory": rf"peak memory, {NUMBER} migrations pending: {NUMBER} MiB",
    "image": "the image, compressed: not measured: needs ",
}
"""What each part prints, whatever the figures are; without an image, why there are none."""


def benchmarks(*words: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run the command with small sizes; nothing is fetched."""
    places = [f"--directory={tmp_path}", f"--cache={tmp_path / 'cache'}", "--image=not-built"]
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--offline", *places, *words],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("part", PARTS)
def test_a_part_runs_and_prints_its_ratio(part: str, tmp_path: Path) -> None:
    """Each part ends well and says how much it takes beside what it is compared to."""
    tool("hyperfine")
    tool("sqlite3")
    done = benchmarks(part, tmp_path=tmp_path)
    assert (0, "") == (done.returncode, done.stderr)
    assert re.search(SAYS[part], done.stdout), done.stdout
    assert "failed" not in done.stdout
    assert [tmp_path / "cache"] == list(tmp_path.iterdir())


def test_what_takes_too_long_is_said(tmp_path: Path) -> None:
    """A run that is not done within the limit is killed, and its place in the table says so."""
    tool("hyperfine")
    tool("sqlite3")
    done = benchmarks("rows", "--limit", "0", tmp_path=tmp_path)
    assert (0, "") == (done.returncode, done.stderr)
    assert "longer than the limit" in done.stdout


@pytest.mark.parametrize("words", [["rows", "--write"], ["column", "raws"]])
def test_what_cannot_be_measured_is_refused(words: list[str], tmp_path: Path) -> None:
    """Small sizes are written nowhere; a slip in a name measures nothing."""
    before = (ROOT / "docs/performance.md").read_bytes()
    done = benchmarks(*words, tmp_path=tmp_path)
    assert (2, "") == (done.returncode, done.stdout)
    assert before == (ROOT / "docs/performance.md").read_bytes()


def test_a_signal_ends_it_with_what_was_measured(tmp_path: Path) -> None:
    """The part that was under way is given up, its processes end, and nothing is left of it."""
    tool("hyperfine")
    tool("sqlite3")
    places = [f"--directory={tmp_path}", f"--cache={tmp_path / 'cache'}"]
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "benchmarks",
            "--quick",
            "--offline",
            "--runs=9999",
            *places,
            "rows",
        ],
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        until(lambda: list(tmp_path.glob("benchmarks-*/rows/volume")), "No contender was started.")
        process.send_signal(signal.SIGTERM)
        said = process.stdout.read()
    assert (130, True) == (process.returncode, "ended before it was measured" in said)
    assert [tmp_path / "cache"] == list(tmp_path.iterdir())
