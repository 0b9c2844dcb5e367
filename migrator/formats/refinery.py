"""
refinery's migrations: files `V1__name.sql`, and `U1__name.sql`, which may come late.

After https://github.com/rust-db/refinery, 0.10 (`refinery_core`): the directories below are looked
through as well, and each file is a transaction. The table keeps a checksum of name, version and
text. In it the version has 32 bits, or 64 with the feature `int8-versions`, which the declared
type of the table's column tells apart.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from migrator.errors import MisfitError
from migrator.formats.tool import Tool, ToolHistory
from migrator.model import Applied, Entry, Script
from migrator.parsing.directory import bad_names, misfit, no_file, refuse_duplicates, scan
from migrator.parsing.file_names import LOST_AND_FOUND
from migrator.sqlite import insert, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FILE = re.compile(r"([UV])([0-9]+(?:\.[0-9]+)?)__(.+)\.(sql|rs)", re.DOTALL)
_LARGEST = 2**63 - 1
_LARGEST_INT4 = 2**31 - 1
_DIGITS = 19

_TABLE = """CREATE TABLE IF NOT EXISTS {}(
             version {} PRIMARY KEY,
             name VARCHAR(255),
             applied_on VARCHAR(255),
             checksum VARCHAR(255))"""


class Refinery(Tool):
    """The files of refinery below a directory, and its `refinery_schema_history`."""

    name, title, table = "refinery", "refinery", "refinery_schema_history"
    columns = ("version", "name", "applied_on", "checksum")
    form = "`V1__name.sql`, `U1__name.sql`"
    proven = "databases made by refinery_cli 0.10"
    has_checksums = True

    wide: bool | None = None
    """Whether the table that was seen last has versions of 64 bits, None before one was."""
    _last: Entry | None = None
    """The file with the highest version, once they were listed."""

    def fits(self) -> bool:
        """Tell whether there is a file called like one of refinery's."""
        return any(self._found())

    def marked(self) -> bool:
        """Tell whether there is one in Rust: those in SQL alone are called like Flyway's."""
        return any(match[4] == "rs" for match, _ in self._found())

    def entries(self) -> tuple[Entry, ...]:
        """List the files by their versions, whichever directory they lie in."""
        found = [self._entry(match, path) for match, path in self._found()]
        found.sort(key=lambda entry: entry.key)
        refuse_duplicates(self.path, found)
        self._last = found[-1] if found else None
        return tuple(found)

    def read(self, entry: Entry) -> Script:
        """Read one file."""
        from migrator.formats.siphash import siphash13
        from migrator.formats.wrapped import wrapped_section
        from migrator.parsing import python_file, scripts, sql_file

        source = b"" if entry.path is None else python_file.read_bytes(entry.path)
        text = scripts.decoded(entry, source)
        up = wrapped_section(entry, text)
        version = entry.key.to_bytes(8 if self.is_wide else 4, "little")
        hashed = entry.name.encode() + b"\xff" + version + source + b"\xff"
        script = Script(entry, checksum=str(siphash13(hashed)))
        return script.with_sql(up, None, sql_file.row_losses(entry, text))

    def out_of_order(
        self, pending: Sequence[Entry], history: Collection[Applied]
    ) -> dict[Any, Applied]:
        """Return the versions below the highest one that is applied, but for those that may be."""
        return super().out_of_order([each for each in pending if not _may_be_late(each)], history)

    def history(self, table: str) -> RefineryHistory:
        """Return refinery's table."""
        return RefineryHistory(self, table)

    @property
    def is_wide(self) -> bool:
        """Whether versions have 64 bits: as the table says, else where a file needs them."""
        if self.wide is not None:
            return self.wide
        last = self._highest()
        return last is not None and last.key > _LARGEST_INT4

    def refuse_too_large(self) -> None:
        """
        Refuse a version that the table which was seen cannot take.

        Raises:
            MisfitError: With the file.
        """
        last = self._highest()
        if not self.wide and last is not None and last.key > _LARGEST_INT4:
            what = f"its version is larger than {_LARGEST_INT4}, and those of the table are int4."
            raise _bad_name(last, what)

    def _highest(self) -> Entry | None:
        if self._last is None:
            self.entries()
        return self._last

    def _found(self) -> Iterator[tuple[re.Match[str], Path]]:
        """Yield the files whose names refinery takes for migrations; it ignores all others."""
        for path in _walk(self.path.absolute()):  # a migration may change the working directory
            match = _FILE.fullmatch(path.name)
            if match is not None and _is_word(match[3]):
                yield match, path

    def _entry(self, match: re.Match[str], path: Path) -> Entry:
        shown = str(path.relative_to(self.path.absolute()))
        entry = Entry(None, match[2], match[3], path, shown)
        if match[4] == "rs":
            raise misfit(
                entry,
                "it is a migration in Rust, which only the application itself can run.",
                hint=(
                    "Have the application run its migrations with `--migrate-command`"
                    " (MIGRATOR_MIGRATE_COMMAND), or write this one in SQL."
                ),
                reason="migrations.other_tool",
            )
        if "." in match[2]:
            raise _bad_name(entry, "refinery's versions are whole numbers, and it refuses this.")
        if len(match[2].lstrip("0")) > _DIGITS or int(match[2]) > _LARGEST:
            raise _bad_name(entry, f"its version is larger than {_LARGEST}.")
        return Entry(int(match[2]), str(int(match[2])), match[3], path, shown)


