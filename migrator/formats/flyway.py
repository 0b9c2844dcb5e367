"""
Flyway's migrations: `V1__name.sql`, `U1__name.sql`, `R__name.sql`, in directories of any depth.

After https://github.com/flyway/flyway: versions are compared part by part, `1_1` is 1.1, and a
repeatable migration runs again, after all versions, when its text has another checksum than at its
last run. So its checksum is a part of its key: a changed one is another migration, and pending.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any
from zlib import crc32

from migrator.errors import MisfitError
from migrator.formats.flyway_history import FlywayHistory, description_of, parts_of
from migrator.formats.flyway_settings import settings_of
from migrator.formats.tool import Tool
from migrator.model import Applied, Entry, Script, Section
from migrator.parsing import sql_file
from migrator.parsing.directory import misfit, no_file, printable, refuse_duplicates, scan
from migrator.parsing.file_names import LEFTOVER, LOST_AND_FOUND
from migrator.parsing.scripts import text_of
from migrator.value import replace

_VERSIONED = re.compile(r"([VUB])([0-9]+(?:[._][0-9]+)*)(?:__(.*))?\.sql", re.DOTALL)
_REPEATABLE = re.compile(r"R__(.*)\.sql", re.DOTALL)
_CALLBACK = re.compile(
    r"(?:(?:before|after)(?:Each)?(?:Migrate|Undo|Validate|Baseline|Versioned|Repeatables|Connect)"
    r"|createSchema|beforeCreateSchema)[A-Za-z]*(?:__.*)?\.sql",
    re.DOTALL,
)
_PROGRAM = re.compile(
    r"(?:[VUB][0-9]+(?:[._][0-9]+)*|R)__.*"
    r"\.(?:java|class|kt|groovy|sh|bash|ps1|bat|cmd|exe|py)",
    re.DOTALL,
)

_GLANCE = 1000


class Flyway(Tool):
    """A directory of Flyway's SQL, and its `flyway_schema_history`."""

    name, title, table = "flyway", "Flyway", "flyway_schema_history"
    columns = (
        *("installed_rank", "version", "description", "type", "script", "checksum"),
        *("installed_by", "installed_on", "execution_time", "success"),
    )
    form = "`V1__name.sql`, `U1__name.sql`, `R__name.sql`"
    undoes = "`U1__name.sql`"
    proven = "databases written after its documentation and source"
    has_checksums = True

    below: frozenset[Any] = frozenset()
    """The keys of what a baseline says is applied, once the history was read: never undone."""
    _undo: dict[Any, Entry] | None = None
    _unread: tuple[tuple[str, str], ...] = ()

    def fits(self) -> bool:
        """Tell whether there is a name of Flyway's."""
        return any(map(_VERSIONED.fullmatch, self._first())) or self.marked()

    def marked(self) -> bool:
        """Tell whether there is a repeatable migration; refinery has the other names too."""
        return any(map(_REPEATABLE.fullmatch, self._first()))

    def _first(self) -> list[str]:
        """Return the first names: the directory may be anything's, and a whole disk below it."""
        return [path.name for path, _ in islice(self._walk(self.path.absolute()), _GLANCE)]

    def _walk(
        self, directory: Path, shown: str = "", above: tuple[Any, ...] = ()
    ) -> Iterator[tuple[Path, str]]:
        """Yield each file below a directory, and its path from the migrations' own."""
        with contextlib.suppress(OSError):
            found = directory.stat()
            above = (*above, (found.st_dev, found.st_ino))
        for item in sorted(scan(directory), key=lambda each: each.name):
            path = directory / item.name
            # The listing tells of each file what it is; where a link leads, it does not.
            if os.path.isdir(path) if item.is_symlink() else item.is_dir():
                # Hidden are a ConfigMap's own directories; links may go in a circle.
                hidden = item.name.startswith(".") or item.name == LOST_AND_FOUND
                found = path.stat()
                if not hidden and (found.st_dev, found.st_ino) not in above:
                    yield from self._walk(path, f"{shown}{item.name}/", above)
            elif re.fullmatch(LEFTOVER, item.name) is None:
                yield path, f"{shown}{item.name}"

    def entries(self) -> tuple[Entry, ...]:
        """List the versions in their order, then the repeatable migrations by their names."""
        found: dict[str, list[Entry]] = {"V": [], "U": [], "B": [], "R": []}
        unread = []
        for path, shown in self._walk(self.path.absolute()):
            kind = self._add(found, path, shown)
            if kind is None and path.suffix == ".sql":
                unread.append((printable(shown), "it is not called like V1__name.sql"))
        for same in found.values():
            same.sort(key=lambda entry: entry.key)
            refuse_duplicates(self.path, same)
        self._undo = {entry.key: entry for entry in found["U"]}
        self._refuse_alone({entry.key for entry in found["V"]}, found["U"], found["B"])
        _refuse_same_name(found["R"])
        unread += [(str(each.shown), "its versions are there one by one") for each in found["B"]]
        self._unread = tuple(unread)
        return (*found["V"], *found["R"])

    def _add(self, found: dict[str, list[Entry]], path: Path, shown: str) -> str | None:
        """Add one file to its list; return None if it is not a migration to Flyway."""
        entry = Entry(shown, shown, shown, path, shown)
        if _PROGRAM.fullmatch(path.name):
            raise _not_here(entry, f"it is a migration in {path.suffix!r}, not in SQL.")
        if _CALLBACK.fullmatch(path.name):
            raise _not_here(entry, "it is a callback, and callbacks are not run here.")
        match = _VERSIONED.fullmatch(path.name)
        if match is not None:
            kind, version = match[1], match[2].replace("_", ".")
            key = (0, parts_of(version))
            entry = Entry(key, version, match[3] or version, path, shown)
        elif (match := _REPEATABLE.fullmatch(path.name)) is not None:
            kind = "R"
            entry = Entry((), f"R__{match[1]}", f"R__{match[1]}", path, shown)
        else:
            return None
        if not os.path.isfile(path):
            item = next(each for each in scan(path.parent) if each.name == path.name)
            raise misfit(
                entry,
                f"it {no_file(item)}.",
                hint="A migration is a file that can be read.",
                reason="migrations.unreadable",
            )
        if kind == "R":
            entry = replace(entry, key=(1, description_of(path.name), _checksum(text_of(entry))))
        found[kind].append(entry)
        return kind

    def _refuse_alone(
        self, versions: set[Any], undo: Iterable[Entry], baselines: Iterable[Entry]
    ) -> None:
        """Refuse an undo file without its version, and a baseline that replaces other files."""
        for entry in undo:
            if entry.key not in versions:
                raise misfit(
                    entry,
                    f"it undoes version {entry.version}, which has no `V` file.",
                    hint="Bring that file back, or remove this one.",
                    reason="migrations.bad_name",
                )
        for entry in baselines:
            if entry.key not in versions:
                raise _not_here(
                    entry,
                    "it is a baseline migration, which Flyway runs on an empty database in the"
                    " place of all versions up to its own, and those are not here.",
                )

    def ignored(self) -> tuple[tuple[str, str], ...]:
        """Return the SQL files that Flyway passes over, and why."""
        return self._unread

    def read(self, entry: Entry) -> Script:
        """Read one file and the one that undoes it, with the settings beside each."""
        up, text, unfit = _section(entry)
        losses = sql_file.row_losses(entry, text)
        undo = None if entry.key in self.below else self.undo(entry.key)
        down = None
        if undo is not None:
            down, lower, wrong = _section(undo)
            losses |= sql_file.row_losses(undo, lower)
            unfit = unfit or wrong
        script = Script(
            entry,
            checksum=str(_checksum(text)),
            down_file=None if undo is None else undo.file,
            unfit=unfit,
        )
        return script.with_sql(up, down, losses)

    def undo(self, key: Any) -> Entry | None:
        """Return the file that undoes a version."""
        if self._undo is None:
            self.entries()
        return (self._undo or {}).get(key)

    def checksum(self, entry: Entry) -> int:
        """Return the checksum of a file."""
        return _checksum(text_of(entry))

    # --- identity and order -----------------------------------------------

    def key(self, text: str) -> Any:
        """Return the key of a version, with its `V` or without, or of a repeatable's name."""
        if text.startswith("R__"):
            same = [entry.key for entry in self.entries() if entry.version == text]
            return same[0] if same else None
        parts = parts_of(text.removeprefix("V"))
        return None if parts is None else (0, parts)

    def in_order(self, rows: Iterable[Applied]) -> tuple[Applied, ...]:
        """Return the repeatable ones first, so that `down` undoes versions."""
        return tuple(sorted(rows, key=lambda row: (-row.key[0], row.key[1])))

    def newer(self, entries: Sequence[Entry], history: Collection[Applied]) -> set[Any]:
        """Return the versions above the highest one given."""
        return super().newer([*filter(_is_version, entries)], [*filter(_is_version, history)])

    def out_of_order(
        self, pending: Sequence[Entry], history: Collection[Applied]
    ) -> dict[Any, Applied]:
        """Return the versions below the highest one that is applied."""
        return super().out_of_order(pending, [*filter(_is_version, history)])

    def history(self, table: str) -> FlywayHistory:
        """Return Flyway's table."""
        return FlywayHistory(self, table)


