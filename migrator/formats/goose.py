"""
goose's migrations: `N_name.sql` with `-- +goose Up` and `-- +goose Down`.

After https://github.com/pressly/goose: the annotations stand at the beginning of a line; a
statement ends with a line that ends with `;`, but between StatementBegin and StatementEnd.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable

from migrator.errors import MisfitError
from migrator.formats.tool import Tool, ToolHistory, head
from migrator.formats.wrapped import fails, wrapped
from migrator.model import Applied, Entry, Script, Section
from migrator.parsing import sql_file
from migrator.parsing.directory import misfit, refuse_duplicates
from migrator.parsing.scripts import text_of
from migrator.sqlite import insert, quoted, text_or_none

_FILE = re.compile(r"([0-9]+)_(.*)\.(sql|go)", re.DOTALL)
_UP = re.compile(r"^--[ \t]*\+goose[ \t]+Up[ \t]*$", re.MULTILINE)
_ANNOTATION = re.compile(r"--\s*\+goose\b\s*(.*?)\s*", re.DOTALL)
_LARGEST = 2**63 - 1
_NO_TRANSACTION = "Write `-- +goose NO TRANSACTION` in the first line"


class Goose(Tool):
    """A directory of goose's SQL, and its `goose_db_version`."""

    name, title, table = "goose", "goose", "goose_db_version"
    columns = ("id", "version_id", "is_applied", "tstamp")
    form = "`N_name.sql` with `-- +goose Up` and `-- +goose Down`"
    undoes = "`-- +goose Down`"
    proven = "databases written after its documentation and source"

    def fits(self) -> bool:
        """Tell whether the first file has goose's mark."""
        files = [path for match, path in self.files(_FILE) if match[3] == "sql"]
        return bool(files) and _UP.search(head(files[0])) is not None

    def marked(self) -> bool:
        """Tell the same: only goose has `-- +goose`."""
        return self.fits()

    def entries(self) -> tuple[Entry, ...]:
        """List the files by their numbers; goose ignores names without one."""
        found = []
        for match, path in self.files(_FILE):
            entry = Entry(int(match[1]), match[1], match[2] or match[1], path)
            if match[3] == "go":
                if match[2].endswith("_test"):
                    continue
                raise _is_go(entry)
            if not 0 < entry.key <= _LARGEST:
                raise misfit(
                    entry,
                    f"goose counts versions from 1 to {_LARGEST}.",
                    hint="Give the file such a number.",
                    reason="migrations.bad_name",
                )
            found.append(entry)
        found.sort(key=lambda entry: entry.key)
        refuse_duplicates(self.path, found)
        return tuple(found)

    def read(self, entry: Entry) -> Script:
        """Read one file by goose's annotations."""
        text = text_of(entry).replace("\r\n", "\n")  # goose reads lines
        parsed = _Parser(entry, text)
        up = parsed.section("up")
        down = parsed.section("down") if parsed.has_down else None
        return Script(entry).with_sql(up, down, sql_file.row_losses(entry, text))

    def history(self, table: str) -> GooseHistory:
        """Return goose's table."""
        return GooseHistory(self, table)


def _is_go(entry: Entry) -> MisfitError:
    return misfit(
        entry,
        "it is a migration in Go, which only a program of its own can run.",
        hint=(
            "Run that program with `--migrate-command` (MIGRATOR_MIGRATE_COMMAND), or write the"
            " migration in SQL."
        ),
        reason="migrations.other_tool",
    )


