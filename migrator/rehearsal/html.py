"""The report of a rehearsal as one page, with nothing in it from elsewhere, and no script."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from string import Template

from migrator.columns import size
from migrator.errors import DiskError
from migrator.files import FULL
from migrator.rehearsal.report import (
    Comparison,
    MigrationReport,
    QueryChange,
    QueryResult,
    Rehearsal,
    StatementRun,
    TableRows,
)
from migrator.rehearsal.words import (
    answer,
    by_words,
    describe_losses,
    heading,
)
from migrator.terminal import printable

_HERE = Path(__file__).parent
_STATES = {"applied": "applied", "failed": "failed", "not_reached": "not reached"}


def write_page(report: Rehearsal, path: Path) -> None:
    """
    Write the report as a page, whole or not at all.

    Raises:
        DiskError: It cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(as_page(report), encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        message = f"The page cannot be written to {str(path)!r}: {error.strerror}."
        reason = "disk.full" if error.errno in FULL else "disk.failed"
        hint = "Name a file in a directory that can be written."
        raise DiskError(message, hint=hint, reason=reason) from error


def as_page(report: Rehearsal) -> str:
    """Return the report as an HTML document."""
    page = Template((_HERE / "page.html").read_text(encoding="utf-8"))
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    name = Path(report.database).name
    facts = f"{report.database} · {report.began_at} · {report.program}"
    if report.way is not None:
        facts += f" · {_WAYS.get(report.way, report.way)}"
    return page.substitute(
        title=_text(f"Rehearsal of {name}"),
        style=style,
        heading=_text(heading(report, name)),
        facts=_text(facts),
        body="\n".join(_body(report)),
        footer=_text(
            "The database is untouched: all of this happened on a copy."
            f" Copying it took {report.copy_seconds:.1f} s, measuring"
            f" {report.measure_seconds:.1f} s; a real start does neither."
        ),
    )


_WAYS = {
    "in-place": "in place, in one transaction",
    "copy": "on a copy, published at the end",
    "create": "a first install",
}


def _text(text: str, keep: str = "") -> str:
    """Return a text that means nothing to HTML, and whose control characters are seen."""
    return escape(printable(text, keep), quote=True)


def _card(title: str, inner: str, kind: str = "", anchor: str = "") -> str:
    made = f' id="{anchor}"' if anchor else ""
    return f'<section class="card {kind}"{made}><h2>{_text(title)}</h2>{inner}</section>'


def _body(report: Rehearsal) -> Iterator[str]:
    if report.error is not None:
        inner = f"<p>{_text(report.error)}</p>"
        if report.hint:
            inner += f"<p><b>What to do:</b> {_text(report.hint)}</p>"
        title = f"It would fail: {report.reason}"
        yield _card(title, inner, "bad")
    yield _losses(report)
    if report.pending or report.migrations:
        yield _numbers(report)
    if report.migrations:
        yield _timeline(report.migrations)
    if report.bytes_after is not None:
        yield _sizes(report.bytes_before, report.bytes_after)
    if report.comparison is not None:
        yield from _comparison(report.comparison)
    if report.migrations:
        inner = "".join(
            _migration(number, each) for number, each in enumerate(report.migrations, 1)
        )
        yield _card("What each migration does", inner)


def _losses(report: Rehearsal) -> str:
    """Return what is lost, at the top of the page; that nothing is, in green."""
    losses = list(describe_losses(report))
    if losses:
        unsaid = any(not loss.said for each in report.migrations for loss in each.losses)
        inner = f"<ul>{''.join(f'<li>{_text(each)}</li>' for each in losses)}</ul>"
        return _card("Lost", inner, "bad" if unsaid else "warn", "lost")
    if report.error is not None:
        return ""
    return _card("Nothing is lost", "", "good", "lost")


def _numbers(report: Rehearsal) -> str:
    cells = [("Pending", str(report.pending), "migrations")]
    expected = report.expected
    if expected is not None:
        if expected.seconds is not None:
            cells.append(("Time to expect", f"{expected.seconds:.1f} s", "with backup and checks"))
        needed = max(expected.space_needed_bytes, expected.space_peak_bytes or 0)
        free = f"{size(expected.volume_free_bytes)} free"
        enough = free if expected.enough else f"{free}: not enough"
        cells.append(("Space needed", size(needed), enough))
    changed = sum(
        rows.inserted + rows.changed + rows.deleted
        for each in report.migrations
        for rows in each.rows
    )
    cells.append(("Rows touched", f"{changed:,}", "inserted, changed and deleted"))
    inner = "".join(
        f'<div class="card"><span class="soft">{_text(name)}</span><b>{_text(value)}</b>'
        f'<span class="soft">{_text(more)}</span></div>'
        for name, value, more in cells
    )
    return f'<div class="numbers">{inner}</div>'


def _timeline(migrations: Sequence[MigrationReport]) -> str:
    """Return a bar a migration, as long as it took, that leads to what it does."""
    longest = max((each.seconds or 0.0 for each in migrations), default=0.0) or 1.0
    items = []
    for number, each in enumerate(migrations, 1):
        share = 100 * (each.seconds or 0.0) / longest
        took = _STATES[each.state] if each.seconds is None else f"{each.seconds:.3f} s"
        bar = "" if each.seconds is None else f'<i style="width: {share:.2f}%"></i>'
        items.append(
            f'<li class="{each.state}"><a href="#m{number}">{_text(_label(each))}</a>'
            f'<span class="track" aria-hidden="true">{bar}</span>'
            f'<span class="took">{_text(took)}</span></li>'
        )
    return _card("Timeline", f'<ol class="timeline">{"".join(items)}</ol>')


def _sizes(before: int, after: int) -> str:
    most = max(before, after, 1)
    inner = "".join(
        f'<span>{name}</span><span class="track {kind}" aria-hidden="true">'
        f'<i style="width: {100 * count / most:.2f}%"></i></span><span>{size(count)}</span>'
        for name, kind, count in (("Before", "old", before), ("After", "", after))
    )
    return _card("Size of the database", f'<div class="size">{inner}</div>')


def _comparison(found: Comparison) -> Iterator[str]:
    if found.schema_diff:
        yield _card("Schema", _diff(found.schema_diff), anchor="schema")
    if found.orphans:
        rows = [
            [_text(each.table), _text(each.parent), f"{each.before:,}", f"{each.after:,}"]
            for each in found.orphans
        ]
        inner = _table(("Table", "Parent", "#Before", "#After"), rows, "Missing parents")
        yield _card("Rows that refer to a row that does not exist", inner)
    if found.queries:
        yield _card("Queries", "".join(map(_query, found.queries)))


def _diff(lines: Iterable[str]) -> str:
    kinds = {"+": "plus", "-": "minus", "@": "at"}
    inner = "".join(
        f'<span class="{kinds.get(line[:1], "")}">{_text(line, chr(9)) or " "}</span>'
        for line in lines
    )
    return f'<pre class="diff" tabindex="0" role="region" aria-label="Difference">{inner}</pre>'


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], label: str) -> str:
    """Return a table, cells escaped already; the numbers' columns have a `#` before their name."""
    numbers = [name.startswith("#") for name in header]
    kinds = [' class="n"' if number else "" for number in numbers]
    head = "".join(
        f'<th scope="col"{kind}>{_text(name.lstrip("#"))}</th>'
        for name, kind in zip(header, kinds, strict=True)
    )
    lines = (
        "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds, strict=True))
        for row in rows
    )
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{_text(label)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _label(each: MigrationReport) -> str:
    return each.file or each.name


def _migration(number: int, each: MigrationReport) -> str:
    tag = f'<span class="tag {each.state}">{_STATES[each.state]}</span>'
    parts = [f"<summary>{tag}{_text(_label(each))}</summary>"]
    if each.error is not None:
        parts.append(f'<p class="bad-text">{_text(each.error)}</p>')
    facts = list(_facts(each))
    if facts:
        parts.append(f'<p class="soft">{_text(" · ".join(facts))}</p>')
    if each.rows:
        header = (
            "Table",
            "#Before",
            "#Inserted",
            "#Changed",
            "#Deleted",
            "#After",
            "Rows are told by",
        )
        parts.append(_table(header, map(_table_row, each.rows), f"Rows of {_label(each)}"))
    if each.statements:
        parts.append("<h3>Statements: the longest, and those that read a whole table</h3>")
        parts += map(_statement, each.statements)
    return f'<details id="m{number}" open>{"".join(parts)}</details>'


def _facts(each: MigrationReport) -> Iterator[str]:
    if each.seconds is not None:
        yield f"{each.seconds:.3f} s"
    if each.statements_executed:
        yield f"{each.statements_executed:,} statements"
    if each.bytes_after is not None and each.bytes_before is not None:
        more = each.bytes_after - each.bytes_before
        yield f"file {'-' if more < 0 else '+'}{size(abs(more))}"
    if each.journal_peak_bytes:
        yield f"journal at most {size(each.journal_peak_bytes)}"
    if each.wal_peak_bytes:
        yield f"-wal at most {size(each.wal_peak_bytes)}"
    if each.allow_row_loss:
        yield f"allow_row_loss: {', '.join(each.allow_row_loss)}"


def _table_row(rows: TableRows) -> list[str]:
    name = rows.table
    if rows.was is None:
        name += " (new)"
    elif rows.gone:
        name += " (dropped)"
    elif rows.was != rows.table:
        name = f"{rows.was} → {rows.table}"
    numbers = (rows.before, rows.inserted, rows.changed, rows.deleted, rows.after)
    shown = ["" if rows.why is not None else f"{count:,}" for count in numbers]
    return [_text(name), *shown, _text(f"not counted: {rows.why}" if rows.why else by_words(rows))]


def _statement(run: StatementRun) -> str:
    where = f"line {run.line} · " if run.line is not None else ""
    times = f" · {run.times:,} times" if run.times != 1 else ""
    scans = f" · reads all of {', '.join(run.scans)}" if run.scans else ""
    plan = "\n".join(run.plan)
    shown = f'<pre tabindex="0">{_text(plan, chr(10))}</pre>' if run.scans else ""
    return (
        f'<p class="soft">{_text(f"{where}{run.seconds:.3f} s{times}{scans}")}</p>'
        f'<pre tabindex="0"><code>{_text(run.text, chr(10) + chr(9))}</code></pre>{shown}'
    )


def _query(each: QueryChange) -> str:
    state = "changed" if each.changed else "as before"
    kind = "failed" if each.changed else "applied"
    rows = [
        [name, _text(answer(side)), _time(side), _text(" | ".join(side.plan))]
        for name, side in (("Before", each.before), ("After", each.after))
    ]
    table = _table(("", "Result", "#Seconds", "Plan"), rows, f"Query of line {each.line}")
    text = _text(each.text, chr(10) + chr(9))
    opened = " open" if each.changed else ""
    return (
        f'<details{opened}><summary><span class="tag {kind}">{state}</span>'
        f'Line {each.line}</summary><pre tabindex="0"><code>{text}</code></pre>{table}</details>'
    )


def _time(side: QueryResult) -> str:
    return "" if side.seconds is None else f"{side.seconds:.3f}"
