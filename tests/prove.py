"""
The whole proof in one command: `python -m tests.prove --help`.

Runs every harness, prints a line for each promise that was broken, and the
table of docs/reliability.md, which `--write` puts there. Needs root (mounts),
a C compiler, and for the containers an engine.
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
from collections.abc import Iterator, Sequence
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

BEGIN, END = "<!-- reliability:begin -->", "<!-- reliability:end -->"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the harnesses; returns 1 where a promise was broken."""
    options = _options(argv)
    began = time.monotonic()
    rows = []
    with tempfile.TemporaryDirectory(prefix="proof-", dir=options.directory) as base:
        for name in options.only:
            rows += _run(name, Path(base), options)
    text = report(rows, options, time.monotonic() - began)
    print(text)
    if options.write is not None:
        write(options.write, text)
    return int(any(row.broken for row in rows))


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.prove", description=__doc__)
    names = ",".join(HARNESSES)
    parser.add_argument("--only", default=names, type=_names, help=f"of {names}")
    parser.add_argument("--minutes", type=float, help="for each harness; everything if left out")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--directory", help="where to work; /dev/shm is quick")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into this page")
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
    for row in harness(name)(effort):
        print(
            f"{row.harness}: {row.fixture}: {row.points} points, {row.tried} tried, "
            f"{len(row.broken)} broken, {row.seconds:.0f} s",
            flush=True,
        )
        for sentence in row.broken:
            print(f"  {sentence}", flush=True)
        yield row


def harness(name: str) -> Harness:
    """Return the function of a harness."""
    module, _, function = HARNESSES[name].partition(":")
    found: Harness = getattr(importlib.import_module(module), function)
    return found


def report(rows: Sequence[Row], options: argparse.Namespace, seconds: float) -> str:
    """Return the table, with the command that made it and the machine that it was made on."""
    minutes = "" if options.minutes is None else f" --minutes {options.minutes:g}"
    lines = [
        "| harness | fixture | points | tried | survived | seconds |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        *(
            f"| {row.harness} | {row.fixture} | {row.points} | {row.tried} | {row.survived} "
            f"| {row.seconds:.0f} |"
            for row in rows
        ),
        _total(rows, seconds),
        "",
        f"`python -m tests.prove{minutes} --seed {options.seed} --jobs {options.jobs}` on {_machine()}",
    ]
    return "\n".join(lines)


def _total(rows: Sequence[Row], seconds: float) -> str:
    points, tried = sum(row.points for row in rows), sum(row.tried for row in rows)
    survived = sum(row.survived for row in rows)
    return f"| **all** | | {points} | {tried} | {survived} | {seconds:.0f} |"


def _machine() -> str:
    kernel = platform.release().partition("-")[0]
    python = platform.python_version()
    return f"Linux {kernel}, Python {python}, SQLite {sqlite3.sqlite_version}."


def write(page: Path, table: str) -> None:
    """Put the table between the page's markers."""
    text = page.read_text()
    pattern = re.compile(f"{BEGIN}.*{END}", re.DOTALL)
    page.write_text(pattern.sub(lambda _: f"{BEGIN}\n\n{table}\n\n{END}", text))


if __name__ == "__main__":
    sys.exit(main())
