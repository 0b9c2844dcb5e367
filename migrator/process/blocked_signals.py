"""Block the termination signals until their handlers are imported."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    # What `signal` adds are enumerations, whose making takes longer than the blocking.
    import _signal as signal

__all__ = ["STOPS", "block_termination", "name_of", "signal"]

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_NAMES = dict(zip(map(int, STOPS), ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"), strict=True))


def block_termination() -> None:
    """
    Block the termination signals until their handlers are installed.

    The kernel drops a signal to PID 1 that has no handler yet (signal(7)).
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)


def name_of(number: int) -> str:
    """Return what one of them is called: `SIGTERM`."""
    # A handler asks, at any moment: `signal` itself may just be being imported.
    return _NAMES[number]
