"""
Sweep the whole matrix from the command line: `python -m tests.faults.sweep --help`.

Prints a line for each broken promise, and a table at the end.
"""
# ruff: noqa: T201  # a command prints

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tests.faults.harness import Stage, Verdict
from tests.faults.plan import every_fault, spread
from tests.faults.scenes import SCENES
from tests.faults.shim import Fault, compiled
from tests.support.processes import PACKAGES


def main() -> int:
    """Sweep, and return 1 where a promise was broken."""
    options = _options()
    began = time.monotonic()
    names = [name for name in SCENES if re.search(options.scenes, name)]
    broken = Counter[str]()
    total = Counter[str]()
    with tempfile.TemporaryDirectory(prefix="faults-", dir=options.directory) as base:
        library = compiled(Path(base))
        with ProcessPoolExecutor(options.jobs) as pool:
            jobs = {
                pool.submit(_sweep, name, Path(base, f"scene-{n}"), library, options): name
                for n, name in enumerate(names)
            }
            for job in as_completed(jobs):
                name = jobs[job]
                try:
                    points, verdicts, seconds = job.result()
                except AssertionError as error:
                    broken[name] = 1
                    print(f"== {name}: cannot be set up: {str(error)[-1500:]}", flush=True)
                    continue
                total[name] = sum(verdict.fired for verdict in verdicts)
                bad = [verdict for verdict in verdicts if verdict.problems]
                broken[name] = len(bad)
                print(
                    f"== {name}: {points} calls, {total[name]} faults met, "
                    f"{len(bad)} broken, {seconds:.0f} s",
                    flush=True,
                )
                for verdict in bad:
                    print(f"   {verdict}", flush=True)
                    if options.logs:
                        print(verdict.log, flush=True)
    print(
        f"{sum(total.values())} faults, {sum(broken.values())} broken promises, "
        f"{time.monotonic() - began:.0f} s, seed {options.seed}"
    )
    return int(bool(sum(broken.values())))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", default="", help="a regular expression on their names")
    parser.add_argument("--points", default="20", help="faults a scene, or `all`")
    parser.add_argument("--fault", action="append", help="one fault: `action[:ERRNO]@N`")
    parser.add_argument("--double", action="store_true", help="kill the recovery as well")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many a scene")
    parser.add_argument("--packages", type=Path, default=PACKAGES)
    parser.add_argument("--directory", default=None, help="where to work; /dev/shm is quick")
    parser.add_argument("--logs", action="store_true", help="print the log of what went wrong")
    return parser.parse_args()


def _sweep(
    name: str, directory: Path, library: Path, options: argparse.Namespace
) -> tuple[int, list[Verdict], float]:
    began = time.monotonic()
    stage = Stage(SCENES[name], directory, library, options.packages)
    if options.fault:
        faults = [Fault.parse(text) for text in options.fault]
    elif options.points == "all":
        faults = every_fault(stage.calls)
        random.Random(options.seed).shuffle(faults)  # noqa: S311
    else:
        faults = spread(stage.calls, int(options.points), f"{options.seed} {name}")
    chance = random.Random(f"{options.seed} {name}")  # noqa: S311
    verdicts = []
    for fault in faults:
        if time.monotonic() - began > 60 * options.minutes:
            break
        then = None
        if options.double:
            action = chance.choice(("all-before", "all-after", "torn", "caller-after"))
            then = Fault(chance.randrange(1, len(stage.calls) // 2), action)
        verdicts.append(stage.play(fault, then))
    calls = len(stage.calls)
    stage.close()
    return calls, verdicts, time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
