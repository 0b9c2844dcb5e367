"""
A process that has imported the two packages, or other modules, and is forked into each run of them.

Most of what a short run costs is starting Python and importing. What is forked does
what `python -m`, or `python` with a script, does from there on, in a session of its own.
That it makes the same calls and leaves the same bytes as a process of its own from the
start is one of the tests.

Run as a script, so that nothing of the tests is imported: the descriptor of its
socket is the argument, modules may follow that are imported in place of the packages.
A request is a JSON object and the three standard descriptors.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import runpy
import socket
import sys
from collections.abc import Iterable, Iterator
from typing import Any

SPACE = "SQLITE_ENTRYPOINT_SPACE"
"""The variable whose length makes space for the environment of a forked run."""
LAZILY = ("structlog", "tenacity", "sqlite3.dbapi2", "importlib.util", "shutil", "tempfile")
"""What the packages import in functions."""


def main() -> None:
    """Fork a run for each request, until nobody asks any more."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    sys.path[0] = os.getcwd()
    del os.environ[SPACE]
    _preload(sys.argv[2:] or [*LAZILY, *_packages()])
    while True:
        request, descriptors, _, _ = socket.recv_fds(channel, 1 << 18, 3)
        if not request:
            return
        pid = os.fork()
        if not pid:
            channel.close()
            _become(json.loads(request), descriptors)
            return
        for each in descriptors:
            os.close(each)
        channel.send(b"%d" % pid)
        channel.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _packages() -> Iterator[str]:
    for package in ("migrator", "entrypoint"):
        for each in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not each.name.endswith("__main__"):
                yield each.name


def _preload(names: Iterable[str]) -> None:
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Be `python -m WORDS`, or `python -P WORDS` for a script."""
    os.setsid()
    for number, each in enumerate(descriptors):
        os.dup2(each, number)
        os.close(each)
    if request["env"] is not None:
        _take_environment(request["env"])
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    words = request["words"]
    if words[0].endswith(".py"):
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
    else:
        sys.path[0] = os.getcwd()
        sys.argv = ["-m", *words[1:]]
        runpy._run_module_as_main(words[0])  # type: ignore[attr-defined]  # what `-m` calls


def _take_environment(env: dict[str, str]) -> None:
    """
    Have Python, the C library and the kernel (`/proc/self/environ`) say this environment.

    What the kernel says is the memory in which it put the first one (proc_pid_environ(5)),
    which `SPACE` has made large enough. What is left of it are empty entries.
    """
    os.environ.clear()
    os.environ.update(env)
    with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    start, end = int(fields[47]), int(fields[48])
    block = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in env.items())
    if len(block) > end - start:
        sys.exit("The environment of a forked run is larger than there is space for.")
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, block, len(block))


if __name__ == "__main__":
    main()
