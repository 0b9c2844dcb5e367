"""
What a migration did to the rows of the tables that it touched, counted exactly.

Each table is copied into a scratch database once a migration that touched it is done, and
there compared with what it was before: in the run's backup, or, where an
earlier migration of the run had touched it, in the copy that was made then. SQLite does
both, so that values are compared as SQLite has them.

Rows are the same by their primary key. Without one they are the same by their rowid, as
long as the table was not rebuilt and no VACUUM has renumbered it; else rows have nothing
but their content, and a row that was changed counts as one gone and one new.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from migrator.database import connecting
from migrator.database.uri import database_uri
from migrator.rehearsal.report import TableRows
from migrator.rehearsal.tables import ColumnRenames, Table, pairs_of, tables_of
from migrator.session.record import Record
from migrator.sqlite import fold, quoted
from migrator.verify.renamed_tables import Whereabouts, shows_another

_READ = "ro&immutable=1"


@dataclass(frozen=True, slots=True)
class _Held:
    """Where the rows of a table are that a migration finds: in the backup, or in a copy."""

    table: Table
    place: str
    """Its name in a statement of the scratch database's connection."""
    rowid: str | None
    copied: bool = False

    def column(self, name: str) -> str:
        """Return a column's name there: a copy numbers them."""
        if not self.copied:
            return quoted(name)
        return f"c{[fold(each.name) for each in self.table.columns].index(fold(name))}"


