"""
Measure what each migration of a rehearsal does, from within the worker.

What is found is written to a file, a line as soon as a migration is done: a worker that
dies later leaves what it had measured.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from migrator.context import Context, Step
from migrator.errors import MigratorError
from migrator.files import sidecars
from migrator.model import Script
from migrator.parsing import sql
from migrator.rehearsal.report import Loss, MigrationReport, StatementRun, TableRows, as_plain
from migrator.rehearsal.rows import Rows
from migrator.session.recording import RecordingConnection, RecordingCursor
from migrator.session.session import Session
from migrator.sqlite import fold

_CUT = 500
_LONGEST = 3
"""How many of the longest statements of a migration are told."""
_MOST_SCANS = 20
"""How many of those that scan a table are told."""
_MOST_TEXTS = 1000
"""How many different statements of a migration are told apart; later ones count as one."""
_EXPLAINED = frozenset(
    ("CREATE", "DELETE", "INSERT", "REPLACE", "SELECT", "UPDATE", "VALUES", "WITH")
)
_ALTER_WORDS = 12
"""Words of the longest `ALTER TABLE main.t RENAME COLUMN a TO b`, with its signs."""
_SCAN = re.compile(r"SCAN (?:TABLE )?(\S+)")
_WANTED = re.compile(r"uses (\d+)")


class _Nulls(dict[str, None]):
    """NULL for each parameter of any name."""

    def __missing__(self, _name: str) -> None:
        return None


@dataclass(slots=True)
class _Told:
    """What was measured of a statement so far."""

    text: str
    line: int | None
    plan: tuple[str, ...]
    times: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class _Now:
    """The migration that is under way."""

    told: dict[str, _Told] = field(default_factory=dict)
    executed: int = 0
    vacuumed: bool = False
    column_renames: list[tuple[str, str, str]] = field(default_factory=list)
    began: float = 0.0
    bytes_before: int = 0
    journal: int = 0
    wal: int = 0


class Watch:
    """
    The observer of a rehearsal (`migrator.context.Observer`).

    Args:
        database: The copy that is migrated.
        results: Where the measurements are written, a JSON object a line.
        scratch: A new file to compare tables in.
    """

    def __init__(self, database: Path, results: Path, scratch: Path) -> None:
        self._database = database
        self._results = results
        self._scratch = scratch
        self._rows: Rows | None = None
        self._left = 0
        self._now = _Now()
        self._overhead = 0.0
        self._path = database

    def begin(self, ctx: Context, session: Session, old: Path | None) -> None:
        """Begin before the first migration; `old` holds the state of before the run."""
        # The file that is migrated: a copy of the copy on way B, another name at a first install.
        with session.engine():
            (row,) = session.conn.execute("PRAGMA main.database_list").fetchall()[:1]
        self._path = Path(row[2])
        self._rows = Rows(self._scratch, old, ctx.history.table)

    def started(self, script: Script, session: Session) -> None:
        """Look at the size of the database that a migration finds."""
        del script
        self._now = _Now(bytes_before=_size(session), began=time.monotonic())

    @contextmanager
    def lend(self, conn: RecordingConnection) -> Iterator[None]:
        """Within, the statements of a migration are timed and their plans are asked for."""
        conn.measure = self._measure
        try:
            yield
        finally:
            conn.measure = None
            self._look_at_journals()

    def finished(self, script: Script, session: Session, step: Step) -> None:
        """Compare what the migration touched, and write down what it did."""
        losses = tuple(Loss(table, rows, said=True) for table, rows in step.rows_removed.items())
        rows = self._compare(session)
        self._tell(
            script,
            state="applied",
            seconds=round(step.seconds, 6),
            losses=losses,
            rows=rows,
            bytes_after=_size(session),
            renames=step.renames,
        )

    def failed(self, script: Script, session: Session, error: MigratorError) -> None:
        """Write down how far a migration came; of one that lost rows, what it did to them."""
        losses: tuple[Loss, ...] = ()
        rows: tuple[TableRows, ...] = ()
        if error.reason == "rows.lost":
            losses = unsaid(error)
            rows = self._compare(session)
        seconds = round(time.monotonic() - self._now.began, 6)
        self._tell(
            script, state="failed", seconds=seconds, losses=losses, rows=rows, error=error.message
        )

    def committed(self) -> None:
        """Look at the files once more: with the commit a `-wal` gets its last pages."""
        self._now = _Now()
        self._look_at_journals()
        self._write(
            committed={"journal": self._now.journal, "wal": self._now.wal},
            measure_seconds=round(self._overhead, 6),
        )

    # --- statements ---------------------------------------------------------

    def _measure(
        self,
        cursor: RecordingCursor,
        statement: Any,
        parameters: Any,
        call: Callable[..., object],
    ) -> None:
        """Execute a statement, and note how long it took; its plan is asked for before."""
        told = self._known(cursor.connection, statement, parameters)
        began = time.monotonic()
        try:
            call(cursor, statement, parameters)
            self._now.column_renames += column_rename(cursor.connection, statement)
        finally:
            told.seconds += time.monotonic() - began
            told.times += 1
            self._now.executed += 1

    def _known(self, conn: RecordingConnection, statement: Any, parameters: Any) -> _Told:
        now = self._now
        text = statement if isinstance(statement, str) else ""
        told = now.told.get(text)
        if told is not None:
            return told
        if conn.record.command == "VACUUM":
            now.vacuumed = True
        if len(now.told) >= _MOST_TEXTS:
            return now.told.setdefault("", _Told("(other statements)", None, ()))
        began = time.monotonic()
        plan = _plan(conn, text, parameters) if conn.record.command in _EXPLAINED else ()
        self._overhead += time.monotonic() - began
        now.told[text] = told = _Told(text[:_CUT], conn.record.line, plan)
        return told

    def _statements(self) -> tuple[StatementRun, ...]:
        """Return the longest statements and those that scan, in the order of their execution."""
        runs = [
            StatementRun(
                each.text,
                each.line,
                each.times,
                round(each.seconds, 6),
                each.plan,
                tuple(dict.fromkeys(_scans(each.plan))),
            )
            for each in self._now.told.values()
        ]
        longest = sorted(runs, key=lambda each: each.seconds, reverse=True)
        scanning = [each for each in longest if each.scans][:_MOST_SCANS]
        chosen = {id(each) for each in (*longest[:_LONGEST], *scanning)}
        return tuple(each for each in runs if id(each) in chosen)

    # --- what is written down -----------------------------------------------

    def _compare(self, session: Session) -> tuple[TableRows, ...]:
        if self._rows is None:
            return ()
        began = time.monotonic()
        try:
            return self._compared(self._rows, session)
        finally:
            self._overhead += time.monotonic() - began

    def _compared(self, rows: Rows, session: Session) -> tuple[TableRows, ...]:
        with session.engine():
            conn = session.conn
            conn.row_factory, conn.text_factory = None, str
            return rows.compare(
                conn, session.record, self._now.column_renames, vacuumed=self._now.vacuumed
            )

    def _tell(self, script: Script, **more: Any) -> None:
        entry, now = script.entry, self._now
        told = MigrationReport(
            entry.version,
            entry.name,
            entry.file,
            allow_row_loss=tuple(sorted(script.allow_row_loss)),
            statements=self._statements(),
            statements_executed=now.executed,
            column_renames=tuple(now.column_renames),
            bytes_before=now.bytes_before,
            journal_peak_bytes=now.journal,
            wal_peak_bytes=now.wal,
            **more,
        )
        self._write(migration=as_plain(told), measure_seconds=round(self._overhead, 6))

    def _write(self, **what: Any) -> None:
        with self._results.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(what)}\n")

    def _look_at_journals(self) -> None:
        """
        Note how large the journals are.

        The connection has the file for itself, and then SQLite makes neither smaller before it
        is closed (https://sqlite.org/pragma.html#pragma_locking_mode).
        """
        wal, _, journal = sidecars(self._path)
        self._now.wal = max(self._now.wal, _file_size(wal))
        self._now.journal = max(self._now.journal, _file_size(journal))


def unsaid(error: MigratorError) -> tuple[Loss, ...]:
    """Return the rows that the row guard has refused to lose."""
    return tuple(
        Loss(each["table"], each["before"] - each["after"], said=False, before=each["before"])
        for each in error.data["tables"]
    )


def column_rename(conn: RecordingConnection, statement: Any) -> list[tuple[str, str, str]]:
    """Return table, old and new name of the column that a statement has renamed, folded."""
    if conn.record.command != "ALTER" or not isinstance(statement, str):
        return []
    words = [fold(each) for each in sql.words(statement, _ALTER_WORDS)]
    if "rename" not in words[3:6]:
        return []
    at = words.index("rename", 3)
    rest = words[at + 1 :]
    if rest[:1] == ["column"]:
        rest = rest[1:]
    return [(words[at - 1], rest[0], rest[2])] if rest[1:2] == ["to"] and len(rest) > 2 else []


def _plan(conn: RecordingConnection, text: str, parameters: Any) -> tuple[str, ...]:
    """Ask SQLite for the plan of a statement; nothing for one that it would refuse."""
    given = parameters if isinstance(parameters, tuple | list | dict) else ()
    for attempt in (given, (), _Nulls()):
        try:
            return tuple(conn.plan(text, attempt))
        except sqlite3.ProgrammingError as error:
            wanted = _WANTED.search(str(error))
            if wanted is not None:
                try:
                    return tuple(conn.plan(text, (None,) * int(wanted[1])))
                except sqlite3.Error:
                    continue
        except (sqlite3.Error, UnicodeError, ValueError, TypeError, OverflowError):
            return ()
    return ()


def _scans(plan: tuple[str, ...]) -> Iterator[str]:
    """Yield what a plan reads from end to end."""
    for line in plan:
        found = _SCAN.match(line)
        # What is made on the way (`(subquery-1)`, `3 CONSTANT ROWS`) is no table.
        if found is not None and found[1] != "CONSTANT" and found[1][0] not in "(0123456789":
            yield found[1]


def _size(session: Session) -> int:
    """Return the size of the database, with what is not committed yet."""
    with session.engine():
        conn = session.conn
        pages = conn.execute("PRAGMA page_count").fetchone()[0]
        size = conn.execute("PRAGMA page_size").fetchone()[0]
    return int(pages * size)


def _file_size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
