"""What the figures were measured on: no paths, no names of hosts."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import subprocess
from pathlib import Path

from benchmarks.contenders import PEERS


def machine(directory: Path) -> dict[str, str]:
    """
    Describe this machine and its versions.

    Args:
        directory: Where the work is done: its file system counts.
    """
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "system": f"Linux {platform.release().partition('-')[0]}, {_file_system(directory)}",
        "Python": f"{platform.python_version()} with SQLite {sqlite3.sqlite_version}",
        "SQLite's shell": _version("sqlite3", "--version"),
        "timed by": f"hyperfine {_version('hyperfine', '--version')}",
        "peers": ", ".join(f"{name} {version}" for _, name, _, version in PEERS),
    }


def _file_system(directory: Path) -> str:
    command = ["df", "--output=fstype", str(directory)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]


def _version(*command: str) -> str:
    """Return the version in what a program says of itself."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"\d+(\.\d+)+", done.stdout)
    return found[0] if found else "unknown"
