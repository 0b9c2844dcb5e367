"""
Running the commands: as real processes, or forked from one that has imported everything.

The second is for thousands of cases; it differs from the first by what Python's
own start does, and nothing else.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from tests.faults.harness import HUNG, Done, HungError, run
from tests.support.processes import PACKAGES, clean_environment

Runner = Callable[[Sequence[str]], Done]
"""Runs `entrypoint …` or `migrator …` to its end."""


def processes(packages: Path = PACKAGES) -> Runner:
    """Return a runner that starts a process for each."""
    return lambda words: run(words, {}, packages)


def forks() -> Runner:
    """Return a runner that forks this process for each; it must have no threads."""
    for package in ("migrator", "entrypoint"):
        found = importlib.import_module(package)
        for module in pkgutil.walk_packages(found.__path__, f"{package}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    importlib.import_module("structlog")
    return _forked


def _forked(words: Sequence[str]) -> Done:
    with TemporaryFile() as out, TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            _be(words, out, err)
        code = _end_of(pid, err)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        return Done(code, _text(out), _text(err))


def _be(words: Sequence[str], out: BinaryIO, err: BinaryIO) -> None:
    """Be one of the commands, in the child."""
    code = 1
    try:
        os.setsid()
        os.chdir("/")
        number = os.open(os.devnull, os.O_RDONLY)
        for old, new in ((number, 0), (out.fileno(), 1), (err.fileno(), 2)):
            os.dup2(old, new)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - for the rest of this process
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        environment = clean_environment()
        os.environ.clear()
        os.environ.update(environment)
        name = {"entrypoint": "entrypoint.main", "migrator": "migrator.cli"}[words[0]]
        code = importlib.import_module(name).main(list(words[1:]))
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:  # noqa: BLE001 - as the interpreter itself would
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _end_of(pid: int, err: BinaryIO) -> int:
    watched = os.pidfd_open(pid)
    try:
        if not select.select([watched], [], [], HUNG)[0]:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise HungError(_text(err))
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(watched)


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode(errors="surrogateescape")
