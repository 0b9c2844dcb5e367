"""The page of figures is that of the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import page, race
from benchmarks.results import FAILED, LIMIT, OURS, Curve, Goal, Part, Results, Row, load, save
from tests.conftest import ROOT

ROW = Row("many", "the work", {"base": 2.0, OURS: 0.5, "peer": 8.0}, "s", "base", Goal(0.3), 3)
CURVE = Curve("size", "It grows", "size", {OURS: [(1, 0.5), (10, 0.6)]})
RESULTS = Results(
    {"processor": "one"}, {"many": Part("python -m benchmarks many", "2026-01-31", [ROW], [CURVE])}
)


def test_the_figures_on_the_page_are_those_that_were_measured() -> None:
    """`python -m benchmarks --write` writes page and results together."""
    assert page.up_to_date(ROOT) == (ROOT / page.PAGE).read_text()


def test_each_curve_has_its_picture_and_each_picture_its_curve() -> None:
    """No picture is left from a curve that is measured no more."""
    results = load(ROOT / page.KEPT)
    curves = {curve.name for part in results.parts.values() for curve in part.curves}
    assert curves == {path.stem for path in (ROOT / page.KEPT).parent.glob("*.svg")}


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    """A part that is measured alone finds the others as they were."""
    path = tmp_path / "kept" / "results.json"
    assert Results() == load(path)
    save(RESULTS, path)
    assert page.whole(RESULTS) == page.whole(load(path))


def test_the_page_has_ratios_the_goal_and_the_command() -> None:
    """A row has its figure, what it is beside the base, the others, and whether that is enough."""
    text = page.whole(RESULTS)
    for line in (
        "| the work | 500 ms | 0.25 × base (2.0 s) | peer 4.0 × | ≤ 0.3 × |",
        "- processor: one",
        "![It grows: seconds, by size](performance/size.svg)",
        "| many | 2026-01-31 | `python -m benchmarks many` |",
    ):
        assert line in text.splitlines()


def row(figures: dict[str, float | str], goal: Goal, base: str = "", missing: str = "") -> Row:
    """Return a row with these figures."""
    return Row("key", "work", figures, "MB", base, goal, 1, missing)


@pytest.mark.parametrize(
    ("measured", "reached"),
    [
        (row({OURS: 3.0}, Goal(3)), True),
        (row({OURS: 3.1}, Goal(3)), False),
        (row({OURS: 3.0, "base": 2.0}, Goal(1.5), "base"), True),
        (row({OURS: 3.1, "base": 2.0}, Goal(1.5), "base"), False),
        (row({OURS: 3.0, "peer": 3.1}, Goal(3, "peer")), True),
        (row({OURS: 3.0, "peer": 2.9}, Goal(3, "peer")), False),
        (row({OURS: 3.0, "peer": FAILED}, Goal(3, "peer")), True),
        (row({OURS: LIMIT, "base": 2.0}, Goal(1.5), "base"), False),
        (row({OURS: 1.0, "base": LIMIT}, Goal(1.5), "base"), False),
        (row({}, Goal(1.5), "base", "needs docker"), None),
    ],
)
def test_a_goal_is_reached_or_not(measured: Row, reached: bool | None) -> None:
    """By the ratio where there is a base, by the figure where there is none, and ahead of a peer."""
    assert reached is measured.reached
    said = page.sentence(measured, goal=True)
    assert (reached is False) == ("(not reached)" in said)


def test_another_machine_begins_anew() -> None:
    """Parts are kept beside new ones in their order; those of another machine are not."""
    parts = {"image": Part("command", "2026-02-01", [], [])}
    order = ["image", "many"]
    same = RESULTS.with_parts(RESULTS.machine, parts, order)
    assert ["image", "many"] == list(same.parts)
    assert ["image"] == list(RESULTS.with_parts({"processor": "two"}, parts, order).parts)


def test_contenders_take_turns_and_the_median_counts(tmp_path: Path) -> None:
    """Each round has every contender once; who is too slow or fails is not started again."""
    order: list[str] = []

    def measure(way: race.Way, limit: float, output: Path) -> float:
        order.append(way.name)
        if way.name == "slow":
            raise race.TooLongError
        if way.name == "bad":
            raise race.RunFailedError
        return [3.0, 1.0, 2.0][order.count(way.name) - 1]

    ways = [race.Way(name, []) for name in ("base", OURS, "slow", "bad")]
    found = race.race(ways, 3, 60, tmp_path / "output", measure)
    assert {"base": 2.0, OURS: 2.0, "slow": LIMIT, "bad": FAILED} == found
    assert ["base", OURS, "slow", "bad", "base", OURS, "base", OURS] == order


@pytest.mark.parametrize("names", [["base", OURS], [OURS, "peer"]])
def test_our_own_failure_is_no_row(names: Sequence[str], tmp_path: Path) -> None:
    """Where this program fails, or what it is compared to, the part has failed."""

    def measure(way: race.Way, limit: float, output: Path) -> float:
        raise race.RunFailedError

    with pytest.raises(race.RunFailedError):
        race.race([race.Way(name, []) for name in names], 1, 60, tmp_path / "output", measure)
