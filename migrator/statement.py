"""A statement of a script, in a module that a start with nothing pending need not import."""

from __future__ import annotations

from typing import NamedTuple


class Statement(NamedTuple):
    """
    One SQL statement as written.

    `line` is that of its first character (from 1), `keyword` its first word in upper case, `""`
    if it does not begin with one. A script may hold a million: a tuple is made in half the time.
    """

    text: str
    line: int
    keyword: str
