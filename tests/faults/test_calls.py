"""No change of the volume passes the shim by: what the kernel sees, the shim has counted."""

from __future__ import annotations

import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import Stage
from tests.faults.launching import arguments, interpreted
from tests.faults.scenes import SCENES, fresh
from tests.faults.shim import Fault, Shim
from tests.support.machine import tool
from tests.support.processes import clean_environment, without_coverage

pytestmark = [pytest.mark.faults, pytest.mark.timeout(0)]

HARMLESS = re.compile(
    "access|close|close_range|dup[23]?|execve|faccessat2?|fadvise64|fcntl|flock|f?statfs"
    "|[fl]?stat|statx|newfstatat|f?getdents64|[fl]?getxattr|[fl]?listxattr|lseek|p?read(64|v2?)?"
    "|readlink(at)?"
)
"""What changes nothing; any other system call on the volume has to be known to the shim."""
_TO_THE_LAST = frozenset({"rename", "link", "copy_file_range", "splice"})
_LINE = re.compile(r"(?P<pid>\d+)\s+(?P<name>\w+)\((?P<given>.*)")
_THREAD = re.compile(r"^(\d+) .*parent_tid=\[(\d+)\]", re.MULTILINE)
"""Whose thread it is that strace calls by a number of its own."""
_PLACE = re.compile(r'(?:(?:AT_FDCWD|\d+)<(?P<base>/[^>]*)>)?(?:, )?(?:"(?P<path>[^"]*)")?')


@pytest.mark.parametrize(
    "name",
    [
        "up copy wal clean",
        "up beside wal hot",
        "install in-place",
        "restore delete hot",
        "inline up in-place wal hot",
    ],
)
def test_every_change_is_counted(name: str, stages: Path, tmp_path: Path, library: Path) -> None:
    """What strace sees of a run's changes to the volume is what the shim has counted."""
    stage = Stage(SCENES[name], stages, library)
    shim = Shim(library, tmp_path / "control")
    fresh(stage._template, stage.volume)
    shim.arm(Fault(0, "count"), stage.volume)
    trace = tmp_path / "trace"
    preload = [f"-E{variable}={value}" for variable, value in shim.env.items()]
    words = arguments(stage.scene.command, stage.database, stage.migrations)
    subprocess.run(
        [tool("strace"), "-f", "-y", "-s0", "-o", trace, *preload, *interpreted(words)],
        env=without_coverage(clean_environment()),
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=stage.code == 0,
    )
    counted = defaultdict(list)
    for call in shim.calls():
        counted[call.pid].append(f"{_plain(call.name)} {call.path.removesuffix(' (deleted)')}")
    seen = defaultdict(list)
    threads = {thread: int(pid) for pid, thread in _THREAD.findall(trace.read_text())}
    for number, change in _changes(trace.read_text(), stage.volume):
        seen[threads.get(str(number), number)].append(change)
    assert seen
    assert dict(seen) == dict(counted)


def _changes(trace: str, volume: Path) -> Iterator[tuple[int, str]]:
    """Yield whose call changed what."""
    for line in trace.splitlines():
        found = _LINE.fullmatch(line)
        if found is None or not _may_change(found["name"], found["given"]):
            continue
        name = _plain(found["name"])
        paths = [path for path in _paths(found["given"]) if path.is_relative_to(volume)]
        if paths:
            path = paths[-1 if name in _TO_THE_LAST else 0]
            yield int(found["pid"]), f"{name} {path.relative_to(volume)}"


def _may_change(name: str, given: str) -> bool:
    if name in ("open", "openat"):
        return "O_CREAT" in given or "O_TRUNC" in given
    if name == "mmap":
        return "MAP_SHARED" in given and "PROT_WRITE" in given
    if name == "ioctl":
        return "FICLONE" in given
    return HARMLESS.fullmatch(name) is None


def _paths(given: str) -> Iterator[Path]:
    for found in _PLACE.finditer(given):
        if found["base"] or found["path"]:
            path = os.path.join(found["base"] or "", found["path"] or "")
            yield Path(path.removesuffix(" (deleted)"))


def _plain(name: str) -> str:
    """Return a call's name without the variant: `pwrite64`, `renameat2`, `posix_fallocate`."""
    return re.sub("^posix_|(64|at2?|v2)$", "", name)