class _Parser:
    """A file's statements by section, as goose's own state machine finds them."""

    def __init__(self, entry: Entry, text: str) -> None:
        self.entry = entry
        self.transactional = True
        self.has_down = False
        self._where = ""
        self._block = 0
        """The line of the StatementBegin that is open."""
        self._held: list[str] = []
        self._begin = 0
        self._found: dict[str, list[tuple[int, str]]] = {"up": [], "down": []}
        for number, line in enumerate(text.split("\n"), 1):
            match = _ANNOTATION.fullmatch(line)
            if match is not None:
                self._annotation(" ".join(match[1].split()), number)
            else:
                self._line(line, number)
        if not self._where:
            raise self._bad(1, "it has no `-- +goose Up`.", "Put it above the statements.")
        if self._block:
            raise self._bad(
                self._block,
                "`-- +goose StatementBegin` without a `-- +goose StatementEnd`.",
                "Put `-- +goose StatementEnd` below the statement.",
            )
        if self._where == "up":
            self._refuse_unfinished()
        else:  # goose on its way up does not look there
            self._close()

    def section(self, word: str) -> Section:
        """Return the statements of `up` or `down`."""
        if not self.transactional:
            return self._joined(word, transactional=False)
        found = wrapped(self._joined(word, transactional=None))
        return self._joined(word, transactional=True) if fails(found) else found

    def _joined(self, word: str, *, transactional: bool | None) -> Section:
        """Return the statements, split where goose splits them, as one section."""
        parts = [
            sql_file.section(
                self.entry,
                text,
                line=line,
                transactional=transactional,
                no_transaction=_NO_TRANSACTION,
            )
            for line, text in self._found[word]
        ]
        return Section(
            tuple(each for part in parts for each in part.statements),
            all(part.transactional for part in parts) and transactional is not False,
        )

    def _annotation(self, word: str, number: int) -> None:
        place = {"Up": "up", "Down": "down"}.get(word)
        if place is not None:
            self._open(place, number)
        elif word == "StatementBegin":
            if not self._where or self._block:
                raise self._bad(
                    number,
                    "`-- +goose StatementBegin` is outside of a section or inside a statement.",
                    "Put it below `-- +goose Up` or `-- +goose Down`, once for each statement.",
                )
            self._refuse_unfinished()
            self._block = number
        elif word == "StatementEnd":
            if not self._block:
                raise self._bad(
                    number,
                    "`-- +goose StatementEnd` without a `-- +goose StatementBegin`.",
                    "Put `-- +goose StatementBegin` above the statement.",
                )
            self._block = 0
            self._close()
        elif word == "NO TRANSACTION":
            self.transactional = False
        elif word in ("ENVSUB ON", "ENVSUBST ON"):
            raise self._bad(
                number,
                f"`-- +goose {word}` puts variables of the environment into SQL, which is not done"
                " here: the same migration would not be the same everywhere.",
                "Write the values into the file, or run goose itself with `--migrate-command`"
                " (MIGRATOR_MIGRATE_COMMAND).",
            )
        elif word not in ("ENVSUB OFF", "ENVSUBST OFF"):
            raise self._bad(
                number,
                f"the annotation `-- +goose {word}` is not known.",
                "Known are Up, Down, StatementBegin, StatementEnd and NO TRANSACTION, spelled so.",
            )

    def _open(self, place: str, number: int) -> None:
        if self._block:
            raise self._bad(
                number,
                "a section begins before `-- +goose StatementEnd`.",
                "Put `-- +goose StatementEnd` above it.",
            )
        before = {"up": "", "down": "up"}[place]
        if self._where != before:
            raise self._bad(
                number,
                f"`-- +goose {place.title()}` is in the wrong place.",
                "Write each once, `-- +goose Up` first.",
            )
        self._refuse_unfinished()
        self._where = place
        self.has_down = place == "down"

    def _line(self, line: str, number: int) -> None:
        if not self._held and (not line.strip() or line.lstrip().startswith("--")):
            return
        if not self._where:
            raise self._bad(
                number, "a statement comes before `-- +goose Up`.", "Move it below that line."
            )
        if not self._held:
            self._begin = number
        self._held.append(line)
        if not self._block and _ends(line):
            self._close()

    def _close(self) -> None:
        if self._held:
            self._found[self._where].append((self._begin, "\n".join(self._held)))
        self._held = []

    def _refuse_unfinished(self) -> None:
        if any(line.strip() for line in self._held):
            raise self._bad(
                self._begin,
                "the statement does not end with `;` at the end of a line.",
                "End it so, or put it between `-- +goose StatementBegin` and"
                " `-- +goose StatementEnd`.",
            )
        self._held = []

    def _bad(self, line: int, message: str, hint: str) -> MisfitError:
        return misfit(self.entry, message, hint=hint, reason="migrations.directive", line=line)


def _ends(line: str) -> bool:
    """Tell whether a line ends a statement for goose: the last word before a comment ends so."""
    last = ""
    for word in line.split():
        if word.startswith("--"):
            break
        last = word
    return last.endswith(";")


class GooseHistory(ToolHistory):
    """
    A row a version; in older databases also one for each time that it was undone.

    The newest row of a version counts. Version 0 is the row with which goose makes the table.
    """

    identity = "version_id"

    def rows(self, conn: sqlite3.Connection) -> Iterable[Applied]:
        """Return the versions whose newest row says that they are applied."""
        columns, table = "version_id, is_applied, tstamp", quoted(self.table)
        query = f"SELECT {columns} FROM {table} ORDER BY id DESC"  # noqa: S608 - quoted
        seen: set[object] = set()
        found = []
        for version, is_applied, at in conn.execute(query):
            if version in seen:
                continue
            seen.add(version)
            if not isinstance(version, int):
                raise self.broken(
                    str(version),
                    f"has the version {version!r}, which is not a number",
                    f"Correct that row, then start again: goose wrote numbers into {self.table}.",
                )
            if is_applied and version:
                found.append(Applied(version, str(version), "", text_or_none(at)))
        return found

    def prepare(self, conn: sqlite3.Connection) -> None:
        """Create the table as goose does, with its row for version 0."""
        if self.exists(conn):
            return
        conn.execute(
            f"CREATE TABLE {quoted(self.table)} (id INTEGER PRIMARY KEY AUTOINCREMENT,"
            " version_id INTEGER NOT NULL, is_applied INTEGER NOT NULL,"
            " tstamp TIMESTAMP DEFAULT (datetime('now')))"
        )
        insert(conn, self.table, {"version_id": 0, "is_applied": 1})

    def record(
        self, conn: sqlite3.Connection, script: Script, seconds: float | None, run_id: str
    ) -> None:
        """Note a version as applied."""
        del seconds, run_id
        insert(conn, self.table, {"version_id": script.entry.key, "is_applied": 1})
