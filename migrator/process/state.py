"""
Put back what a migration changes of its process, when it ends.

Only a worker does that. The Python API runs in its caller's process, whose environment
and handlers belong to the caller.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from migrator.process import audit_hook

_LIMITS = tuple(
    getattr(resource, name) for name in sorted(vars(resource)) if name.startswith("RLIMIT_")
)
_SIGNALS = tuple(signal.valid_signals())
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_STREAMS = ("stdin", "stdout", "stderr")


class Surroundings:
    """
    The process as it is now: environment, directory, umask, signals, and what Python keeps.

    Imported modules, threads, adapters registered with `sqlite3` and the locale are not
    put back: they last until the worker ends, and so until the run ends.
    """

    def __init__(self) -> None:
        self._found = tuple(read() for read, _ in _PARTS)

    def put_back(self) -> None:
        """Put the process back."""
        for (_, put_back), found in zip(_PARTS, self._found, strict=True):
            put_back(found)

    def same_as(self, other: Surroundings) -> bool:
        """Tell whether the process was the same then."""
        try:
            return self._found == other._found
        except Exception:  # noqa: BLE001 - an object of a migration's own may say anything
            return False


class ProcessStates:
    """
    One process state per migration: in `up` it finds what its import has changed.

    SQL alone changes nothing of a process. But a function, a thread or a handler that a
    migration's code has left behind may run in a later one of SQL.

    Args:
        worker: Whether this process is a worker; otherwise nothing is done.
    """

    def __init__(self, *, worker: bool) -> None:
        self._worker = worker
        self._pid = os.getpid()
        self._rooms: dict[object, Surroundings] = {}
        self._code_has_run = False

    @contextlib.contextmanager
    def isolated(self, key: object, *, code: bool) -> Iterator[None]:
        """
        Within, one migration runs; no other migration sees what it changes.

        Args:
            key: The migration.
            code: Whether it is code, not SQL alone.
        """
        self._code_has_run |= code
        if not self._worker or not self._code_has_run:
            yield
            return
        # Read each time: what the engine itself has changed meanwhile must be kept.
        outside = Surroundings()
        if key in self._rooms:
            self._rooms[key].put_back()
        try:
            with audit_hook.foreign_code():
                yield
            if os.getpid() == self._pid:
                self._keep(key, Surroundings(), outside)
        finally:
            # A process that a migration forked must not put anything back: it ends by itself.
            if os.getpid() == self._pid:
                outside.put_back()

    def _keep(self, key: object, found: Surroundings, outside: Surroundings) -> None:
        """Keep the process state of a migration that has changed something, as few do."""
        if not found.same_as(outside):
            self._rooms[key] = found


# --- the parts: each is read, and what was read is put back -------------------


def _environment() -> Any:
    return os.environ, dict(os.environ)


def _put_environment(found: Any) -> None:
    environ, values = found
    os.environ = environ  # noqa: B003 - the object that every module shares
    if dict(environ) == values:
        return
    for name in [name for name in environ if name not in values]:
        del environ[name]
    for name, value in values.items():
        if environ.get(name) != value:
            environ[name] = value


def _place() -> Any:
    directory = None
    with contextlib.suppress(OSError):
        directory = os.getcwd()
    umask = os.umask(0o077)
    os.umask(umask)
    return directory, umask


def _put_place(found: Any) -> None:
    directory, umask = found
    os.umask(umask)
    if directory is not None:
        with contextlib.suppress(OSError):
            os.chdir(directory)


def _signals() -> Any:
    handlers = [signal.getsignal(number) for number in _SIGNALS]
    return handlers, signal.pthread_sigmask(signal.SIG_BLOCK, ())


def _put_signals(found: Any) -> None:
    handlers, blocked = found
    # The timers first: with the old handlers back, an alarm would end the process.
    for timer in _TIMERS:
        signal.setitimer(timer, 0)
    signal.set_wakeup_fd(-1)
    for number, handler in zip(_SIGNALS, handlers, strict=True):
        # None means a handler that was not installed from Python: it cannot be put back.
        if handler is not None and signal.getsignal(number) != handler:
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _limits() -> Any:
    return [resource.getrlimit(limit) for limit in _LIMITS]


def _put_limits(found: Any) -> None:
    for limit, wanted in zip(_LIMITS, found, strict=True):
        if resource.getrlimit(limit) != wanted:
            _set_limit(limit, *wanted)


def _set_limit(limit: int, soft: int, hard: int) -> None:
    """Set a limit, or come as close as a lowered hard limit allows."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(limit, (soft, hard))
        return
    hard = resource.getrlimit(limit)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(limit, (hard, hard))


def _python() -> Any:
    lists = [(name, getattr(sys, name), list(getattr(sys, name))) for name in ("path", "argv")]
    streams = [getattr(sys, name) for name in _STREAMS]
    flags = sys.dont_write_bytecode, sys.getrecursionlimit(), sys.gettrace(), sys.getprofile()
    return lists, streams, flags


def _put_python(found: Any) -> None:
    lists, streams, (bytecode, depth, trace, profile) = found
    for name, which, content in lists:
        which[:] = content
        setattr(sys, name, which)
    for name, stream in zip(_STREAMS, streams, strict=True):
        setattr(sys, name, stream)
    sys.dont_write_bytecode = bytecode
    if sys.getrecursionlimit() != depth:
        sys.setrecursionlimit(depth)
    if sys.gettrace() is not trace:
        sys.settrace(trace)
    if sys.getprofile() is not profile:
        sys.setprofile(profile)


def _logging() -> Any:
    """Read the root logger: `basicConfig` sets it up only once."""
    known: Any = sys.modules.get("logging")
    handlers = list(known.root.handlers) if known else []
    return handlers, *((known.root.level, known.root.manager.disable) if known else (30, 0))


def _put_logging(found: Any) -> None:
    logging: Any = sys.modules.get("logging")
    if logging is not None:
        handlers, level, disabled = found
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        logging.disable(disabled)


def _warnings() -> Any:
    return list(warnings.filters), warnings.showwarning


def _put_warnings(found: Any) -> None:
    filters, warnings.showwarning = found
    if list(warnings.filters) != filters:
        # Setting an item marks the module's cache as stale.
        warnings.simplefilter("default")
        warnings.filters[:] = filters  # type: ignore[index,unused-ignore]


_PARTS: tuple[tuple[Callable[[], Any], Callable[[Any], None]], ...] = (
    # The limits first: without memory nothing else can be put back.
    (_limits, _put_limits),
    (_signals, _put_signals),
    (_environment, _put_environment),
    (_place, _put_place),
    (_python, _put_python),
    (_logging, _put_logging),
    (_warnings, _put_warnings),
)
