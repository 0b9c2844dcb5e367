"""Results for people: aligned columns on stdout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from migrator.terminal import printable


def aligned(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows under their header in columns as wide as their widest text, one line a row."""
    lines = [tuple(header), *(tuple(map(printable, row)) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(header))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def size(count: int) -> str:
    """Return a number of bytes in the largest unit of which there is at least one."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def moment(text: str) -> str:
    """
    Return a time in the one form in which people get it: `2026-01-31 07:05:09`, in UTC.

    What is not a time stays as it is: other programs have written histories as well. Where such
    a one says no zone, UTC is what SQLite's own CURRENT_TIMESTAMP means.
    """
    from datetime import UTC, datetime

    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            found = found.astimezone(UTC)
    except (ValueError, OverflowError):
        return text
    return found.strftime("%Y-%m-%d %H:%M:%S")