def _is_version(migration: Entry | Applied) -> bool:
    """Tell whether a migration has a version, and is not a repeatable one."""
    return bool(migration.key[0] == 0)


def _section(entry: Entry) -> tuple[Section, str, MisfitError | None]:
    """Return a file's statements, its text, and why it cannot be run here."""
    text = text_of(entry)
    found = settings_of(entry)
    where = f"Write `executeInTransaction=false` into {entry.file}.conf"
    section = sql_file.section(entry, text, transactional=found.transactional, no_transaction=where)
    at = text.find("${") if found.placeholders else -1
    return section, text, None if at < 0 else _placeholder(entry, text, at)


def _placeholder(entry: Entry, text: str, at: int) -> MisfitError:
    """Return the error for a placeholder: Flyway replaces them in strings and comments as well."""
    word = text[at:].split("\n", 1)[0]
    word = word[: word.find("}") + 1] or word[:100]
    return misfit(
        entry,
        f"it has the placeholder {word!r}, and placeholders are not replaced here.",
        hint=(
            "Write the value into the file. If it is meant as it is written, put"
            f" `placeholderReplacement=false` into {entry.file}.conf."
        ),
        reason="migrations.other_tool",
        line=1 + text.count("\n", 0, at),
    )


def _checksum(text: str) -> int:
    """Return the CRC-32 of the lines without their ends, as a signed number."""
    found = crc32(text.replace("\r", "").replace("\n", "").encode())
    return found - (1 << 32) if found >= 1 << 31 else found


def _refuse_same_name(repeatables: Sequence[Entry]) -> None:
    for one, other in pairwise(repeatables):
        if one.key[1] == other.key[1]:
            raise misfit(
                other,
                f"{one.file!r} is a repeatable migration of the same name.",
                hint="Give one of them another name.",
                reason="migrations.duplicate",
            )


def _not_here(entry: Entry, what: str) -> MisfitError:
    hint = (
        "Do it in a versioned or repeatable migration in SQL, or run Flyway itself with"
        " `--migrate-command` (MIGRATOR_MIGRATE_COMMAND)."
    )
    return misfit(entry, what, hint=hint, reason="migrations.other_tool")
