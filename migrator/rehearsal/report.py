"""
The report of a rehearsal: one tree of values, from which every form of it is made.

docs/rehearsal.schema.json describes its JSON. Keys are added, never renamed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TableRows:
    """
    What a migration did to the rows of one table.

    Args:
        table: Its name afterwards, or before it was dropped.
        was: Its name before, None for a new one.
        before: How many rows there were.
        after: How many there are.
        inserted: Rows that are new.
        changed: Rows that hold something else than before.
        deleted: Rows that are gone.
        by: What makes a row the same one: `key`, `rowid`, `content` (a changed row is
            then one gone and one new), or `table`, where all of it is new or gone.
        why: Why the rows are not counted; the numbers are then 0.
        gone: Whether the table was dropped.
    """

    table: str
    was: str | None
    before: int = 0
    after: int = 0
    inserted: int = 0
    changed: int = 0
    deleted: int = 0
    by: str | None = None
    why: str | None = None
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Loss:
    """
    Rows that a migration has lost.

    Args:
        table: The table, by its name before.
        before: How many rows it had; None where the migration had said it, and they were
            only counted as gone.
        rows: How many went.
        said: Whether the migration had said so; a real start refuses it otherwise.
    """

    table: str
    rows: int
    said: bool
    before: int | None = None


@dataclass(frozen=True, slots=True)
class StatementRun:
    """
    One statement of a migration, however often it was executed.

    Args:
        text: As written, cut.
        line: Its line in an `.sql` file.
        times: How often it was executed.
        seconds: How long that took in all.
        plan: SQLite's plan before the first time; empty if it has none.
        scans: The tables that the plan reads from end to end.
    """

    text: str
    line: int | None
    times: int
    seconds: float
    plan: tuple[str, ...] = ()
    scans: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """
    What one migration did.

    Args:
        version: As its file's name spells it.
        name: Likewise.
        file: The file, None for one that is registered in code.
        state: `applied`, `failed`, or `not_reached` after a failed one.
        seconds: How long it took.
        allow_row_loss: What it said it may lose.
        losses: What the row guard found.
        rows: The tables that it touched.
        statements: The longest ones, and those that scan a table.
        statements_executed: How many there were in all.
        bytes_before: The size of the database before it.
        bytes_after: And after it.
        journal_peak_bytes: How large its `-journal` was, with those before it in the same
            transaction.
        wal_peak_bytes: The same of the `-wal`.
        renames: Old and new name of the tables that it renamed.
        column_renames: Table, old and new name of the columns that it renamed, in small letters.
        error: Why it failed.
    """

    version: str
    name: str
    file: str | None
    state: str
    seconds: float | None = None
    allow_row_loss: tuple[str, ...] = ()
    losses: tuple[Loss, ...] = ()
    rows: tuple[TableRows, ...] = ()
    statements: tuple[StatementRun, ...] = ()
    statements_executed: int = 0
    bytes_before: int | None = None
    bytes_after: int | None = None
    journal_peak_bytes: int = 0
    wal_peak_bytes: int = 0
    renames: tuple[tuple[str, str], ...] = ()
    column_renames: tuple[tuple[str, str, str], ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """An object of the schema that is `added`, `removed` or `changed`, with its SQL."""

    change: str
    type: str
    name: str
    table: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class ColumnGone:
    """A column that a table no longer has, and how many values other than NULL it had."""

    table: str
    column: str
    values: int | None


@dataclass(frozen=True, slots=True)
class Orphans:
    """Rows of a table that refer to a row of `parent` that does not exist."""

    table: str
    parent: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What a query answered: SQLite's plan, the number of rows, the time, or its error."""

    plan: tuple[str, ...] = ()
    rows: int | None = None
    seconds: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class QueryChange:
    """A query of `--queries`, before and after; `changed` compares plan, rows and error."""

    text: str
    line: int
    before: QueryResult
    after: QueryResult
    plan_changed: bool
    rows_changed: bool
    changed: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    The two files of a rehearsal compared.

    Args:
        schema: What is different.
        schema_diff: The same as lines that begin with `+`, `-` or a space.
        tables_gone: Tables that are not there any more, renamed ones aside.
        indexes_gone: Indexes likewise.
        columns_gone: Columns of tables that are still there.
        orphans: References without their row, where there were or are any.
        queries: Those of `--queries`.
    """

    schema: tuple[SchemaChange, ...] = ()
    schema_diff: tuple[str, ...] = ()
    tables_gone: tuple[str, ...] = ()
    indexes_gone: tuple[str, ...] = ()
    columns_gone: tuple[ColumnGone, ...] = ()
    orphans: tuple[Orphans, ...] = ()
    queries: tuple[QueryChange, ...] = ()


@dataclass(frozen=True, slots=True)
class Expected:
    """
    What the real start will take.

    Args:
        seconds: As long as the run on the copy took, less what the rehearsal measured meanwhile;
            None where it did not end.
        space_needed_bytes: What a start asks for before it writes.
        space_peak_bytes: What the run on the copy took at most, beside the database.
        volume_free_bytes: What is free for it; backups that would give way are not counted.
        enough: Whether that is enough.
    """

    seconds: float | None
    space_needed_bytes: int
    space_peak_bytes: int | None
    volume_free_bytes: int
    enough: bool


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """
    The whole report.

    Args:
        format: The number of this format.
        program: The version of this program.
        run_id: As in the log.
        database: The real one.
        began_at: UTC, ISO 8601.
        exit_code: What the real start would end with.
        error: Why it would fail, None where it would not.
        reason: The error's slug, as in the log.
        hint: What to do.
        way: `in-place`, `copy`, `create`, or None where nothing was pending.
        pending: How many migrations were.
        migrations: In their order.
        bytes_before: The size of the database before the run.
        bytes_after: And after it; None where it failed.
        copy_seconds: How long the copy of the database took, which no start makes.
        measure_seconds: How long the measuring took, which no start does.
        comparison: Before and after; None if there is no state after.
        expected: What the real start will take.
        kept: Where `--keep` has put `before.db` and `after.db`.
    """

    format: int
    program: str
    run_id: str
    database: str
    began_at: str
    exit_code: int
    error: str | None
    reason: str | None
    hint: str | None
    way: str | None
    pending: int
    migrations: tuple[MigrationReport, ...]
    bytes_before: int
    bytes_after: int | None
    copy_seconds: float
    measure_seconds: float
    comparison: Comparison | None
    expected: Expected | None
    kept: str | None


def as_plain(value: Any) -> dict[str, Any]:
    """Return a value of this module as what JSON has."""
    plain: dict[str, Any] = asdict(value)
    return plain


def comparison_from(plain: dict[str, Any]) -> Comparison:
    """Return a comparison from what `as_plain` has made of it, and JSON of that."""
    return Comparison(
        schema=tuple(SchemaChange(**each) for each in plain["schema"]),
        schema_diff=tuple(plain["schema_diff"]),
        tables_gone=tuple(plain["tables_gone"]),
        indexes_gone=tuple(plain["indexes_gone"]),
        columns_gone=tuple(ColumnGone(**each) for each in plain["columns_gone"]),
        orphans=tuple(Orphans(**each) for each in plain["orphans"]),
        queries=tuple(_query(each) for each in plain["queries"]),
    )


def migration_from(plain: dict[str, Any]) -> MigrationReport:
    """Return a migration's report from what `as_plain` has made of it, and JSON of that."""
    return MigrationReport(
        **{
            **plain,
            "allow_row_loss": tuple(plain["allow_row_loss"]),
            "losses": tuple(Loss(**each) for each in plain["losses"]),
            "rows": tuple(TableRows(**each) for each in plain["rows"]),
            "statements": tuple(_statement(each) for each in plain["statements"]),
            "renames": tuple((old, new) for old, new in plain["renames"]),
            "column_renames": tuple((t, old, new) for t, old, new in plain["column_renames"]),
        }
    )


def _statement(plain: dict[str, Any]) -> StatementRun:
    return StatementRun(**{**plain, "plan": tuple(plain["plan"]), "scans": tuple(plain["scans"])})


def _query(plain: dict[str, Any]) -> QueryChange:
    results = {
        each: QueryResult(**{**plain[each], "plan": tuple(plain[each]["plan"])})
        for each in ("before", "after")
    }
    return QueryChange(**{**plain, **results})
