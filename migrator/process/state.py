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
from collections.abc import Callable, Iterator
from typing import Any

from migrator.process import audit_hook

_LIMITS = tuple(
    getattr(resource, name) for name in sorted(vars(resource)) if name.startswith("RLIMIT_")
)
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_STREAMS = ("stdin", "stdout", "stderr")


class Surroundings:
    """
    The process as it is now: environment, directory, umask, signals, and what Python keeps.

    Imported modules, threads, adapters registered with `sqlite3` and the locale are not
    put back: they last until the worker ends, and so until the run ends.
    """

    def __init__(self) -> None:
        # The limits first: without memory nothing else can be put back.
        self._put_back = [
            keep()
            for keep in (_keep_limits, _keep_signals, _keep_environment, _keep_place, _keep_python)
        ]

    def put_back(self) -> None:
        """Put the process back."""
        for each in self._put_back:
            each()


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
        # Taken anew each time: what the engine itself has changed meanwhile must stay.
        outside = Surroundings()
        if key in self._rooms:
            self._rooms[key].put_back()
        try:
            with audit_hook.foreign_code():
                yield
            if os.getpid() == self._pid:
                self._rooms[key] = Surroundings()
        finally:
            # A process that a migration forked must not put anything back: it ends by itself.
            if os.getpid() == self._pid:
                outside.put_back()


# --- the parts, each returning how it is put back ----------------------------


def _keep_environment() -> Callable[[], None]:
    environ, values = os.environ, dict(os.environ)

    def put_back() -> None:
        os.environ = environ  # noqa: B003 - the object that every module shares
        for name in [name for name in environ if name not in values]:
            del environ[name]
        for name, value in values.items():
            if environ.get(name) != value:
                environ[name] = value

    return put_back


def _keep_place() -> Callable[[], None]:
    directory = None
    with contextlib.suppress(OSError):
        directory = os.getcwd()
    umask = os.umask(0o077)
    os.umask(umask)

    def put_back() -> None:
        os.umask(umask)
        if directory is not None:
            with contextlib.suppress(OSError):
                os.chdir(directory)

    return put_back


def _keep_signals() -> Callable[[], None]:
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def put_back() -> None:
        # The timers first: with the old handlers back, an alarm would end the process.
        for timer in _TIMERS:
            signal.setitimer(timer, 0)
        signal.set_wakeup_fd(-1)
        for number, handler in handlers.items():
            # None means a handler that was not installed from Python: it cannot be put back.
            if handler is not None and signal.getsignal(number) != handler:
                with contextlib.suppress(OSError, ValueError):
                    signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    return put_back


def _keep_limits() -> Callable[[], None]:
    limits = {limit: resource.getrlimit(limit) for limit in _LIMITS}

    def put_back() -> None:
        for limit, wanted in limits.items():
            if resource.getrlimit(limit) != wanted:
                _set_limit(limit, *wanted)

    return put_back


def _set_limit(limit: int, soft: int, hard: int) -> None:
    """Set a limit, or come as close as a lowered hard limit allows."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(limit, (soft, hard))
        return
    hard = resource.getrlimit(limit)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(limit, (hard, hard))


def _keep_python() -> Callable[[], None]:
    lists = [(name, getattr(sys, name), list(getattr(sys, name))) for name in ("path", "argv")]
    streams = {name: getattr(sys, name) for name in _STREAMS}
    bytecode, depth = sys.dont_write_bytecode, sys.getrecursionlimit()
    trace, profile = sys.gettrace(), sys.getprofile()
    logging, warnings = _keep_logging(), _keep_warnings()

    def put_back() -> None:
        for name, which, content in lists:
            which[:] = content
            setattr(sys, name, which)
        for name, stream in streams.items():
            setattr(sys, name, stream)
        sys.dont_write_bytecode = bytecode
        if sys.getrecursionlimit() != depth:
            sys.setrecursionlimit(depth)
        if sys.gettrace() is not trace:
            sys.settrace(trace)
        if sys.getprofile() is not profile:
            sys.setprofile(profile)
        logging()
        warnings()

    return put_back


def _keep_logging() -> Callable[[], None]:
    """Keep the root logger: `basicConfig` sets it up only once."""
    known: Any = sys.modules.get("logging")
    handlers = list(known.root.handlers) if known else []
    level, disabled = (known.root.level, known.root.manager.disable) if known else (30, 0)

    def put_back() -> None:
        logging: Any = sys.modules.get("logging")
        if logging is not None:
            logging.root.handlers[:] = handlers
            logging.root.setLevel(level)
            logging.disable(disabled)

    return put_back


def _keep_warnings() -> Callable[[], None]:
    import warnings

    filters, show = list(warnings.filters), warnings.showwarning

    def put_back() -> None:
        warnings.showwarning = show
        if list(warnings.filters) != filters:
            # Setting an item marks the module's cache as stale.
            warnings.simplefilter("default")
            warnings.filters[:] = filters  # type: ignore[index,unused-ignore]

    return put_back
