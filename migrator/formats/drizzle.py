"""
Drizzle's migrations: SQL files that a journal lists, or since 1.0 a directory each.

After https://github.com/drizzle-team/drizzle-orm: `meta/_journal.json` gives order and time
(`when`) of each `TAG.sql`, and a row has that time and the SHA-256 of the file. Drizzle before 1.0
compares the newest time only, and takes for applied whatever is older. Here each migration has to
have a row of its own: one without, below one that is applied, is told (out-of-order), neither
passed over in silence nor applied a second time. From 1.0 on the rows have names.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from migrator.errors import MisfitError
from migrator.formats.drizzle_history import DrizzleHistory
from migrator.formats.drizzle_journal import Listed, listed_in, millis_of
from migrator.formats.named import Named, folders, spelled_checksums, split
from migrator.formats.tool import columns_of
from migrator.formats.wrapped import wrapped
from migrator.model import Entry, Script, Section
from migrator.parsing import sql_file
from migrator.parsing.directory import bad_names, printable, refuse_duplicates, scan
from migrator.parsing.file_names import LEFTOVER
from migrator.parsing.python_file import read_bytes
from migrator.parsing.scripts import text_of
from migrator.value import replace

_FOLDER = re.compile(r"[0-9]{14}(_.*)?", re.DOTALL)
_BREAKPOINT = "--> statement-breakpoint"
_LATER = frozenset({"name", "applied_at", "version"})
"""The columns that Drizzle 1.0 has added, the last one in some of its betas only."""


class Drizzle(Named):
    """A directory of Drizzle Kit's, and its `__drizzle_migrations`."""

    name, title, table = "drizzle", "Drizzle", "__drizzle_migrations"
    columns = ("id", "hash", "created_at")
    form = (
        "`0000_name.sql` with `--> statement-breakpoint`, `meta/_journal.json`; since 1.0"
        " `TIME_name/migration.sql`"
    )
    undoes = "`down.sql`, since 1.0"
    proven = "databases written after its documentation and source"
    has_checksums = True

    _whens: dict[str, int] | None = None
    """The time of each migration, in their order, once the directory was listed."""
    _places: dict[str, int]
    paths: dict[str, Path]
    """The file of each migration."""

    @property
    def journal(self) -> Path:
        """The file that lists the migrations of Drizzle before 1.0."""
        return self.path.absolute() / "meta" / "_journal.json"

    @property
    def by_name(self) -> bool:
        """Whether the migrations are directories, whose names the rows have."""
        return not self.journal.exists()

    @property
    def whens(self) -> dict[str, int]:
        """The time of each migration in milliseconds, in their order."""
        if self._whens is None:
            self.entries()
        return self._whens or {}

    def owns(self, conn: sqlite3.Connection, table: str) -> bool:
        """Tell whether a table has Drizzle's columns, those of 1.0 or not."""
        found = {*columns_of(conn, table)}
        return {*self.columns} <= found <= {*self.columns} | _LATER

    def fits(self) -> bool:
        """Tell whether there is a journal, or a directory with a migration."""
        return self.journal.is_file() or any(_FOLDER.fullmatch(name) for name in self._folders())

    def marked(self) -> bool:
        """Tell whether there is a journal, or a directory with a snapshot beside the SQL."""
        home = self.path.absolute()
        return self.journal.is_file() or any(
            _FOLDER.fullmatch(name) and (home / name / "snapshot.json").is_file()
            for name in self._folders()
        )

    def _folders(self) -> list[str]:
        found = folders(self.path, "migration.sql")
        return [name for name, _, trouble in found if trouble is None]

    def entries(self) -> tuple[Entry, ...]:
        """List what the journal lists, or the directories in the order of their names."""
        listed = self._listed() if not self.by_name else self._timed()
        self._whens = {each.name: each.when for each in listed}
        self._places = {each.name: at for at, each in enumerate(listed)}
        self.paths = {each.name: each.path for each in listed}
        names, by_name = split([each.name for each in listed]), self.by_name
        found = [
            Entry(
                each.name,
                *names[each.name],
                each.path,
                f"{each.name}/migration.sql" if by_name else None,
            )
            for each in listed
        ]
        refuse_duplicates(self.path, found)
        return tuple(found)

    def _listed(self) -> list[Listed]:
        both = [name for name in self._folders() if _FOLDER.fullmatch(name)]
        if both:
            trouble = (
                "is a migration of Drizzle 1.0, beside the journal of an older one;"
                " make the two one with `drizzle-kit up`, or remove one of them"
            )
            raise bad_names(self.path, [(name, trouble) for name in both])
        return listed_in(self.journal, self.path.absolute())

    def _timed(self) -> list[Listed]:
        names = self._folders()
        whens = {name: when for name in names if (when := millis_of(name)) is not None}
        if len(whens) < len(names):
            trouble = "has no time at its beginning; rename it to 'YYYYMMDDhhmmss_NAME'"
            raise bad_names(self.path, [(name, trouble) for name in names if name not in whens])
        if not names and (stray := self._stray(())):
            message = (
                f"{str(self.path)!r} has no `meta/_journal.json`, which would tell Drizzle that"
                f" {stray[0]!r} is a migration."
            )
            hint = "Copy the whole directory that `drizzle-kit generate` writes, `meta` as well."
            data = {"file": stray[0]}
            raise MisfitError(message, hint=hint, reason="migrations.unreadable", data=data)
        home = self.path.absolute()
        return [Listed(name, when, home / name / "migration.sql") for name, when in whens.items()]

    def ignored(self) -> tuple[tuple[str, str], ...]:
        """Return the SQL files that Drizzle does not run, and why."""
        why = "it is not in a directory of its own" if self.by_name else "the journal lacks it"
        return tuple((printable(name), why) for name in self._stray(self.whens))

    def _stray(self, known: Iterable[str]) -> list[str]:
        names = {f"{name}.sql" for name in known}
        return sorted(
            item.name
            for item in scan(self.path)
            if item.name.endswith(".sql")
            and item.name not in names
            and re.fullmatch(LEFTOVER, item.name) is None
        )

    def read(self, entry: Entry) -> Script:
        """Read one file, and in a directory its `down.sql`."""
        assert entry.path is not None  # noqa: S101 - told to the type checker
        source = read_bytes(entry.path)
        spelled, text = spelled_checksums(source), text_of(entry)
        losses, up = sql_file.row_losses(entry, text), _section(entry, text)
        down = None
        below = entry.path.with_name("down.sql")
        if self.by_name and below.is_file():
            half = replace(entry, path=below, shown=f"{entry.key}/down.sql")
            text = text_of(half)
            losses, down = losses | sql_file.row_losses(half, text), _section(half, text)
        script = Script(
            entry,
            checksum=spelled[0],
            checksums=frozenset(spelled),
            down_file=None if down is None else f"{entry.key}/down.sql",
        )
        return script.with_sql(up, down, losses)

    def rank(self, key: str) -> tuple[int, int]:
        """Return the place in the list; of what is not there any more the place by its time."""
        whens = self.whens
        if key in whens:
            return self._places[key], 1
        when = millis_of(key) or (int(key) if re.fullmatch(r"[0-9]{1,18}", key) else None)
        before = (at + 1 for at, each in enumerate(whens.values()) if when is None or each < when)
        return max(before, default=0), 0

    def history(self, table: str) -> DrizzleHistory:
        """Return Drizzle's table."""
        return DrizzleHistory(self, table)


def _section(entry: Entry, text: str) -> Section:
    """Split a file where Drizzle does, and at each semicolon."""
    line, parts = 1, []
    for part in text.split(_BREAKPOINT):
        parts.append(sql_file.section(entry, part, line=line))
        line += part.count("\n")
    statements = tuple(each for part in parts for each in part.statements)
    return wrapped(Section(statements, all(part.transactional for part in parts)))
