"""Replace this process by the application, in the environment that was received."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence

from entrypoint.program.resolve import CHECK_COMMAND, not_found
from migrator.errors import InterruptedRunError, NotExecutableError
from migrator.process.blocked_signals import name_of, signal
from migrator.process.signals import Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def original_environment() -> list[bytes]:
    """
    Return the environment's entries exactly as this process received them.

    Python's own copy has LC_CTYPE added if no locale is set (PEP 538), merges
    doubled entries, and drops those without `=`. Call it before becoming another
    user: the kernel hides the original from then on.
    """
    try:
        with open("/proc/self/environ", "rb") as file:
            return [entry for entry in file.read().split(b"\0") if entry]
    except OSError:
        return _libc_environment()


def _libc_environment() -> list[bytes]:
    """Return the C library's entries, without the LC_CTYPE that Python added."""
    import ctypes

    pointers = ctypes.POINTER(ctypes.c_void_p).in_dll(ctypes.CDLL(None), "environ")
    found: list[tuple[int, bytes]] = []
    while (address := pointers[len(found)]) is not None:
        found.append((address, ctypes.string_at(address)))
    # The kernel puts the entries that a process receives one after the other, without a gap.
    places = [at for at, entry in found if not entry.startswith(b"LC_CTYPE=")]
    ends = [at + len(entry) + 1 for at, entry in found if not entry.startswith(b"LC_CTYPE=")]

    def is_received(at: int, entry: bytes) -> bool:
        if not places or not entry.startswith(b"LC_CTYPE="):
            return True
        return min(places) <= at <= max(ends) or at + len(entry) + 1 == min(places)

    return [entry for at, entry in found if is_received(at, entry)]


def with_home(environment: Sequence[bytes], home: bytes) -> list[bytes]:
    """Return the entries with another `HOME` and all else as it was."""
    others = [entry for entry in environment if not entry.startswith(b"HOME=")]
    return [*others, b"HOME=" + home]


def replace_process(path: str, argv: Sequence[str], env: Sequence[bytes]) -> NoReturn:
    """
    Replace this process by the application.

    Signals are at their defaults and unblocked, and no timer runs. Inherited
    descriptors stay open; this program's own close on exec.

    Args:
        path: What `resolve_command` returned.
        argv: The command as given, with its arguments.
        env: The whole environment, entry by entry.

    Raises:
        CommandNotFoundError: The program has disappeared since.
        NotExecutableError: The system refuses to execute it.
        InterruptedRunError: A stop arrived while signals were blocked (`Signals.hold`).
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    _reset_signals()
    _unblock_signals()
    try:
        _execute(path, list(argv), env)
    except FileNotFoundError as error:
        raise not_found(path, f"{path!r} does not exist, or its interpreter does not") from error
    except OSError as error:
        msg = f"{path!r} could not be executed: {error.strerror}."
        too_long = error.errno == errno.E2BIG
        hint = "Shorten the arguments or the environment." if too_long else CHECK_COMMAND
        raise NotExecutableError(msg, hint=hint) from error


def _execute(path: str, argv: list[str], env: Sequence[bytes]) -> NoReturn:
    """Execute with exactly these entries; `os.execve` takes only distinct pairs."""
    pairs = dict(entry.split(b"=", 1) for entry in env if entry.find(b"=") > 0)
    if len(pairs) == len(env):
        os.execve(path, argv, pairs)  # noqa: S606 - the one place that executes
    # Imported only here: most environments are plain.
    import ctypes

    words = [os.fsencode(each) for each in argv]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.execve(
        os.fsencode(path),
        (ctypes.c_char_p * (len(words) + 1))(*words, None),
        (ctypes.c_char_p * (len(env) + 1))(*env, None),
    )
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), path)


def _reset_signals() -> None:
    """Stop timers, and set every signal to its default."""
    signal.set_wakeup_fd(-1)
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 0)
    # Python ignores SIGPIPE and SIGXFSZ, and execve keeps what is ignored.
    # What was ignored when this process began, Python knows as well.
    for number in signal.valid_signals():
        if signal.getsignal(number) != signal.SIG_DFL:
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)


def _unblock_signals() -> None:
    """Unblock every signal, unless a stop is pending."""
    # As PID 1 it would be lost: the kernel drops a signal that PID 1 does not handle.
    stops = signal.sigpending() & set(Signals.HANDLED)
    if stops:
        name = name_of(min(stops))
        msg = f"{name} arrived before the application was started."
        raise InterruptedRunError(min(stops), msg, hint="Start again: nothing is pending.")
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
