"""The random long run from the command line: `python -m tests.soak --minutes 60`."""
# ruff: noqa: T201  # a command prints

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.soak import containers, processes
from tests.soak.case import Tally
from tests.support.proof import Effort


def main() -> int:
    """Run for so long, and return 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", default=str(int(time.time())))
    parser.add_argument("--containers", action="store_true", help="containers, with docker kill")
    parser.add_argument("--case", help="play the case of one seed, as a failure has printed it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    broken = 0
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        Path(directory).chmod(0o755)
        if options.case:
            tally = _play(options, Path(directory, "case"))
            print(tally)
            return int(bool(tally.problems))
        effort = Effort(Path(directory), 60 * options.minutes, options.seed, options.jobs)
        rows = containers.rows if options.containers else processes.rows
        for row in rows(effort):
            broken += len(row.broken)
            print(f"{row.fixture}: {row.tried} starts, {len(row.broken)} broken", flush=True)
            for sentence in row.broken:
                print(f"  {sentence}", flush=True)
    return int(bool(broken))


def _play(options: argparse.Namespace, directory: Path) -> Tally:
    if options.containers:
        return containers.play(options.case, directory, containers.built())
    return processes.play(options.case, directory)


if __name__ == "__main__":
    sys.exit(main())
