"""How a worker ended, and what it claims to have done, which its caller has to check."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Any

from migrator.errors import MigratorError
from migrator.model import Outcome
from migrator.process import reports


@dataclass(slots=True)
class Ending:
    """
    How a worker ended.

    `result` is what its task returned, `error` what it raised on purpose,
    `crash` a traceback of a bug, each as the worker claims it; all three are
    None when it ended without a report (`describe` then says how). `doubtful`
    says that a report was malformed, or that more followed it. `migration` is
    the one that was started and not finished, `began` whether any was started,
    `phase` the last one reported, `signum` the signal that this process received
    meanwhile.
    """

    result: dict[str, Any] | None = None
    error: MigratorError | None = None
    crash: str | None = None
    status: int = 0
    migration: dict[str, Any] | None = None
    began: bool = False
    phase: str = ""
    signum: int | None = None
    seconds: float = 0.0
    doubtful: bool = False

    @property
    def reported(self) -> bool:
        """Whether the worker has reported the end of its work."""
        return self.result is not None or self.error is not None or self.crash is not None

    @property
    def credible(self) -> bool:
        """
        Whether it reported once, at the end, and then exited as a worker does.

        In the middle of a migration it can only report a failure.
        """
        in_order = self.reported and not self.doubtful and self.status == 0
        return in_order and (self.migration is None or self.error is not None)

    @property
    def claim(self) -> Outcome | None:
        """What it claims to have done of a run, as far as it is credible."""
        if self.result is None or not self.credible:
            return None
        return reports.read_outcome(self.result)

    @property
    def perhaps_out_of_memory(self) -> bool:
        """Whether the kernel may have killed the worker because memory ran out (SIGKILL)."""
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL

    @property
    def perhaps_out_of_space(self) -> bool:
        """
        Whether the kernel may have killed the worker because the disk is full (SIGBUS).

        SQLite maps the `-shm` of a WAL database, and the disk may have no block for a page
        that it writes to.
        """
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGBUS

    def describe(self) -> str:
        """Describe for people how the worker's process ended."""
        if os.WIFSIGNALED(self.status):
            name = signal.Signals(os.WTERMSIG(self.status)).name
            memory = ", perhaps out of memory" if self.perhaps_out_of_memory else ""
            full = ", perhaps because a disk was full" if self.perhaps_out_of_space else ""
            return f"was killed by {name}{memory}{full}"
        return f"ended by itself with exit code {os.WEXITSTATUS(self.status)}"
