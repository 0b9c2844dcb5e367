"""Read a file's name: version and name, one of a pair, or not a migration."""

from __future__ import annotations

LEFTOVER = (
    r"(?s)[.#_].*|.*~|.*\.(?:bak|sw[op]|orig|rej|tmp|pyc|old|save|disabled|off|skip|sample|example"
    r"|md5|sha256|sig|asc)"
)
"""Names that are not migrations: hidden, an editor's, or disabled."""

LOST_AND_FOUND = "lost+found"
"""A directory that a file system has at its root, and that nobody put there."""

_HALVES = frozenset(
    {"up", "do", "forward", "forwards", "down", "undo", "rollback", "revert", "reverse"}
    | {"backward", "backwards", "downgrade"}
)

_SECOND_HALVES = frozenset({"down", "undo", "rollback", "revert"})

_PREFIXES = frozenset({"do", "undo", "up", "down"})
"""How other tools name the files of a pair: one upgrades, the other undoes it."""

_DIGITS = "0123456789"

_LONGEST_VERSION = 255
"""A file name is no longer, and `int` refuses strings of thousands of digits."""


def version_key(text: str) -> tuple[int, ...] | None:
    """
    Return a version's parts as numbers: `001` is `(1,)`, `1.2` is `(1, 2)`.

    Returns:
        The parts, None if the text is not a version.
    """
    parts = text.split(".")
    if len(text) > _LONGEST_VERSION or not (text.isascii() and all(map(str.isdigit, parts))):
        return None
    return tuple(map(int, parts))


def split_name(file: str) -> tuple[tuple[int, ...], str, str] | None:
    """Return key, version and name of a migration's file, None where it is not called like one."""
    stem, _, ending = file.rpartition(".")
    version, _, name = stem.partition("_")
    key = version_key(version)
    if key is None or not name or "\n" in name or ending not in ("py", "sql"):
        return None
    return key, version, name


def is_half(file: str) -> bool:
    """Tell whether a file is one of a pair: `1_a.up.sql`, `1_down.sql`, `1.undo.a.sql`."""
    stem, _, ending = file.lower().rstrip().rpartition(".")
    if ending not in ("py", "sql") or not stem.startswith(tuple(_DIGITS)):
        return False
    _, dot, last = stem.rpartition(".")
    version, _, name = stem.partition("_")
    rest = stem.lstrip(_DIGITS)
    prefix, dot_behind, _ = rest[1:].partition(".")
    return (
        (dot == "." and last in _HALVES)
        or (name in _SECOND_HALVES and not version.strip(f"{_DIGITS}."))
        or (rest.startswith((".", "_")) and dot_behind == "." and prefix in _PREFIXES)
    )
