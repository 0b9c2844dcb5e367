"""The units in deploy/quadlet, as Quadlet's generator reads them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.containers.conftest import CHECKOUT

UNITS = CHECKOUT / "deploy/quadlet"
SYSTEMD = {"--cgroups=split", "--sdnotify=conmon", "--cidfile=%t/%N.cid", "--replace", "--rm"}
"""What only systemd has a use for, and what a test does itself."""


def generated(tools: Path) -> dict[str, list[str]]:
    """Return the lines of each service that the generator makes; it has to accept every unit."""
    done = subprocess.run(
        [tools / "quadlet", "-dryrun"],
        env={**os.environ, "QUADLET_UNIT_DIRS": str(UNITS)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if "Loading source unit file" not in line]
    assert (done.returncode, said) == (0, [])
    parts = re.split(r"^---(.+)\.service---$", done.stdout, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], map(str.splitlines, parts[1::2]), strict=True))


def command(service: list[str], places: Mapping[str, str]) -> list[str]:
    """
    Return the words after `podman` that a service starts its container with.

    Args:
        service: Its lines.
        places: What stands for a volume, a directory or an image here.
    """
    (line,) = (each for each in service if each.startswith("ExecStart="))
    _podman, *words = shlex.split(line.removeprefix("ExecStart="))
    words = [word for word in words if word not in SYSTEMD]
    for place, here in places.items():
        assert any(place in word for word in words), place
        words = [word.replace(place, here) for word in words]
    return words