@dataclass(slots=True)
class Rows:
    """
    The rows of a database's tables, followed from migration to migration.

    Args:
        scratch: A new file for the copies.
        old: The run's backup, None for a first install.
        history: The table of the run's own rows, which is left out.
    """

    scratch: Path
    old: Path | None
    history: str
    _conn: sqlite3.Connection = field(init=False)
    _held: dict[str, _Held] = field(default_factory=dict)
    _renumbered: set[str] = field(default_factory=set)
    """Tables whose rowids a VACUUM may have changed since they were copied."""
    _column_renames: ColumnRenames = ()
    _number: int = 0

    def __post_init__(self) -> None:
        """List the tables of the backup."""
        uri = database_uri(self.scratch, "rwc")
        self._conn = sqlite3.connect(uri, uri=True, isolation_level=None)
        connecting.prepare(self._conn)
        if self.old is not None:
            # SQLite attaches no database in another encoding than the first one's.
            self._conn.execute(f"PRAGMA encoding = '{_encoding(self.old)}'")
        # It is thrown away: neither a crash nor a rollback has to find it whole.
        self._conn.execute("PRAGMA journal_mode = OFF")
        self._conn.execute("PRAGMA synchronous = OFF")
        if self.old is not None:
            self._conn.execute("ATTACH ? AS old", (database_uri(self.old, _READ),))
            for key, table in tables_of(self._conn, self.history, "old").items():
                self._held[key] = _Held(table, f"old.{quoted(table.name)}", table.rowid)

    def close(self) -> None:
        """Close the scratch database."""
        self._conn.close()

    def compare(
        self,
        conn: sqlite3.Connection,
        record: Record,
        column_renames: ColumnRenames = (),
        *,
        vacuumed: bool = False,
    ) -> tuple[TableRows, ...]:
        """
        Compare the tables that a migration touched with what they were before it.

        Args:
            conn: The run's connection, on which the new state is visible.
            record: What the migration did.
            column_renames: The columns that it renamed.
            vacuumed: Whether a VACUUM may have renumbered rowids.
        """
        tables, self._column_renames = tables_of(conn, self.history), column_renames
        touched = {fold(name) for name in (*record.written, *record.defined)}
        touched |= {fold(name) for pair in record.renames for name in pair}
        if vacuumed:
            self._renumbered |= self._held.keys()
        if record.schema_written:
            touched |= tables.keys() | self._held.keys()
        found = Whereabouts(record.ledger)
        results, taken, held = [], set(), dict(self._held)
        for key in sorted(touched & self._held.keys()):
            before = self._held[key]
            now, rebuilt = _successor(key, found, tables)
            held.pop(key, None)
            rebuilt |= key in self._renumbered
            self._renumbered.discard(key)
            if now is None:
                results.append(self._gone(before))
            elif now not in taken:  # else it has become a table that is compared already
                taken.add(now)
                results.append(
                    self._compared(conn, before, tables[now], rebuilt=rebuilt, held=held)
                )
        results += [
            self._compared(conn, None, tables[key], rebuilt=False, held=held)
            for key in sorted((touched & tables.keys()) - taken)
        ]
        self._let_go(held)
        return tuple(results)

    def _compared(
        self,
        conn: sqlite3.Connection,
        before: _Held | None,
        table: Table,
        *,
        rebuilt: bool,
        held: dict[str, _Held],
    ) -> TableRows:
        """Copy a table, and compare the copy with what was there before."""
        was = before.table.name if before is not None else None
        if _is_shown(table.sql):
            return TableRows(table.name, was, why="it shows the rows of another table")
        try:
            after = self._copied(conn, table)
            held[fold(table.name)] = after
            return self._counted(before, after, rebuilt=rebuilt)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            return TableRows(table.name, was, why=_why(error))

    def _copied(self, conn: sqlite3.Connection, table: Table) -> _Held:
        """Copy a table's rows as they are into the scratch database."""
        self._number += 1
        place = f"t{self._number}"
        names = [quoted(each.name) for each in table.columns]
        if table.rowid is not None:
            names.append(table.rowid)
        columns = [f"c{at}" for at in range(len(names))]
        # Without types, so that SQLite converts nothing.
        self._conn.execute(f"CREATE TABLE main.{place} ({', '.join(columns)})")
        marks = ", ".join("?" * len(columns))
        rows = conn.execute(f"SELECT {', '.join(names)} FROM main.{quoted(table.name)}")  # noqa: S608
        self._conn.execute("BEGIN")
        try:
            self._conn.executemany(f"INSERT INTO main.{place} VALUES ({marks})", rows)  # noqa: S608
        finally:
            self._conn.execute("COMMIT")
        rowid = columns[-1] if table.rowid is not None else None
        return _Held(table, f"main.{place}", rowid, copied=True)

    def _gone(self, before: _Held) -> TableRows:
        """Return what went with a table."""
        name = before.table.name
        try:
            count = self._count(before)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            return TableRows(name, name, why=_why(error), gone=True)
        return TableRows(name, name, before=count, deleted=count, by="table", gone=True)

    def _count(self, held: _Held) -> int:
        ((count,),) = self._conn.execute(f"SELECT count(*) FROM {held.place}")  # noqa: S608
        return int(count)

    def _counted(self, before: _Held | None, after: _Held, *, rebuilt: bool) -> TableRows:
        name, total = after.table.name, self._count(after)
        if before is None:
            return TableRows(name, None, after=total, inserted=total, by="table")
        was, old = before.table.name, self._count(before)
        pairs = pairs_of(
            [each.name for each in before.table.columns],
            [each.name for each in after.table.columns],
            self._column_renames,
        )
        by, keys = self._key(before, after, pairs, rebuilt=rebuilt)
        if by == "content":
            inserted, deleted = self._by_content(before, after, pairs)
            return TableRows(name, was, old, total, inserted, 0, deleted, by)
        matched, changed = self._by_key(before, after, pairs, keys)
        return TableRows(name, was, old, total, total - matched, changed, old - matched, by)

    def _key(
        self, before: _Held, after: _Held, pairs: Mapping[str, str], *, rebuilt: bool
    ) -> tuple[str, list[tuple[str, str]]]:
        """Return by what rows are the same, and the columns of it, before and after."""
        key, old = after.table.key, before.table.key
        if key and tuple(fold(pairs.get(each, "")) for each in key) == tuple(map(fold, old)):
            columns = [(before.column(pairs[each]), after.column(each)) for each in key]
            if not self._has_null(before, [one for one, _ in columns]) and not self._has_null(
                after, [other for _, other in columns]
            ):
                return "key", columns
        elif not key and not old and not rebuilt and before.rowid and after.rowid:
            return "rowid", [(before.rowid, after.rowid)]
        return "content", []

    def _has_null(self, held: _Held, columns: Iterable[str]) -> bool:
        """Tell whether a key has a NULL, which no other NULL equals: a primary key may."""
        test = " OR ".join(f"{each} IS NULL" for each in columns)
        sql = f"SELECT EXISTS (SELECT 1 FROM {held.place} WHERE {test})"  # noqa: S608
        return bool(self._conn.execute(sql).fetchone()[0])

    def _by_key(
        self,
        before: _Held,
        after: _Held,
        pairs: Mapping[str, str],
        keys: Sequence[tuple[str, str]],
    ) -> tuple[int, int]:
        """Return how many rows are there before and after, and how many of them were changed."""
        self._number += 1
        table = after.place.removeprefix("main.")
        index = ", ".join(other for _, other in keys)
        self._conn.execute(f"CREATE INDEX main.i{self._number} ON {table} ({index})")
        # A copy's columns have no affinity, and the `+` takes the other side's away: nothing is
        # converted, and the copy's index is used. The copy stands first for its collation, BINARY.
        same = " AND ".join(f"a.{other} = +b.{one}" for one, other in keys)
        differ = [
            f"a.{after.column(new)} IS NOT +b.{before.column(old)}" for new, old in pairs.items()
        ]
        with self._defaults(before, after, pairs) as added:
            test = " OR ".join([*differ, *added]) or "0"
            sql = (
                f"SELECT count(*), coalesce(sum({test}), 0)"  # noqa: S608
                f" FROM {before.place} AS b CROSS JOIN {after.place} AS a WHERE {same}"
            )
            matched, changed = self._conn.execute(sql).fetchone()
        return int(matched), int(changed)

    @contextlib.contextmanager
    def _defaults(
        self, before: _Held, after: _Held, pairs: Mapping[str, str]
    ) -> Iterator[list[str]]:
        """Yield the tests that find what an added column has beside its default."""
        del before
        added = [each for each in after.table.columns if each.name not in pairs]
        if not added:
            yield []
            return
        columns = ", ".join(
            f"c{at} {quoted(each.type) if each.type else ''}"
            + (f" DEFAULT ({each.default})" if each.default is not None else "")
            for at, each in enumerate(added)
        )
        self._conn.execute(f"CREATE TEMP TABLE added ({columns})")
        try:
            self._conn.execute("INSERT INTO temp.added DEFAULT VALUES")
            yield [
                f"a.{after.column(each.name)} IS NOT (SELECT +c{at} FROM temp.added)"  # noqa: S608
                for at, each in enumerate(added)
            ]
        finally:
            self._conn.execute("DROP TABLE temp.added")

    def _by_content(self, before: _Held, after: _Held, pairs: Mapping[str, str]) -> tuple[int, int]:
        """Return how many rows were added and removed, by the columns that both have."""
        news = [f"+{after.column(new)} AS v{at}" for at, new in enumerate(pairs)]
        olds = [f"+{before.column(old)}" for old in pairs.values()]
        names = ", ".join(f"v{at}" for at in range(len(news)))
        grouped = f" GROUP BY {names}" if names else ""
        sql = (
            "SELECT coalesce(sum(max(n, 0)), 0), coalesce(sum(max(-n, 0)), 0) FROM ("  # noqa: S608
            f"SELECT sum(d) AS n FROM (SELECT {', '.join([*news, '1 AS d'])} FROM {after.place}"
            f" UNION ALL SELECT {', '.join([*olds, '-1'])} FROM {before.place}){grouped})"
        )
        inserted, deleted = self._conn.execute(sql).fetchone()
        return int(inserted), int(deleted)

    def _let_go(self, held: dict[str, _Held]) -> None:
        """Keep the newest copy of each table, and remove the others."""
        kept = {each.place for each in held.values()}
        sql = "SELECT name FROM main.sqlite_schema WHERE type = 'table'"
        for (name,) in self._conn.execute(sql).fetchall():
            if f"main.{name}" not in kept:
                self._conn.execute(f"DROP TABLE main.{name}")
        self._held = held


def _why(error: Exception) -> str:
    """Return SQLite's words, unless they quote what a row holds."""
    text = str(error)
    if isinstance(error, UnicodeDecodeError) or text.startswith("Could not decode"):
        return "it holds text that is not UTF-8"
    return text


def _encoding(database: Path) -> str:
    uri = database_uri(database, _READ)
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as conn:
        return str(conn.execute("PRAGMA encoding").fetchone()[0])


def _successor(
    key: str, found: Whereabouts, tables: Mapping[str, Table]
) -> tuple[str | None, bool]:
    """Return where a table's rows are expected now, and whether that is another table."""
    last = found.last_name(key)
    there = not found.is_dropped(key) and last in tables
    now = next((each for each in (last if there else key, last) if each in tables), None)
    return now, not there


def _is_shown(sql: str) -> bool:
    return bool(sql) and shows_another(sql)
