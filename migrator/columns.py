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
