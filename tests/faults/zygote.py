"""
A process that has imported the two packages, and is forked into each run of them.

Three quarters of a run under faults went into starting Python and importing. What
is forked does what `python -m`, or `python` with a script, does from there on, in a session of its own; that it
makes the same calls and leaves the same bytes as a process of its own from the start
is one of the tests.

Run as a script, so that nothing of the tests is imported: the descriptor of its
socket is the argument. A request is the words of the command line and two descriptors.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import socket
import sys

LAZILY = ("structlog", "tenacity", "sqlite3.dbapi2", "importlib.util", "shutil", "tempfile")
"""What the packages import in functions."""


def main() -> None:
    """Fork a run for each request, until nobody asks any more."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    sys.path[0] = os.getcwd()
    _preload()
    while True:
        request, descriptors, _, _ = socket.recv_fds(channel, 1 << 16, 2)
        if not request:
            return
        pid = os.fork()
        if not pid:
            channel.close()
            _become(json.loads(request), *descriptors)
            return
        for each in descriptors:
            os.close(each)
        channel.send(b"%d" % pid)
        channel.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _preload() -> None:
    for name in LAZILY:
        importlib.import_module(name)
    for package in ("migrator", "entrypoint"):
        for each in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not each.name.endswith("__main__"):
                with contextlib.suppress(ImportError):
                    importlib.import_module(each.name)
    gc.collect()
    gc.freeze()


def _become(words: list[str], out: int, err: int) -> None:
    """Be `python -m WORDS`, or `python -P WORDS` for a script."""
    os.setsid()
    for number, each in ((1, out), (2, err)):
        os.dup2(each, number)
        os.close(each)
    if words[0].endswith(".py"):
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
    else:
        sys.argv = ["-m", *words[1:]]
        runpy._run_module_as_main(words[0])  # type: ignore[attr-defined]  # what `-m` calls


if __name__ == "__main__":
    main()
