"""
Find the migrations of a directory by the names of its files.

Names only: a start with nothing pending reads no file. What is clearly no
migration is skipped (`README.md`, `__init__.py`, what editors leave behind);
what looks like one and is not is an error, since a migration that is skipped
in silence is found out in production.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from migrator.errors import MisfitError
from migrator.model import Entry

_MIGRATION = re.compile(r"([0-9]+(?:\.[0-9]+)*)_(.+)\.(?:py|sql)")
_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_LEFTOVER = re.compile(r"[.#_].*|.*~|.*\.(?:bak|swp|orig|rej|tmp|pyc)", re.DOTALL)
_NUMBERED = re.compile(r"\s*[0-9].*\.(?:py|sql)\s*", re.IGNORECASE | re.DOTALL)
_FLYWAY = re.compile(r"(?:[VUB][0-9][0-9._]*|R)__.+\.sql", re.IGNORECASE | re.DOTALL)
_UP_DOWN = re.compile(r"[0-9].*\.(?:up|down)\.sql", re.IGNORECASE | re.DOTALL)

_LONGEST_VERSION = 255
"""A file name is no longer, and `int` refuses strings of thousands of digits."""


def version_key(text: str) -> tuple[int, ...] | None:
    """
    Return a version's parts as numbers: `001` is `(1,)`, `1.2` is `(1, 2)`.

    Returns:
        The parts, None where the text is no version.
    """
    if len(text) > _LONGEST_VERSION or _VERSION.fullmatch(text) is None:
        return None
    return tuple(int(part) for part in text.split("."))


def list_directory(path: Path) -> tuple[Entry, ...]:
    """
    List the migrations of a directory in the order of their versions.

    Args:
        path: The directory; symbolic links to files are followed, as a
            Kubernetes ConfigMap is made of them.

    Raises:
        MisfitError: The directory cannot be listed, a name only looks like a
            migration's, or two files have the same version.
    """
    entries: list[Entry] = []
    problems: list[tuple[str, str]] = []
    # Absolute, since a migration may change the working directory.
    home = path.absolute()
    for item in _scan(path):
        trouble = _trouble(item)
        if trouble is not None:
            problems.append((item.name, trouble))
        elif (match := _migration(item.name)) is not None:
            version, name = match[1], match[2]
            entries.append(Entry(_key(version), version, name, home / item.name))
    if problems:
        raise _bad_names(path, sorted(problems))
    entries.sort(key=lambda entry: entry.key)
    _refuse_duplicates(path, entries)
    return tuple(entries)


def misfit(
    entry: Entry, message: str, *, hint: str, reason: str, line: int | None = None, **data: Any
) -> MisfitError:
    """
    Build the error about one migration, with its file, line and version as data.

    Args:
        entry: The migration.
        message: A whole sentence that need not name the file.
        hint: What to do.
        reason: The slug.
        line: The line in the file, from 1, None for the whole file.
        data: Further facts for the log line.
    """
    place = entry.file or entry.name
    if line is not None:
        place = f"{place}, line {line}"
    facts = {"file": entry.file, "line": line, "version": entry.version, "name": entry.name}
    return MisfitError(f"{place}: {message}", hint=hint, reason=reason, data={**facts, **data})


def _scan(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as items:
            return list(items)
    except FileNotFoundError as error:
        raise _missing(path) from error
    except NotADirectoryError as error:
        msg = f"The migrations directory {str(path)!r} is not a directory."
        hint = "Name a directory of migrations, or a registry as FILE.py or FILE.py:FACTORY."
        raise MisfitError(
            msg, hint=hint, reason="migrations.not_a_directory", data={"file": str(path)}
        ) from error
    except OSError as error:
        msg = f"The migrations directory {str(path)!r} cannot be read: {error.strerror}."
        hint = f"Make it readable for user {os.geteuid()}: chmod a+rx on the directory."
        raise MisfitError(
            msg, hint=hint, reason="migrations.unreadable", data={"file": str(path)}
        ) from error


def _missing(path: Path) -> MisfitError:
    msg = f"The migrations directory {str(path)!r} does not exist."
    hint = (
        "Copy or mount the migrations there, or name where they are with --migrations"
        " (MIGRATOR_MIGRATIONS). Without any migrations, make it an empty directory."
    )
    if not path.is_absolute():
        hint += " A relative path begins at the working directory."
    return MisfitError(
        msg, hint=hint, reason="migrations.directory_missing", data={"file": str(path)}
    )


def _migration(name: str) -> re.Match[str] | None:
    return None if _LEFTOVER.fullmatch(name) else _MIGRATION.fullmatch(name)


def _key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _trouble(item: os.DirEntry[str]) -> str | None:
    """Tell what is wrong with a name that looks like a migration's, and what to do."""
    name = item.name
    if _LEFTOVER.fullmatch(name):
        return None
    if _UP_DOWN.fullmatch(name):
        return (
            "is half of a pair; make it one file, NUMBER_NAME.sql,"
            " with the sections `-- migrate:up` and `-- migrate:down`"
        )
    if _FLYWAY.fullmatch(name):
        return f"is named as Flyway does; rename it to {_without_flyway(name)!r}"
    if _MIGRATION.fullmatch(name):
        return _no_file(item)
    if _NUMBERED.fullmatch(name):
        return f"is not named NUMBER_NAME.py or NUMBER_NAME.sql; {_advice(name)}"
    return None


