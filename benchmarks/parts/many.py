"""Many migrations, and many tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.contenders import SHELL, Contender
from benchmarks.material import database_of_tables, small_migrations
from benchmarks.results import OURS, Curve, Figure, Goal, Row

AT = (1, 10, 100, 800, 1000, 10_000)
AT_QUICK = (1, 5, 10, 15, 20, 40)
TABLES = (10, 100, 1000, 5000)
TABLES_QUICK = (5, 10)


def many(bench: Bench) -> Iterator[Row | Curve]:
    """Measure SQL migrations pending, 10 to 10,000, and what one of them costs."""
    template = database_of_tables(bench.directory / "one-table.db", 1)
    numbers = AT_QUICK if bench.quick else AT
    one, _, few, more, usual, most = numbers
    found: dict[int, Mapping[str, Figure]] = {}
    for number in dict.fromkeys(numbers):
        who = bench.named("dbmate") if number in {one, more, most} else bench.peers
        runs = bench.times(3 if number <= usual else 1)
        found[number] = _applied(bench, number, template, who, runs)
    yield Row(
        "many",
        f"{usual:,} SQL migrations pending",
        *(found[usual], "s", SHELL),
        Goal(4, ahead_of="dbmate"),
        bench.times(3),
    )
    for last in (more, most):
        yield Row(
            f"flat-{last}",
            f"cost of one migration, {last:,} ÷ {few:,} pending",
            {name: _growth(found, name, few, last) for name in found[last] if name != SHELL},
            *("×", "", Goal(1.1), bench.times(3)),
        )
    shown = [number for number in dict.fromkeys(numbers) if number not in {one, more}]
    yield Curve(
        "migrations",
        "Pending migrations applied, each with a table and a row",
        "migrations pending",
        lines(found, shown),
    )


def _applied(
    bench: Bench, number: int, template: Path, who: list[Contender], runs: int
) -> Mapping[str, Figure]:
    """Return what it takes to apply that many."""
    place, migrations = bench.place("many"), small_migrations(number)
    contenders = [bench.shell, bench.ours, *who]
    ways = [bench.migrating(each, migrations, template, place) for each in contenders]
    return bench.race(ways, runs)


def _growth(found: Mapping[int, Mapping[str, Figure]], name: str, few: int, many: int) -> Figure:
    """Return by what factor one more migration costs more; the start is not counted."""
    start, first, last = (found[number][name] for number in (1, few, many))
    if isinstance(start, str) or isinstance(first, str) or isinstance(last, str):
        return next(each for each in (start, first, last) if isinstance(each, str))
    return ((last - start) / (many - 1)) / ((first - start) / (few - 1))


def tables(bench: Bench) -> Iterator[Row | Curve]:
    """Measure one migration pending in a database of 10 to 5,000 tables."""
    numbers = TABLES_QUICK if bench.quick else TABLES
    migration = ("ALTER TABLE entry ADD COLUMN seen INTEGER NOT NULL DEFAULT 0",)
    found: dict[int, Mapping[str, Figure]] = {}
    for number in numbers:
        place = bench.place("tables")
        template = database_of_tables(bench.directory / "tables.db", number)
        contenders = [bench.shell, bench.ours, *bench.named("dbmate", "yoyo")]
        ways = [bench.migrating(each, [migration], template, place) for each in contenders]
        found[number] = bench.race(ways, bench.times(5))
    yield Curve(
        "tables",
        "One migration applied to a database of many tables",
        "tables",
        lines(found, numbers),
    )


def lines(
    found: Mapping[int, Mapping[str, Figure]], numbers: list[int] | tuple[int, ...]
) -> dict[str, list[tuple[float, float]]]:
    """Return the lines of a picture: for each contender what it took, where it came to an end."""
    out: dict[str, list[tuple[float, float]]] = {OURS: []}
    for number in numbers:
        for name, figure in found[number].items():
            if not isinstance(figure, str):
                out.setdefault(name, []).append((number, figure))
    return out
