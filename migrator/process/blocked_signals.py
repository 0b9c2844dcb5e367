"""The signals that stop this process, held back while what handles them is still being imported."""

import signal

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def block_termination() -> None:
    """
    Have them wait until they are handled.

    As PID 1 the kernel would drop one that comes before (signal(7)).
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
