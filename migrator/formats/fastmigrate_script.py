"""
Run a script that is given a database's path and opens it by itself, as another process would.

It is run in the worker, on a work copy.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import CodeType, ModuleType
from typing import Protocol

from migrator.model import Script
from migrator.parsing import python_file
from migrator.value import replace


class WorkFile(Protocol):
    """The file that a script opens by itself."""

    path: Path

    def recording(self) -> AbstractContextManager[None]:
        """Within, what is done to it is recorded."""


def load(script: Script) -> Script:
    """
    Compile a script, and have `up` run it.

    Raises:
        MisfitError: It cannot be read or compiled.
    """
    path = script.entry.path
    if path is None or path.suffix != ".py":
        return script
    source = python_file.read_bytes(path)
    try:
        code = compile(source, str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        doing = "the file does not compile"
        raise python_file.failure(path, error, doing=doing, version=script.entry.version) from error
    return replace(script, up=partial(_run, path, code))


def _run(path: Path, code: CodeType, file: WorkFile) -> None:
    """
    Run a script on a file.

    Raises:
        SystemExit: The script says that it has failed.
    """
    sys.argv[:] = [str(path), str(file.path)]
    sys.path.insert(0, str(path.parent))
    module = ModuleType("__main__")
    module.__file__ = str(path)
    with file.recording(), _as_main(module):
        try:
            exec(code, vars(module))  # noqa: S102 - it is what a migration is
        except SystemExit as end:
            if end.code not in (None, 0):
                raise
        finally:
            vars(module).clear()


@contextlib.contextmanager
def _as_main(module: ModuleType) -> Iterator[None]:
    """Within, a module is the program, as classes that are pickled ask for it."""
    before = sys.modules["__main__"]
    sys.modules["__main__"] = module
    try:
        yield
    finally:
        sys.modules["__main__"] = before
