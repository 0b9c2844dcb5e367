"""`python -m migrator`, and the command of that name."""

import signal
import sys

# They wait until they are handled: what is imported before takes a while, and as PID 1
# the kernel would drop one that comes meanwhile (signal(7)).
signal.pthread_sigmask(
    signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
)

from migrator.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
