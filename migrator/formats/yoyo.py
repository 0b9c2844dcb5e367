"""
yoyo's migrations: `.sql` with `-- depends:` and a `.rollback.sql`, `.py` with steps.

After https://ollycope.com/software/yoyo/latest/: a migration is known by its file's name without
the ending. It runs after those that it depends on, and else in the order of the names.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Sequence
from pathlib import Path

from migrator.errors import MisfitError
from migrator.formats.history import InOrderApplied
from migrator.formats.tool import Tool, columns_of, head
from migrator.formats.yoyo_history import LEGACY
from migrator.model import Applied, Entry, Script
from migrator.parsing import sql_file
from migrator.parsing.directory import misfit, refuse_duplicates
from migrator.parsing.scripts import text_of
from migrator.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from migrator.formats.yoyo_history import YoyoHistory


_FILE = re.compile(r"(?!_tmp_yoyonew)(.+)\.(py|sql)", re.DOTALL)
_ROLLBACK = ".rollback"
_HOOK = "post-apply"
_DIRECTIVE = re.compile(r"\s*--\s*(transactional|depends)\s*:\s*(.*)")
_LINE = re.compile(r"([^\n]*)\n?")
_COMMENT = re.compile(r"\s*(?:--.*)?")
_IMPORT = re.compile(r"^\s*(?:from\s+yoyo\b|import\s[^#\n]*\byoyo\b)", re.MULTILINE)
_OTHER = re.compile(
    r"^(?:def (?:up|down)\s*\(|--\s*migrate:(?:up|down)\b|--\s*\+goose\b)", re.MULTILINE
)
"""What makes a file ours or another tool's; run as yoyo's it would do nothing, or both halves."""
_NO_TRANSACTION = "Write `-- transactional: false` above the first statement"
_ITSELF = "run yoyo itself with `--migrate-command` (MIGRATOR_MIGRATE_COMMAND)"


class Header(Value):
    """What a migration says of itself."""

    depends: tuple[str, ...] = ()
    transactional: bool = True
    allow_row_loss: frozenset[str] = frozenset()
    depends_line: int | None = None


class Yoyo(InOrderApplied, Tool):
    """A directory of yoyo's, and its `_yoyo_migration` with the tables beside it."""

    name, title, table = "yoyo", "yoyo", "_yoyo_migration"
    columns = ("migration_hash", "migration_id", "applied_at_utc")
    form = "`name.sql` with `-- depends:`, `name.py` with `step()`"
    undoes = "`name.rollback.sql`, the rollbacks of steps"
    has_python = True
    proven = "yoyo itself"

    # --- recognition ------------------------------------------------------

    def owns(self, conn: sqlite3.Connection, table: str) -> bool:
        """Tell whether a table has yoyo's columns, or those of before version 6."""
        return super().owns(conn, table) or set(columns_of(conn, table)) == LEGACY

    def wrote(self, conn: sqlite3.Connection) -> bool:
        """Tell whether a hash has the length of SHA-256; before version 6 there were no hashes."""
        if set(columns_of(conn, self.table)) == LEGACY:
            return True
        query = f"SELECT max(length(migration_hash)) FROM {self.table}"  # noqa: S608 - a constant
        return conn.execute(query).fetchone()[0] in (None, 64)

    def fits(self) -> bool:
        """Tell whether there are files, and no other tool's among them: yoyo takes every file."""
        paths = [path for _, path in self.files(_FILE)]
        return bool(paths) and not any(_OTHER.search(head(path)) for path in paths)

    def marked(self) -> bool:
        """Tell whether a file has a rollback script, imports yoyo, or depends on another file."""
        files = {match[1]: path for match, path in self.files(_FILE)}
        pair = any(each.removesuffix(_ROLLBACK) in files for each in files if _is_rollback(each))
        return (pair or any(_is_marked(path, files) for path in files.values())) and self.fits()

    # --- the files --------------------------------------------------------

    def entries(self) -> tuple[Entry, ...]:
        """
        List the migrations in the order in which they run.

        What a file says that yoyo would not take is told once it is read in earnest.
        """
        found = self._listed()
        refuse_duplicates(self.path, found)
        depends = {}
        for entry in found:
            try:
                depends[entry.name] = read_header(entry, text_of(entry)).depends
            except MisfitError:
                depends[entry.name] = ()
        return tuple(in_order(found, depends) or found)

    def _listed(self) -> list[Entry]:
        """Return the migrations by name, without their rollback scripts and the hooks."""
        return [
            Entry(match[1], match[1], match[1], path)
            for match, path in self.files(_FILE)
            if not (_is_rollback_file(path) or match[1].startswith(_HOOK))
        ]

    def scripts(self, entries: Sequence[Entry] | None = None) -> tuple[Script, ...]:
        """
        Read all of them.

        Raises:
            MisfitError: A file cannot be read, depends on what is not there, or on itself; or
                there is a hook.
        """
        self._refuse_hooks()
        self._refuse_half_pairs()
        read = super().scripts(entries)
        _refuse_unmet(self._listed())
        return read

    def read(self, entry: Entry) -> Script:
        """Read one file with its rollback script; a `.py` file's steps are known once loaded."""
        text = text_of(entry)
        header = read_header(entry, text)
        script = Script(
            entry,
            transactional=header.transactional,
            down_transactional=header.transactional,
            has_down=True,
            allow_row_loss=header.allow_row_loss,
            no_transaction="Write `__transactional__ = False` into the file",
        )
        if entry.path is None or entry.path.suffix == ".py":
            return script
        rollback = _rollback_of(entry)
        down = None
        if rollback is not None:
            down = sql_file.section(
                rollback,
                text_of(rollback),
                transactional=header.transactional,
                no_transaction=f"{_NO_TRANSACTION} of {entry.file}",
            )
        up = sql_file.section(
            entry, text, transactional=header.transactional, no_transaction=_NO_TRANSACTION
        )
        found = script.with_sql(up, down, sql_file.row_losses(entry, text))
        return found if rollback is None else replace(found, down_file=rollback.file)

    def load(self, scripts: Sequence[Script]) -> tuple[Script, ...]:
        """Run the `.py` files among them, which gives their steps."""
        from migrator.formats.yoyo_steps import load

        return tuple(load(script) if script.is_code else script for script in scripts)

    def _refuse_hooks(self) -> None:
        for match, path in self.files(_FILE):
            if match[1].startswith(_HOOK):
                raise misfit(
                    Entry(match[1], match[1], match[1], path),
                    "it is a hook that yoyo runs after each upgrade, which is not done here.",
                    hint=f"Put what it does into a migration, or {_ITSELF}.",
                    reason="migrations.other_tool",
                )

    def _refuse_half_pairs(self) -> None:
        names = {path.name for _, path in self.files(_FILE)}
        for name in sorted(names):
            own = name.removesuffix(f"{_ROLLBACK}.sql")
            if own != name and not {f"{own}.sql", f"{own}.py"} & names:
                raise misfit(
                    Entry(own, own, own, self.path / name),
                    f"it undoes {own}.sql, which is not there.",
                    hint=f"Bring {own}.sql back, or remove {name}.",
                    reason="migrations.bad_name",
                )

    # --- the format -------------------------------------------------------

    def out_of_order(
        self, pending: Sequence[Entry], history: Collection[Applied]
    ) -> dict[Any, Applied]:
        """Return what an applied migration depends on; nothing else comes too late for yoyo."""
        late = {entry.key for entry in pending}
        if not late:
            return {}
        applied = {row.key: row for row in history}
        found = {}
        for entry in self._listed():
            if entry.key in applied:
                for name in _depends(entry):
                    if name in late:
                        found[name] = applied[entry.key]
        return found

    def history(self, table: str) -> YoyoHistory:
        """Return yoyo's tables."""
        from migrator.formats.yoyo_history import YoyoHistory

        return YoyoHistory(self, table)


