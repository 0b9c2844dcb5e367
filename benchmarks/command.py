"""
Measure what the work costs, beside what a user would take instead.

All parts, or those that are named, each printed as soon as it is measured. Peers come from PyPI
into environments of their own, which stay in the cache. It needs hyperfine and SQLite's shell
(`apt-get install hyperfine sqlite3`), for the pictures matplotlib (`pip install --group
benchmarks`), and for what concerns the image docker and the image. Ctrl-C ends it with what was
measured until then.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import page
from benchmarks.bench import Bench
from benchmarks.draw import can_draw, draw
from benchmarks.machine import machine
from benchmarks.parts import PARTS
from benchmarks.race import RunFailedError
from benchmarks.results import Curve, Part, Row, load, save
from benchmarks.venvs import ROOT

CACHE = "sqlite-entrypoint-benchmarks"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write the pages where that is asked for; returns the exit code."""
    options = _options(argv)
    if options.list:
        for name, part in PARTS.items():
            print(f"{name:<10}{(part.__doc__ or '').strip()}")
        return 0
    if missing := list(_missing(options)):
        print(*missing, sep="\n", file=sys.stderr)
        return 69
    if options.write and (load_average := os.getloadavg()[0]) > 1:
        print(
            f"The machine is busy (load {load_average:.1f}): wait, or the figures are worth little."
        )
    options.cache.mkdir(parents=True, exist_ok=True)
    measured: dict[str, Part] = {}
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=options.directory) as directory:
        bench = _bench(options, Path(directory))
        code = _measure(options, bench, measured)
        if options.write and measured:
            _write(measured, machine(bench.directory))
    return code


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("part", nargs="*", metavar="PART", help="of those that --list names; all")
    parser.add_argument("--list", action="store_true", help="name the parts")
    parser.add_argument(
        "--runs", type=int, help="of each contender, instead of a part's own number"
    )
    parser.add_argument("--limit", type=float, default=60, help="seconds for one run (%(default)g)")
    parser.add_argument("--large", action="store_true", help="databases above 1 GB as well")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the command")
    parser.add_argument("--offline", action="store_true", help="no peers; sources, not the wheel")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    parser.add_argument("--image", default="sqlite-entrypoint", help="its name (%(default)s)")
    parser.add_argument("--directory", type=Path, help="where to work; the disk to measure")
    parser.add_argument("--cache", type=Path, default=home / CACHE, help="where peers stay")
    options = parser.parse_args(argv)
    if unknown := [name for name in options.part if name not in PARTS]:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if options.write and (options.quick or options.offline):
        parser.error("--write takes real figures beside peers: neither --quick nor --offline")
    return options


def _missing(options: argparse.Namespace) -> Iterator[str]:
    """Yield what has to be installed first."""
    for program in ("hyperfine", "sqlite3"):
        if shutil.which(program) is None:
            yield f"{program} is not here: apt-get install {program}"
    if options.write and not can_draw():
        yield "matplotlib is not here: pip install --group benchmarks"


def _bench(options: argparse.Namespace, directory: Path) -> Bench:
    return Bench(
        directory,
        options.cache.resolve(),
        quick=options.quick,
        large=options.large,
        offline=options.offline,
        runs=options.runs,
        limit=options.limit,
        image=options.image,
    )


def _measure(options: argparse.Namespace, bench: Bench, measured: dict[str, Part]) -> int:
    """Measure part by part, until the last or until Ctrl-C; returns the exit code."""
    code = 0
    for name in options.part or PARTS:
        print(f"{name}:", flush=True)
        try:
            measured[name] = _part(name, bench, _command(options, name))
        except RunFailedError as error:
            print(f"  failed: {error}", flush=True)
            code = 1
        except KeyboardInterrupt:
            print("  ended before it was measured, and so did all that comes after it", flush=True)
            return 130
    return code


def _part(name: str, bench: Bench, command: str) -> Part:
    """Measure one part, and print its rows."""
    rows, curves = [], []
    for found in PARTS[name](bench):
        if isinstance(found, Row):
            rows.append(found)
            print(f"  {page.sentence(found, goal=not bench.quick)}", flush=True)
        else:
            curves.append(found)
            print(*(f"  {line}" for line in _points(found)), sep="\n", flush=True)
    today = dt.datetime.now(dt.UTC).date().isoformat()
    return Part(command, today, rows, curves)


def _points(curve: Curve) -> Iterator[str]:
    """Yield the lines of a curve as text."""
    yield f"{curve.title}, by {curve.across}:"
    for name, points in curve.lines.items():
        shown = ", ".join(f"{across:g}: {seconds:.3g} s" for across, seconds in points)
        yield f"  {name}: {shown}"


def _command(options: argparse.Namespace, name: str) -> str:
    """Return what measures one part as it was measured; no paths."""
    words = ["python", "-m", "benchmarks", name]
    words += [f"--{flag}" for flag in ("large", "write") if getattr(options, flag)]
    if options.runs is not None:
        words += ["--runs", str(options.runs)]
    return shlex.join(words)


def _write(measured: Mapping[str, Part], here: Mapping[str, str]) -> None:
    """Keep the results, draw the pictures, and write the pages."""
    kept = ROOT / page.KEPT
    results = load(kept).with_parts(here, measured, list(PARTS))
    save(results, kept)
    for part in measured.values():
        for curve in part.curves:
            draw(curve, kept.parent / f"{curve.name}.svg")
    page.write(ROOT)
    print(f"{page.KEPT.parent}: written")
