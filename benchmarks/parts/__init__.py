"""The parts: each measures some rows of the table, and perhaps a curve."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.bench import Bench
from benchmarks.parts.code import dump, rows
from benchmarks.parts.image import docker, image
from benchmarks.parts.large import column, restore, update
from benchmarks.parts.many import many, tables
from benchmarks.parts.memory import memory
from benchmarks.parts.rehearsal import rehearse
from benchmarks.parts.start import check, start
from benchmarks.results import Curve, Row

PARTS: dict[str, Callable[[Bench], Iterator[Row | Curve]]] = {
    part.__name__: part
    for part in (
        *(many, tables, rows, dump, column, update, restore, rehearse),
        *(start, docker, check, memory, image),
    )
}
"""Every part by its name, in the order of the table; its docstring is what `--list` says."""

__all__ = ["PARTS"]