# --- files --------------------------------------------------------------------


def _is_rollback(name: str) -> bool:
    return name.endswith(_ROLLBACK)


def _is_rollback_file(path: Path) -> bool:
    return path.name.endswith(f"{_ROLLBACK}.sql")


def _rollback_of(entry: Entry) -> Entry | None:
    """Return the script that undoes an `.sql` migration, or None."""
    if entry.path is None:
        return None
    path = entry.path.with_name(f"{entry.name}{_ROLLBACK}.sql")
    return replace(entry, path=path) if path.is_file() else None


def _is_marked(path: Path, names: Collection[str]) -> bool:
    """Tell whether a file is yoyo's by its text."""
    text = head(path)
    if path.suffix == ".py":
        return _IMPORT.search(text) is not None
    named = [each for _, value in _directives(text, "depends") for each in value.split()]
    return bool(named) and all(each in names for each in named)


def _depends(entry: Entry) -> tuple[str, ...]:
    """Return what a migration depends on; nothing where it cannot be read."""
    try:
        return read_header(entry, text_of(entry)).depends
    except MisfitError:
        return ()


def read_header(entry: Entry, text: str) -> Header:
    """
    Read what a migration depends on, and whether it runs in a transaction.

    Raises:
        MisfitError: It says so in a way that cannot be read without running it.
    """
    if entry.path is not None and entry.path.suffix == ".py":
        # `ast` costs an import, which a directory of .sql files does not need.
        from migrator.formats.literals import Literals

        found = Literals(entry, text, ("__depends__", "__transactional__", "allow_row_loss"))
        return Header(
            found.texts("__depends__"),
            found.flag("__transactional__"),
            frozenset(found.texts("allow_row_loss")),
            found.line("__depends__"),
        )
    depends = _directives(text, "depends")
    names = [each for _, value in depends for each in value.split()]
    transactional = _directives(text, "transactional")
    for line, value in transactional:
        if len(transactional) > 1 or value.lower() not in ("true", "false"):
            raise misfit(
                entry,
                f"`-- transactional: {value}` is neither true nor false, or is repeated.",
                hint="Write one line, `-- transactional: false` or `-- transactional: true`.",
                reason="migrations.directive",
                line=line,
            )
    return Header(
        tuple(names),
        all(value.lower() == "true" for _, value in transactional),
        depends_line=depends[0][0] if depends else None,
    )


