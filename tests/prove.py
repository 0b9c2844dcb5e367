"""
The whole proof in one command: `python -m tests.prove --help`.

Runs every harness, prints a line for each promise that was broken, and the
table of docs/reliability.md, which `--write` puts there.
Needs root (mounts), a C compiler, and for the containers an engine.
"""
# ruff: noqa: T201  # a command prints

from __future__ import annotations

import argparse
import importlib
import os
import platform
import re
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.support.proof import Effort, Harness, Row

HARNESSES = {
    "calls": "tests.faults.sweep:rows",
    "double": "tests.faults.sweep:double_rows",
    "replay": "tests.powercut.replay:rows",
    "block": "tests.powercut.block:rows",
    "full": "tests.disks.full:rows",
    "soak": "tests.soak.processes:rows",
    "containers": "tests.soak.containers:rows",
    "input": "tests.corpus.sweep:rows",
}
"""Every harness: the function that yields its rows."""

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- reliability:begin -->", "<!-- reliability:end -->"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the harnesses; returns 1 where a promise was broken."""
    options = _options(argv)
    began = time.monotonic()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="proof-", dir=options.directory) as base:
        for name in options.only:
            rows += _run(name, Path(base), options)
    sums, fixtures = report(rows, options, time.monotonic() - began)
    print(sums, fixtures, sep="\n\n")
    if options.write:
        write(ROOT / "docs/reliability.md", f"{sums}\n\n{fixtures}")
    idle = _idle(options.only, rows)
    for name in idle:
        print(f"{name}: nothing was tried")
    return int(bool(idle) or any(row.broken for row in rows))


def _idle(names: Iterable[str], rows: Sequence[Row]) -> list[str]:
    """Return the harnesses that have tried nothing: that is no proof of anything."""
    busy = {row.harness for row in rows if row.tried > 0}
    return [name for name in names if name not in busy]


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.prove", description=__doc__)
    names = ",".join(HARNESSES)
    parser.add_argument("--only", default=names, type=_names, help=f"of {names}")
    parser.add_argument("--minutes", type=float, help="for each harness; everything if left out")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--directory", help="where to work; /dev/shm is quick, containers take a disk all the same"
    )
    parser.add_argument("--write", action="store_true", help="put the table into its page")
    return parser.parse_args(argv)


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(HARNESSES):
        msg = f"unknown: {', '.join(sorted(unknown))}"
        raise argparse.ArgumentTypeError(msg)
    return names


def _run(name: str, base: Path, options: argparse.Namespace) -> Iterator[Row]:
    directory = base / name
    directory.mkdir()
    seconds = None if options.minutes is None else 60 * options.minutes
    effort = Effort(directory, seconds, options.seed, options.jobs)
    for row in _tried(name, effort):
        print(
            f"{row.harness}: {row.fixture}: {row.points} points, {row.tried} tried, "
            f"{len(row.broken)} broken, {row.seconds:.0f} s",
            flush=True,
        )
        for sentence in row.broken:
            print(f"  {sentence}", flush=True)
        yield row


def _tried(name: str, effort: Effort) -> Iterator[Row]:
    """Yield a harness's rows; one that breaks down itself has shown nothing, and says so."""
    try:
        yield from harness(name)(effort)
    except Exception:  # noqa: BLE001 - the other harnesses go on
        yield Row(name, "broke down", 0, 1, (traceback.format_exc(),), 0.0)


def harness(name: str) -> Harness:
    """Return the function of a harness."""
    module, _, function = HARNESSES[name].partition(":")
    found: Harness = getattr(importlib.import_module(module), function)
    return found


def report(rows: Sequence[Row], options: argparse.Namespace, seconds: float) -> tuple[str, str]:
    """Return what is true of each harness with the command that showed it, and of each fixture."""
    minutes = "" if options.minutes is None else f" --minutes {options.minutes:g}"
    only = "" if options.only == list(HARNESSES) else f" --only {','.join(options.only)}"
    command = f"python -m tests.prove{only}{minutes} --seed {options.seed} --jobs {options.jobs}"
    all_of_it = _whole("**all**", rows, seconds)
    sums = _table(("harness", "fixtures"), [*_by_harness(rows), all_of_it])
    fixtures = _table(("harness", "fixture"), [_whole(each.harness, [each]) for each in rows])
    return (
        "\n".join([*sums, "", f"`{command}` on {_machine()}"]),
        "\n".join(["<details><summary>Each fixture</summary>", "", *fixtures, "", "</details>"]),
    )


def _by_harness(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    for name in dict.fromkeys(row.harness for row in rows):
        yield _whole(name, [row for row in rows if row.harness == name])


def _whole(name: str, rows: Sequence[Row], seconds: float | None = None) -> tuple[str, ...]:
    """Return the cells of some rows together; where they ran side by side, seconds add up."""
    fixture = rows[0].fixture if len(rows) == 1 else f"{len({row.fixture for row in rows})}"
    took = sum(row.seconds for row in rows) if seconds is None else seconds
    sums = (
        sum(row.points for row in rows),
        sum(row.tried for row in rows),
        sum(row.survived for row in rows),
    )
    return (name, fixture, *(f"{each}" for each in sums), f"{took:.0f}")


def _table(heads: tuple[str, str], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    cells = [(*heads, "points", "tried", "survived", "seconds"), ("---", "---", *["---:"] * 4)]
    return (f"| {' | '.join(each)} |" for each in (*cells, *rows))


def _machine() -> str:
    kernel = platform.release().partition("-")[0]
    python = platform.python_version()
    return f"Linux {kernel}, Python {python}, SQLite {sqlite3.sqlite_version}."


def write(page: Path, table: str) -> None:
    """Put the table between the page's markers."""
    text = page.read_text()
    pattern = re.compile(f"{BEGIN}.*{END}", re.DOTALL)
    text, number = pattern.subn(lambda _: f"{BEGIN}\n\n{table}\n\n{END}", text)
    assert number == 1, f"{page} has not exactly one place for the table."
    page.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
