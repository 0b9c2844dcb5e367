"""Write the file of a new migration, for `migrator new NAME [--sql]`."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from migrator.errors import DiskError, NoPermissionError, UsageError
from migrator.formats.registry import parse_source
from migrator.model import Entry
from migrator.parsing.directory import list_directory

_LEAST_WIDTH = 3
_TIMESTAMPS = {14: "%Y%m%d%H%M%S", 12: "%Y%m%d%H%M", 10: "%Y%m%d%H", 8: "%Y%m%d"}
_SHORTEST_TIMESTAMP = 8
_LONGEST_NAME = 100

_PYTHON = '''\
"""{title}."""

import sqlite3


def up(conn: sqlite3.Connection) -> None:
    """Bring the database to this version, in the one transaction of the run."""
    # conn.execute("ALTER TABLE users ADD COLUMN email TEXT")
    raise NotImplementedError("{file}: write this migration")


def down(conn: sqlite3.Connection) -> None:
    """Undo `up`; delete this function if that cannot be done."""
    # conn.execute("ALTER TABLE users DROP COLUMN email")
    raise NotImplementedError("{file}: write how to undo this migration")
'''

_SQL = """\
-- {title}.

-- migrate:up
-- ALTER TABLE users ADD COLUMN email TEXT;
Write this migration;

-- migrate:down
-- ALTER TABLE users DROP COLUMN email;
Write how to undo it, or delete this section;
"""
"""SQLite takes neither sentence: what has not been written is not noted as applied."""


def create(directory: Path, name: str, sql: bool) -> Path:
    """
    Create the file of the next migration, and its directory if that is missing.

    Args:
        directory: The migrations' directory.
        name: What the migration does, in words; a final `.sql` or `.py` says
            which kind it is.
        sql: Whether it is an `.sql` file.

    Returns:
        The file's path.

    Raises:
        UsageError: The name has no letters or digits, the file exists, or the
            migrations are a registry, or another tool's.
        MisfitError: The directory holds names that only look like migrations.
        NoPermissionError: The file cannot be created.
        DiskError: The disk failed.
    """
    stem, suffix = _name(name, sql)
    _refuse_registry(directory)
    _refuse_other_tool(directory)
    entries = list_directory(directory) if directory.exists() else ()
    path = directory / f"{_next_version(entries)}_{stem}{suffix}"
    title = stem.replace("_", " ").capitalize()
    text = (_SQL if suffix == ".sql" else _PYTHON).format(title=title, file=path.name)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _write_new(path, text)
    except FileExistsError as error:
        msg = f"The migration {str(path)!r} exists already."
        raise UsageError(msg, hint="Run the command again, or choose another name.") from error
    except PermissionError as error:
        msg = f"The migration {str(path)!r} cannot be created: {error.strerror}."
        raise NoPermissionError(
            msg,
            hint=f"Make the directory writable for user {os.geteuid()}.",
            reason="migrations.permission",
        ) from error
    except OSError as error:
        msg = f"The migration {str(path)!r} cannot be written: {error.strerror}."
        raise DiskError(msg, hint="Look at the file system of the migrations.") from error
    return path


def _refuse_registry(directory: Path) -> None:
    if parse_source(str(directory)) is not None:
        msg = f"{str(directory)!r} is a registry, and `new` makes files in a directory."
        hint = "Add the migration to the registry's own file, or name a directory."
        raise UsageError(msg, hint=hint)


def _refuse_other_tool(directory: Path) -> None:
    from migrator.formats.recognise import recognised

    found = recognised(None, directory, directory) if directory.exists() else None
    if found is not None:
        msg = f"The migrations in {str(directory)!r} are {found.title}'s, and `new` makes ours."
        raise UsageError(msg, hint=f"Make the next one with {found.title} itself.")


def _name(name: str, sql: bool) -> tuple[str, str]:
    """Return what a migration is called in its file's name, and its suffix."""
    match = re.fullmatch(r"(.*?)(\.sql|\.py)?", name.strip(), re.IGNORECASE | re.DOTALL)
    base, ending = (match[1], (match[2] or "").lower()) if match is not None else (name, "")
    plain = unicodedata.normalize("NFKD", base).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"[^a-z0-9]+", "_", plain)[:_LONGEST_NAME].strip("_")
    if not stem:
        msg = f"{name!r} is not a name for a migration."
        raise UsageError(msg, hint='Say what it does: migrator new "add email to users".')
    return stem, ".sql" if sql or ending == ".sql" else ".py"


def _next_version(entries: Sequence[Entry]) -> str:
    """Return the version behind the highest one, in the spelling of its kind."""
    if not entries:
        return "1".zfill(_LEAST_WIDTH)
    *head, last = entries[-1].version.split(".")
    if head:
        return ".".join([*head, str(int(last) + 1).zfill(len(last))])
    if len(last) >= _SHORTEST_TIMESTAMP:
        return _next_timestamp(last)
    width = max(len(entry.version) for entry in entries if "." not in entry.version)
    return str(int(last) + 1).zfill(max(width, _LEAST_WIDTH))


def _next_timestamp(highest: str) -> str:
    """Return now in UTC as the highest version writes it, or what follows that version."""
    now = datetime.now(UTC)
    stamp = int(now.timestamp())
    # Ten digits that begin with 1 are seconds since 1970, until the year 2033.
    if len(highest) == 10 and highest.startswith("1"):
        version = str(stamp)
    elif len(highest) == 13:
        version = str(stamp * 1000)
    else:
        version = now.strftime(_TIMESTAMPS.get(len(highest), "0"))
    return version if int(version) > int(highest) else str(int(highest) + 1).zfill(len(highest))


def _write_new(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
