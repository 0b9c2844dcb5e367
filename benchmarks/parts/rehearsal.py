"""What `--rehearse` costs a start: the same work on a copy first, and measured there."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.material import UPDATE
from benchmarks.parts.large import template
from benchmarks.race import Way
from benchmarks.results import OURS, Curve, Goal, Row

WITHOUT = "the same without it"


def rehearse(bench: Bench) -> Iterator[Row | Curve]:
    """Measure an update of 100 MB that is rehearsed first, beside one that is not."""
    megabytes, runs = bench.size(100, 2), bench.times(5)
    plain = bench.migrating(
        bench.ours, [UPDATE], template(bench, megabytes), bench.place("rehearsed")
    )
    ways = [
        Way(WITHOUT, plain.command, plain.prepare),
        Way(OURS, [*plain.command, "--rehearse"], plain.prepare),
    ]
    yield Row(
        "rehearse",
        f"`--rehearse`: {megabytes} MB, UPDATE of 10 % and an index",
        *(bench.race(ways, runs), "s", WITHOUT, Goal(4), runs),
    )
