"""What was measured: rows of the table and curves, and the file that keeps them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

OURS = "sqlite-entrypoint"
"""This program's name among the contenders."""

LIMIT = "limit"
"""In place of a figure: the work did not end within the limit."""

FAILED = "failed"
"""In place of a figure: the work ended with an error."""

Figure = float | str
"""A median, or one of these two."""


@dataclass(frozen=True)
class Goal:
    """
    What a row is to reach.

    Args:
        most: The largest ratio to the base, or the largest figure where there is none.
        ahead_of: Whom we have to beat as well.
    """

    most: float
    ahead_of: str = ""


@dataclass(frozen=True)
class Row:
    """
    One line of the table.

    Args:
        key: A short name, unique.
        work: What is done.
        figures: By contender: the median of its runs.
        unit: `s`, `s of CPU`, `MiB`, `MB` or `×`.
        base: The contender that the others are divided by; empty where figures speak alone.
        goal: What to reach.
        runs: How many runs of each.
        missing: Why nothing was measured; empty if something was.
    """

    key: str
    work: str
    figures: Mapping[str, Figure]
    unit: str
    base: str
    goal: Goal
    runs: int
    missing: str = ""

    def ratio(self, name: str) -> float | None:
        """Return a contender's figure as a multiple of the base's, where there are both."""
        figure, base = self.figures.get(name), self.figures.get(self.base)
        if isinstance(figure, str) or isinstance(base, str) or figure is None or not base:
            return None
        return figure / base

    @property
    def reached(self) -> bool | None:
        """Whether the goal is; None where nothing was measured."""
        if self.missing:
            return None
        ours = self.figures[OURS]
        value = self.ratio(OURS) if self.base else ours
        if isinstance(value, str) or value is None:
            return False
        other = self.figures.get(self.goal.ahead_of)
        behind = not isinstance(ours, str) and isinstance(other, float) and ours >= other
        return value <= self.goal.most and not behind


@dataclass(frozen=True)
class Curve:
    """
    How cost grows.

    Args:
        name: Its picture's name, without the suffix.
        title: What the picture shows, a sentence.
        across: What grows, as the axis says it.
        lines: By contender: sizes and seconds.
    """

    name: str
    title: str
    across: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class Part:
    """
    What one part has measured.

    Args:
        command: What was typed.
        date: When, as 2026-01-31.
    """

    command: str
    date: str
    rows: Sequence[Row]
    curves: Sequence[Curve]


@dataclass(frozen=True)
class Results:
    """
    Everything that is on the page.

    Args:
        machine: What it was measured on: what, and which.
        parts: By name.
    """

    machine: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, Part] = field(default_factory=dict)

    def rows(self) -> Iterator[Row]:
        """Yield the rows of all parts."""
        for part in self.parts.values():
            yield from part.rows

    def with_parts(
        self, machine: Mapping[str, str], parts: Mapping[str, Part], order: Sequence[str]
    ) -> Results:
        """Return these and others; what another machine has measured is left out."""
        kept = self.parts if self.machine == machine else {}
        both = {**kept, **parts}
        return Results(machine, {name: both[name] for name in order if name in both})


def load(path: Path) -> Results:
    """Read results; nothing was measured where there is no file."""
    if not path.exists():
        return Results()
    content = json.loads(path.read_text(encoding="utf-8"))
    return Results(
        content["machine"], {name: _part(part) for name, part in content["parts"].items()}
    )


def save(results: Results, path: Path) -> None:
    """Write results."""
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(asdict(results), indent=1, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8")


def _part(part: Mapping[str, Any]) -> Part:
    rows = [Row(**{**row, "goal": Goal(**row["goal"])}) for row in part["rows"]]
    curves = [Curve(**curve) for curve in part["curves"]]
    return Part(part["command"], part["date"], rows, curves)
