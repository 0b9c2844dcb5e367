"""A large database: upgraded, and put back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import cycle
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.contenders import COPY, Contender, copy_and_sync
from benchmarks.material import ADD_COLUMN, UPDATE, Migration, filled_database, fresh, sync
from benchmarks.parts.many import lines
from benchmarks.race import Way, succeed
from benchmarks.results import OURS, Curve, Figure, Goal, Row

COPY_AND_DBMATE = f"{COPY}, then dbmate"
COPY_AND_SHELL = f"{COPY}, then SQLite's shell"


def template(bench: Bench, megabytes: int) -> Path:
    """Return a database of that size; made once for all parts."""
    return filled_database(bench.directory / f"{megabytes}-megabytes.db", megabytes)


def column(bench: Bench) -> Iterator[Row | Curve]:
    """Measure a column added to databases of 1 MB to 1 GB (with `--large` 4 GB)."""
    full = (1, 10, 100, 1000, *([4000] if bench.large else []))
    sizes = (1, 2) if bench.quick else full
    row_of = bench.size(1000, 2)
    found: dict[int, Mapping[str, Figure]] = {}
    for megabytes in sizes:
        runs = bench.times(5 if megabytes <= 100 else 3)
        found[megabytes] = _upgraded(bench, megabytes, ADD_COLUMN, runs)
    yield Row(
        "column",
        f"{_size(row_of)}, `ADD COLUMN`",
        *(found[row_of], "s", COPY, Goal(2.5), bench.times(3)),
    )
    yield Curve(
        "size",
        "A column added, with a backup before it",
        "database, MB",
        lines(found, sizes),
    )


def update(bench: Bench) -> Iterator[Row | Curve]:
    """Measure a tenth of the rows updated and an index built in a database of 1 GB."""
    megabytes, runs = bench.size(1000, 2), bench.times(3)
    figures = dict(_upgraded(bench, megabytes, UPDATE, runs))
    base = COPY_AND_SHELL if bench.offline else COPY_AND_DBMATE
    yield Row(
        "update",
        f"{_size(megabytes)}, UPDATE of 10 % and an index",
        *(figures, "s", base, Goal(1.2), runs),
    )


def restore(bench: Bench) -> Iterator[Row | Curve]:
    """Measure a backup of 1 GB put back by hand over a state that has its own backup."""
    megabytes, runs = bench.size(1000, 2), bench.times(3)
    place = bench.place("restore")
    database = fresh(place / "volume", template(bench, megabytes))
    files = bench.ours.lay_out(place / "migrations", [UPDATE])
    succeed(bench.ours.up(files, database))
    restoring = [*bench.ours.program("migrator"), "restore", "--database", str(database)]
    succeed([*restoring, "latest"])
    both = cycle(_backups(bench, database))
    chosen = place / "chosen"

    def choose() -> None:
        """Have the next run put the other of the two states back."""
        chosen.write_text(f"{next(both)}\n")
        sync(place)

    reading = ["sh", "-c", 'read -r backup <"$0" && exec "$@" "$backup"', str(chosen)]
    copy = copy_and_sync(template(bench, megabytes), place / "copy" / "app.db")
    ways = [
        Way(COPY, copy, lambda: fresh(place / "copy")),
        Way(OURS, [*reading, *restoring], choose),
    ]
    yield Row(
        "restore",
        f"restore of {_size(megabytes)}",
        *(bench.race(ways, runs), "s", COPY, Goal(1.3), runs),
    )


def _size(megabytes: int) -> str:
    return f"{megabytes // 1000} GB" if megabytes >= 1000 else f"{megabytes} MB"


def _upgraded(
    bench: Bench, megabytes: int, migration: Migration, runs: int
) -> Mapping[str, Figure]:
    """Return what it takes: a copy alone; copy and migration; this program."""
    place, source = bench.place("large"), template(bench, megabytes)
    volume = place / "volume"
    copy = copy_and_sync(volume / "app.db", volume / "copy.db")
    ours = bench.migrating(bench.ours, [migration], source, place)
    ways = [Way(COPY, copy, lambda: fresh(volume, source)), ours]
    second: list[tuple[str, Contender]] = [(COPY_AND_SHELL, bench.shell)]
    second += [(COPY_AND_DBMATE, peer) for peer in bench.named("dbmate")]
    for name, contender in second:
        way = bench.migrating(contender, [migration], source, place)
        both = ["sh", "-c", 'cp "$1" "$2" && sync "$2" && shift 2 && exec "$@"', *copy[3:]]
        ways.append(Way(name, [*both, *way.command], way.prepare))
    return bench.race(ways, runs)


def _backups(bench: Bench, database: Path) -> list[str]:
    """Return the backups of both states, the newer first: the one that does not stand now."""
    command = [*bench.ours.program("migrator"), "backups", "--json", "--database", str(database)]
    found = json.loads(succeed(command))
    return [backup["path"] for backup in found]
