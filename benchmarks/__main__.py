"""`python -m benchmarks`."""

from __future__ import annotations

import signal
import sys

from benchmarks.command import main

# A SIGTERM ends the contender that runs, and the measuring, as Ctrl-C does.
signal.signal(signal.SIGTERM, signal.default_int_handler)
sys.exit(main())
