"""The sentences of a report, the same in every form of it."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.columns import size
from migrator.rehearsal.report import (
    Comparison,
    Expected,
    MigrationReport,
    QueryResult,
    Rehearsal,
    TableRows,
)

_BY = {
    "key": "",
    "table": "",
    "rowid": ", by rowid",
    "content": ", by content: without a key, a changed row is one gone and one new",
}


_TOLD_BY = {
    "key": "primary key",
    "rowid": "rowid",
    "content": "content",
    "table": "whole table",
}


_NOT_THE_STARTS = ("rehearsal.needs_recovery", "run.under_way")
"""What keeps a rehearsal from being made: a real start recovers, or waits."""


def by_words(rows: TableRows) -> str:
    """Say what makes a row of a table the same one."""
    return _TOLD_BY[rows.by or "table"]


def heading(report: Rehearsal, name: str) -> str:
    """Say in one sentence how the rehearsal of a database ended, which is called `name` in it."""
    if report.reason in _NOT_THE_STARTS:
        return f"{name} was not rehearsed."
    if report.error is not None:
        return f"The real start of {name} would end with {report.exit_code}."
    if not report.pending:
        return f"Nothing is pending in {name}."
    what = "migration" if report.pending == 1 else "migrations"
    return f"{report.pending} {what} would be applied to {name}."


def rows_of(count: int) -> str:
    """Return a number of rows."""
    return f"{count:,} row{'' if count == 1 else 's'}"


def describe_losses(report: Rehearsal) -> Iterator[str]:
    """Say what is lost: rows, tables, indexes, columns, parents."""
    for each in report.migrations:
        for loss in each.losses:
            said = "as it says" if loss.said else "WITHOUT SAYING SO"
            yield f"{each.file or each.name}: {rows_of(loss.rows)} of {loss.table}, {said}"
    found = report.comparison
    if found is None:
        return
    yield from (f"table {name}" for name in found.tables_gone)
    yield from (f"index {name}" for name in found.indexes_gone)
    for column in found.columns_gone:
        values = "unknown" if column.values is None else f"{column.values:,}"
        yield f"column {column.table}.{column.column} (values: {values})"
    for orphan in found.orphans:
        if orphan.after > orphan.before:
            more = orphan.after - orphan.before
            yield f"the parent in {orphan.parent} of {rows_of(more)} of {orphan.table}"


def describe_table(rows: TableRows) -> str:
    """Say what happened to the rows of a table."""
    name = rows.table
    if rows.was is not None and rows.was != rows.table:
        name = f"{rows.was}, now {rows.table}"
    if rows.why is not None:
        return f"{name}: not counted ({rows.why})"
    if rows.gone:
        return f"{name}: dropped with {rows_of(rows.before)}"
    parts = [
        f"{count:,} {verb}"
        for count, verb in (
            (rows.inserted, "inserted"),
            (rows.changed, "changed"),
            (rows.deleted, "deleted"),
        )
        if count
    ]
    done = ", ".join(parts) or "nothing changed"
    return f"{name}: {done} ({rows.before:,} → {rows.after:,} rows{_BY[rows.by or 'key']})"


def describe_rows(each: MigrationReport) -> Iterator[str]:
    """Say what a migration did to the rows of the tables that it touched."""
    yield from (describe_table(rows) for rows in each.rows)
    if each.allow_row_loss:
        yield f"allow_row_loss: {', '.join(each.allow_row_loss)}"


def describe_time(report: Rehearsal) -> str:
    """Say how long the real start will take."""
    expected = report.expected
    if expected is None or expected.seconds is None:
        return "Time: unknown, since the run on the copy did not end."
    return f"Time: about {expected.seconds:.1f} s, with its backup and its checks."


def space_sentence(expected: Expected) -> str:
    """Say what space the real start needs, and what is free."""
    enough = "" if expected.enough else ": NOT ENOUGH"
    needed = max(expected.space_needed_bytes, expected.space_peak_bytes or 0)
    return f"Space: {size(needed)} needed, {size(expected.volume_free_bytes)} free{enough}."


def describe_size(report: Rehearsal) -> str:
    """Say how large the database is before and after."""
    after = "unknown" if report.bytes_after is None else size(report.bytes_after)
    return f"Size: {size(report.bytes_before)} before, {after} after."


def told_queries(found: Comparison) -> Iterator[str]:
    """Say of each query what is different."""
    for each in found.queries:
        first = " ".join(each.text.split())[:80]
        if not each.changed:
            yield f"{first}: as before, {answer(each.after)}"
            continue
        if each.rows_changed:
            yield f"{first}: {answer(each.before)} → {answer(each.after)}"
        if each.plan_changed:
            plans = " | ".join(each.before.plan), " | ".join(each.after.plan)
            yield f"{first}: plan {plans[0] or 'none'} → {plans[1] or 'none'}"


def answer(result: QueryResult) -> str:
    """Say what a query answered."""
    return f"error: {result.error}" if result.error is not None else rows_of(result.rows or 0)
