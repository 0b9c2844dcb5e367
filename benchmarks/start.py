"""
How long a start with nothing pending takes, as a multiple of an empty Python.

`python benchmarks/start.py [--runs N]`: both programs in turn, so that whatever
else the machine is doing meets both; the median of each, and their ratio.
"""

from __future__ import annotations

import argparse
import compileall
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
MIGRATIONS = ROOT / "migrations"


def main() -> None:
    """Measure, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=31)
    runs = parser.parse_args().runs
    for package in ("entrypoint", "migrator"):
        compileall.compile_dir(ROOT / package, quiet=1)
    with tempfile.TemporaryDirectory() as directory:
        database = Path(directory, "app.db")
        words = ["--database", str(database), "--migrations", str(MIGRATIONS), "--", "true"]
        start = [sys.executable, "-m", "entrypoint", *words]
        seconds(start)  # the first install
        empty = [sys.executable, "-c", "pass"]
        pairs = [(seconds(empty), seconds(start)) for _ in range(runs)]
    nothing, started = (statistics.median(each) for each in zip(*pairs, strict=True))
    print(f"a start with nothing pending: {started / nothing:.1f} times an empty Python")
    print(f"(medians of {runs}: {1000 * started:.0f} ms and {1000 * nothing:.0f} ms)")


def seconds(command: Sequence[str]) -> float:
    """Return how long a command takes that has to succeed."""
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
