"""The most memory that a process of a run has at one time."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.material import UPDATE, database_of_tables, small_migrations
from benchmarks.parts.large import template
from benchmarks.race import peak
from benchmarks.results import Curve, Goal, Row


def memory(bench: Bench) -> Iterator[Row | Curve]:
    """Measure peak memory: 100 MB, 1 GB (with `--large` 2 GB), 10,000 migrations."""
    runs = bench.times(1)
    contenders = [bench.ours, *bench.named("dbmate")]
    for megabytes in (1,) if bench.quick else (100, 1000, *([2000] if bench.large else [])):
        place, source = bench.place("memory"), template(bench, megabytes)
        ways = [bench.migrating(each, [UPDATE], source, place) for each in contenders]
        yield Row(
            f"memory-{megabytes}",
            f"peak memory, a database of {megabytes:,} MB upgraded",
            *(bench.race(ways, runs, peak), "MiB", "", Goal(48), runs),
        )
    number, place = bench.size(10_000, 20), bench.place("memory")
    source = database_of_tables(bench.directory / "one-table.db", 1)
    migrations = small_migrations(number)
    ways = [bench.migrating(each, migrations, source, place) for each in contenders]
    yield Row(
        "memory-migrations",
        f"peak memory, {number:,} migrations pending",
        *(bench.race(ways, runs, peak), "MiB", "", Goal(48), runs),
    )
