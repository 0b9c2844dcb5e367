"""What Drizzle knows of its migrations besides their SQL: names, order and times."""

from __future__ import annotations

import calendar
from pathlib import Path
from typing import Any

from migrator.errors import MisfitError
from migrator.parsing.python_file import read_bytes
from migrator.value import Value

_OTHERS = frozenset(
    {"postgresql", "pg", "mysql", "singlestore", "gel", "mssql", "cockroach", "cockroachdb"}
)
_LATEST = 2**63 - 1


class Listed(Value):
    """A migration: its name, its time in milliseconds, and its file."""

    name: str
    when: int
    path: Path


def listed_in(journal: Path, directory: Path) -> list[Listed]:
    """
    Return what a journal lists, in its order.

    Raises:
        MisfitError: It is no such journal, is another database's, or names a file that is not
            there.
    """
    found = [_listed(entry, at) for at, entry in enumerate(_entries(journal))]
    listed = [Listed(name, when, directory / f"{name}.sql") for name, when in found]
    missing = [each.name for each in listed if not each.path.is_file()]
    if missing:
        raise _bad(
            None,
            f"it names {missing[0]!r}, but {f'{missing[0]}.sql'!r} does not exist.",
            "Bring the file back, or take its entry out of the journal (`drizzle-kit drop`).",
            "migrations.unreadable",
        )
    return listed


def millis_of(name: str) -> int | None:
    """
    Return the time at the beginning of a directory's name, or None.

    A month or day too large counts on, as in JavaScript.
    """
    digits = name[:14]
    if len(digits) < 14 or not (digits.isascii() and digits.isdigit()):
        return None
    year, month = int(digits[:4]), int(digits[4:6]) - 1
    day, hour, minute, second = (int(digits[at : at + 2]) for at in range(6, 14, 2))
    try:
        begin = calendar.timegm((year + month // 12, month % 12 + 1, 1, hour, minute, second))
    except ValueError:
        return None
    return (begin + (day - 1) * 86_400) * 1000


def _entries(journal: Path) -> list[Any]:
    import json

    source = read_bytes(journal)
    try:
        found = json.loads(source.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _bad(
            getattr(error, "lineno", None),
            f"it is not JSON: {error}.",
            "Is the file complete? Copy it again.",
            "migrations.syntax",
        ) from error
    entries = found.get("entries") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise _bad(
            None,
            "it has no list `entries`.",
            "Copy the one that `drizzle-kit generate` wrote.",
            "migrations.syntax",
        )
    if (dialect := found.get("dialect")) in _OTHERS:
        raise _bad(
            None,
            f"its migrations are for {dialect}, not for SQLite.",
            "Name the directory of those for SQLite with `--migrations` (MIGRATOR_MIGRATIONS).",
            "migrations.other_tool",
        )
    return entries


def _listed(entry: Any, at: int) -> tuple[str, int]:
    tag, when = (entry.get("tag"), entry.get("when")) if isinstance(entry, dict) else (None, None)
    if isinstance(when, float) and when.is_integer():
        when = int(when)
    if not isinstance(tag, str) or not isinstance(when, int) or isinstance(when, bool):
        what = "has no `tag` that is a text, or no `when` that is a whole number"
    elif not 0 <= when <= _LATEST:
        what = f"has the `when` {str(when)[:30]}, which is not a time in milliseconds"
    elif not tag or "\0" in tag or Path(tag).is_absolute() or ".." in Path(tag).parts:
        what = f"names {tag[:100]!r}, which is not a file in this directory"
    else:
        return tag, when
    raise _bad(
        None,
        f"entry {at} {what}.",
        "Copy the journal that `drizzle-kit generate` wrote.",
        "migrations.syntax",
    )


def _bad(line: int | None, message: str, hint: str, reason: str) -> MisfitError:
    place = "meta/_journal.json" + (f", line {line}" if line is not None else "")
    data = {"file": "meta/_journal.json", "line": line}
    return MisfitError(f"{place}: {message}", hint=hint, reason=reason, data=data)
