"""Have a copy written to the disk while it is being made."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass


@dataclass(slots=True)
class Writeback:
    """
    Start writing a copy to the disk while it is being made.

    Otherwise the last fsync of a large copy writes everything at once: on a slow card for
    minutes, during which no signal ends the process.
    """

    descriptor: int
    interval: int = 8 << 20
    reached: int = 0

    def reach(self, done: int) -> None:
        """Write, once enough is buffered."""
        if done - self.reached < self.interval:
            return
        began = time.monotonic()
        os.fdatasync(self.descriptor)
        self.reached = done
        seconds = time.monotonic() - began
        if seconds > 0.5:
            self.interval = max(1 << 20, self.interval // 2)
        elif seconds < 0.3:
            self.interval = min(256 << 20, self.interval * 2)

    def finish(self) -> None:
        """Make all of it durable."""
        os.fsync(self.descriptor)