def _directives(text: str, word: str) -> list[tuple[int, str]]:
    """Return line and value of the directives in the comments above the first statement."""
    found = []
    for number, line in enumerate(_LINE.finditer(text), 1):
        match = _DIRECTIVE.fullmatch(line[1])
        if match is not None and match[1] == word:
            found.append((number, match[2].strip()))
        elif _COMMENT.fullmatch(line[1]) is None:
            break
    return found


# --- order --------------------------------------------------------------------


def in_order(entries: Sequence[Entry], depends: dict[str, tuple[str, ...]]) -> list[Entry] | None:
    """
    Return each migration after those that it depends on, else by name; None for a circle.

    Args:
        entries: The migrations by name.
        depends: What each depends on, by name; what is not among them blocks nothing.
    """
    from heapq import heapify, heappop, heappush

    at = {entry.name: place for place, entry in enumerate(entries)}
    waits = {name: {each for each in depends[name] if each in at} for name in at}
    blocks: dict[str, list[str]] = {}
    for name, others in waits.items():
        for each in others:
            blocks.setdefault(each, []).append(name)
    ready = [place for name, place in at.items() if not waits[name]]
    heapify(ready)
    found = []
    while ready:
        entry = entries[heappop(ready)]
        found.append(entry)
        for name in blocks.get(entry.name, ()):
            waits[name].discard(entry.name)
            if not waits[name]:
                heappush(ready, at[name])
    return found if len(found) == len(entries) else None


def _refuse_unmet(entries: Sequence[Entry]) -> None:
    """
    Refuse a migration that depends on a missing one, or on itself.

    Raises:
        MisfitError: It names the first one.
    """
    headers = {entry.name: read_header(entry, text_of(entry)) for entry in entries}
    for entry in entries:
        header = headers[entry.name]
        for name in header.depends:
            if name not in headers:
                raise misfit(
                    entry,
                    f"it depends on {name!r}, which is not there.",
                    hint="Bring that migration back, or correct the name: it is that of a file,"
                    " without its ending.",
                    reason="migrations.requires",
                    line=header.depends_line,
                )
    depends = {name: header.depends for name, header in headers.items()}
    if in_order(entries, depends) is not None:
        return
    circle = _circle(depends)
    first = next(entry for entry in entries if entry.name == circle[0])
    raise misfit(
        first,
        f"it depends on itself: {' → '.join((*circle, circle[0]))}.",
        hint="Take one of these dependencies out.",
        reason="migrations.requires",
        line=headers[first.name].depends_line,
    )


def _circle(depends: dict[str, tuple[str, ...]]) -> list[str]:
    """Return the names of a circle, which has to be there."""
    rest = dict(depends)
    while leaves := [name for name, others in rest.items() if not rest.keys() & set(others)]:
        for name in leaves:
            del rest[name]
    trail = [min(rest)]
    while True:
        following = min(each for each in rest[trail[-1]] if each in rest)
        if following in trail:
            return trail[trail.index(following) :]
        trail.append(following)
