"""Whether a test of the project's own finds a bug that is planted into a copy of the packages."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.faults.planted import Bug

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Planted:
    """A bug, and the test that fails because of it: its file below `tests`, how it is named."""

    bug: Bug
    file: str
    test: str


def planted(name: str, file: str, old: str, new: str, where: str, test: str) -> Planted:
    """Return a bug that is one change of text, with the test that finds it."""
    return Planted(Bug(name, file, old, new, "", (), ()), where, test)


def assert_found(test: Planted, directory: Path) -> None:
    """Run the test with the bug planted, in a process of its own; it has to fail."""
    packages = test.bug.plant(directory / "planted")
    words = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
    words += ["-c", str(ROOT / "pyproject.toml"), str(ROOT / "tests" / test.file), "-k", test.test]
    # The planted packages come before what is installed, and before the tests' own directory,
    # which pytest would put first.
    words += ["-o", f"pythonpath={packages}"]
    path = os.pathsep.join((str(packages), str(ROOT)))
    found = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *words],
        cwd=directory, env={**os.environ, "PYTHONPATH": path}, text=True, capture_output=True,
        check=False,
    )  # fmt: skip
    assert (1, True) == (found.returncode, "FAILED" in found.stdout), found.stdout
