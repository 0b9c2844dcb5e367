"""Paths as SQLite's URIs (https://sqlite.org/uri.html)."""

from __future__ import annotations

import os

_URI_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/-._~")


def database_uri(path: str | os.PathLike[str], mode: str = "rw") -> str:
    """
    Return the URI of a database file; its path may have any characters.

    Args:
        path: The file; made absolute where it is not.
        mode: SQLite's `mode=`, with further parameters behind an `&`.
    """
    # An absolute path may begin with two slashes (POSIX), and a URI's third
    # slash is where a host's name would end: https://sqlite.org/uri.html.
    raw = os.fsencode(os.path.abspath(path)).lstrip(b"/")
    text = "".join(chr(byte) if byte in _URI_SAFE else f"%{byte:02X}" for byte in raw)
    return f"file:///{text}?mode={mode}"