def _walk(directory: Path) -> Iterator[Path]:
    """Yield the files below a directory; links to directories, and hidden ones, are left out."""
    waiting = [directory]
    while waiting:
        here = waiting.pop()
        for item in sorted(scan(here), key=lambda each: each.name):
            if item.name.startswith(".") or item.name == LOST_AND_FOUND:
                continue
            if item.is_dir(follow_symlinks=False):
                waiting.append(here / item.name)
            elif _FILE.fullmatch(item.name) is not None and (trouble := no_file(item)) is not None:
                raise bad_names(here, [(item.name, trouble)])
            else:
                yield here / item.name


def _is_word(name: str) -> bool:
    """Tell whether a name has letters, marks, digits and `_` alone, Rust's own words."""
    if name.isascii():
        return name.replace("_", "a").isalnum()
    import unicodedata

    return all(unicodedata.category(each) in _WORDS for each in name)


_WORDS = frozenset(("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "Pc"))


def _may_be_late(entry: Entry) -> bool:
    """Tell whether a file may be applied after a higher one: `U1__name.sql`."""
    return entry.path is not None and entry.path.name.startswith("U")


def _bad_name(entry: Entry, what: str) -> MisfitError:
    hint = "A migration of refinery is a file VN__name.sql or UN__name.sql with a whole number N."
    return misfit(entry, what, hint=hint, reason="migrations.bad_name")


class RefineryHistory(ToolHistory):
    """A row a version, with the checksum of its file."""

    tool: Refinery

    def exists(self, conn: sqlite3.Connection) -> bool:
        """Tell whether the table is there, and how wide its versions are."""
        there = super().exists(conn)
        self.tool.wide = _is_wide(conn, self.table) if there else None
        return there

    def rows(self, conn: sqlite3.Connection) -> Iterable[Applied]:
        """Return the versions."""
        query = f"SELECT version, name, applied_on, checksum FROM {quoted(self.table)}"  # noqa: S608 - quoted
        found = [self._applied(*row) for row in conn.execute(query)]
        self.tool.refuse_too_large()
        return found

    def _applied(self, version: object, name: object, at: object, checksum: object) -> Applied:
        text = str(version)[:100]
        known = isinstance(checksum, str) and checksum.isascii() and checksum.isdigit()
        if not isinstance(version, int) or not known:
            raise self.broken(
                text,
                f"has a row for version {text!r} whose version or checksum is not a number",
                f"Correct that row, then start again: refinery did not write it into {self.table}.",
            )
        return Applied(version, text, str(name), str(at), str(checksum))

    def prepare(self, conn: sqlite3.Connection) -> None:
        """Create the table as refinery does."""
        conn.execute(_TABLE.format(self.spelled, "int8" if self.tool.is_wide else "int4"))

    def record(
        self, conn: sqlite3.Connection, script: Script, seconds: float | None, run_id: str
    ) -> None:
        """Note a version as applied."""
        del seconds, run_id
        row = {
            "version": script.entry.key,
            "name": script.entry.name,
            "applied_on": _now(),
            "checksum": script.checksum,
        }
        insert(conn, self.table, row)


def _is_wide(conn: sqlite3.Connection, table: str) -> bool:
    rows = conn.execute(f"PRAGMA table_info({quoted(table)})").fetchall()
    declared = [str(row[2]).upper() for row in rows if str(row[1]).lower() == "version"]
    return declared in (["INT8"], ["BIGINT"])


def _now() -> str:
    """Return the time as refinery reads it back: RFC 3339."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}".rstrip("0").rstrip(".") + "Z"
