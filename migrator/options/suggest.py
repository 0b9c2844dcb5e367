"""How far one name is from another: what a person meant who typed the other one."""

from __future__ import annotations

from collections.abc import Iterable

_PAIR = 2
_TELLING = 4
"""How much of a name must have been typed for its beginning to tell which one is meant."""


def one_slip(typed: str, right: str) -> bool:
    """
    Tell whether one character too many, too few, wrong or swapped is all that differs.

    That is a Damerau-Levenshtein distance of 1, found without a matrix: what
    is left between the common beginning and the common end decides.
    """
    if abs(len(typed) - len(right)) > 1 or typed == right:
        return False
    start = _common(typed, right)
    a, b = typed[start:], right[start:]
    end = _common(a[::-1], b[::-1])
    a, b = a[: len(a) - end], b[: len(b) - end]
    return (len(a) <= 1 and len(b) <= 1) or (a[::-1] == b and len(a) == _PAIR)


def _common(a: str, b: str) -> int:
    """Return how many characters two texts have in common from the start."""
    shorter = min(len(a), len(b))
    return next((i for i in range(shorter) if a[i] != b[i]), shorter)


def closest(typed: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate closest to `typed`, or None if none is close."""
    near = [
        (distance, name)
        for name in candidates
        if (distance := _distance(typed.lower(), name)) <= max(1, len(name) // 3)
    ]
    if near:
        return min(near)[1]
    begun = [name for name in candidates if len(typed) >= _TELLING and name.startswith(typed)]
    return begun[0] if len(begun) == 1 else None


def _distance(a: str, b: str) -> int:
    """Return the Damerau-Levenshtein distance (each pair of characters swapped once)."""
    before: list[int] = []
    above = list(range(len(b) + 1))
    for i in range(1, len(a) + 1):
        row = [i]
        for j in range(1, len(b) + 1):
            wrong = above[j - 1] + (a[i - 1] != b[j - 1])
            best = min(above[j] + 1, row[j - 1] + 1, wrong)
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                best = min(best, before[j - 2] + 1)
            row.append(best)
        before, above = above, row
    return above[-1]
