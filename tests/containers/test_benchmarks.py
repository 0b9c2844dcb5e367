"""The parts of the benchmarks that measure the image."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.containers.conftest import CHECKOUT
from tests.support.machine import tool
from tests.support.processes import clean_environment

NUMBER = r"\d[\d,.]*"

SAYS = (
    rf"in the image's tree: .*; {NUMBER} × an empty Python \(",
    rf"`docker run` of `true`, .*; {NUMBER} × the same container without it \(",
    rf"`migrator check`, in the image's tree: {NUMBER} s of CPU; ",
    rf"the image, on disk: {NUMBER} MB; .*dbmate alone {NUMBER} MB",
    rf"the image, compressed: {NUMBER} MB; .*dbmate alone {NUMBER} MB",
)


def test_what_concerns_the_image_is_measured(image: str, tmp_path: Path) -> None:
    """The tree runs where it is unpacked, a container starts with it, and its size is said."""
    tool("hyperfine")
    tool("sqlite3")
    places = [f"--directory={tmp_path}", f"--cache={tmp_path / 'cache'}", f"--image={image}"]
    parts = ["start", "docker", "check", "image"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--offline", *places, *parts],
        cwd=CHECKOUT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)
    assert [] == [line for line in SAYS if not re.search(line, done.stdout)], done.stdout
