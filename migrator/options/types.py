"""
From the text of a flag or a variable to its value.

Every function here takes the text and returns the value, or raises
`BadValueError` with the end of the sentence "--flag is 'text', which ...".
An empty text never comes here: it counts as missing (a flag) or as not set
(a variable).
"""

from __future__ import annotations

import re
from pathlib import Path

ACCEPTED = ("changed", "missing", "newer", "out-of-order", "foreign")
"""The misfits between files and history that `--accept` may name."""

FORMATS = (
    *("auto", "native", "dbmate", "goose", "golang-migrate", "sqlx", "diesel", "refinery"),
    *("flyway", "yoyo", "drizzle", "prisma", "d1", "sqlite-utils", "fastmigrate"),
)
"""Whose migrations `--format` may say that they are; `migrator.formats.tools` has each."""

_SECONDS = r"[0-9]+(\.[0-9]+)?|\.[0-9]+"
_COUNT = r"[0-9]+"
_TABLE = r"[A-Za-z_][A-Za-z0-9_$]*"
_SCHEME = r"(?i)(?:(file|sqlite3):|([A-Za-z][A-Za-z0-9+.\-]*)://)"

_ESCAPE = r"%[0-9A-Fa-f]{2}"
_TABLE_LENGTH = 200
_VERSION_LENGTH = 200
LONGEST = 1e9
"""Thirty years in seconds: what is longer overflows some clock and means 'for ever'."""
_DIGITS = 18
"""Digits of the greatest count: more of them mean 'all', and Python refuses to read 5000."""


class BadValueError(ValueError):
    """
    A text that is not a valid value of its option.

    Args:
        problem: What is wrong, as the end of a sentence: "which is not a number"; empty where it
            is just none of what is expected.
        hint: What to write instead, where the reader cannot guess it.
    """

    def __init__(self, problem: str = "", hint: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint


def one_of(text: str, choices: tuple[str, ...]) -> str:
    """Return `text` when it is one of `choices`."""
    if text not in choices:
        raise BadValueError
    return text


def without_nul(text: str) -> str:
    """Return `text` when no NUL byte is in it; no path and no name can hold one."""
    if "\0" in text:
        msg = "which has a NUL byte in it"
        raise BadValueError(msg)
    return text


def words(text: str) -> tuple[str, ...]:
    """Split a command as a shell would; no shell runs it."""
    import shlex

    try:
        found = tuple(shlex.split(without_nul(text)))
    except ValueError as error:
        msg = f"which cannot be split into words ({error})"
        raise BadValueError(msg) from error
    if not found or not found[0]:
        msg = "which names no program"
        raise BadValueError(msg)
    return found


def path(text: str) -> Path:
    """Read a path, relative ones to the working directory."""
    return Path(without_nul(text))


def seconds(text: str) -> float:
    """Read a decimal number of seconds, 0 or more, without sign, exponent or unit."""
    if not re.fullmatch(_SECONDS, text):
        msg = "which is not a decimal number without a unit"
        raise BadValueError(msg)
    return min(float(text), LONGEST)


def count(text: str) -> int:
    """Read a whole number, 0 or more."""
    if not re.fullmatch(_COUNT, text):
        msg = "which is not a whole number"
        raise BadValueError(msg)
    digits = text.lstrip("0") or "0"
    return int(digits) if len(digits) <= _DIGITS else 10**_DIGITS


def positive(text: str) -> int:
    """Read a whole number, 1 or more."""
    number = count(text)
    if number == 0:
        msg = "which is less than 1"
        raise BadValueError(msg)
    return number


def truth(text: str) -> bool:
    """Read `true` or `false`, in any case."""
    return one_of(text.lower(), ("true", "false")) == "true"


def level(text: str) -> str:
    """Read a log level in any case."""
    return one_of(text.lower(), ("debug", "info", "warning", "error"))


def accepted(text: str) -> frozenset[str]:
    """Read a list of misfits with commas between them."""
    kinds = [kind.strip() for kind in text.split(",")]
    if "" in kinds:
        msg = "which has an empty part"
        raise BadValueError(msg)
    for kind in kinds:
        if kind not in ACCEPTED:
            msg = f"and {kind!r} is not one of the kinds"
            raise BadValueError(msg)
    return frozenset(kinds)


def table_name(text: str) -> str:
    """
    Read a table's name.

    Letters, digits, `_` and `$` only: every tool that reads the history can
    then name it without quotes. SQLite keeps `sqlite_...` for itself.
    """
    if not re.fullmatch(_TABLE, text):
        msg = "which is not a plain table name"
        raise BadValueError(msg)
    if text.lower().startswith("sqlite_"):
        msg = "and names that begin with sqlite_ are SQLite's own"
        raise BadValueError(msg)
    if len(text) > _TABLE_LENGTH:
        msg = f"which is longer than {_TABLE_LENGTH} characters"
        raise BadValueError(msg)
    return text


def app_version(text: str) -> str:
    """Read a version: one line of printable characters, without blanks around it."""
    if not text.isprintable() or text != text.strip():
        msg = "which has blanks around it, or characters that cannot be printed"
        raise BadValueError(msg)
    if len(text) > _VERSION_LENGTH:
        msg = f"which is longer than {_VERSION_LENGTH} characters"
        raise BadValueError(msg)
    return text


def database(text: str) -> Path:
    """
    Read where the database is: a file path, `sqlite:/abs` or `sqlite:////abs`.

    The URLs of other tools that look alike and mean other files are refused
    instead of guessed at.
    """
    without_nul(text)
    if text == ":memory:":
        msg = "which is a database in memory, and that ends with its process"
        raise BadValueError(msg)
    if text[:7].lower() == "sqlite:":
        return _from_url(text[7:])
    if ":" in text and (scheme := re.match(_SCHEME, text)):
        name = scheme[1] or scheme[2]
        msg = f"and a URL of the kind {name}: is not understood here"
        raise BadValueError(msg)
    return Path(text)


def _from_url(rest: str) -> Path:
    """Read what follows `sqlite:`."""
    if "?" in rest or "#" in rest:
        msg = "and a URL with parameters is not understood here"
        raise BadValueError(msg)
    if rest.startswith("////") or (rest.startswith("/") and not rest.startswith("//")):
        path = "/" + rest.lstrip("/")
        if re.search(_ESCAPE, path):
            raise _escaped(path)
        return Path(path)
    if rest.startswith("///"):
        raise _two_readings(rest[3:])
    if rest.startswith("//"):
        msg = "which names a host, and SQLite has none"
        raise BadValueError(msg)
    msg = "and what follows sqlite: must be an absolute path"
    raise BadValueError(
        msg,
        f"Write the path alone: {rest!r}." if rest and rest != ":memory:" else "",
    )


def _escaped(path: str) -> BadValueError:
    """Explain a URL with an escape, which some tools read as the character that it stands for."""
    from urllib.parse import unquote

    return BadValueError(
        f"which means different files to different tools: to SQLAlchemy {path!r}, to dbmate and"
        f" others {unquote(path)!r}",
        "Write the path alone, without `sqlite:`: nothing in it is an escape.",
    )


def _two_readings(tail: str) -> BadValueError:
    """Explain a URL with three slashes, which two families of tools read differently."""
    if not tail:
        return BadValueError("which names no file")
    return BadValueError(
        f"which means different files to different tools: to SQLAlchemy the file {tail!r} "
        f"in the working directory, to dbmate and others {'/' + tail!r}",
        f"Write {tail!r} for the first, {'/' + tail!r} or 'sqlite:/{tail}' for the second.",
    )
