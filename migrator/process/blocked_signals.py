"""Block the termination signals until their handlers are imported."""

import signal

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def block_termination() -> None:
    """
    Block the termination signals until their handlers are installed.

    The kernel drops a signal to PID 1 that has no handler yet (signal(7)).
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
