"""
A spread of the bad and hostile input, with processes of its own for each.

`python -m tests.prove --only input` tries all of it; `SQLITE_ENTRYPOINT_CORPUS`
says how many cases of each group are tried here, `SQLITE_ENTRYPOINT_CORPUS_SEED`
chooses which.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.corpus import splitter
from tests.corpus.case import COMMANDS, play
from tests.corpus.groups import GROUPS, cases
from tests.corpus.runs import processes
from tests.support.proof import Stopwatch

pytestmark = pytest.mark.timeout(0)

SEED = os.environ.get("SQLITE_ENTRYPOINT_CORPUS_SEED", "1")
NUMBER = int(os.environ.get("SQLITE_ENTRYPOINT_CORPUS", "3"))


@pytest.mark.parametrize("group", GROUPS)
def test_bad_input_is_told_by_its_code_and_left_as_it_is(
    group: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Every command ends in time, by a documented code, without a traceback, and writes nothing."""
    run = processes()
    chosen = cases(group, SEED)[:NUMBER]
    verdicts = [
        play(case, COMMANDS[(2 * number + turn) % len(COMMANDS)], tmp_path / "place", run)
        for number, case in enumerate(chosen)
        for turn in (0, 1)
    ]
    record_property("tried", len(verdicts))
    assert len(verdicts) == 2 * min(NUMBER, len(cases(group, SEED))) > 0
    assert not [str(verdict) for verdict in verdicts if verdict.problems]


@pytest.mark.parametrize("group", ["bits flipped", "journals", "schemas"])
def test_a_seed_makes_the_same_cases(group: str) -> None:
    """What was found once can be tried again."""
    once, again = (cases(group, "7")[:20] for _ in range(2))
    assert [(case.name, case.files) for case in once] == [(case.name, case.files) for case in again]


def test_scripts_are_cut_where_sqlite_cuts_them() -> None:
    """What is cut from a made-up script is what SQLite reads as one statement, and ends the same."""
    tried, broken = splitter.sweep(SEED, Stopwatch(), most=3000)
    assert (3000, []) == (tried, broken)
