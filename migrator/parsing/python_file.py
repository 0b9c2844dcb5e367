"""
Run a user's Python file as a module: a migration or a registry.

Only the worker does that, or, through the Python API, the caller's own process. The
file may do anything to its process; whatever it raises becomes a `MisfitError`.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any

from migrator.errors import LockedError, MisfitError, describe, within_a_run
from migrator.terminal import quote
from migrator.value import EMPTY

_TREE = "/opt/sqlite-entrypoint"
"""The image's own Python, into which nothing can be installed (docs/image.md)."""


def read_bytes(path: Path) -> bytes:
    """
    Read a file of migrations.

    Raises:
        MisfitError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"{path.name}: {str(path)!r} cannot be read: {error.strerror or error}."
        raise MisfitError(
            msg,
            hint="Make the file readable for the user that runs the migrations (chmod a+r).",
            reason="migrations.unreadable",
            data={"file": path.name},
        ) from error


def load_module(
    path: Path, source: bytes, given: Mapping[str, object] = EMPTY, **data: Any
) -> ModuleType:
    """
    Run a file's source as a module.

    The module is compiled from `source`, never from a `__pycache__` or from a file that was
    changed meanwhile, and neither it nor its imports write a `__pycache__`.

    Args:
        path: The file, which becomes `__file__`.
        source: Its content.
        given: What its names are to be before it runs.
        data: Further facts for the error, such as the version.

    Raises:
        MisfitError: The file does not compile, or raises anything, `SystemExit`
            included.
    """
    path = path.absolute()
    module = module_from_spec(_spec(path, source))
    vars(module).update(given)
    previous = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    # Dataclasses and pickling look their module up by its name, which is unique here.
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    except BaseException as error:
        if is_stop(error):
            raise
        sys.modules.pop(module.__name__, None)
        raise failure(path, error, doing="the file does not import", **data) from error
    finally:
        sys.dont_write_bytecode = previous
    return module


def is_stop(error: BaseException) -> bool:
    """
    Tell whether a signal raised an exception, not the file itself.

    In a worker SIGINT ends the process without Python, so there the file itself raised a
    `KeyboardInterrupt`. During an import no signal raises an `InterruptedRunError`.
    """
    if isinstance(error, KeyboardInterrupt):
        return signal.getsignal(signal.SIGINT) is not signal.SIG_DFL
    return False


def failure(path: Path, error: BaseException, *, doing: str, **data: Any) -> MisfitError:
    """
    Turn an exception of a user's file into the error of the run.

    Args:
        path: The file.
        error: The exception.
        doing: What went wrong, as a clause: `the file does not import`.
        data: Further facts, such as the version.
    """
    line = line_in(path, error)
    # An imported application may have turned the refusal of a run into `SystemExit`.
    error = within_a_run(error) or error
    place = path.name if line is None else f"{path.name}, line {line}"
    return MisfitError(
        f"{place}: {doing}: {describe(error).rstrip('.')}.",
        hint=_hint(path, error),
        reason="migrations.import",
        data={"file": path.name, "line": line, "error": describe(error), **data},
    )


def line_in(path: Path, error: BaseException) -> int | None:
    """Return the line of the innermost frame in a file, or of its syntax error."""
    own = str(path.absolute())
    if isinstance(error, SyntaxError) and error.filename == own:
        return error.lineno
    line = None
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == own:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


class _Loader(SourceFileLoader):
    """A loader that returns the checked source, and no cached code."""

    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self._source = source

    def get_data(self, path: str) -> bytes:  # noqa: ARG002 - the one file it is for
        return self._source

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - the one module it is for
        code: CodeType = compile(self._source, self.path, "exec", dont_inherit=True)
        return code


def _spec(path: Path, source: bytes) -> ModuleSpec:
    name = _module_name(path)
    spec = spec_from_file_location(name, path, loader=_Loader(name, str(path), source))
    if spec is None:  # pragma: no cover - only a loader of None gives none
        msg = f"{str(path)!r} is not a file that Python can import."
        hint = "Check the path."
        raise MisfitError(msg, hint=hint, reason="migrations.import", data={"file": path.name})
    return spec


def _module_name(path: Path) -> str:
    """Return a unique name for a file that is an identifier."""
    digest = hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:12]
    return f"_migrator_{digest}_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}"


def _hint(path: Path, error: BaseException) -> str:
    if isinstance(error, LockedError) and error is within_a_run(error):
        return error.hint
    if isinstance(error, SystemExit):
        return (
            f"Importing {path.name} must not end its process: take that out, or put it into a"
            " function that raises instead."
        )
    if isinstance(error, ModuleNotFoundError):
        return _hint_at_module(path, error.name or "")
    return "Correct the file. It is imported on its own, before the application has started."


def _hint_at_module(path: Path, name: str) -> str:
    """Say how a file comes by a module that its Python does not find."""
    when = "migrations run with the entrypoint's own Python"
    if sys.prefix == _TREE:
        return (
            f"Do without {name!r}, or install sqlite-entrypoint in the application's Python,"
            f" beside it: {when}, and this one takes no packages. There PYTHONPATH=/app finds"
            " the application's own modules, which lie in /app."
        )
    # The file's own directory and the working directory were searched: a worker's `sys.path`.
    for directory in map(str, path.absolute().parents[1:3]):
        place = os.path.join(directory, *name.split("."))
        if name and any(map(os.path.isfile, (f"{place}.py", f"{place}/__init__.py"))):
            setting = quote(f"PYTHONPATH={directory}")
            return (
                f"It lies in {directory!r}: start with `{setting}` in the environment, as {when}."
            )
    return (
        f"Install {name!r} for the Python at {sys.executable!r}, or do without it: {when}."
        " If it is the application's own, name its directory: PYTHONPATH=/app."
    )
