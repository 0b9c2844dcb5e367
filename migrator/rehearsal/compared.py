"""Compare the two files of a rehearsal, in another process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from migrator.database import connecting
from migrator.engine.parent import Parent, prepare_worker
from migrator.errors import MigratorError
from migrator.log.outcome import worker_bug
from migrator.model import Emit
from migrator.process.supervisor import supervise
from migrator.rehearsal.compare import compare, rows_of_files
from migrator.rehearsal.report import (
    Comparison,
    MigrationReport,
    TableRows,
    as_plain,
    comparison_from,
)
from migrator.statement import Statement


def compared(
    parent: Parent,
    before: Path | None,
    after: Path,
    migrations: Sequence[MigrationReport],
    queries: Sequence[Statement],
    scratch: Path,
) -> tuple[Comparison, tuple[TableRows, ...]]:
    """Have the two files compared in a child: what migrations have made is only read there."""
    history = parent.settings.history_table if not parent.source.has_history else None
    renames = [each for done in migrations for each in done.renames]
    columns = [each for done in migrations for each in done.column_renames]

    def task(_emit: Emit) -> dict[str, Any]:
        prepare_worker(parent.layout, parent.settings)
        with connecting.named(parent.settings.connect):
            found = as_plain(compare(before, after, renames, columns, queries))
            rows = () if history is None else rows_of_files(before, after, scratch, history)
        return {"comparison": found, "rows": [as_plain(each) for each in rows]}

    ending = supervise(task, emit=parent.emit, signals=parent.signals, prepare=parent.prepare)
    parent.signals.check()
    if ending.error is not None:
        raise ending.error
    if ending.crash is not None:
        raise worker_bug(ending.crash)
    if not ending.credible or ending.result is None:
        message = f"The process that compared the copies {ending.describe()}."
        raise MigratorError(message, hint="Give it more memory, or rehearse without `--queries`.")
    rows = tuple(TableRows(**each) for each in ending.result["rows"])
    return comparison_from(ending.result["comparison"]), rows
