"""The benchmarks that README quotes run, and print their ratios."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import clean_environment

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize(
    ("words", "ratios"),
    [
        (("start.py", "--runs", "1"), 1),
        (("upgrade.py", "--megabytes", "1", "--runs", "1"), 3),
    ],
)
def test_a_benchmark_prints_its_ratios(words: tuple[str, ...], ratios: int) -> None:
    """A benchmark ends well and prints as many ratios as it compares."""
    script, *options = words
    done = subprocess.run(
        [sys.executable, BENCHMARKS / script, *options],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"\d+\.\d+ times", done.stdout)) == ratios, done.stdout
