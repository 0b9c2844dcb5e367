"""
The random long run: two cases, and the bugs that it must find.

For as long as you like it is `python -m tests.soak --minutes 60`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.planted import Bug
from tests.soak import containers
from tests.soak.planted import BUGS
from tests.soak.processes import play

pytestmark = [pytest.mark.faults, pytest.mark.timeout(0)]

_CASES = 80


@pytest.mark.parametrize("seed", ["first", "second"])
def test_a_random_case(seed: str, tmp_path: Path) -> None:
    """Whoever is killed, and whoever starts beside, the database is old or new, and ends new."""
    tally = play(seed, tmp_path / "case")
    assert tally.starts > 1
    assert [] == tally.problems


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_a_planted_bug_is_found(bug: Bug, tmp_path: Path) -> None:
    """One case or another finds this bug."""
    packages = bug.plant(tmp_path / "packages")
    for number in range(_CASES):
        seed = f"{bug.scene}-{number}" if number else bug.scene
        if play(seed, tmp_path / "case", packages).problems:
            return
    pytest.fail(f"None of {_CASES} cases showed that {bug.name}.")


def test_the_containers_take_a_disk() -> None:
    """The image refuses a tmpfs, on which the rest of the proof is quick."""
    assert not containers.disk(Path("/dev/shm")).is_relative_to("/dev/shm")