def _without_flyway(name: str) -> str:
    prefix, rest = name.split("__", 1)
    number = prefix[1:].replace("_", ".").strip(".")
    return f"{number or 'NUMBER'}_{rest[:-4]}.sql"


def _advice(name: str) -> str:
    """Return the name that was probably meant, or the way to have it ignored."""
    match = re.match(
        r"\s*([0-9]+(?:\.[0-9]+)*)(.*)\.(py|sql)\s*\Z", name, re.IGNORECASE | re.DOTALL
    )
    rest = re.sub(r"[^\w.]+", "_", match[2]).strip("_.") if match is not None else ""
    if match is None or not rest:
        return "give it a name behind its number, as in '001_create_users.sql'"
    meant = f"{match[1]}_{rest}.{match[3].lower()}"
    return f"rename it to {meant!r}, or to '_{name.strip()}' if it is no migration"


def _no_file(item: os.DirEntry[str]) -> str | None:
    """Tell why something with a migration's name is none: it must be a readable kind of file."""
    try:
        item.name.encode()
        if item.is_file():
            return None
    except UnicodeEncodeError:
        return "is no valid UTF-8; rename it"
    except OSError as error:
        return f"cannot be looked at ({error.strerror}); repair or remove it"
    if item.is_symlink() and not os.path.exists(item.path):
        return "is a symbolic link to nothing; repair or remove it"
    what = "a directory" if item.is_dir() else "no regular file"
    return f"has a migration's name but is {what}; rename or remove it"


def _bad_names(path: Path, problems: list[tuple[str, str]]) -> MisfitError:
    """Build the one error that lists every bad name."""
    lines = [f"{_printable(name)!r} {trouble}" for name, trouble in problems]
    msg = f"In {str(path)!r} {lines[0]}."
    if len(lines) > 1:
        told = "; ".join(lines)
        msg = f"In {str(path)!r} {len(lines)} names look like migrations and are none: {told}."
    hint = (
        "Rename what is named here. Names are NUMBER_NAME.py or NUMBER_NAME.sql,"
        " such as 003_add_email.sql; names that begin with `_` or `.` are ignored."
    )
    return MisfitError(
        msg,
        hint=hint,
        reason="migrations.bad_name",
        data={
            "file": _printable(problems[0][0]),
            "problems": [{"kind": "bad-name", "version": "", "message": line} for line in lines],
        },
    )


def _refuse_duplicates(path: Path, entries: Iterable[Entry]) -> None:
    """
    Refuse two files of one version; the entries come in order.

    Raises:
        MisfitError: One error that names every version that is there twice.
    """
    files: dict[tuple[int, ...], list[Entry]] = {}
    for entry in entries:
        files.setdefault(entry.key, []).append(entry)
    doubles = [same for same in files.values() if len(same) > 1]
    if not doubles:
        return
    told = [_duplicate(same) for same in doubles]
    first = doubles[0][1]
    problems = [
        {"kind": "duplicate", "version": same[0].version, "message": message}
        for same, message in zip(doubles, told, strict=True)
    ]
    msg = f"In {str(path)!r} {'; '.join(told)}."
    raise MisfitError(
        msg,
        hint=f"Give each file a number of its own: rename {first.file!r}, if it is the later one.",
        reason="migrations.duplicate",
        data={"file": first.file, "version": first.version, "problems": problems},
    )


def _duplicate(same: list[Entry]) -> str:
    names = " and ".join(
        repr(entry.file) for entry in sorted(same, key=lambda entry: str(entry.file))
    )
    return f"{names} have the same version, {'.'.join(map(str, same[0].key))}"


def _printable(name: str) -> str:
    """Return a name that can be logged as JSON, whatever bytes it has."""
    return name.encode(errors="backslashreplace").decode()
