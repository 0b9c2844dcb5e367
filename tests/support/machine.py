"""What the machine that the tests run on has, and what is skipped where it lacks it."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

import pytest

from tests.support.processes import PACKAGES


def tool(name: str) -> str:
    """Return the path of a system tool, and skip the test where there is none."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"needs {name}")
    return path


def unreachable_by_others() -> Path | None:
    """
    Return what of Python and of the packages only this user can reach.

    A Python below a home directory of mode 0700 cannot import anything once
    it has become another user.
    """
    needed = (Path(sys.executable).resolve(), Path(sys.prefix), Path(os.__file__), PACKAGES)
    for path in needed:
        for part in (path, *path.parents):
            mode = part.stat().st_mode
            if not mode & (stat.S_IXOTH if part.is_dir() else stat.S_IROTH):
                return part
    return None
