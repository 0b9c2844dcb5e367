"""The marked part of docs/performance.md, written from the results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.results import FAILED, LIMIT, OURS, Curve, Figure, Results, Row, load
from entrypoint.reference import replace_between_markers

MARK = "performance"
KEPT = Path("docs/performance/results.json")

PAGE = Path("docs/performance.md")

NOTHING = "Nothing was measured yet; `python -m benchmarks --write` does."


def up_to_date(root: Path) -> str:
    """Return the text of the page, with its marked part as the results have it."""
    text = (root / PAGE).read_text(encoding="utf-8")
    return replace_between_markers(text, MARK, whole(load(root / KEPT)))


def write(root: Path) -> None:
    """Bring the page up to date."""
    (root / PAGE).write_text(up_to_date(root), encoding="utf-8")


def whole(results: Results) -> str:
    """Return everything: the table, the machine, the pictures, the commands."""
    if not results.parts:
        return NOTHING
    lines = [*table(list(results.rows())), "", *_machine(results)]
    for part in results.parts.values():
        for curve in part.curves:
            lines += ["", *_picture(curve, part.command)]
    lines += ["", "| part | measured | by |", "| --- | --- | --- |"]
    lines += [
        f"| {name} | {part.date} | `{part.command}` |" for name, part in results.parts.items()
    ]
    return "\n".join(lines)


def table(rows: list[Row]) -> Iterator[str]:
    """Yield the lines of a table of rows."""
    heads = ["work", "takes", "beside it", "others", "goal"]
    yield f"| {' | '.join(heads)} |"
    yield f"| {' | '.join('---' for _ in heads)} |"
    for row in rows:
        cells = [row.work, *_cells(row), _goal(row)]
        yield f"| {' | '.join(cells)} |"


def sentence(row: Row, *, goal: bool) -> str:
    """Return a row as a line for the terminal."""
    takes, beside, others = _cells(row)
    said = [f"{row.work}: {takes}", beside, others, f"goal {_goal(row)}" if goal else ""]
    return "; ".join(each for each in said if each)


def _cells(row: Row) -> tuple[str, str, str]:
    """Return what it takes, the ratio to the base, and the others."""
    if row.missing:
        return f"not measured: {row.missing}", "", ""
    others = {name: figure for name, figure in row.figures.items() if name not in {OURS, row.base}}
    return (
        _shown(row.figures[OURS], row.unit),
        _beside(row),
        ", ".join(f"{name} {_other(row, name, figure)}" for name, figure in others.items()),
    )


def _beside(row: Row) -> str:
    if not row.base:
        return ""
    ratio, base = row.ratio(OURS), row.figures[row.base]
    if ratio is None:
        return f"{row.base} {_shown(base, row.unit)}"
    return f"{_number(ratio)} × {row.base} ({_shown(base, row.unit)})"


def _other(row: Row, name: str, figure: Figure) -> str:
    ratio = row.ratio(name)
    return f"{_number(ratio)} ×" if ratio is not None else _shown(figure, row.unit)


def _shown(figure: Figure, unit: str) -> str:
    if figure == LIMIT:
        return "longer than the limit"
    if isinstance(figure, str):
        return FAILED
    if unit == "s" and figure < 1:
        return f"{1000 * figure:.0f} ms"
    return f"{_number(figure)} {unit}"


def _number(value: float) -> str:
    """Return two digits at least, and no more than are seen again in the next run."""
    if value < 1:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _goal(row: Row) -> str:
    unit = "×" if row.base else row.unit
    ahead = f", ahead of {row.goal.ahead_of}" if row.goal.ahead_of else ""
    missed = " (not reached)" if row.reached is False else ""
    return f"≤ {row.goal.most:g} {unit}{ahead}{missed}"


def _machine(results: Results) -> Iterator[str]:
    """Yield the list of what was measured on."""
    yield "Measured on:"
    yield ""
    for what, which in results.machine.items():
        yield f"- {what}: {which}"


def _picture(curve: Curve, command: str) -> Iterator[str]:
    yield f"### {curve.title}"
    yield ""
    yield f"![{curve.title}: seconds, by {curve.across}](performance/{curve.name}.svg)"
    yield ""
    yield f"`{command}`"
