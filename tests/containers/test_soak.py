"""The random long run in containers: one case. `python -m tests.soak --containers` goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.containers import play


@pytest.mark.slow
@pytest.mark.usefixtures("as_root")
def test_a_random_case(image: str, tmp_path: Path) -> None:
    """Several containers on one volume, some of them killed, leave the old or the new database."""
    tally = play("containers", tmp_path / "case", image)
    assert tally.starts > 1
    assert [] == tally.problems
