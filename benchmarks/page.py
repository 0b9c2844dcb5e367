"""The marked parts of docs/performance.md and README, written from the results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.results import FAILED, LIMIT, OURS, Curve, Figure, Results, Row, load
from entrypoint.reference import replace_between_markers

MARK = "performance"
KEPT = Path("docs/performance/results.json")

PAGES = {"docs/performance.md": "whole", "README.md": "summary"}
"""Which text each page has between its markers."""

SUMMARY = ("many", "column", "update", "start-tree", "start", "memory-1000", "image-compressed")
"""The rows that README has."""

NOTHING = "Nothing was measured yet; `python -m benchmarks --write` does."


def up_to_date(root: Path, page: str) -> str:
    """Return the text of a page, with its marked part as the results have it."""
    results = load(root / KEPT)
    content = whole(results) if PAGES[page] == "whole" else summary(results)
    text = (root / page).read_text(encoding="utf-8")
    return replace_between_markers(text, MARK, content)


def write(root: Path) -> None:
    """Bring the pages up to date."""
    for page in PAGES:
        text = up_to_date(root, page)
        (root / page).write_text(text, encoding="utf-8")


def whole(results: Results) -> str:
    """Return everything: the table, the machine, the pictures, the commands."""
    if not results.parts:
        return NOTHING
    lines = [*table(list(results.rows()), goals=True), "", *_machine(results)]
    for part in results.parts.values():
        for curve in part.curves:
            lines += ["", *_picture(curve, part.command)]
    lines += ["", "| part | measured | by |", "| --- | --- | --- |"]
    lines += [
        f"| {name} | {part.date} | `{part.command}` |" for name, part in results.parts.items()
    ]
    return "\n".join(lines)


def summary(results: Results) -> str:
    """Return README's rows, with the command."""
    rows = [row for row in results.rows() if row.key in SUMMARY and not row.missing]
    if not rows:
        return NOTHING
    return "\n".join([*table(rows, goals=False), "", "`python -m benchmarks --write`"])


def table(rows: list[Row], *, goals: bool) -> Iterator[str]:
    """Yield the lines of a table of rows."""
    heads = ["work", "takes", "beside it", "others", *(["goal"] if goals else [])]
    yield f"| {' | '.join(heads)} |"
    yield f"| {' | '.join('---' for _ in heads)} |"
    for row in rows:
        cells = [row.work, *(_cells(row)), *([_goal(row)] if goals else [])]
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
