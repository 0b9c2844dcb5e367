"""
Handle the termination signals, from the first line on.

The kernel drops a signal to PID 1 that has no handler, so they are handled from the
start: by an exception while this process waits; noted and passed on while a worker
works. SIGQUIT is one of them: `docker stop` sends it if the application's image has
`STOPSIGNAL SIGQUIT` (php-fpm, nginx).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from types import FrameType

from migrator.errors import InterruptedRunError
from migrator.process.blocked_signals import STOPS, name_of, signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from migrator.model import Outcome


class Signals:
    """
    The signals of this process.

    Attributes:
        received: The first signal, None before that.
        done: What the run has done, once that is certain; an interruption then says so.
        wakeup: A descriptor that becomes readable when a signal arrives (or a child ends).
    """

    HANDLED: ClassVar[tuple[signal.Signals, ...]] = STOPS

    installed: ClassVar[Signals | None] = None

    def __init__(self) -> None:
        self.received: int | None = None
        self.done: Outcome | None = None
        self._came = False
        self._deferring = 0
        self.wakeup, self._wakeup_end = -1, -1

    @classmethod
    def install(cls) -> Signals:
        """Handle the signals from now on, and unblock them."""
        signals = cls.installed = cls()
        for number in cls.HANDLED:
            signal.signal(number, signals._handle)
        # If SIGCHLD is ignored, the kernel reaps children before `waitpid` can.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*cls.HANDLED, signal.SIGCHLD})
        sys.unraisablehook = signals._again
        return signals

    def note_only(self) -> None:
        """Only note signals from now on: the rest is too short to be interrupted."""
        self._deferring += 1

    @contextlib.contextmanager
    def noted_within(self) -> Iterator[None]:
        """Have a `note_only` within end with it: what follows waits, and is interrupted again."""
        before, done = self._deferring, self.done
        try:
            yield
        finally:
            self._deferring, self.done = before, done
        self.check()

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Within, only note signals, and wake a selector by `wakeup`."""
        self.wakeup, self._wakeup_end = os.pipe()
        for number in (self.wakeup, self._wakeup_end):
            os.set_blocking(number, False)
        before = signal.getsignal(signal.SIGCHLD)
        # A handler, even an empty one, makes Python write to the wakeup descriptor.
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        old = signal.set_wakeup_fd(self._wakeup_end, warn_on_full_buffer=False)
        self._deferring += 1
        try:
            yield
        finally:
            self._deferring -= 1
            signal.set_wakeup_fd(old)
            signal.signal(signal.SIGCHLD, before)
            os.close(self.wakeup)
            os.close(self._wakeup_end)
            self.wakeup, self._wakeup_end = -1, -1

    @property
    def descriptors(self) -> tuple[int, int]:
        """The descriptors that are open while signals are deferred."""
        return self.wakeup, self._wakeup_end

    def drain(self) -> bool:
        """Empty the wakeup pipe."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wakeup, 4096)
        return True

    def came(self) -> bool:
        """Tell whether a signal has ever arrived."""
        return self._came

    def check(self) -> None:
        """Raise for a signal that arrived while signals were only noted."""
        if self.received is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)  # `_again`'s
            raise self._interruption(self.received)

    @classmethod
    @contextlib.contextmanager
    def last_words(cls) -> Iterator[None]:
        """
        Within, while the run's end is logged, only note signals, and block them afterwards.

        The process must end as the log says, not by a later signal.
        """
        if cls.installed is not None:
            cls.installed.note_only()
        signal.setitimer(signal.ITIMER_REAL, 0)  # `_again`'s
        yield
        signal.pthread_sigmask(signal.SIG_BLOCK, cls.HANDLED)

    def hold(self) -> None:
        """Block the signals from now on, and raise for one that has arrived; later ones wait."""
        signal.pthread_sigmask(signal.SIG_BLOCK, self.HANDLED)
        self.check()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._came = True
        first = self.received is None
        self.received = self.received or number
        # Once only: a second signal must not interrupt what the first has caused.
        if first:
            self._interrupt(number)

    def _interrupt(self, number: int) -> None:
        if not self._deferring:
            raise self._interruption(number)

    def _again(self, lost: sys.UnraisableHookArgs) -> None:
        """
        Re-raise, from an alarm, an interruption that Python swallowed (`sys.unraisablehook`).

        A signal may arrive within a finalizer or a weak reference's callback, which let no
        exception out; these run at any time, also while a module is imported.
        """
        number = self.received
        if number is None or not isinstance(lost.exc_value, InterruptedRunError):
            sys.__unraisablehook__(lost)
            return
        # Only after this has returned, or it would be lost here as well.
        signal.signal(signal.SIGALRM, lambda _number, _frame: self._interrupt(number))
        signal.setitimer(signal.ITIMER_REAL, 0.001)

    def _interruption(self, number: int) -> InterruptedRunError:
        name = name_of(number)
        error = InterruptedRunError(
            number,
            f"The run was ended by {name}.",
            hint="Start again; the next start goes on from what the database holds.",
        )
        if self.done is not None:
            error.outcome, error.applied = self.done.kind, self.done.applied
        return error
