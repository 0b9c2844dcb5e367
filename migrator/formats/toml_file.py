"""Small TOML files beside migrations: other tools' settings, read without trust in them."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from migrator.errors import MisfitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LARGEST = 16 * 1024
"""Bytes of a file with a few settings; Python's parser takes quadratic time for some."""


def read_toml(path: Path, label: str) -> dict[str, Any] | None:
    """
    Read a TOML file; None if it does not exist.

    Args:
        path: The file.
        label: How messages name it.

    Raises:
        MisfitError: It cannot be read, is not TOML, or exceeds the limits of the parser.
    """
    import tomllib

    try:
        source = _read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise toml_misfit(label, what, reason="migrations.unreadable") from error
    if source is None:
        raise toml_misfit(label, "is no regular file")
    if len(source) > _LARGEST:
        raise toml_misfit(label, f"has more than {_LARGEST} bytes, too many for a settings file")
    try:
        return tomllib.loads(source.decode())
    except UnicodeDecodeError as error:
        at = 1 + source.count(b"\n", 0, error.start)
        raise toml_misfit(label, "is not UTF-8", at, "migrations.encoding") from error
    except (ValueError, RecursionError) as error:
        # Besides its own error Python's parser raises those of `int` and of deep nesting.
        text = str(error) or type(error).__name__
        found = re.search(r"at line ([0-9]+)", text)
        line = int(found[1]) if found is not None else None
        raise toml_misfit(label, f"is no TOML: {text[:200]}", line) from error


def toml_misfit(
    label: str, what: str, line: int | None = None, reason: str = "migrations.syntax"
) -> MisfitError:
    """Return the error about such a file."""
    place = label if line is None else f"{label}, line {line}"
    return MisfitError(
        f"{place}: the file {what}.",
        hint=f"Mend {label}, or remove it if nothing of it is needed.",
        reason=reason,
        data={"file": label, "line": line},
    )


def _read(path: Path) -> bytes | None:
    # Without O_NONBLOCK a named pipe would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        found = b""
        while len(found) <= _LARGEST and (more := os.read(descriptor, _LARGEST + 1 - len(found))):
            found += more
        return found
    finally:
        os.close(descriptor)
