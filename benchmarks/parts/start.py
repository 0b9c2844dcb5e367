"""A start with nothing pending, and the health check: what is paid again and again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.contenders import EMPTY, Contender
from benchmarks.material import database_of_tables, fresh, small_migrations
from benchmarks.parts.tree import Tree, tree
from benchmarks.race import Way, cpu_seconds, succeed
from benchmarks.results import OURS, Curve, Figure, Goal, Row
from benchmarks.venvs import PYTHON

IN_TREE = f"{OURS} in the image's tree"


def start(bench: Bench) -> Iterator[Row | Curve]:
    """Measure a start with nothing pending, in the image's tree and from the wheel."""
    number, runs = bench.size(100, 5), bench.times(21)
    image = tree(bench)
    place = bench.place("start")
    ways = [Way(EMPTY, [PYTHON, "-I", "-S", "-c", "pass"])]
    for contender in (bench.ours, *bench.peers):
        files, database = _up_to_date(bench, contender, number, place)
        ways.append(Way(contender.name, [*contender.up(files, database), *_true(contender)]))
    if isinstance(image, Tree):
        files, database = place / f"{OURS}-migrations", place / OURS / "app.db"
        options = ["--database", str(database), "--migrations", str(files), "--", "true"]
        ways.append(Way(IN_TREE, [image.program("entrypoint"), *options], within=image.within))
    figures = bench.race(ways, runs)
    work = f"a start with nothing pending, {number:,} applied"
    yield _of_tree(f"{work}, in the image's tree", figures, image, Goal(5), runs)
    where = "from the sources" if bench.offline else "installed from the wheel"
    wheel = {name: figure for name, figure in figures.items() if name != IN_TREE}
    yield Row("start", f"the same, {where}", wheel, "s", EMPTY, Goal(4.5), runs)


def check(bench: Bench) -> Iterator[Row | Curve]:
    """Measure `migrator check`, a health check, in seconds of CPU."""
    number, runs = bench.size(100, 5), bench.times(11)
    place = bench.place("check")
    files, database = _up_to_date(bench, bench.ours, number, place)
    options = ["check", "--database", str(database), "--migrations", str(files)]
    ways = [
        Way(EMPTY, [PYTHON, "-I", "-S", "-c", "pass"]),
        Way(OURS, [*bench.ours.program("migrator"), *options]),
    ]
    for peer in bench.named("dbmate"):
        files, database = _up_to_date(bench, peer, number, place)
        ways.append(Way(peer.name, [*peer.up(files, database)[:-1], "status"]))
    image = tree(bench)
    if isinstance(image, Tree):
        ways.append(Way(IN_TREE, [image.program("migrator"), *options], within=image.within))
    figures = bench.race(ways, runs, cpu_seconds)
    where = "from the sources" if bench.offline else "installed from the wheel"
    if isinstance(image, Tree):
        in_tree = {**figures, OURS: figures[IN_TREE]}
        del in_tree[IN_TREE]
        yield Row("check-tree", "`migrator check`, in the image's tree", in_tree, *_CHECK, runs)
    else:
        yield Row("check-tree", "`migrator check`, in the image's tree", {}, *_CHECK, runs, image)
    wheel = {name: figure for name, figure in figures.items() if name != IN_TREE}
    yield Row("check", f"`migrator check`, {where}", wheel, *_CHECK, runs)


_CHECK = ("s of CPU", "", Goal(0.06))


def _up_to_date(bench: Bench, contender: Contender, number: int, place: Path) -> tuple[Path, Path]:
    """Return migrations, and a database to which all of them are applied."""
    template = database_of_tables(bench.directory / "one-table.db", 1)
    files = contender.lay_out(place / f"{contender.directory}-migrations", small_migrations(number))
    database = fresh(place / contender.directory, template)
    contender.prepare(database)
    succeed(contender.up(files, database))
    return files, database


def _true(contender: Contender) -> Sequence[str]:
    """Return the application: this program starts one, and the others do not."""
    return ["--", "true"] if contender.name == OURS else []


def _of_tree(
    work: str, figures: Mapping[str, Figure], image: Tree | str, goal: Goal, runs: int
) -> Row:
    """Return the row of the image's tree, or why there is none."""
    if isinstance(image, str):
        return Row("start-tree", work, {}, "s", EMPTY, goal, runs, image)
    shown = {name: figure for name, figure in figures.items() if name not in {IN_TREE, OURS}}
    return Row("start-tree", work, {OURS: figures[IN_TREE], **shown}, "s", EMPTY, goal, runs)
