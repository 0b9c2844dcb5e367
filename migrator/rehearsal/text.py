"""The report of a rehearsal for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.columns import aligned, size
from migrator.rehearsal.report import Comparison, MigrationReport, Rehearsal
from migrator.rehearsal.words import (
    describe_losses,
    describe_rows,
    describe_size,
    describe_time,
    heading,
    space_sentence,
    told_queries,
)
from migrator.terminal import printable


def as_text(report: Rehearsal) -> str:
    """Return the report as lines for people."""
    return "\n".join(_lines(report)).rstrip()


def _lines(report: Rehearsal) -> Iterator[str]:
    yield printable(heading(report, report.database))
    if report.error is not None:
        yield f"  {printable(report.error)}"
        yield f"  Hint: {printable(report.hint or '')}"
    losses = list(describe_losses(report))
    if losses:
        yield "\nLost:"
        yield from (f"  {printable(each)}" for each in losses)
    for each in report.migrations:
        yield ""
        yield from _migration(each)
    if report.comparison is not None:
        yield from _comparison(report.comparison)
    if report.expected is not None:
        yield "\nThe real start:"
        yield f"  {describe_time(report)}"
        yield f"  {space_sentence(report.expected)}"
        yield f"  {describe_size(report)}"
    if report.kept is not None:
        yield f"\nKept: {printable(report.kept)}"


def _migration(each: MigrationReport) -> Iterator[str]:
    label = printable(each.file or each.name)
    if each.state == "not_reached":
        yield f"{label}: not reached"
        return
    took = "" if each.seconds is None else f" in {each.seconds:.3f} s"
    yield f"{label}: {each.state}{took}"
    yield from (f"  {printable(line)}" for line in describe_rows(each))
    for run in each.statements:
        first = " ".join(run.text.split())
        times = f", {run.times} times" if run.times != 1 else ""
        where = f"line {run.line}: " if run.line is not None else ""
        yield f"  {where}{printable(first[:100])} ({run.seconds:.3f} s{times})"
        if run.scans:
            yield from (f"      {printable(line)}" for line in run.plan)
    if each.journal_peak_bytes or each.wal_peak_bytes:
        name, most = "journal", each.journal_peak_bytes
        if each.wal_peak_bytes > most:
            name, most = "-wal", each.wal_peak_bytes
        yield f"  {name} at most {size(most)}"


def _comparison(found: Comparison) -> Iterator[str]:
    if found.schema_diff:
        yield "\nSchema:"
        yield from (f"  {printable(line)}" for line in found.schema_diff)
    if found.orphans:
        yield "\nRows that refer to a row that does not exist:"
        rows = [
            (each.table, each.parent, str(each.before), str(each.after)) for each in found.orphans
        ]
        yield from _indented(aligned(("TABLE", "PARENT", "BEFORE", "AFTER"), rows))
    if found.queries:
        yield "\nQueries:"
        for line in told_queries(found):
            yield f"  {printable(line)}"


def _indented(text: str) -> Iterator[str]:
    yield from (f"  {line}" for line in text.splitlines())
