"""The command of the whole proof: what it prints, writes and returns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests import prove
from tests.disks import full
from tests.powercut import block
from tests.support.proof import Effort, Row

PAGE = f"before\n{prove.BEGIN}\nold\n{prove.END}\nafter\n"


@pytest.fixture
def harnesses(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Row]]:
    """Return what the harnesses yield, to be filled; there are no others."""
    found: dict[str, list[Row]] = {}

    def harness(name: str):
        def rows(effort: Effort) -> Iterator[Row]:
            assert effort.directory.is_dir()
            yield from found[name]

        return rows

    monkeypatch.setattr(prove, "harness", harness)
    return found


@pytest.mark.parametrize("name", prove.HARNESSES)
def test_every_harness_is_there(name: str) -> None:
    """Each name leads to a function."""
    assert callable(prove.harness(name))


def test_the_table_is_put_into_its_page(
    harnesses: dict[str, list[Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Points, tries and survivals are summed for each harness, and stand for each fixture."""
    harnesses["calls"] = [Row("calls", "up", 3, 9, (), 1.0), Row("calls", "down", 4, 10, (), 2.0)]
    harnesses["full"] = [Row("full", "ext4", 5, 6, (), 4.0)]
    monkeypatch.setattr(prove, "ROOT", tmp_path)
    page = tmp_path / "docs/reliability.md"
    page.parent.mkdir()
    page.write_text(PAGE)
    assert prove.main(["--only", "calls,full", "--minutes", "1", "--write"]) == 0
    reliability = page.read_text()
    for line in (
        "| calls | 2 | 7 | 19 | 19 | 3 |",
        "| full | ext4 | 5 | 6 | 6 | 4 |",
        "| **all** | 3 | 12 | 25 | 25 | 0 |",
        "`python -m tests.prove --only calls,full --minutes 1 --seed 1 ",
    ):
        assert line in reliability
    assert "| calls | down | 4 | 10 | 10 | 2 |" in reliability
    expected = ("before\n", "after\n", False)
    assert expected == (reliability[:7], reliability[-6:], "old" in reliability)


def test_a_broken_promise_is_printed_and_fails(
    harnesses: dict[str, list[Row]], capsys: pytest.CaptureFixture[str]
) -> None:
    """What was not survived is said in a sentence, counted, and the exit code is 1."""
    harnesses["calls"] = [Row("calls", "up", 3, 9, ("The database is neither.",), 1.0)]
    assert prove.main(["--only", "calls"]) == 1
    printed = capsys.readouterr().out
    assert "  The database is neither.\n" in printed
    assert "| calls | up | 3 | 9 | 8 | 1 |" in printed


def test_a_harness_that_breaks_down_fails_and_the_others_go_on(
    harnesses: dict[str, list[Row]], capsys: pytest.CaptureFixture[str]
) -> None:
    """A harness's own exception is no survival, and does not end the command."""
    harnesses["full"] = [Row("full", "ext4", 5, 6, (), 4.0)]
    assert prove.main(["--only", "calls,full"]) == 1
    printed = capsys.readouterr().out
    assert "KeyError" in printed
    assert "| full | ext4 | 5 | 6 | 6 | 4 |" in printed


@pytest.mark.parametrize("rows", [[], [Row("full", "ext4", 5, 0, (), 4.0)]])
def test_a_harness_that_tries_nothing_fails(
    rows: list[Row], harnesses: dict[str, list[Row]], capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty table is no proof: without one try the exit code is 1, though nothing broke."""
    harnesses["full"] = rows
    harnesses["calls"] = [Row("calls", "up", 3, 9, (), 1.0)]
    assert prove.main(["--only", "calls,full"]) == 1
    printed = capsys.readouterr().out
    assert "full: nothing was tried" in printed
    assert "calls: nothing was tried" not in printed


@pytest.mark.parametrize("module", [block, full])
def test_what_a_machine_lacks_is_named(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file system that cannot be tried is a broken row, and not left out without a word."""
    monkeypatch.setattr(module, "missing", lambda _: "mkfs.none")
    for seconds in (None, 1.0):
        rows = list(module.rows(Effort(tmp_path, seconds)))
        assert "xfs" in [row.fixture for row in rows]
        for row in rows:
            assert (f"{row.fixture}: not tried: needs mkfs.none.",) == row.broken
            assert (0, 0) == (row.tried, row.survived)


def test_a_page_without_its_place_is_an_error(tmp_path: Path) -> None:
    """Where the markers are gone the table would be lost without a word."""
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    with pytest.raises(AssertionError, match="place for the table"):
        prove.write(page, "table")
    assert page.read_text() == "nothing\n"


def test_an_unknown_harness_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A slip in a name is an error and not an empty proof."""
    with pytest.raises(SystemExit):
        prove.main(["--only", "call"])
    assert "unknown: call" in capsys.readouterr().err
