"""
The settings that a database accepts only before its first table.

Once there is a table, SQLite silently ignores `PRAGMA auto_vacuum`, `encoding` and
`page_size` (https://sqlite.org/pragma.html#pragma_auto_vacuum), and a run has one from the
start: the history's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from migrator.errors import MisfitError
from migrator.model import Script
from migrator.parsing import sql
from migrator.parsing.directory import misfit
from migrator.statement import Statement

NAMES = ("page_size", "auto_vacuum", "encoding")
_AUTO_VACUUM = {"none": "0", "full": "1", "incremental": "2"}
_NATIVE = "UTF-16le" if sys.byteorder == "little" else "UTF-16be"
_ENCODINGS = {"utf8": "UTF-8", "utf16": _NATIVE, "utf16le": "UTF-16le", "utf16be": "UTF-16be"}
_BEFORE_TABLES = ("PRAGMA", "BEGIN", "COMMIT", "END", "SELECT")
_MOST_TOKENS = 12


@dataclass(frozen=True, slots=True)
class Setting:
    """One of the pragmas with its value, as SQLite returns it."""

    name: str
    value: str

    def holds(self, current: object) -> bool:
        """Tell whether a database has this value, or accepts it at any time."""
        both = {self.value, str(current)}
        return len(both) == 1 or (self.name == "auto_vacuum" and both == {"1", "2"})


def setting(statement: str) -> Setting | None:
    """Return the setting that a statement makes, None for any other statement."""
    if sql.keyword(statement) != "PRAGMA":
        return None
    words = [*sql.words(statement, _MOST_TOKENS), *[""] * 6]
    if words[2] == ".":
        del words[1:3]
    name = words[1].lower()
    if name not in NAMES or words[2] not in ("=", "("):
        return None
    value = "".join(word for word in words[3:] if word not in (")", ";"))
    return Setting(name, _spelled(name, value.strip().lower()))


def leading(scripts: Iterable[Script]) -> dict[str, str]:
    """Return what the first `.sql` files of a new database set before they make a table."""
    found: dict[str, str] = {}
    for script in scripts:
        if script.sql_up is None:
            return found
        for statement in script.sql_up.statements:
            if statement.keyword not in _BEFORE_TABLES:
                return found
            if (made := setting(statement.text)) is not None:
                found[made.name] = made.value
    return found


def has_settings(scripts: Iterable[Script]) -> bool:
    """Tell whether an `.sql` file among these makes such a setting."""
    return any(True for script in scripts for _ in _settings(script))


def refuse_ignored(scripts: Iterable[Script], current: Mapping[str, str]) -> None:
    """
    Refuse settings of `.sql` files that SQLite would silently ignore.

    Args:
        scripts: The scripts that will run, in order.
        current: The database's values.

    Raises:
        MisfitError: With the line, and what to do.
    """
    known = dict(current)
    for script in scripts:
        for statement, made in _settings(script):
            if script.transactional and not made.holds(known.get(made.name)):
                raise _ignored(script, statement, made, known.get(made.name))
            known[made.name] = made.value


def way_out(name: str) -> str:
    """Return a sentence that says where such a setting works."""
    if name == "encoding":
        return (
            "The encoding of a database is set before its first table: by the first statements of"
            " its first .sql file, or never."
        )
    return (
        f"Put `-- migrate:up transaction:false` (in a .py file `transactional = False`) above it,"
        f" and `VACUUM` behind it: {name} is changed by that alone. For a new database the first"
        " statements of its first .sql file are enough."
    )


def _settings(script: Script) -> Iterator[tuple[Statement, Setting]]:
    for statement in script.sql_up.statements if script.sql_up is not None else ():
        if statement.keyword == "PRAGMA" and (made := setting(statement.text)) is not None:
            yield statement, made


def _ignored(script: Script, statement: Statement, made: Setting, now: object) -> MisfitError:
    return misfit(
        script.entry,
        f"PRAGMA {made.name} = {made.value} would be ignored, since there are tables already;"
        f" it is {now}.",
        hint=way_out(made.name),
        reason="migrations.not_transactional",
        line=statement.line,
        statement=statement.text[:500],
    )


def _spelled(name: str, value: str) -> str:
    if name == "encoding":
        return _ENCODINGS.get(value.replace("-", ""), value)
    if name == "auto_vacuum":
        return _AUTO_VACUUM.get(value, value if value in ("1", "2") else "0")
    return value
