"""
Find the migrations of a directory by the names of its files.

Names only: a start with nothing pending reads no file. Files that are clearly not
migrations are skipped (`__init__.py`, editors' leftovers); of the rest
`migrator.parsing.unread_files` says which look like a migration and are not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from migrator.errors import MisfitError
from migrator.model import Entry
from migrator.parsing.file_names import LEFTOVER, is_half, split_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_TOLD = 10
"""Bad names in the message; the log line's `problems` has all."""


def list_directory(path: Path) -> tuple[Entry, ...]:
    """
    List the migrations of a directory in the order of their versions.

    Args:
        path: The directory; symbolic links to files are followed, since a
            Kubernetes ConfigMap consists of them.

    Raises:
        MisfitError: The directory cannot be listed, a name only looks like a
            migration's, or two files have the same version.
    """
    entries: list[Entry] = []
    others: list[os.DirEntry[str]] = []
    problems: list[tuple[str, str]] = []
    # Absolute, since a migration may change the working directory.
    home = path.absolute()
    for item in scan(path):
        named = split_name(item.name)
        if named is None and re.fullmatch(LEFTOVER, item.name):
            continue
        if named is None or is_half(item.name):
            others.append(item)
        elif (trouble := no_file(item)) is not None:
            problems.append((item.name, trouble))
        else:
            entries.append(Entry(*named, home / item.name))
    if others:
        from migrator.parsing import unread_files

        problems += unread_files.troubles(path, others, entries)
    if problems:
        raise bad_names(path, sorted(problems))
    entries.sort(key=lambda entry: entry.key)
    refuse_duplicates(path, entries, ours=True)
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
        line: The line in the file, from 1; None for the whole file.
        data: Further facts for the log line.
    """
    place = entry.file or entry.name
    if line is not None:
        place = f"{place}, line {line}"
    facts = {"file": entry.file, "line": line, "version": entry.version, "name": entry.name}
    return MisfitError(f"{place}: {message}", hint=hint, reason=reason, data={**facts, **data})


def scan(path: Path) -> list[os.DirEntry[str]]:
    """
    Return the entries of a migrations directory.

    Raises:
        MisfitError: It does not exist, or cannot be listed.
    """
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


def no_file(item: os.DirEntry[str]) -> str | None:
    """Return why something with a migration's name is not a readable file."""
    try:
        item.name.encode()
        if item.is_file():
            return None
    except UnicodeEncodeError:
        return "is not valid UTF-8; rename it"
    except OSError as error:
        return f"cannot be accessed ({error.strerror}); repair or remove it"
    if item.is_symlink() and not os.path.exists(item.path):
        return "is a symbolic link to nothing; repair or remove it"
    what = "a directory" if item.is_dir() else "no regular file"
    return f"has a migration's name but is {what}; rename or remove it"


def bad_names(path: Path, problems: list[tuple[str, str]]) -> MisfitError:
    """Build the one error that lists every bad name."""
    lines = [f"{printable(name)!r} {trouble}" for name, trouble in problems]
    msg = f"In {str(path)!r} {lines[0]}."
    if len(lines) > 1:
        told = "; ".join(lines[:_TOLD]) + ("; and more" if len(lines) > _TOLD else "")
        msg = f"In {str(path)!r} {len(lines)} names look like migrations and are not: {told}."
    hint = (
        "Correct each name as it says. Migrations are files NUMBER_NAME.py or NUMBER_NAME.sql,"
        " such as 003_add_email.sql; names that begin with `_` or `.` are ignored."
    )
    if (tools := _tools(*problems[0])) is not None:
        hint = (
            f"If these are migrations of {tools}, say which with `--format` (MIGRATOR_FORMAT), and"
            f" they are run as they are. Otherwise: {hint}"
        )
    return MisfitError(
        msg,
        hint=hint,
        reason="migrations.bad_name",
        data={
            "file": printable(problems[0][0]),
            "problems": [{"kind": "bad-name", "version": "", "message": line} for line in lines],
        },
    )


def _tools(first: str, trouble: str) -> str | None:
    """Return the tools that name their files so, where no mark in them says which one it is."""
    if re.fullmatch(r"(?s)[0-9]+_.*\.(?:up|down)\.sql", first):
        return "golang-migrate or sqlx"
    if re.fullmatch(r"(?s)(?:[VU][0-9][0-9._]*|R)__.+\.sql", first):
        return "flyway or refinery"
    if re.fullmatch(r"(?s)[0-9]{4}-.+\.(?:sql|py)", first):
        return "fastmigrate"
    return "prisma or drizzle" if "/migration.sql'" in trouble else None


def refuse_duplicates(path: Path, entries: Iterable[Entry], *, ours: bool = False) -> None:
    """
    Refuse two files of one version; the entries come in order.

    Args:
        path: The directory.
        entries: Its migrations.
        ours: Whether one file holds both ways here, as no other tool's pair does.

    Raises:
        MisfitError: One error that names every duplicate version.
    """
    files: dict[Any, list[Entry]] = {}
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
        hint=_one_version(doubles) if ours else _RENUMBER,
        reason="migrations.duplicate",
        data={"file": first.file, "version": first.version, "problems": problems},
    )


def _one_version(doubles: list[list[Entry]]) -> str:
    """Say what to do about files of one version; an undo script does not get a later one."""
    from migrator.parsing.unread_files import undoes

    # Renumbering one of a pair would run its undo script as an upgrade.
    pairs = [entry for same in doubles for entry in same if undoes(str(entry.file))]
    if pairs:
        return (
            f"{str(pairs[0].file)!r} takes its upgrade back by its name: make each pair one file,"
            " with the sections `-- migrate:up` and `-- migrate:down`."
        )
    return _RENUMBER


_RENUMBER = (
    "Give each file a number of its own: rename the one that no database has applied yet"
    " to a number above all others."
)


def _duplicate(same: list[Entry]) -> str:
    names = " and ".join(
        repr(entry.file) for entry in sorted(same, key=lambda entry: str(entry.file))
    )
    key = same[0].key
    version = ".".join(map(str, key)) if isinstance(key, tuple) else key
    return f"{names} have the same version, {version}"


def printable(name: str) -> str:
    """Return a name in a form that can be logged as JSON, even if it is not UTF-8."""
    return name.encode(errors="backslashreplace").decode()
