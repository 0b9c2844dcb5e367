"""
The versions of an application, compared: which of two is the newer one.

Dotted numbers part by part (`1.9` before `1.10`, `1.2` the same as `1.2.0`), with or without
a `v` before them; what follows a `-` comes before the release itself, in the order of
https://semver.org/#spec-item-11, and what follows a `+` does not count. Of anything else,
such as a commit's hash, only equality is known.
"""

from __future__ import annotations

import re
from itertools import zip_longest

_FORM = (
    r"[vV]?(?P<numbers>[0-9]+(?:\.[0-9]+)*)(?:-(?P<before>[0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?"
)


def compare(one: str, other: str) -> int | None:
    """
    Compare two versions.

    Returns:
        Less than 0 where `one` is the older, 0 where both are the same, more than 0 where
        it is the newer; None where that cannot be told.
    """
    if one == other:
        return 0
    left, right = re.fullmatch(_FORM, one), re.fullmatch(_FORM, other)
    if left is None or right is None:
        return None
    return _by_number(left["numbers"], right["numbers"]) or _by_release(
        left["before"], right["before"]
    )


def same(one: str | None, other: str | None) -> bool:
    """Tell whether two versions are certainly one."""
    return one is not None and other is not None and compare(one, other) == 0


def is_older(one: str, other: str) -> bool:
    """Tell whether the first is certainly the older one."""
    found = compare(one, other)
    return found is not None and found < 0


def _by_number(one: str, other: str) -> int:
    pairs = zip_longest(one.split("."), other.split("."), fillvalue="0")
    return next((sign for pair in pairs if (sign := _sign(*map(int, pair)))), 0)


def _by_release(one: str | None, other: str | None) -> int:
    """Compare what follows the `-`; a release is newer than what comes before it."""
    if one is None or other is None:
        return _sign(one is None, other is None)
    pairs = zip_longest(one.split("."), other.split("."))
    return next((sign for pair in pairs if (sign := _sign(*map(_rank, pair)))), 0)


def _rank(part: str | None) -> tuple[int, int, str]:
    """Return what orders a part: a missing one first, then numbers by value, then words."""
    if part is None:
        return 0, 0, ""
    return (1, int(part), "") if part.isdecimal() else (2, 0, part)


def _sign(one: object, other: object) -> int:
    return int(one > other) - int(one < other)  # type: ignore[operator]
