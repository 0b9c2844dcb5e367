"""The report of a rehearsal as Markdown, for a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from migrator.columns import size
from migrator.rehearsal.report import Comparison, MigrationReport, Rehearsal
from migrator.rehearsal.words import (
    answer,
    describe_losses,
    describe_rows,
    describe_size,
    describe_time,
    heading,
    space_sentence,
)
from migrator.terminal import printable

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|~>$:])")
_LONGEST_FENCE = re.compile(r"`+")


def as_markdown(report: Rehearsal) -> str:
    """Return the report as Markdown that GitHub and CommonMark read alike."""
    return "\n".join(_lines(report)).rstrip()


def escaped(text: str) -> str:
    """Escape a text for Markdown and HTML, mentions included."""
    shown = printable(text).replace("&", "&amp;").replace("<", "&lt;")
    return _SPECIAL.sub(r"\\\1", shown).replace("@", "&#64;")


def _fenced(lines: Iterable[str], kind: str = "text") -> str:
    """Return lines as a code block, with a fence that they cannot close."""
    text = "\n".join(printable(line, keep="\t") for line in lines)
    longest = max((len(each) for each in _LONGEST_FENCE.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{kind}\n{text}\n{fence}"


def _lines(report: Rehearsal) -> Iterator[str]:
    mark = "❌" if report.error is not None else "✅"
    yield f"## {mark} {escaped(heading(report, Path(report.database).name))}\n"
    if report.error is not None:
        yield _fenced([report.error, *([f"Hint: {report.hint}"] if report.hint else [])])
        yield ""
    losses = list(describe_losses(report))
    if losses:
        yield "### Lost\n"
        yield from (f"- {escaped(each)}" for each in losses)
        yield ""
    if report.migrations:
        yield "### Migrations\n"
        header = ("migration", "", "seconds", "growth", "rows")
        yield from _table(header, map(_row, report.migrations))
        yield from _scans(report.migrations)
    if report.comparison is not None:
        yield from _comparison(report.comparison)
    if report.expected is not None:
        yield "### The real start\n"
        yield f"- {escaped(describe_time(report))}"
        yield f"- {escaped(space_sentence(report.expected))}"
        yield f"- {escaped(describe_size(report))}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a table; its cells are escaped already."""
    yield f"| {' | '.join(header)} |"
    yield f"|{' --- |' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _row(each: MigrationReport) -> Sequence[str]:
    growth = "" if each.bytes_after is None else _growth(each)
    seconds = "" if each.seconds is None else f"{each.seconds:.3f}"
    rows = "<br>".join(map(escaped, describe_rows(each)))
    return escaped(each.file or each.name), each.state.replace("_", " "), seconds, growth, rows


def _growth(each: MigrationReport) -> str:
    more = (each.bytes_after or 0) - (each.bytes_before or 0)
    return f"{'-' if more < 0 else '+'}{size(abs(more))}"


def _scans(migrations: Iterable[MigrationReport]) -> Iterator[str]:
    """Yield the statements that read whole tables, with their plans."""
    found = [(each, run) for each in migrations for run in each.statements if run.scans]
    if not found:
        return
    yield "<details><summary>Statements that read whole tables</summary>\n"
    for each, run in found:
        yield f"{escaped(each.file or each.name)}, {run.seconds:.3f} s\n"
        yield _fenced([*run.text.splitlines(), "", *run.plan], "sql")
        yield ""
    yield "</details>\n"


def _comparison(found: Comparison) -> Iterator[str]:
    if found.schema_diff:
        yield "### Schema\n"
        yield f"{_fenced(found.schema_diff, 'diff')}\n"
    if found.orphans:
        yield "### Rows that refer to a row that does not exist\n"
        yield from _table(
            ("table", "parent", "before", "after"),
            (
                (escaped(each.table), escaped(each.parent), f"{each.before:,}", f"{each.after:,}")
                for each in found.orphans
            ),
        )
    if found.queries:
        yield "### Queries\n"
        yield from _table(
            ("query", "before", "after", "plan"),
            (
                (
                    escaped(" ".join(each.text.split())[:200]),
                    escaped(answer(each.before)),
                    escaped(answer(each.after)),
                    "changed" if each.plan_changed else "as before",
                )
                for each in found.queries
            ),
        )
